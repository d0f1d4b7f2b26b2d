//! Indexes of a table.

use redostream_protocol::Oid;
use redostream_protocol::ddl::{Expression, IndexShape};
use redostream_protocol::schema::Name;

use super::super::CatalogError;
use super::super::layout::oid;
use super::super::view::{Row, View};
use super::constraint::Constraints;
use super::expression::{Listed, Printer, push_literal};
use super::names::{collation_text, qualified, quoted, relation_text, table_name};
use super::values::texts;

/// `btree`, the only access method of PostgreSQL's own whose keys have an order.
// pg: catalog/pg_am.dat BTREE_AM_OID [14-18]
const BTREE: Oid = Oid(403);

/// An index as found.
pub(crate) struct FoundIndex {
    pub(crate) oid: Oid,
    /// Whether a constraint stands for it.
    pub(crate) of_constraint: bool,
    pub(crate) shape: IndexShape,
}

/// A table's indexes, by name. One that is still being built, or being dropped, is not there yet
/// or not any more.
pub(crate) fn indexes(
    view: &View<'_>,
    relation: Oid,
    printer: &Printer<'_, '_>,
    constraints: &Constraints,
) -> Result<Vec<FoundIndex>, CatalogError> {
    let mut found = Vec::new();
    for row in view.rows(oid::INDEX, "indrelid", relation.0)? {
        let oid = row.oid("indexrelid")?;
        let Some(class) = view.row_of(oid::CLASS, "oid", oid)? else {
            continue;
        };
        // One of a partitioned table is not valid before all partitions have theirs.
        let partitioned = class.byte("relkind")? == b'I';
        if !row.flag("indislive")? || !(partitioned || row.flag("indisvalid")?) {
            continue;
        }
        let index = Index {
            view,
            printer,
            row,
            class,
        };
        found.push(FoundIndex {
            oid,
            of_constraint: constraints.indexes.contains(&oid),
            shape: index.shape(relation)?,
        });
    }
    found.sort_by(|one, other| one.shape.name.cmp(&other.shape.name));
    Ok(found)
}

/// One index with what it takes to print it.
pub(crate) struct Index<'v, 'a, 'c> {
    pub(crate) view: &'v View<'a>,
    pub(crate) printer: &'v Printer<'a, 'c>,
    /// Its row in `pg_index`.
    pub(crate) row: Row<'a>,
    /// Its row in `pg_class`.
    pub(crate) class: Row<'a>,
}

/// One key of an index or of a partitioned table.
pub(crate) struct Key {
    pub(crate) relation: Oid,
    /// `attnum`, 0 for an expression.
    pub(crate) number: i16,
    /// Its text; none if unknown.
    pub(crate) expression: Option<Listed>,
    pub(crate) collation: Oid,
    pub(crate) class: Oid,
}

