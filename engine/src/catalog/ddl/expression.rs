//! SQL text of stored expressions, where it can be given without doubt.
//!
//! What is not listed here is unknown: a text that is nearly right would be wrong.
// pg: utils/adt/ruleutils.c get_rule_expr; fields as written by nodes/outfuncs.c [14-18]

use std::cell::RefCell;

use redostream_protocol::Oid;
use redostream_protocol::ddl::Expression;
use redostream_protocol::schema::{Name, TypeDesc, TypeShape};
use redostream_protocol::value::{Known, TextContext, TypeRenderer};

use super::super::cache::Cache;
use super::super::layout::oid;
use super::super::type_desc::{Describer, PG_CATALOG};
use super::super::view::View;
use super::names::{collation_text, qualified, quoted, relation_text, type_text};
use super::node::{Node, Value, parse};

/// How a function call or cast was written.
// pg: nodes/primnodes.h CoercionForm [14-18]
const EXPLICIT_CALL: i64 = 0;
const EXPLICIT_CAST: i64 = 1;
const IMPLICIT_CAST: i64 = 2;

const BOOL: u32 = 16;
const INT4: u32 = 23;
const UNKNOWN: u32 = 705;
const NUMERIC: u32 = 1700;
const REGCLASS: u32 = 2205;

/// `SQLValueFunction`s, by `SVFOP_*`: text, and whether a precision follows.
// pg: nodes/primnodes.h SQLValueFunctionOp [14-18]
const SQL_VALUES: [(&str, bool); 15] = [
    ("CURRENT_DATE", false),
    ("CURRENT_TIME", false),
    ("CURRENT_TIME", true),
    ("CURRENT_TIMESTAMP", false),
    ("CURRENT_TIMESTAMP", true),
    ("LOCALTIME", false),
    ("LOCALTIME", true),
    ("LOCALTIMESTAMP", false),
    ("LOCALTIMESTAMP", true),
    ("CURRENT_ROLE", false),
    ("CURRENT_USER", false),
    ("USER", false),
    ("SESSION_USER", false),
    ("CURRENT_CATALOG", false),
    ("CURRENT_SCHEMA", false),
];

/// Prints expressions over the columns of one table.
pub(crate) struct Printer<'a, 'c> {
    pub(crate) view: View<'a>,
    /// Columns by `attnum`.
    pub(crate) columns: &'c [(i16, Name)],
    cache: RefCell<Cache>,
    context: TextContext,
}

/// One expression of a list.
pub(crate) struct Listed {
    pub(crate) text: Vec<u8>,
    /// Whether it needs parentheses where a column or function call would not.
    pub(crate) parentheses: bool,
    /// The collation of its value; none if that cannot be told.
    pub(crate) collation: Option<Oid>,
}

/// Whether a cast that nobody wrote is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Implicit {
    Shown,
    Hidden,
}

/// Whether a constant is labelled with its type.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Label {
    AsNeeded,
    Never,
}

impl<'a, 'c> Printer<'a, 'c> {
    pub(crate) fn new(view: View<'a>, encoding: i32, columns: &'c [(i16, Name)]) -> Self {
        let major = view.store.format.major;
        Printer {
            view,
            columns,
            cache: RefCell::default(),
            context: TextContext::new(major, encoding),
        }
    }

    /// The text of one stored expression.
    pub(crate) fn text(&self, stored: &[u8]) -> Expression {
        let printed = parse(stored).and_then(|value| self.value(&value));
        match printed {
            Some(text) => Expression::Sql(Name(text)),
            None => Expression::Unknown,
        }
    }

    /// The texts of a stored list of expressions.
    pub(crate) fn list(&self, stored: &[u8]) -> Vec<Option<Listed>> {
        let Some(parsed) = parse(stored) else {
            return Vec::new();
        };
        let items = parsed.items().iter();
        items
            .map(|item| {
                let node = item.node()?;
                Some(Listed {
                    text: self.value(item)?,
                    parentheses: !looks_like_function(node),
                    collation: collation_of(node),
                })
            })
            .collect()
    }

