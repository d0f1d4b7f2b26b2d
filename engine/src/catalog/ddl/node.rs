//! Stored expression trees (`pg_node_tree`), parsed without knowing any kind of node.
//!
//! ```text
//! {FUNCEXPR :funcid 1574 :args ({CONST :consttype 2205 :constvalue 4 [ 7 64 0 0 0 0 0 0 ]}) ...}
//! node    {TAG :field value ...}
//! list    (value ...), with i, o, x or b first for integers, OIDs, xids, bitmaps
//! none    <>
//! bytes   length [ byte byte ... ]
//! atom    anything else, up to a blank or a bracket; a backslash takes the next byte as it is
//! ```
// pg: nodes/outfuncs.c, nodes/read.c pg_strtok [14-18]

use crate::limits::NODE_DEPTH_MAX;

/// A value in a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    None,
    Atom(String),
    Bytes(Vec<u8>),
    List(Vec<Value>),
    Node(Node),
}

/// A node: its kind and its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) tag: String,
    fields: Vec<(String, Value)>,
}

impl Value {
    pub(crate) fn node(&self) -> Option<&Node> {
        match self {
            Value::Node(node) => Some(node),
            _ => None,
        }
    }

    /// The items of a list; none for no list.
    pub(crate) fn items(&self) -> &[Value] {
        match self {
            Value::List(items) => items,
            _ => &[],
        }
    }
}

impl Node {
    pub(crate) fn get(&self, field: &str) -> Option<&Value> {
        let found = self.fields.iter().find(|(name, _)| name == field);
        found.map(|(_, value)| value)
    }

    fn atom(&self, field: &str) -> Option<&str> {
        match self.get(field)? {
            Value::Atom(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn number(&self, field: &str) -> Option<i64> {
        self.atom(field)?.parse().ok()
    }

    pub(crate) fn oid(&self, field: &str) -> Option<u32> {
        self.atom(field)?.parse().ok()
    }

    pub(crate) fn flag(&self, field: &str) -> Option<bool> {
        match self.atom(field)? {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// A `char` field, which is written as itself, or as its number.
    pub(crate) fn letter(&self, field: &str) -> Option<u8> {
        match self.atom(field)?.as_bytes() {
            [letter] if !letter.is_ascii_digit() => Some(*letter),
            _ => u8::try_from(self.number(field)?).ok(),
        }
    }

    pub(crate) fn child(&self, field: &str) -> Option<&Node> {
        self.get(field)?.node()
    }

    pub(crate) fn items(&self, field: &str) -> Option<&[Value]> {
        self.get(field).map(Value::items)
    }
}

/// Parses a tree; none if it is not one.
pub(crate) fn parse(text: &[u8]) -> Option<Value> {
    let mut parser = Parser { text, at: 0 };
    let value = parser.value(0)?;
    parser.blanks();
    (parser.at == text.len()).then_some(value)
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn blanks(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth > NODE_DEPTH_MAX {
            return None;
        }
        self.blanks();
        match self.peek()? {
            b'{' => self.node(depth).map(Value::Node),
            b'(' => self.list(depth),
            b'}' | b')' | b']' => None,
            _ => self.scalar(),
        }
    }

    fn scalar(&mut self) -> Option<Value> {
        let atom = self.token()?;
        if atom == "<>" {
            return Some(Value::None);
        }
        let after = self.at;
        self.blanks();
        if self.peek() != Some(b'[') {
            self.at = after;
            return Some(Value::Atom(atom));
        }
        self.at += 1;
        let mut bytes = Vec::new();
        loop {
            self.blanks();
            if self.peek()? == b']' {
                self.at += 1;
                return Some(Value::Bytes(bytes));
            }
            // Bytes are written as C's char, which may be signed.
            let number: i16 = self.token()?.parse().ok()?;
            bytes.push(u8::try_from(number & 0xFF).ok()?);
        }
    }

    fn token(&mut self) -> Option<String> {
        let mut bytes = Vec::new();
        while let Some(byte) = self.peek() {
            match byte {
                b'(' | b')' | b'{' | b'}' | b'[' | b']' => break,
                _ if byte.is_ascii_whitespace() => break,
                b'\\' => {
                    self.at += 1;
                    bytes.push(self.peek()?);
                }
                _ => bytes.push(byte),
            }
            self.at += 1;
        }
        (!bytes.is_empty()).then(|| String::from_utf8_lossy(&bytes).into_owned())
    }

    fn node(&mut self, depth: usize) -> Option<Node> {
        self.at += 1;
        let tag = self.token()?;
        let mut fields = Vec::new();
        loop {
            self.blanks();
            if self.peek()? == b'}' {
                self.at += 1;
                return Some(Node { tag, fields });
            }
            let name = self.token()?.strip_prefix(':')?.to_owned();
            let value = self.value(depth + 1)?;
            // A list of plain numbers (a bitmap, columns of a key) may follow a first one.
            while self.goes_on() {
                self.value(depth + 1)?;
            }
            fields.push((name, value));
        }
    }

    /// Whether another value, and not a field, comes next.
    fn goes_on(&mut self) -> bool {
        self.blanks();
        !matches!(self.peek(), Some(b':' | b'}') | None)
    }

    fn list(&mut self, depth: usize) -> Option<Value> {
        self.at += 1;
        let mut items = Vec::new();
        loop {
            self.blanks();
            if self.peek()? == b')' {
                self.at += 1;
                return Some(Value::List(items));
            }
            let item = self.value(depth + 1)?;
            let sort =
                matches!(&item, Value::Atom(text) if ["i", "o", "x", "b"].contains(&text.as_str()));
            if !(items.is_empty() && sort) {
                items.push(item);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEXTVAL: &str = "{FUNCEXPR :funcid 1574 :funcresulttype 20 :funcretset false \
        :funcformat 0 :args ({CONST :consttype 2205 :consttypmod -1 :constisnull false :location -1 \
        :constvalue 4 [ 7 64 0 0 0 0 0 -1 ]}) :location -1}";

    #[test]
    fn trees_are_read() {
        let value = parse(NEXTVAL.as_bytes()).unwrap();
        let node = value.node().unwrap();
        assert_eq!(
            (node.tag.as_str(), node.oid("funcid")),
            ("FUNCEXPR", Some(1574))
        );
        assert_eq!(node.flag("funcretset"), Some(false));
        let argument = node.items("args").unwrap()[0].node().unwrap();
        let bytes = Value::Bytes(vec![7, 64, 0, 0, 0, 0, 0, 255]);
        assert_eq!(argument.get("constvalue"), Some(&bytes));
        assert_eq!(argument.number("consttypmod"), Some(-1));
    }

    #[test]
    fn lists_and_nothing_are_read() {
        let value = parse(b"({X :a <> :b (i 1 2) :c a\\ b :d l} <>)").unwrap();
        let [Value::Node(node), Value::None] = value.items() else {
            panic!("{value:?}");
        };
        assert_eq!(node.get("a"), Some(&Value::None));
        assert_eq!(node.items("b").unwrap().len(), 2);
        assert_eq!(node.get("c"), Some(&Value::Atom("a b".to_owned())));
        assert_eq!(node.letter("d"), Some(b'l'));
    }

    #[test]
    fn what_is_cut_is_no_tree() {
        for end in 0..NEXTVAL.len() {
            assert_eq!(parse(&NEXTVAL.as_bytes()[..end]), None, "{end}");
        }
        let deep = "(".repeat(NODE_DEPTH_MAX * 2);
        assert_eq!(parse(deep.as_bytes()), None);
    }
}
