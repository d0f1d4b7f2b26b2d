//! Schemas, sequences and types as SQL.

use redostream_protocol::ddl::{DdlEvent, ObjectShape, Property};
use redostream_protocol::schema::Name;

use super::{ident, literal, qualified};

type Result<T> = std::result::Result<T, String>;

/// The properties of an object.
struct Properties<'a>(&'a [(String, Property)]);

impl<'a> Properties<'a> {
    fn of(shape: Option<&'a ObjectShape>) -> Option<Properties<'a>> {
        match shape? {
            ObjectShape::Other(properties) => Some(Properties(properties)),
            ObjectShape::Table(_) => None,
        }
    }

    fn get(&self, key: &str) -> Option<&'a Property> {
        let found = self.0.iter().find(|(name, _)| name == key);
        found.map(|(_, property)| property)
    }

    fn text(&self, key: &str) -> Option<&'a Name> {
        match self.get(key)? {
            Property::Text(name) => Some(name),
            _ => None,
        }
    }

    fn number(&self, key: &str) -> Option<i64> {
        match self.get(key)? {
            Property::Number(number) => Some(*number),
            _ => None,
        }
    }

    fn flag(&self, key: &str) -> bool {
        matches!(self.get(key), Some(Property::Bool(true)))
    }

    fn list(&self, key: &str) -> &'a [Property] {
        match self.get(key) {
            Some(Property::List(items)) => items,
            _ => &[],
        }
    }

    fn parts(&self, key: &str) -> Option<Properties<'a>> {
        parts_of(self.get(key)?)
    }
}

fn parts_of(property: &Property) -> Option<Properties<'_>> {
    match property {
        Property::Parts(parts) => Some(Properties(parts)),
        _ => None,
    }
}

/// DROP of anything that is named by its name alone.
pub(super) fn drop(event: &DdlEvent) -> Result<Vec<String>> {
    let name = qualified(event.schema.as_ref(), &event.name);
    let properties = Properties::of(event.before.as_ref());
    let table = properties.as_ref().and_then(|before| before.text("table"));
    Ok(vec![match (event.object.as_str(), table) {
        ("trigger" | "policy" | "rule", Some(table)) => {
            let table = qualified(event.schema.as_ref(), table);
            format!("{} {} ON {table}", event.command, ident(&event.name))
        }
        ("function" | "procedure" | "aggregate", _) => {
            let arguments = properties.map_or(&[][..], |before| before.list("arguments"));
            let types = arguments.iter().filter_map(|argument| match argument {
                Property::Text(name) => Some(name.to_string()),
                _ => None,
            });
            let types: Vec<_> = types.collect();
            format!("{} {name}({})", event.command, types.join(", "))
        }
        _ => format!("{} {name}", event.command),
    }])
}

pub(super) fn statements(event: &DdlEvent) -> Result<Vec<String>> {
    if event.command == "COMMENT" || event.command == "GRANT" || event.command == "REVOKE" {
        return Err("comments and privileges are only named".to_owned());
    }
    let before = Properties::of(event.before.as_ref());
    let after = Properties::of(event.after.as_ref());
    let Some(after) = after else {
        return drop(event);
    };
    let mut out = Vec::new();
    if before.is_some() {
        moves(event, &mut out);
    }
    let name = qualified(event.schema.as_ref(), &event.name);
    match (event.object.as_str(), before) {
        ("schema", None) => out.push(format!("CREATE SCHEMA {name}")),
        ("schema", Some(_)) => {}
        ("sequence", before) => sequence(&name, before.as_ref(), &after, &mut out),
        ("domain", None) => out.extend(create_domain(&name, &after)?),
        ("domain", Some(before)) => alter_domain(&name, &before, &after, &mut out)?,
        (_, None) => out.push(create_type(&name, &after)?),
        (_, Some(before)) => alter_type(&name, &before, &after, &mut out)?,
    }
    Ok(out)
}

/// SET SCHEMA and RENAME.
fn moves(event: &DdlEvent, out: &mut Vec<String>) {
    let kind = event.object.to_uppercase();
    let old_name = event.old_name.as_ref().unwrap_or(&event.name);
    if let (Some(old), Some(new)) = (&event.old_schema, &event.schema) {
        let name = qualified(Some(old), old_name);
        out.push(format!("ALTER {kind} {name} SET SCHEMA {}", ident(new)));
    }
    if event.old_name.is_some() {
        let name = qualified(event.schema.as_ref(), old_name);
        out.push(format!(
            "ALTER {kind} {name} RENAME TO {}",
            ident(&event.name)
        ));
    }
}