    fn value(&self, value: &Value) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        match value {
            // A check's expression may be a list that is joined with AND.
            Value::List(items) if items.len() == 1 => {
                self.node(items[0].node()?, Implicit::Hidden, &mut out)?;
            }
            _ => self.node(value.node()?, Implicit::Hidden, &mut out)?,
        }
        Some(out)
    }

    fn node(&self, node: &Node, implicit: Implicit, out: &mut Vec<u8>) -> Option<()> {
        match node.tag.as_str() {
            "CONST" => self.constant(node, Label::AsNeeded, out),
            "VAR" => self.column(node, out),
            "FUNCEXPR" => self.function(node, implicit, out),
            "OPEXPR" => self.operator(node, out),
            "BOOLEXPR" => self.logic(node, out),
            "NULLTEST" => self.null_test(node, out),
            "SCALARARRAYOPEXPR" => self.any_or_all(node, out),
            "ARRAY" | "ARRAYEXPR" => self.array(node, out),
            "COALESCE" | "COALESCEEXPR" => {
                out.extend_from_slice(b"COALESCE(");
                self.arguments(node, out)?;
                out.push(b')');
                Some(())
            }
            "RELABELTYPE" => self.cast(node, "relabelformat", implicit, out),
            "COERCEVIAIO" | "ARRAYCOERCEEXPR" => self.cast(node, "coerceformat", implicit, out),
            "COERCETODOMAIN" => self.cast(node, "coercionformat", implicit, out),
            "COERCETODOMAINVALUE" => {
                out.extend_from_slice(b"VALUE");
                Some(())
            }
            "SQLVALUEFUNCTION" => {
                let (name, precise) = SQL_VALUES.get(usize::try_from(node.number("op")?).ok()?)?;
                out.extend_from_slice(name.as_bytes());
                if *precise {
                    let precision = node.number("typmod")?;
                    out.extend_from_slice(format!("({precision})").as_bytes());
                }
                Some(())
            }
            _ => None,
        }
    }

    fn arguments(&self, node: &Node, out: &mut Vec<u8>) -> Option<()> {
        self.all(node.items("args")?, out)
    }

    fn all(&self, items: &[Value], out: &mut Vec<u8>) -> Option<()> {
        for (number, item) in items.iter().enumerate() {
            if number > 0 {
                out.extend_from_slice(b", ");
            }
            self.node(item.node()?, Implicit::Shown, out)?;
        }
        Some(())
    }

    fn column(&self, node: &Node, out: &mut Vec<u8>) -> Option<()> {
        let number = node.number("varattno")?;
        if node.number("varno")? != 1 || node.number("varlevelsup")? != 0 {
            return None;
        }
        let mut all = self.columns.iter();
        let (_, name) = all.find(|(known, _)| i64::from(*known) == number)?;
        quoted(&self.view, out, name);
        Some(())
    }

    fn function(&self, node: &Node, implicit: Implicit, out: &mut Vec<u8>) -> Option<()> {
        let args = node.items("args")?;
        match node.number("funcformat")? {
            EXPLICIT_CALL => {
                if node.flag("funcvariadic")? || node.flag("funcretset")? {
                    return None;
                }
                let function = Oid(node.oid("funcid")?);
                let row = self.view.row_of(oid::PROC, "oid", function).ok()??;
                let namespace = row.oid("pronamespace").ok()?;
                let name = row.name("proname").ok()?;
                qualified(&self.view, out, namespace, &name).ok()?;
                out.push(b'(');
                self.all(args, out)?;
                out.push(b')');
                Some(())
            }
            IMPLICIT_CAST if implicit == Implicit::Hidden => {
                self.node(args.first()?.node()?, Implicit::Hidden, out)
            }
            EXPLICIT_CAST | IMPLICIT_CAST => {
                let result = node.oid("funcresulttype")?;
                self.coerced(args.first()?.node()?, result, length_of(args), out)
            }
            // Calls with a syntax of their own.
            _ => None,
        }
    }

    fn cast(&self, node: &Node, form: &str, implicit: Implicit, out: &mut Vec<u8>) -> Option<()> {
        let arg = node.child("arg")?;
        match node.number(form)? {
            IMPLICIT_CAST if implicit == Implicit::Hidden => self.node(arg, Implicit::Hidden, out),
            EXPLICIT_CAST | IMPLICIT_CAST | EXPLICIT_CALL => {
                let modifier = match node.number("resulttypmod") {
                    Some(modifier) => i32::try_from(modifier).ok()?,
                    None => -1,
                };
                self.coerced(arg, node.oid("resulttype")?, modifier, out)
            }
            _ => None,
        }
    }

    fn coerced(&self, arg: &Node, result: u32, modifier: i32, out: &mut Vec<u8>) -> Option<()> {
        let bare = arg.tag == "CONST"
            && arg.oid("consttype")? == result
            && arg.number("consttypmod")? == -1;
        if bare {
            self.constant(arg, Label::Never, out)?;
        } else {
            out.push(b'(');
            self.node(arg, Implicit::Hidden, out)?;
            out.push(b')');
        }
        self.label(result, modifier, out)
    }

    fn label(&self, data_type: u32, modifier: i32, out: &mut Vec<u8>) -> Option<()> {
        let (name, unknown) = type_text(&self.view, Oid(data_type), modifier).ok()?;
        if unknown || name.as_bytes() == b"???" {
            return None;
        }
        out.extend_from_slice(b"::");
        out.extend_from_slice(name.as_bytes());
        Some(())
    }

    fn operator(&self, node: &Node, out: &mut Vec<u8>) -> Option<()> {
        let args = node.items("args")?;
        out.push(b'(');
        if let [left, _] = args {
            self.node(left.node()?, Implicit::Shown, out)?;
            out.push(b' ');
        }
        self.operator_name(node.oid("opno")?, out)?;
        out.push(b' ');
        self.node(args.last()?.node()?, Implicit::Shown, out)?;
        out.push(b')');
        (args.len() <= 2).then_some(())
    }

    pub(crate) fn operator_name(&self, operator: u32, out: &mut Vec<u8>) -> Option<()> {
        let row = self
            .view
            .row_of(oid::OPERATOR, "oid", Oid(operator))
            .ok()??;
        let namespace = row.oid("oprnamespace").ok()?;
        let name = row.name("oprname").ok()?;
        if namespace == PG_CATALOG {
            out.extend_from_slice(name.as_bytes());
            return Some(());
        }
        out.extend_from_slice(b"OPERATOR(");
        let schema = super::names::schema_name(&self.view, namespace).ok()?;
        quoted(&self.view, out, &schema);
        out.push(b'.');
        out.extend_from_slice(name.as_bytes());
        out.push(b')');
        Some(())
    }

    fn logic(&self, node: &Node, out: &mut Vec<u8>) -> Option<()> {
        let args = node.items("args")?;
        let Some(Value::Atom(operation)) = node.get("boolop") else {
            return None;
        };
        let word: &[u8] = match operation.as_str() {
            "and" => b" AND ",
            "or" => b" OR ",
            "not" if args.len() == 1 => b"NOT ",
            _ => return None,
        };
        out.push(b'(');
        if args.len() == 1 {
            out.extend_from_slice(word);
        }
        for (number, arg) in args.iter().enumerate() {
            if number > 0 {
                out.extend_from_slice(word);
            }
            self.node(arg.node()?, Implicit::Hidden, out)?;
        }
        out.push(b')');
        Some(())
    }

    fn null_test(&self, node: &Node, out: &mut Vec<u8>) -> Option<()> {
        let arg = node.child("arg")?;
        if node.flag("argisrow")? || self.is_row(arg)? {
            return None;
        }
        let text: &[u8] = match node.number("nulltesttype")? {
            0 => b" IS NULL)",
            1 => b" IS NOT NULL)",
            _ => return None,
        };
        out.push(b'(');
        self.node(arg, Implicit::Shown, out)?;
        out.extend_from_slice(text);
        Some(())
    }

    /// Whether an expression's value is a row.
    fn is_row(&self, node: &Node) -> Option<bool> {
        let fields = [
            "vartype",
            "consttype",
            "funcresulttype",
            "opresulttype",
            "resulttype",
        ];
        let data_type = fields.iter().find_map(|field| node.oid(field))?;
        let row = self.view.row_of(oid::TYPE, "oid", Oid(data_type)).ok()??;
        let kind = row.byte("typtype").ok()?;
        Some(kind == b'c' || kind == b'd' || data_type == 2249)
    }

    fn any_or_all(&self, node: &Node, out: &mut Vec<u8>) -> Option<()> {
        let [left, right] = node.items("args")? else {
            return None;
        };
        out.push(b'(');
        self.node(left.node()?, Implicit::Shown, out)?;
        out.push(b' ');
        self.operator_name(node.oid("opno")?, out)?;
        let word: &[u8] = if node.flag("useOr")? {
            b" ANY ("
        } else {
            b" ALL ("
        };
        out.extend_from_slice(word);
        self.node(right.node()?, Implicit::Shown, out)?;
        out.extend_from_slice(b"))");
        Some(())
    }

    fn array(&self, node: &Node, out: &mut Vec<u8>) -> Option<()> {
        let elements = node.items("elements")?;
        out.extend_from_slice(b"ARRAY[");
        self.all(elements, out)?;
        out.push(b']');
        if elements.is_empty() {
            self.label(node.oid("array_typeid")?, -1, out)?;
        }
        Some(())
    }

    /// A constant as a partition's bound shows it: without its type.
    pub(crate) fn bound(&self, node: &Node, out: &mut Vec<u8>) -> Option<()> {
        (node.tag == "CONST").then_some(())?;
        self.constant(node, Label::Never, out)
    }

    fn constant(&self, node: &Node, label: Label, out: &mut Vec<u8>) -> Option<()> {
        let data_type = node.oid("consttype")?;
        let modifier = i32::try_from(node.number("consttypmod")?).ok()?;
        let mut needs_label = true;
        if node.flag("constisnull")? {
            out.extend_from_slice(b"NULL");
        } else {
            let text = self.constant_text(node, data_type)?;
            match data_type {
                INT4 if text.first() != Some(&b'-') => {
                    out.extend_from_slice(&text);
                    needs_label = false;
                }
                NUMERIC if is_plain_fraction(&text) => {
                    out.extend_from_slice(&text);
                    needs_label = modifier >= 0;
                }
                BOOL => {
                    let word: &[u8] = if text == b"t" { b"true" } else { b"false" };
                    out.extend_from_slice(word);
                    needs_label = false;
                }
                _ => {
                    push_literal(&text, out);
                    needs_label = data_type != UNKNOWN;
                }
            }
        }
        if label == Label::Never {
            return Some(());
        }
        if needs_label {
            self.label(data_type, modifier, out)?;
        }
        self.constant_collation(node, data_type, out)
    }

    fn constant_collation(&self, node: &Node, data_type: u32, out: &mut Vec<u8>) -> Option<()> {
        let collation = node.oid("constcollid")?;
        if collation == 0 {
            return Some(());
        }
        let row = self.view.row_of(oid::TYPE, "oid", Oid(data_type)).ok()??;
        if row.oid("typcollation").ok()? != Oid(collation) {
            out.extend_from_slice(b" COLLATE ");
            let name = collation_text(&self.view, Oid(collation)).ok()??;
            out.extend_from_slice(name.as_bytes());
        }
        Some(())
    }

    fn constant_text(&self, node: &Node, data_type: u32) -> Option<Vec<u8>> {
        let Some(Value::Bytes(bytes)) = node.get("constvalue") else {
            return None;
        };
        let length = node.number("constlen")?;
        let value: &[u8] = match length {
            -1 => match bytes.first()? {
                first if first & 3 == 0 => bytes.get(4..)?,
                first if first & 1 == 1 && *first != 1 => bytes.get(1..)?,
                _ => return None,
            },
            -2 => bytes.strip_suffix(&[0])?,
            _ => bytes.get(..usize::try_from(length).ok()?)?,
        };
        if data_type == REGCLASS {
            let relation = Oid(u32::from_le_bytes(value.try_into().ok()?));
            return relation_text(&self.view, relation).ok()?;
        }
        let mut cache = self.cache.borrow_mut();
        let mut describer = Describer {
            view: self.view,
            cache: &mut cache,
            depends_on: Vec::new(),
        };
        let described = describer.describe(Oid(data_type), 0).ok()?;
        if described.needs_catalog || !means_one_thing(&described.desc) {
            return None;
        }
        let mut out = Vec::new();
        let known = TypeRenderer::new(&described.desc).text(value, &self.context, &mut out);
        (known.ok()? == Known::Yes).then_some(out)
    }
}

