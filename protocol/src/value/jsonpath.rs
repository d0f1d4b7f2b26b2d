//! `jsonpath`.
//!
//! ```text
//! u32 header: version 1, bit 31 for lax mode; then the nodes, the root first
//!
//! node   u8 type, padding to 4 bytes, i32 next (0: none), then by type:
//!   string, key, variable     i32 length, that many bytes, a NUL
//!   numeric                   a numeric with a 4-byte varlena header
//!   bool                      u8
//!   two operands              i32 left, i32 right
//!   one operand               i32 operand (0: none, where it may be left out)
//!   subscripts                i32 count, count x (i32 from, i32 to (0: none))
//!   `**`                      u32 first, u32 last
//!   like_regex                u32 flags, i32 operand, i32 length, that many bytes, a NUL
//! ```
//!
//! Positions are relative to the node they stand in; all point forward.
// pg: utils/jsonpath.h, utils/adt/jsonpath.c flattenJsonPathParseItem [14-18]

use super::json::push_escaped_string;
use super::jsonb::Numbers;
use super::pieces::{bytes_at, push_number, u32_at};
use super::{TextContext, ValueError};

const VERSION: u32 = 1;
const LAX: u32 = 1 << 31;
/// Level of `**{last}`.
const LAST_LEVEL: u32 = u32::MAX;
/// The letters of `flag "..."`, from the lowest bit of `like_regex`'s flags.
const REGEX_FLAGS: &[u8; 5] = b"ismxq";
/// Bytes of the smallest node.
const NODE_BYTES_MIN: usize = 5;

fn invalid(problem: &'static str) -> ValueError {
    ValueError::invalid("jsonpath", problem)
}