fn sequence(
    name: &str,
    before: Option<&Properties<'_>>,
    after: &Properties<'_>,
    out: &mut Vec<String>,
) {
    let verb = if before.is_some() { "ALTER" } else { "CREATE" };
    let same = |key: &str| before.is_some_and(|before| before.get(key) == after.get(key));
    let mut options = String::new();
    if let Some(data_type) = after.text("data_type").filter(|_| !same("data_type")) {
        options.push_str(&format!(" AS {data_type}"));
    }
    for (key, words) in [
        ("increment", "INCREMENT BY"),
        ("minimum", "MINVALUE"),
        ("maximum", "MAXVALUE"),
        ("start", "START WITH"),
        ("cache", "CACHE"),
    ] {
        if let Some(number) = after.number(key).filter(|_| !same(key)) {
            options.push_str(&format!(" {words} {number}"));
        }
    }
    if !same("cycle") {
        options.push_str(if after.flag("cycle") {
            " CYCLE"
        } else {
            " NO CYCLE"
        });
    }
    if !options.is_empty() {
        out.push(format!("{verb} SEQUENCE {name}{options}"));
    }
    if same("owned_by") {
        return;
    }
    let owner = after.parts("owned_by");
    let owner = owner.filter(|owner| !owner.flag("identity"));
    match owner
        .as_ref()
        .and_then(|owner| Some((owner.text("table")?, owner.text("column")?)))
    {
        Some((table, column)) => {
            let schema = owner.as_ref().and_then(|owner| owner.text("schema"));
            let column = format!("{}.{}", qualified(schema, table), ident(column));
            out.push(format!("ALTER SEQUENCE {name} OWNED BY {column}"));
        }
        None if before.is_some() => out.push(format!("ALTER SEQUENCE {name} OWNED BY NONE")),
        None => {}
    }
}

fn labels(of: &Properties<'_>) -> Vec<String> {
    let all = of.list("labels").iter().filter_map(|label| match label {
        Property::Text(label) => Some(label.to_string()),
        _ => None,
    });
    all.collect()
}

fn attributes(of: &Properties<'_>) -> Vec<(String, String)> {
    let all = of.list("attributes").iter().filter_map(|attribute| {
        let parts = parts_of(attribute)?;
        let collation = match parts.text("collation") {
            Some(collation) => format!(" COLLATE {collation}"),
            None => String::new(),
        };
        Some((
            ident(parts.text("name")?),
            format!("{}{collation}", parts.text("type")?),
        ))
    });
    all.collect()
}

fn create_type(name: &str, after: &Properties<'_>) -> Result<String> {
    let kind = after
        .text("kind")
        .map(|kind| kind.to_string())
        .unwrap_or_default();
    match kind.as_str() {
        "enum" => {
            let labels: Vec<_> = labels(after).iter().map(|label| literal(label)).collect();
            Ok(format!(
                "CREATE TYPE {name} AS ENUM ({})",
                labels.join(", ")
            ))
        }
        "composite" => {
            let fields = attributes(after).into_iter();
            let fields: Vec<_> = fields
                .map(|(name, data_type)| format!("{name} {data_type}"))
                .collect();
            Ok(format!("CREATE TYPE {name} AS ({})", fields.join(", ")))
        }
        "range" => {
            let subtype = after.text("subtype").ok_or("its subtype is not known")?;
            Ok(format!("CREATE TYPE {name} AS RANGE (SUBTYPE = {subtype})"))
        }
        _ => Err("a base type's functions are not in the event".to_owned()),
    }
}