impl Index<'_, '_, '_> {
    fn shape(&self, relation: Oid) -> Result<IndexShape, CatalogError> {
        let keys = self.keys(relation)?;
        let own = usize::try_from(self.row.i16("indnkeyatts")?).unwrap_or(0);
        let mut columns = Vec::new();
        for key in keys.iter().take(own) {
            columns.push(match (key.number, &key.expression) {
                (0, expression) => expression.as_ref().map(|listed| Name(listed.text.clone())),
                (number, _) => self.column(number),
            });
        }
        let mut part_of = None;
        for row in self
            .view
            .rows(oid::INHERITS, "inhrelid", self.class.oid("oid")?.0)?
        {
            part_of = table_name(self.view, row.oid("inhparent")?)?;
        }
        Ok(IndexShape {
            name: self.class.name("relname")?,
            unique: self.row.flag("indisunique")?,
            columns,
            definition: self.definition(relation, &keys, own)?,
            part_of,
        })
    }

    fn column(&self, number: i16) -> Option<Name> {
        let mut all = self.printer.columns.iter();
        let found = all.find(|(of, _)| *of == number);
        found.map(|(_, name)| name.clone())
    }

    fn keys(&self, relation: Oid) -> Result<Vec<Key>, CatalogError> {
        let stored = self.row.value("indexprs")?;
        let mut expressions = stored
            .map_or_else(Vec::new, |stored| self.printer.list(&stored))
            .into_iter();
        let collations = self.row.oids("indcollation")?;
        let classes = self.row.oids("indclass")?;
        let numbers = self.row.numbers("indkey")?.into_iter().enumerate();
        Ok(numbers
            .map(|(at, number)| Key {
                relation,
                number,
                expression: if number == 0 {
                    expressions.next().flatten()
                } else {
                    None
                },
                collation: collations.get(at).copied().unwrap_or_default(),
                class: classes.get(at).copied().unwrap_or_default(),
            })
            .collect())
    }

    /// Whether keys without duplicates may hold one null only.
    pub(crate) fn nulls_not_distinct(&self) -> Result<bool, CatalogError> {
        Ok(self.view.store.format.major >= 15 && self.row.flag("indnullsnotdistinct")?)
    }

    // pg: utils/adt/ruleutils.c pg_get_indexdef [14-18]
    fn definition(
        &self,
        relation: Oid,
        keys: &[Key],
        own: usize,
    ) -> Result<Expression, CatalogError> {
        let mut out = b"CREATE ".to_vec();
        if self.row.flag("indisunique")? {
            out.extend_from_slice(b"UNIQUE ");
        }
        out.extend_from_slice(b"INDEX ");
        quoted(self.view, &mut out, &self.class.name("relname")?);
        out.extend_from_slice(b" ON ");
        if self.class.byte("relkind")? == b'I' {
            out.extend_from_slice(b"ONLY ");
        }
        out.extend_from_slice(&relation_text(self.view, relation)?.unwrap_or_default());
        out.extend_from_slice(b" USING ");
        if !self.push_body(keys, own, None, &mut out)? {
            return Ok(Expression::Unknown);
        }
        Ok(Expression::Sql(Name(out)))
    }

    /// Appends everything from the access method on, with the operators of an exclusion constraint
    /// if there are any. False if it cannot be given.
    fn push_body(
        &self,
        keys: &[Key],
        own: usize,
        operators: Option<&[Oid]>,
        out: &mut Vec<u8>,
    ) -> Result<bool, CatalogError> {
        let method = self.class.oid("relam")?;
        let Some(row) = self.view.row_of(oid::AM, "oid", method)? else {
            return Ok(false);
        };
        quoted(self.view, out, &row.name("amname")?);
        out.extend_from_slice(b" (");
        let orders = self.row.numbers("indoption")?;
        for (at, key) in keys.iter().enumerate() {
            if at == own {
                out.extend_from_slice(b") INCLUDE (");
            } else if at > 0 {
                out.extend_from_slice(b", ");
            }
            if at >= own {
                let Some(name) = self.column(key.number) else {
                    return Ok(false);
                };
                quoted(self.view, out, &name);
                continue;
            }
            if !push_key(self.view, self.printer, key, out)? {
                return Ok(false);
            }
            if method == BTREE {
                push_order(orders.get(at).copied().unwrap_or(0), out);
            }
            if let Some(operator) = operators.and_then(|list| list.get(at)) {
                out.extend_from_slice(b" WITH ");
                if self.printer.operator_name(operator.0, out).is_none() {
                    return Ok(false);
                }
            }
        }
        out.push(b')');
        self.push_tail(operators.is_some(), out)
    }

    fn push_tail(&self, in_constraint: bool, out: &mut Vec<u8>) -> Result<bool, CatalogError> {
        if self.nulls_not_distinct()? {
            out.extend_from_slice(b" NULLS NOT DISTINCT");
        }
        for attribute in self
            .view
            .rows(oid::ATTRIBUTE, "attrelid", self.class.oid("oid")?.0)?
        {
            if attribute.value("attoptions")?.is_some() {
                return Ok(false);
            }
        }
        let options = texts(&self.class.value("reloptions")?.unwrap_or_default());
        if !options.is_empty() {
            out.extend_from_slice(b" WITH (");
            push_options(self.view, &options, out);
            out.push(b')');
        }
        if let Some(predicate) = self.row.value("indpred")? {
            let Expression::Sql(text) = self.printer.text(&predicate) else {
                return Ok(false);
            };
            out.extend_from_slice(if in_constraint {
                b" WHERE ("
            } else {
                b" WHERE "
            });
            out.extend_from_slice(text.as_bytes());
            if in_constraint {
                out.push(b')');
            }
        }
        Ok(true)
    }

    /// The definition of the exclusion constraint that the index stands for.
    pub(crate) fn exclusion(
        &self,
        relation: Oid,
        operators: &[Oid],
    ) -> Result<Option<Vec<u8>>, CatalogError> {
        let keys = self.keys(relation)?;
        let own = usize::try_from(self.row.i16("indnkeyatts")?).unwrap_or(0);
        let mut out = b"EXCLUDE USING ".to_vec();
        let known = self.push_body(&keys, own, Some(operators), &mut out)?;
        Ok(known.then_some(out))
    }
}

