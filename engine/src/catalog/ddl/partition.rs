//! Partition keys and bounds, as the server writes them.

use redostream_protocol::Oid;
use redostream_protocol::ddl::Expression;
use redostream_protocol::schema::Name;

use super::super::CatalogError;
use super::super::layout::oid;
use super::super::view::View;
use super::expression::Printer;
use super::index::{Key, push_key};
use super::node::{Node, Value, parse};

/// The partition key of a table.
// pg: utils/adt/ruleutils.c pg_get_partkeydef [14-18]
pub(crate) fn key(
    view: &View<'_>,
    relation: Oid,
    printer: &Printer<'_, '_>,
) -> Result<Expression, CatalogError> {
    let Some(row) = view.row_of(oid::PARTITIONED_TABLE, "partrelid", relation)? else {
        return Ok(Expression::None);
    };
    let strategy: &[u8] = match row.byte("partstrat")? {
        b'h' => b"HASH (",
        b'l' => b"LIST (",
        b'r' => b"RANGE (",
        _ => return Ok(Expression::Unknown),
    };
    let mut out = strategy.to_vec();
    let stored = row.value("partexprs")?;
    let mut expressions = stored
        .map_or_else(Vec::new, |stored| printer.list(&stored))
        .into_iter();
    let classes = row.oids("partclass")?;
    let collations = row.oids("partcollation")?;
    for (at, number) in row.numbers("partattrs")?.into_iter().enumerate() {
        if at > 0 {
            out.extend_from_slice(b", ");
        }
        let key = Key {
            relation,
            number,
            expression: if number == 0 {
                expressions.next().flatten()
            } else {
                None
            },
            collation: collations.get(at).copied().unwrap_or_default(),
            class: classes.get(at).copied().unwrap_or_default(),
        };
        if !push_key(view, printer, &key, &mut out)? {
            return Ok(Expression::Unknown);
        }
    }
    out.push(b')');
    Ok(Expression::Sql(Name(out)))
}

/// The bound of a partition.
// pg: utils/adt/ruleutils.c get_rule_expr, T_PartitionBoundSpec [14-18]
pub(crate) fn bound(stored: &[u8], printer: &Printer<'_, '_>) -> Expression {
    let parsed = parse(stored);
    let printed = parsed.as_ref().and_then(Value::node);
    match printed.and_then(|node| bound_text(node, printer)) {
        Some(text) => Expression::Sql(Name(text)),
        None => Expression::Unknown,
    }
}

fn bound_text(node: &Node, printer: &Printer<'_, '_>) -> Option<Vec<u8>> {
    if node.tag != "PARTITIONBOUNDSPEC" {
        return None;
    }
    if node.flag("is_default")? {
        return Some(b"DEFAULT".to_vec());
    }
    let mut out = b"FOR VALUES ".to_vec();
    match node.letter("strategy")? {
        b'h' => {
            let (modulus, remainder) = (node.number("modulus")?, node.number("remainder")?);
            let text = format!("WITH (modulus {modulus}, remainder {remainder})");
            out.extend_from_slice(text.as_bytes());
        }
        b'l' => {
            out.extend_from_slice(b"IN (");
            for (number, datum) in node.items("listdatums")?.iter().enumerate() {
                if number > 0 {
                    out.extend_from_slice(b", ");
                }
                printer.bound(datum.node()?, &mut out)?;
            }
            out.push(b')');
        }
        b'r' => {
            out.extend_from_slice(b"FROM ");
            range(node.items("lowerdatums")?, printer, &mut out)?;
            out.extend_from_slice(b" TO ");
            range(node.items("upperdatums")?, printer, &mut out)?;
        }
        _ => return None,
    }
    Some(out)
}

fn range(datums: &[Value], printer: &Printer<'_, '_>, out: &mut Vec<u8>) -> Option<()> {
    out.push(b'(');
    for (number, datum) in datums.iter().enumerate() {
        if number > 0 {
            out.extend_from_slice(b", ");
        }
        let datum = datum.node()?;
        // pg: nodes/parsenodes.h PartitionRangeDatumKind [14-18]
        match datum.number("kind")? {
            -1 => out.extend_from_slice(b"MINVALUE"),
            0 => printer.bound(datum.child("value")?, out)?,
            1 => out.extend_from_slice(b"MAXVALUE"),
            _ => return None,
        }
    }
    out.push(b')');
    Some(())
}