/// Whether the text of a type's values is read alike under all settings. That of `money` is not:
/// what `lc_monetary` was where it was written, the log does not say, and another reads another
/// amount.
fn means_one_thing(data_type: &TypeDesc) -> bool {
    match &data_type.shape {
        TypeShape::Base(output) => output.symbol != "cash_out",
        TypeShape::Enum(_) => true,
        TypeShape::Array { element, .. } => means_one_thing(element),
        TypeShape::Range(inner) | TypeShape::Multirange(inner) | TypeShape::Domain(inner) => {
            means_one_thing(inner)
        }
        TypeShape::Composite(fields) => {
            let mut types = fields.iter().filter_map(|field| field.data_type.as_deref());
            types.all(means_one_thing)
        }
    }
}

/// The modifier that a cast to a length applies, -1 for none.
// pg: nodes/nodeFuncs.c exprIsLengthCoercion [14-18]
fn length_of(args: &[Value]) -> i32 {
    let modifier = || {
        if !(2..=3).contains(&args.len()) {
            return None;
        }
        let length = args.get(1)?.node()?;
        if length.tag != "CONST"
            || length.oid("consttype")? != INT4
            || length.flag("constisnull")?
        {
            return None;
        }
        let Some(Value::Bytes(bytes)) = length.get("constvalue") else {
            return None;
        };
        Some(i32::from_le_bytes(bytes.get(..4)?.try_into().ok()?))
    };
    modifier().unwrap_or(-1)
}

