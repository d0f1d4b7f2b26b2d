//! Full text search: `tsvector` and `tsquery`.

use super::boolean_query::{Item, left_operands};
use super::pieces::{bytes_at, push_escaped, push_number, u16_at, u32_at};
use super::{TextContext, ValueError};

fn invalid_vector(problem: &'static str) -> ValueError {
    ValueError::invalid("tsvector", problem)
}

fn invalid_query(problem: &'static str) -> ValueError {
    ValueError::invalid("tsquery", problem)
}

/// Lexemes stand in single quotes, with quotes and backslashes doubled.
fn push_lexeme(out: &mut Vec<u8>, lexeme: &[u8]) {
    out.push(b'\'');
    push_escaped(out, lexeme, |byte| {
        (byte == b'\'' || byte == b'\\').then_some(byte)
    });
    out.push(b'\'');
}

/// `tsvectorout`.
///
/// ```text
/// i32 count, count x u32 entry, then the lexemes
/// entry    bit 0: has positions; bits 1-11: length; bits 12-31: where its lexeme starts
/// lexeme   its bytes; with positions: padding to 2 bytes, u16 count, count x u16 position with
///          the weight (D 0 to A 3) in its upper two bits
/// ```
// pg: tsearch/ts_type.h WordEntry, utils/adt/tsvector.c tsvectorout [14-18]
pub(super) fn tsvector_text(
    value: &[u8],
    _context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let count = u32_at(value, 0, "tsvector count")? as usize;
    let entries_bytes = count
        .checked_mul(4)
        .ok_or_else(|| invalid_vector("too many lexemes"))?;
    let entries = bytes_at(value, 4, entries_bytes, "tsvector entries")?;
    let lexemes = value.get(4 + entries.len()..).unwrap_or_default();
    // Lexemes that shared bytes could stand for far more text than there are bytes.
    let mut bytes_left = lexemes.len();
    let mut spend = |bytes: usize| {
        bytes_left = bytes_left
            .checked_sub(bytes)
            .ok_or_else(|| invalid_vector("lexemes are shared"))?;
        Ok::<(), ValueError>(())
    };
    for index in 0..count {
        let entry = u32_at(entries, 4 * index, "tsvector entry")?;
        let (length, start) = ((entry >> 1 & 0x7FF) as usize, (entry >> 12) as usize);
        if index > 0 {
            out.push(b' ');
        }
        spend(length)?;
        push_lexeme(out, bytes_at(lexemes, start, length, "tsvector lexeme")?);
        if entry & 1 == 0 {
            continue;
        }
        let positions_at = (start + length).next_multiple_of(2);
        let positions = usize::from(u16_at(lexemes, positions_at, "tsvector positions")?);
        spend(2 + 2 * positions)?;
        for position in 0..positions {
            out.push(if position == 0 { b':' } else { b',' });
            let stored = u16_at(
                lexemes,
                positions_at + 2 + 2 * position,
                "tsvector position",
            )?;
            push_number(out, stored & 0x3FFF);
            out.extend([None, Some(b'C'), Some(b'B'), Some(b'A')][usize::from(stored >> 14)]);
        }
    }
    Ok(())
}

const AND: u8 = 2;
const OR: u8 = 3;
const PHRASE: u8 = 4;

/// How strongly an operator binds.
// pg: utils/adt/tsquery.c tsearch_op_priority [14-18]
fn priority(item: Item) -> u8 {
    match item {
        Item::Binary(OR) => 1,
        Item::Binary(AND) => 2,
        Item::Binary(_) => 3,
        Item::Not | Item::Operand => 4,
    }
}

/// A `tsquery`.
struct Query<'a> {
    /// 12 bytes each.
    stored: &'a [u8],
    /// The lexemes.
    operands: &'a [u8],
    items: Vec<Item>,
}

const QUERY_ITEM_BYTES: usize = 12;

impl<'a> Query<'a> {
    fn new(value: &'a [u8]) -> Result<Self, ValueError> {
        let count = u32_at(value, 0, "tsquery count")? as usize;
        let bytes = count
            .checked_mul(QUERY_ITEM_BYTES)
            .ok_or_else(|| invalid_query("too many items"))?;
        let stored = bytes_at(value, 4, bytes, "tsquery items")?;
        let items = stored
            .chunks_exact(QUERY_ITEM_BYTES)
            .map(|item| match item {
                [1, ..] => Ok(Item::Operand),
                [2, 1, ..] => Ok(Item::Not),
                [2, operator @ (AND | OR | PHRASE), ..] => Ok(Item::Binary(*operator)),
                _ => Err(invalid_query("unknown item")),
            })
            .collect::<Result<_, _>>()?;
        Ok(Query {
            stored,
            operands: value.get(4 + bytes..).unwrap_or_default(),
            items,
        })
    }