// pg: catalog/pg_index.h INDOPTION_DESC, INDOPTION_NULLS_FIRST [14-18]
fn push_order(order: i16, out: &mut Vec<u8>) {
    let text: &[u8] = match order & 3 {
        0 => b"",
        1 => b" DESC NULLS LAST",
        2 => b" NULLS FIRST",
        _ => b" DESC",
    };
    out.extend_from_slice(text);
}

/// Appends storage options as the server lists them.
// pg: utils/adt/ruleutils.c get_reloptions [14-18]
fn push_options(view: &View<'_>, options: &[Name], out: &mut Vec<u8>) {
    for (number, option) in options.iter().enumerate() {
        if number > 0 {
            out.extend_from_slice(b", ");
        }
        let mut parts = option.as_bytes().splitn(2, |byte| *byte == b'=');
        let name = Name::from(parts.next().unwrap_or_default());
        let value = Name::from(parts.next().unwrap_or_default());
        quoted(view, out, &name);
        out.push(b'=');
        let mut as_identifier = Vec::new();
        quoted(view, &mut as_identifier, &value);
        if as_identifier == value.as_bytes() {
            out.extend_from_slice(value.as_bytes());
        } else {
            push_literal(value.as_bytes(), out);
        }
    }
}

/// Appends a key: column or expression, collation, operator class. False if it cannot be given.
pub(crate) fn push_key(
    view: &View<'_>,
    printer: &Printer<'_, '_>,
    key: &Key,
    out: &mut Vec<u8>,
) -> Result<bool, CatalogError> {
    if key.number == 0 {
        let Some(Listed {
            text, parentheses, ..
        }) = &key.expression
        else {
            return Ok(false);
        };
        if *parentheses {
            out.push(b'(');
            out.extend_from_slice(text);
            out.push(b')');
        } else {
            out.extend_from_slice(text);
        }
    } else {
        let mut columns = printer.columns.iter();
        let Some((_, name)) = columns.find(|(number, _)| *number == key.number) else {
            return Ok(false);
        };
        quoted(view, out, name);
    }
    if key.collation.is_valid() {
        // What some expressions would be sorted by without saying so is not known.
        let own = own_collation(view, key)?;
        match own {
            Some(own) if own == key.collation => {}
            Some(_) => {
                out.extend_from_slice(b" COLLATE ");
                let name = collation_text(view, key.collation)?.unwrap_or_default();
                out.extend_from_slice(name.as_bytes());
            }
            None => return Ok(false),
        }
    }
    let Some(class) = view.row_of(oid::OPERATOR_CLASS, "oid", key.class)? else {
        return Ok(!key.class.is_valid());
    };
    if !class.flag("opcdefault")? {
        out.push(b' ');
        qualified(
            view,
            out,
            class.oid("opcnamespace")?,
            &class.name("opcname")?,
        )?;
    }
    Ok(true)
}

fn own_collation(view: &View<'_>, key: &Key) -> Result<Option<Oid>, CatalogError> {
    if key.number == 0 {
        return Ok(key.expression.as_ref().and_then(|listed| listed.collation));
    }
    for row in view.rows(oid::ATTRIBUTE, "attrelid", key.relation.0)? {
        if row.i16("attnum")? == key.number {
            return row.oid("attcollation").map(Some);
        }
    }
    Ok(None)
}