/// The collation of an expression's value.
// pg: nodes/nodeFuncs.c exprCollation [14-18]
fn collation_of(node: &Node) -> Option<Oid> {
    let field = match node.tag.as_str() {
        "FUNCEXPR" => "funccollid",
        "OPEXPR" => "opcollid",
        "VAR" => "varcollid",
        "CONST" => "constcollid",
        "RELABELTYPE" | "COERCEVIAIO" => "resultcollid",
        "COALESCE" | "COALESCEEXPR" => "coalescecollid",
        _ => return None,
    };
    node.oid(field).map(Oid)
}

/// Whether an expression reads as a call and needs no parentheses in an index's columns.
// pg: utils/adt/ruleutils.c looks_like_function [14-18]
fn looks_like_function(node: &Node) -> bool {
    match node.tag.as_str() {
        "FUNCEXPR" => matches!(node.number("funcformat"), Some(EXPLICIT_CALL | 3)),
        "COALESCE" | "COALESCEEXPR" | "SQLVALUEFUNCTION" => true,
        _ => false,
    }
}

/// Whether a number's text is read back as `numeric` without more.
fn is_plain_fraction(text: &[u8]) -> bool {
    text.first().is_some_and(u8::is_ascii_digit)
        && text.iter().any(|byte| matches!(byte, b'e' | b'E' | b'.'))
}

/// Appends a string literal.
pub(crate) fn push_literal(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'\'');
    for byte in text {
        if *byte == b'\'' {
            out.push(b'\'');
        }
        out.push(*byte);
    }
    out.push(b'\'');
}