    /// Prints the operand at `at` and returns how many bytes its lexeme has.
    fn push_operand(&self, at: usize, out: &mut Vec<u8>) -> Result<usize, ValueError> {
        let item = bytes_at(self.stored, at * QUERY_ITEM_BYTES, QUERY_ITEM_BYTES, "item")?;
        let (weights, prefix) = (item[1], item[2] != 0);
        let place = u32_at(item, 8, "tsquery operand")?;
        let (length, start) = ((place & 0xFFF) as usize, (place >> 12) as usize);
        push_lexeme(
            out,
            bytes_at(self.operands, start, length, "tsquery lexeme")?,
        );
        if weights != 0 || prefix {
            out.push(b':');
            if prefix {
                out.push(b'*');
            }
            let letters = b"ABCD".iter().zip([8, 4, 2, 1]);
            out.extend(
                letters
                    .filter(|(_, bit)| weights & bit != 0)
                    .map(|(letter, _)| letter),
            );
        }
        Ok(length + 1)
    }

    fn distance(&self, at: usize) -> Result<i16, ValueError> {
        let stored = u16_at(self.stored, at * QUERY_ITEM_BYTES + 2, "tsquery distance")?;
        Ok(i16::from_le_bytes(stored.to_le_bytes()))
    }
}

/// `tsqueryout`.
///
/// ```text
/// i32 count, count x 12 bytes item in Polish notation, then the lexemes, each with a NUL
/// operand   u8 1, u8 weights (D 1 to A 8), u8 prefix, padding, i32 CRC, u32 place: length in
///           bits 0-11, where its lexeme starts in bits 12-31
/// operator  u8 2, u8 operator (not 1, and 2, or 3, phrase 4), i16 distance, u32 left operand
/// ```
// pg: tsearch/ts_type.h QueryItem, utils/adt/tsquery.c infix [14-18]
pub(super) fn tsquery_text(
    value: &[u8],
    _context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    enum Task {
        /// The item, how strongly its parent binds, and whether it is the right operand of a
        /// phrase operator.
        Item(usize, u8, bool),
        Operator(usize),
        Text(&'static [u8]),
    }
    let query = Query::new(value)?;
    if query.items.is_empty() {
        return Ok(());
    }
    let left = left_operands(&query.items, invalid_query)?;
    let mut bytes_left = query.operands.len();
    let mut tasks = vec![Task::Item(0, 0, false)];
    while let Some(task) = tasks.pop() {
        let (at, parent, right_of_phrase) = match task {
            Task::Text(text) => {
                out.extend_from_slice(text);
                continue;
            }
            Task::Operator(at) => {
                match (query.items[at], query.distance(at)?) {
                    (Item::Binary(OR), _) => out.extend_from_slice(b" | "),
                    (Item::Binary(AND), _) => out.extend_from_slice(b" & "),
                    (_, 1) => out.extend_from_slice(b" <-> "),
                    (_, distance) => {
                        out.extend_from_slice(b" <");
                        push_number(out, distance);
                        out.extend_from_slice(b"> ");
                    }
                }
                continue;
            }
            Task::Item(at, parent, right_of_phrase) => (at, parent, right_of_phrase),
        };
        let item = query.items[at];
        let own = priority(item);
        if item == Item::Operand {
            // Lexemes that shared bytes could stand for far more text than there are bytes.
            bytes_left = bytes_left
                .checked_sub(query.push_operand(at, out)?)
                .ok_or_else(|| invalid_query("lexemes are shared"))?;
            continue;
        }
        // A chain of phrase operators depends on its order.
        if own < parent || (item == Item::Binary(PHRASE) && right_of_phrase) {
            out.extend_from_slice(b"( ");
            tasks.push(Task::Text(b" )"));
        }
        if item == Item::Not {
            out.push(b'!');
            tasks.push(Task::Item(at + 1, own, false));
        } else {
            tasks.push(Task::Item(at + 1, own, item == Item::Binary(PHRASE)));
            tasks.push(Task::Operator(at));
            tasks.push(Task::Item(left[at], own, false));
        }
    }
    Ok(())
}
