//! Constraints of a table or domain.

use redostream_protocol::Oid;
use redostream_protocol::ddl::{ConstraintShape, Expression, KeyShape};
use redostream_protocol::schema::Name;
use rustc_hash::FxHashSet;

use super::super::CatalogError;
use super::super::layout::oid;
use super::super::view::{Row, View};
use super::expression::Printer;
use super::index::Index;
use super::names::{quoted_list, relation_text, table_name};
use super::table::attributes;

/// What a relation's rows in `pg_constraint` say.
#[derive(Default)]
pub(crate) struct Constraints {
    pub(crate) primary: Option<(Oid, KeyShape)>,
    pub(crate) others: Vec<FoundConstraint>,
    /// Indexes that stand for a constraint.
    pub(crate) indexes: FxHashSet<Oid>,
}

/// A constraint that is no primary key.
pub(crate) struct FoundConstraint {
    pub(crate) oid: Oid,
    pub(crate) shape: ConstraintShape,
    /// The table that it names.
    pub(crate) references: Option<Oid>,
}

/// The constraints of a relation, by name.
pub(crate) fn constraints(
    view: &View<'_>,
    relation: Oid,
    printer: &Printer<'_, '_>,
) -> Result<Constraints, CatalogError> {
    let mut found = Constraints::default();
    for row in view.rows(oid::CONSTRAINT, "conrelid", relation.0)? {
        if is_share_of_own(view, &row, relation)? {
            continue;
        }
        let constraint = Constraint { view, printer, row };
        let kind = constraint.row.byte("contype")?;
        if matches!(kind, b'p' | b'u' | b'x') {
            found.indexes.insert(constraint.row.oid("conindid")?);
        }
        let oid = constraint.row.oid("oid")?;
        if kind == b'p' {
            let key = KeyShape {
                name: constraint.row.name("conname")?,
                columns: constraint.columns()?,
                definition: constraint.definition(kind)?,
            };
            found.primary = Some((oid, key));
        } else if let Some(shape) = constraint.shape(kind)? {
            let referenced = constraint.row.oid("confrelid")?;
            found.others.push(FoundConstraint {
                oid,
                shape,
                references: referenced.is_valid().then_some(referenced),
            });
        }
    }
    found
        .others
        .sort_by(|one, other| one.shape.name.cmp(&other.shape.name));
    Ok(found)
}

/// Whether a foreign key is the share of one partition of the referenced table in another foreign
/// key of the same table.
fn is_share_of_own(view: &View<'_>, row: &Row<'_>, relation: Oid) -> Result<bool, CatalogError> {
    let parent = row.oid("conparentid")?;
    if row.byte("contype")? != b'f' || !parent.is_valid() {
        return Ok(false);
    }
    match view.row_of(oid::CONSTRAINT, "oid", parent)? {
        Some(parent) => Ok(parent.oid("conrelid")? == relation),
        None => Ok(false),
    }
}

struct Constraint<'v, 'a, 'c> {
    view: &'v View<'a>,
    printer: &'v Printer<'a, 'c>,
    row: Row<'a>,
}

