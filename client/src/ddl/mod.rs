//! DDL events as SQL for PostgreSQL, so that a copy of the tables can be kept in step.
//!
//! [`statements`] turns one event into the statements that do to another database what the event
//! says was done to the source. They are meant to be run in order, in the transaction in which the
//! event's rows are applied. What an event does not describe in depth (a function's body, a view's
//! query, privileges) is [`Unsupported`]: the receiver decides whether to go on without.
//!
//! Names are those of the source, also the ones that PostgreSQL made up there.

mod column;
mod object;
mod table;

use redostream_protocol::ddl::{DdlEvent, Expression, ObjectShape, TableName};
use redostream_protocol::render::identifier::push_identifier;
use redostream_protocol::schema::Name;

/// The version whose key words names are quoted by: the newest, which has most of them.
const KEYWORDS_MAJOR: u16 = 18;

/// Something that cannot be made into SQL from what the event holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{command} {name}: {what}")]
pub struct Unsupported {
    /// The event's command.
    pub command: String,
    /// The object.
    pub name: String,
    /// What is missing.
    pub what: String,
}

/// The statements, without semicolons, that repeat an event.
///
/// Temporary tables are other sessions' own: their events give no statement.
pub fn statements(event: &DdlEvent) -> Result<Vec<String>, Unsupported> {
    let unsupported = |what: &str| Unsupported {
        command: event.command.clone(),
        name: event.name.to_string(),
        what: what.to_owned(),
    };
    let table = |shape: &Option<ObjectShape>| match shape {
        Some(ObjectShape::Table(table)) => Some(table.clone()),
        _ => None,
    };
    let (before, after) = (table(&event.before), table(&event.after));
    let result = match event.object.as_str() {
        "table" | "index" if before.is_some() || after.is_some() => {
            table::statements(event, before.as_deref(), after.as_deref())
        }
        "schema" | "sequence" | "type" | "domain" => object::statements(event),
        _ if event.after.is_none() && event.command.starts_with("DROP ") => object::drop(event),
        _ => Err("the event only names it".to_owned()),
    };
    result.map_err(|what| unsupported(&what))
}

/// An identifier.
fn ident(name: &Name) -> String {
    let mut out = Vec::new();
    push_identifier(&mut out, name.as_bytes(), KEYWORDS_MAJOR);
    String::from_utf8_lossy(&out).into_owned()
}

/// `schema.name`.
fn qualified(schema: Option<&Name>, name: &Name) -> String {
    match schema {
        Some(schema) => format!("{}.{}", ident(schema), ident(name)),
        None => ident(name),
    }
}

fn table_name(name: &TableName) -> String {
    qualified(Some(&name.schema), &name.table)
}

fn idents<'n>(names: impl IntoIterator<Item = &'n Name>) -> String {
    let names: Vec<String> = names.into_iter().map(ident).collect();
    names.join(", ")
}

/// An expression's text; an error if there is one and it is not known.
fn sql(expression: &Expression, what: &str) -> Result<Option<String>, String> {
    match expression {
        Expression::None => Ok(None),
        Expression::Sql(text) => Ok(Some(text.to_string())),
        Expression::Unknown => Err(format!("{what} is not known as text")),
    }
}

/// A string literal.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