fn alter_type(
    name: &str,
    before: &Properties<'_>,
    after: &Properties<'_>,
    out: &mut Vec<String>,
) -> Result<()> {
    let (old, new) = (labels(before), labels(after));
    let renamed = old.len() == new.len();
    for (at, label) in new.iter().enumerate() {
        if old.contains(label) {
            continue;
        }
        let label = literal(label);
        if renamed && let Some(was) = old.get(at) {
            out.push(format!(
                "ALTER TYPE {name} RENAME VALUE {} TO {label}",
                literal(was)
            ));
            continue;
        }
        let place = match (
            at.checked_sub(1).and_then(|at| new.get(at)),
            new.get(at + 1),
        ) {
            (Some(previous), _) => format!(" AFTER {}", literal(previous)),
            (None, Some(next)) => format!(" BEFORE {}", literal(next)),
            (None, None) => String::new(),
        };
        out.push(format!("ALTER TYPE {name} ADD VALUE {label}{place}"));
    }
    let (old, new) = (attributes(before), attributes(after));
    let find = |list: &[(String, String)], name: &String| {
        let found = list.iter().find(|(other, _)| other == name);
        found.map(|(_, data_type)| data_type.clone())
    };
    let gone: Vec<_> = old
        .iter()
        .filter(|(field, _)| find(&new, field).is_none())
        .collect();
    let added: Vec<_> = new
        .iter()
        .filter(|(field, _)| find(&old, field).is_none())
        .collect();
    if let ([(was, one)], [(is, other)], true) = (&gone[..], &added[..], old.len() == new.len())
        && one == other
    {
        out.push(format!("ALTER TYPE {name} RENAME ATTRIBUTE {was} TO {is}"));
        return Ok(());
    }
    for (field, _) in gone {
        out.push(format!("ALTER TYPE {name} DROP ATTRIBUTE {field}"));
    }
    for (field, data_type) in added {
        out.push(format!(
            "ALTER TYPE {name} ADD ATTRIBUTE {field} {data_type}"
        ));
    }
    for (field, data_type) in &new {
        if find(&old, field).is_some_and(|was| was != *data_type) {
            out.push(format!(
                "ALTER TYPE {name} ALTER ATTRIBUTE {field} TYPE {data_type}"
            ));
        }
    }
    Ok(())
}

/// A domain's constraints: name and definition.
fn checks(of: &Properties<'_>) -> Result<Vec<(String, String)>> {
    let mut checks = Vec::new();
    for constraint in of.list("constraints").iter().filter_map(parts_of) {
        let kind = constraint.text("kind").map(|kind| kind.to_string());
        if kind.as_deref() == Some("not_null") {
            continue;
        }
        let name = constraint.text("name").ok_or("a constraint has no name")?;
        let definition = constraint.text("definition");
        let definition = definition.ok_or(format!("the definition of {name} is not known"))?;
        checks.push((ident(name), definition.to_string()));
    }
    Ok(checks)
}

fn create_domain(name: &str, after: &Properties<'_>) -> Result<Vec<String>> {
    let base = after
        .text("base_type")
        .ok_or("its base type is not known")?;
    let mut create = format!("CREATE DOMAIN {name} AS {base}");
    if let Some(collation) = after.text("collation") {
        create.push_str(&format!(" COLLATE {collation}"));
    }
    if after.flag("default_unknown") {
        return Err("its default is not known as text".to_owned());
    }
    if let Some(default) = after.text("default") {
        create.push_str(&format!(" DEFAULT {default}"));
    }
    if !after.flag("nullable") {
        create.push_str(" NOT NULL");
    }
    for (constraint, definition) in checks(after)? {
        create.push_str(&format!(" CONSTRAINT {constraint} {definition}"));
    }
    Ok(vec![create])
}

fn alter_domain(
    name: &str,
    before: &Properties<'_>,
    after: &Properties<'_>,
    out: &mut Vec<String>,
) -> Result<()> {
    let mut alter = |action: String| out.push(format!("ALTER DOMAIN {name} {action}"));
    if before.get("default") != after.get("default") {
        match after.text("default") {
            Some(default) => alter(format!("SET DEFAULT {default}")),
            None if after.flag("default_unknown") => {
                return Err("its default is not known as text".to_owned());
            }
            None => alter("DROP DEFAULT".to_owned()),
        }
    }
    if before.flag("nullable") != after.flag("nullable") {
        let verb = if after.flag("nullable") {
            "DROP"
        } else {
            "SET"
        };
        alter(format!("{verb} NOT NULL"));
    }
    let (old, new) = (checks(before)?, checks(after)?);
    for (constraint, _) in old.iter().filter(|check| !new.contains(check)) {
        alter(format!("DROP CONSTRAINT {constraint}"));
    }
    for (constraint, definition) in new.iter().filter(|check| !old.contains(check)) {
        alter(format!("ADD CONSTRAINT {constraint} {definition}"));
    }
    Ok(())
}