impl Constraint<'_, '_, '_> {
    fn columns(&self) -> Result<Vec<Name>, CatalogError> {
        let numbers = self.row.numbers("conkey")?;
        let all = self.printer.columns;
        let name = |number| all.iter().find(|(known, _)| *known == number);
        Ok(numbers
            .into_iter()
            .filter_map(|number| name(number).map(|(_, name)| name.clone()))
            .collect())
    }

    fn shape(&self, kind: u8) -> Result<Option<ConstraintShape>, CatalogError> {
        let text = match kind {
            b'u' => "unique",
            b'f' => "foreign_key",
            b'c' => "check",
            b'x' => "exclusion",
            b'n' => "not_null",
            // A constraint trigger is a trigger.
            _ => return Ok(None),
        };
        let references = if kind == b'f' {
            let referenced = self.row.oid("confrelid")?;
            let columns = self.referenced_columns(referenced)?;
            table_name(self.view, referenced)?.map(|name| (name, columns))
        } else {
            None
        };
        let expression = if kind == b'c' {
            self.check()?
        } else {
            Expression::None
        };
        Ok(Some(ConstraintShape {
            name: self.row.name("conname")?,
            kind: text.to_owned(),
            columns: self.columns()?,
            references,
            expression,
            definition: self.definition(kind)?,
            inherited: self.row.whole("coninhcount")? > 0,
        }))
    }

    fn check(&self) -> Result<Expression, CatalogError> {
        let stored = self.row.value("conbin")?;
        Ok(stored.map_or(Expression::Unknown, |stored| self.printer.text(&stored)))
    }

    fn referenced_columns(&self, referenced: Oid) -> Result<Vec<Name>, CatalogError> {
        let mut names = Vec::new();
        for attribute in attributes(self.view, referenced)? {
            names.push((attribute.i16("attnum")?, attribute.name("attname")?));
        }
        let numbers = self.row.numbers("confkey")?;
        let name = |number| names.iter().find(|(known, _)| *known == number);
        Ok(numbers
            .into_iter()
            .filter_map(|number| name(number).map(|(_, name)| name.clone()))
            .collect())
    }

    // pg: utils/adt/ruleutils.c pg_get_constraintdef [14-18]
    fn definition(&self, kind: u8) -> Result<Expression, CatalogError> {
        let mut out = Vec::new();
        let known = match kind {
            b'p' | b'u' => self.push_key(kind, &mut out)?,
            b'f' => self.push_foreign_key(&mut out)?,
            b'c' => self.push_check(&mut out)?,
            b'x' => self.push_exclusion(&mut out)?,
            b'n' => self.push_not_null(&mut out)?,
            _ => false,
        };
        if !known {
            return Ok(Expression::Unknown);
        }
        if self.row.flag("condeferrable")? {
            out.extend_from_slice(b" DEFERRABLE");
        }
        if self.row.flag("condeferred")? {
            out.extend_from_slice(b" INITIALLY DEFERRED");
        }
        if self.view.store.format.major >= 18 && !self.row.flag("conenforced")? {
            out.extend_from_slice(b" NOT ENFORCED");
        } else if !self.row.flag("convalidated")? {
            out.extend_from_slice(b" NOT VALID");
        }
        Ok(Expression::Sql(Name(out)))
    }

    /// Whether the last column is a period.
    fn has_period(&self) -> Result<bool, CatalogError> {
        Ok(self.view.store.format.major >= 18 && self.row.flag("conperiod")?)
    }

    fn push_key(&self, kind: u8, out: &mut Vec<u8>) -> Result<bool, CatalogError> {
        let index = self.row.oid("conindid")?;
        let Some(index) = self.index(index)? else {
            return Ok(false);
        };
        let word: &[u8] = if kind == b'p' {
            b"PRIMARY KEY ("
        } else if index.nulls_not_distinct()? {
            b"UNIQUE NULLS NOT DISTINCT ("
        } else {
            b"UNIQUE ("
        };
        out.extend_from_slice(word);
        let columns = self.columns()?;
        quoted_list(self.view, out, &columns);
        if self.has_period()? {
            out.extend_from_slice(b" WITHOUT OVERLAPS");
        }
        out.push(b')');
        let keys = index.row.numbers("indkey")?;
        let included = keys.get(columns.len()..).unwrap_or_default();
        if !included.is_empty() {
            out.extend_from_slice(b" INCLUDE (");
            let all = self.printer.columns.iter();
            let name = |number: &i16| all.clone().find(|(known, _)| known == number);
            let names = included.iter().filter_map(name).map(|(_, name)| name);
            quoted_list(self.view, out, names);
            out.push(b')');
        }
        Ok(true)
    }

    fn index(&self, index: Oid) -> Result<Option<Index<'_, '_, '_>>, CatalogError> {
        let row = self.view.row_of(oid::INDEX, "indexrelid", index)?;
        let class = self.view.row_of(oid::CLASS, "oid", index)?;
        let (Some(row), Some(class)) = (row, class) else {
            return Ok(None);
        };
        let (view, printer) = (self.view, self.printer);
        Ok(Some(Index {
            view,
            printer,
            row,
            class,
        }))
    }

    fn push_foreign_key(&self, out: &mut Vec<u8>) -> Result<bool, CatalogError> {
        let referenced = self.row.oid("confrelid")?;
        let Some(table) = relation_text(self.view, referenced)? else {
            return Ok(false);
        };
        let period = self.has_period()?;
        out.extend_from_slice(b"FOREIGN KEY (");
        self.push_columns(&self.columns()?, period, out);
        out.extend_from_slice(b") REFERENCES ");
        out.extend_from_slice(&table);
        out.push(b'(');
        self.push_columns(&self.referenced_columns(referenced)?, period, out);
        out.push(b')');
        if self.row.byte("confmatchtype")? == b'f' {
            out.extend_from_slice(b" MATCH FULL");
        }
        for (word, column) in [
            (" ON UPDATE ", "confupdtype"),
            (" ON DELETE ", "confdeltype"),
        ] {
            // pg: nodes/parsenodes.h FKCONSTR_ACTION_* [14-18]
            let action = match self.row.byte(column)? {
                b'r' => "RESTRICT",
                b'c' => "CASCADE",
                b'n' => "SET NULL",
                b'd' => "SET DEFAULT",
                _ => continue,
            };
            out.extend_from_slice(word.as_bytes());
            out.extend_from_slice(action.as_bytes());
        }
        if self.view.store.format.major >= 15 && self.row.value("confdelsetcols")?.is_some() {
            let numbers = self.row.numbers("confdelsetcols")?;
            let all = self.printer.columns;
            let name = |number: &i16| all.iter().find(|(known, _)| known == number);
            out.extend_from_slice(b" (");
            let names = numbers.iter().filter_map(name).map(|(_, name)| name);
            quoted_list(self.view, out, names);
            out.push(b')');
        }
        Ok(true)
    }

    fn push_columns(&self, columns: &[Name], period: bool, out: &mut Vec<u8>) {
        match columns.split_last() {
            Some((last, others)) if period => {
                quoted_list(self.view, out, others);
                let separator: &[u8] = if others.is_empty() { b"" } else { b", " };
                out.extend_from_slice(separator);
                out.extend_from_slice(b"PERIOD ");
                quoted_list(self.view, out, [last]);
            }
            _ => quoted_list(self.view, out, columns),
        }
    }

    fn push_check(&self, out: &mut Vec<u8>) -> Result<bool, CatalogError> {
        let Expression::Sql(text) = self.check()? else {
            return Ok(false);
        };
        out.extend_from_slice(b"CHECK (");
        out.extend_from_slice(text.as_bytes());
        out.push(b')');
        self.push_no_inherit(out)?;
        Ok(true)
    }

    fn push_no_inherit(&self, out: &mut Vec<u8>) -> Result<(), CatalogError> {
        if self.row.flag("connoinherit")? {
            out.extend_from_slice(b" NO INHERIT");
        }
        Ok(())
    }

    fn push_not_null(&self, out: &mut Vec<u8>) -> Result<bool, CatalogError> {
        out.extend_from_slice(b"NOT NULL");
        for column in self.columns()? {
            out.push(b' ');
            quoted_list(self.view, out, [&column]);
        }
        self.push_no_inherit(out)?;
        Ok(true)
    }

    fn push_exclusion(&self, out: &mut Vec<u8>) -> Result<bool, CatalogError> {
        let Some(index) = self.index(self.row.oid("conindid")?)? else {
            return Ok(false);
        };
        let operators = self.row.oids("conexclop")?;
        let text = index.exclusion(self.row.oid("conrelid")?, &operators)?;
        out.extend_from_slice(text.as_deref().unwrap_or_default());
        Ok(text.is_some())
    }
}

/// The checks of a domain, by name, and since 17 its `NOT NULL`.
pub(crate) fn of_domain(
    view: &View<'_>,
    domain: Oid,
    printer: &Printer<'_, '_>,
) -> Result<Vec<ConstraintShape>, CatalogError> {
    let mut found = Vec::new();
    for row in view.rows(oid::CONSTRAINT, "contypid", domain.0)? {
        let constraint = Constraint { view, printer, row };
        let kind = constraint.row.byte("contype")?;
        found.extend(constraint.shape(kind)?);
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}