/// How a node is printed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Null,
    String,
    Numeric,
    Bool,
    /// Two operands with this between them, and how strongly it binds.
    Binary(&'static str, u8),
    /// A sign before its operand.
    Sign(&'static str),
    /// An operand between two texts.
    Around(&'static str, &'static str),
    /// A method with an optional operand, which stands in the brackets.
    Method(&'static str),
    /// A method with two optional operands.
    Method2(&'static str),
    Subscripts,
    AnyLevel,
    Key,
    Variable,
    AnyKey,
    LikeRegex,
    /// Only this text.
    Fixed(&'static str),
}

/// The node types by number; from 43 on since 17.
// pg: utils/jsonpath.h JsonPathItemType [14-18]
const FORMS: [Option<Form>; 54] = {
    use Form::{AnyKey, AnyLevel, Around, Binary, Bool, Fixed, Key, LikeRegex, Method, Method2};
    use Form::{Null, Numeric, Sign, String, Subscripts, Variable};
    [
        Some(Null),
        Some(String),
        Some(Numeric),
        Some(Bool),
        Some(Binary("&&", 1)),
        Some(Binary("||", 0)),
        Some(Around("!(", ")")),
        Some(Around("(", ") is unknown")),
        Some(Binary("==", 2)),
        Some(Binary("!=", 2)),
        Some(Binary("<", 2)),
        Some(Binary(">", 2)),
        Some(Binary("<=", 2)),
        Some(Binary(">=", 2)),
        Some(Binary("+", 3)),
        Some(Binary("-", 3)),
        Some(Binary("*", 4)),
        Some(Binary("/", 4)),
        Some(Binary("%", 4)),
        Some(Sign("+")),
        Some(Sign("-")),
        Some(Fixed("[*]")),
        Some(AnyKey),
        Some(Subscripts),
        Some(AnyLevel),
        Some(Key),
        Some(Fixed("@")),
        Some(Fixed("$")),
        Some(Variable),
        Some(Around("?(", ")")),
        Some(Around("exists (", ")")),
        Some(Fixed(".type()")),
        Some(Fixed(".size()")),
        Some(Fixed(".abs()")),
        Some(Fixed(".floor()")),
        Some(Fixed(".ceiling()")),
        Some(Fixed(".double()")),
        Some(Method(".datetime(")),
        Some(Fixed(".keyvalue()")),
        None,
        Some(Fixed("last")),
        Some(Binary("starts with", 2)),
        Some(LikeRegex),
        Some(Fixed(".bigint()")),
        Some(Fixed(".boolean()")),
        Some(Fixed(".date()")),
        Some(Method2(".decimal(")),
        Some(Fixed(".integer()")),
        Some(Fixed(".number()")),
        Some(Fixed(".string()")),
        Some(Method(".time(")),
        Some(Method(".time_tz(")),
        Some(Method(".timestamp(")),
        Some(Method(".timestamp_tz(")),
    ]
};

impl Form {
    /// How strongly it binds; an operand that binds no more strongly is put in parentheses.
    // pg: utils/adt/jsonpath.c operationPriority [14-18]
    fn priority(self) -> u8 {
        match self {
            Form::Binary(_, priority) => priority,
            Form::Sign(_) => 5,
            _ => 6,
        }
    }
}

/// What is still to be printed.
enum Task<'a> {
    /// The node at this offset of the nodes.
    Node {
        at: usize,
        /// It follows another in a path: keys get a dot.
        in_path: bool,
        /// Operators get parentheses.
        parentheses: bool,
    },
    Text(&'static str),
    /// What follows the operand of `like_regex`: pattern and flags.
    Pattern(&'a [u8], u32),
}

/// A node, read as far as all have it in common.
struct Node {
    at: usize,
    form: Form,
    /// The node that follows it in its path.
    next: Option<usize>,
    /// Where what depends on the type starts.
    body: usize,
}

/// Prints nodes from a stack of tasks, so that depth costs memory and not the machine's stack.
struct Printer<'a> {
    major: u16,
    numbers: Numbers<'a>,
    nodes: &'a [u8],
    tasks: Vec<Task<'a>>,
    /// Bytes of nodes that may still be printed: more than there are means that some are shared,
    /// and few bytes could stand for endless text.
    bytes_left: usize,
}

/// `jsonpath_out`.
// pg: utils/adt/jsonpath.c printJsonPathItem [14-18]
pub(super) fn jsonpath_text(
    value: &[u8],
    context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let header = u32_at(value, 0, "jsonpath header")?;
    if header & !LAX != VERSION {
        return Err(invalid("unknown format version"));
    }
    if header & LAX == 0 {
        out.extend_from_slice(b"strict ");
    }
    let nodes = value.get(4..).unwrap_or_default();
    let mut printer = Printer {
        major: context.major,
        numbers: Numbers::new(context, out),
        nodes,
        tasks: vec![Task::Node {
            at: 0,
            in_path: false,
            parentheses: true,
        }],
        bytes_left: nodes.len(),
    };
    while let Some(task) = printer.tasks.pop() {
        match task {
            Task::Text(text) => out.extend_from_slice(text.as_bytes()),
            Task::Pattern(pattern, flags) => push_pattern(pattern, flags, out),
            Task::Node {
                at,
                in_path,
                parentheses,
            } => printer.print(at, in_path, parentheses, out)?,
        }
    }
    Ok(())
}

impl<'a> Printer<'a> {
    fn spend(&mut self, bytes: usize) -> Result<(), ValueError> {
        self.bytes_left = self
            .bytes_left
            .checked_sub(bytes)
            .ok_or_else(|| invalid("nodes are shared"))?;
        Ok(())
    }

    fn word(&self, offset: usize) -> Result<u32, ValueError> {
        Ok(u32_at(self.nodes, offset, "jsonpath node")?)
    }

    /// The node that the position at `offset` points to, from the node at `at`; none if it is 0.
    fn target(&self, at: usize, offset: usize) -> Result<Option<usize>, ValueError> {
        match i32::from_le_bytes(self.word(offset)?.to_le_bytes()) {
            0 => Ok(None),
            forward @ 1.. => Ok(Some(at + forward as usize)),
            _ => Err(invalid("a position points backward")),
        }
    }

    fn operand(&self, at: usize, offset: usize) -> Result<usize, ValueError> {
        self.target(at, offset)?
            .ok_or_else(|| invalid("an operand is missing"))
    }

    fn form(&self, at: usize) -> Result<Form, ValueError> {
        let [number] = *bytes_at(self.nodes, at, 1, "jsonpath node")? else {
            return Err(invalid("unknown node type"));
        };
        FORMS
            .get(usize::from(number))
            .copied()
            .flatten()
            .ok_or_else(|| invalid("unknown node type"))
    }

    fn node(&mut self, at: usize) -> Result<Node, ValueError> {
        self.spend(NODE_BYTES_MIN)?;
        let next_at = (at + 1).next_multiple_of(4);
        Ok(Node {
            at,
            form: self.form(at)?,
            next: self.target(at, next_at)?,
            body: next_at + 4,
        })
    }

    fn string(&mut self, offset: usize) -> Result<&'a [u8], ValueError> {
        let length = self.word(offset)? as usize;
        self.spend(length)?;
        Ok(bytes_at(self.nodes, offset + 4, length, "jsonpath string")?)
    }

    /// Tasks run last in, first out.
    fn then_text(&mut self, text: &'static str) {
        self.tasks.push(Task::Text(text));
    }

    fn then_node(&mut self, at: usize, parentheses: bool) {
        self.tasks.push(Task::Node {
            at,
            in_path: false,
            parentheses,
        });
    }

    /// An operand of `parent`, in parentheses where precedence asks for them.
    fn then_operand(&mut self, at: usize, parent: Form) -> Result<(), ValueError> {
        let parentheses = self.form(at)?.priority() <= parent.priority();
        self.then_node(at, parentheses);
        Ok(())
    }

    fn print(
        &mut self,
        at: usize,
        in_path: bool,
        parentheses: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), ValueError> {
        let node = self.node(at)?;
        if let Some(next) = node.next {
            self.tasks.push(Task::Node {
                at: next,
                in_path: true,
                parentheses: true,
            });
        }
        match node.form {
            Form::Null => out.extend_from_slice(b"null"),
            Form::Fixed(text) => out.extend_from_slice(text.as_bytes()),
            Form::Bool => {
                let [value] = *bytes_at(self.nodes, node.body, 1, "jsonpath boolean")? else {
                    return Err(invalid("a boolean is missing"));
                };
                out.extend_from_slice(if value == 0 { b"false" } else { b"true" });
            }
            Form::Numeric => {
                let stored = self.nodes.get(node.body..).unwrap_or_default();
                // `1.type()` could not be read back; 14 prints it still.
                let parentheses = node.next.is_some() && self.major >= 15;
                if parentheses {
                    out.push(b'(');
                }
                self.numbers.push(stored, out)?;
                if parentheses {
                    out.push(b')');
                }
            }
            Form::String | Form::Key | Form::Variable => {
                match node.form {
                    Form::Key if in_path => out.push(b'.'),
                    Form::Variable => out.push(b'$'),
                    _ => {}
                }
                push_escaped_string(out, self.string(node.body)?);
            }
            Form::AnyKey => out.extend_from_slice(if in_path { b".*" } else { b"*" }),
            Form::AnyLevel => {
                if in_path {
                    out.push(b'.');
                }
                push_levels(self.word(node.body)?, self.word(node.body + 4)?, out);
            }
            _ => self.print_with_operands(&node, parentheses, out)?,
        }
        Ok(())
    }

    fn print_with_operands(
        &mut self,
        node: &Node,
        parentheses: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), ValueError> {
        let (at, body) = (node.at, node.body);
        match node.form {
            Form::Around(before, after) => {
                out.extend_from_slice(before.as_bytes());
                self.then_text(after);
                let operand = self.operand(at, body)?;
                self.then_node(operand, false);
            }
            Form::Method(before) => {
                out.extend_from_slice(before.as_bytes());
                self.then_text(")");
                if let Some(operand) = self.target(at, body)? {
                    self.then_node(operand, false);
                }
            }
            Form::Method2(before) => {
                out.extend_from_slice(before.as_bytes());
                self.then_text(")");
                if let Some(second) = self.target(at, body + 4)? {
                    self.then_node(second, false);
                    self.then_text(",");
                }
                if let Some(first) = self.target(at, body)? {
                    self.then_node(first, false);
                }
            }
            Form::Subscripts => self.print_subscripts(at, body, out)?,
            _ => {
                if parentheses {
                    out.push(b'(');
                    self.then_text(")");
                }
                self.print_operator(node, out)?;
            }
        }
        Ok(())
    }

    fn print_operator(&mut self, node: &Node, out: &mut Vec<u8>) -> Result<(), ValueError> {
        let (at, body) = (node.at, node.body);
        match node.form {
            Form::Sign(sign) => {
                out.extend_from_slice(sign.as_bytes());
                let operand = self.operand(at, body)?;
                self.then_operand(operand, node.form)?;
            }
            Form::Binary(operator, _) => {
                let (left, right) = (self.operand(at, body)?, self.operand(at, body + 4)?);
                self.then_operand(right, node.form)?;
                self.then_text(" ");
                self.then_text(operator);
                self.then_text(" ");
                self.then_operand(left, node.form)?;
            }
            _ => {
                let pattern = self.string(body + 8)?;
                self.tasks.push(Task::Pattern(pattern, self.word(body)?));
                let operand = self.operand(at, body + 4)?;
                self.then_operand(operand, node.form)?;
            }
        }
        Ok(())
    }

    fn print_subscripts(
        &mut self,
        at: usize,
        body: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), ValueError> {
        let count = self.word(body)? as usize;
        let entries = count
            .checked_mul(8)
            .ok_or_else(|| invalid("too many subscripts"))?;
        bytes_at(self.nodes, body + 4, entries, "jsonpath subscripts")?;
        out.push(b'[');
        self.then_text("]");
        for index in (0..count).rev() {
            let entry = body + 4 + 8 * index;
            if let Some(to) = self.target(at, entry + 4)? {
                self.then_node(to, false);
                self.then_text(" to ");
            }
            let from = self.operand(at, entry)?;
            self.then_node(from, false);
            if index > 0 {
                self.then_text(",");
            }
        }
        Ok(())
    }
}

fn push_levels(first: u32, last: u32, out: &mut Vec<u8>) {
    let push_level = |level: u32, out: &mut Vec<u8>| match level {
        LAST_LEVEL => out.extend_from_slice(b"last"),
        _ => push_number(out, level),
    };
    out.extend_from_slice(b"**");
    if first == 0 && last == LAST_LEVEL {
        return;
    }
    out.push(b'{');
    push_level(first, out);
    if first != last {
        out.extend_from_slice(b" to ");
        push_level(last, out);
    }
    out.push(b'}');
}

fn push_pattern(pattern: &[u8], flags: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(b" like_regex ");
    push_escaped_string(out, pattern);
    if flags == 0 {
        return;
    }
    out.extend_from_slice(b" flag \"");
    let set = REGEX_FLAGS.iter().enumerate();
    out.extend(
        set.filter(|(bit, _)| flags >> bit & 1 == 1)
            .map(|(_, letter)| letter),
    );
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &[u8]) -> Result<Vec<u8>, ValueError> {
        let mut out = Vec::new();
        jsonpath_text(value, &TextContext::new(15, 6), &mut out)?;
        Ok(out)
    }

    #[test]
    fn deep_paths_need_no_stack() {
        let mut value = (VERSION | LAX).to_le_bytes().to_vec();
        let levels = 300_000;
        for _ in 0..levels {
            value.extend_from_slice(&[6, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0, 0]);
        }
        value.extend_from_slice(&[0; 8]);
        assert_eq!(text(&value).unwrap().len(), levels * 3 + 4);
    }

    #[test]
    fn shared_operands_are_refused() {
        let mut value = (VERSION | LAX).to_le_bytes().to_vec();
        for _ in 0..60 {
            value.extend_from_slice(&[4, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 16, 0, 0, 0]);
        }
        value.extend_from_slice(&[0; 8]);
        assert_eq!(text(&value), Err(invalid("nodes are shared")));
    }
}
