//! Boolean expressions stored in Polish notation, as several query types store them: an operator,
//! then its right operand, then its left one.

use super::ValueError;

/// One item of an expression.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Item {
    /// A leaf.
    Operand,
    /// An operator with one operand.
    Not,
    /// An operator with two operands.
    Binary(u8),
}

/// The left operand of each binary operator (0 for the other items).
///
/// It stands where the right operand ends, so one walk from the end finds them all; the walk also
/// proves that the items are one tree, which is the whole of `items`.
pub(super) fn left_operands(
    items: &[Item],
    invalid: impl Fn(&'static str) -> ValueError,
) -> Result<Vec<usize>, ValueError> {
    let mut ends = vec![items.len(); items.len()];
    let mut left = vec![0; items.len()];
    let end_of = |ends: &[usize], at: usize| {
        ends.get(at)
            .copied()
            .ok_or_else(|| invalid("an operator lacks an operand"))
    };
    for (at, item) in items.iter().enumerate().rev() {
        ends[at] = match item {
            Item::Operand => at + 1,
            Item::Not => end_of(&ends, at + 1)?,
            Item::Binary(_) => {
                left[at] = end_of(&ends, at + 1)?;
                end_of(&ends, left[at])?
            }
        };
    }
    match ends.first() {
        Some(end) if *end == items.len() => Ok(left),
        _ => Err(invalid("the items are not one expression")),
    }
}

/// Prints an expression as `ltxtquery` and `query_int` do: `&` binds more strongly than `|`, `!`
/// puts any operator in parentheses.
// pg: contrib/ltree/ltxtquery_io.c, contrib/intarray/_int_bool.c infix [14-18]
pub(super) fn print_infix(
    items: &[Item],
    out: &mut Vec<u8>,
    invalid: impl Fn(&'static str) -> ValueError,
    mut push_operand: impl FnMut(usize, &mut Vec<u8>) -> Result<(), ValueError>,
) -> Result<(), ValueError> {
    enum Task {
        /// The item, and whether an `|` stays without parentheses there.
        Item(usize, bool),
        Text(&'static [u8]),
        Operator(u8),
    }
    let left = left_operands(items, invalid)?;
    let mut tasks = vec![Task::Item(0, true)];
    while let Some(task) = tasks.pop() {
        match task {
            Task::Text(text) => out.extend_from_slice(text),
            Task::Operator(operator) => out.extend_from_slice(&[b' ', operator, b' ']),
            Task::Item(at, bare) => match items[at] {
                Item::Operand => push_operand(at, out)?,
                Item::Not => {
                    out.push(b'!');
                    let operator = items[at + 1] != Item::Operand;
                    if operator {
                        out.extend_from_slice(b"( ");
                        tasks.push(Task::Text(b" )"));
                    }
                    tasks.push(Task::Item(at + 1, operator));
                }
                Item::Binary(operator) => {
                    if operator == b'|' && !bare {
                        out.extend_from_slice(b"( ");
                        tasks.push(Task::Text(b" )"));
                    }
                    tasks.push(Task::Item(at + 1, false));
                    tasks.push(Task::Operator(operator));
                    tasks.push(Task::Item(left[at], false));
                }
            },
        }
    }
    Ok(())
}
