//! Tables and indexes as SQL.

use redostream_protocol::ddl::{
    ConstraintShape, DdlEvent, Expression, IndexShape, KeyShape, TableShape,
};
use redostream_protocol::schema::Name;

use super::{column, ident, idents, literal, qualified, sql, table_name};

type Result<T> = std::result::Result<T, String>;

/// A constraint of any kind, by what matters here.
struct Constraint<'a> {
    name: &'a Name,
    definition: &'a Expression,
    inherited: bool,
    foreign: bool,
}

pub(super) fn statements(
    event: &DdlEvent,
    before: Option<&TableShape>,
    after: Option<&TableShape>,
) -> Result<Vec<String>> {
    let temporary = |table: &TableShape| table.persistence == "temporary";
    if after.or(before).is_some_and(temporary) {
        return Ok(Vec::new());
    }
    match (before, after) {
        (None, Some(after)) => create(after),
        (Some(before), None) => Ok(vec![format!("DROP TABLE {}", name_of(before))]),
        (Some(before), Some(after)) => alter(event, before, after),
        (None, None) => Ok(Vec::new()),
    }
}

fn name_of(table: &TableShape) -> String {
    qualified(Some(&table.schema), &table.name)
}

/// All constraints. Those that say that a column is not null come before the primary key, which
/// would say so under a name of its own.
fn constraints(table: &TableShape) -> Vec<Constraint<'_>> {
    let primary = table.primary_key.iter().map(|key: &KeyShape| Constraint {
        name: &key.name,
        definition: &key.definition,
        inherited: false,
        foreign: false,
    });
    let of_kind = |not_null: bool| {
        let all = table.constraints.iter();
        let wanted = all.filter(move |other| (other.kind == "not_null") == not_null);
        wanted.map(|other: &ConstraintShape| Constraint {
            name: &other.name,
            definition: &other.definition,
            inherited: other.inherited,
            foreign: other.kind == "foreign_key",
        })
    };
    of_kind(true).chain(primary).chain(of_kind(false)).collect()
}

/// Indexes that no constraint makes.
fn own_indexes(table: &TableShape) -> impl Iterator<Item = &IndexShape> {
    let of_constraint = |name: &Name| constraints(table).iter().any(|c| c.name == name);
    table
        .indexes
        .iter()
        .filter(move |index| !of_constraint(&index.name))
}

fn create(table: &TableShape) -> Result<Vec<String>> {
    if table.undecodable {
        return Err("it has an access method of its own".to_owned());
    }
    let name = name_of(table);
    let mut out: Vec<String> = table.columns.iter().filter_map(column::sequence).collect();
    let columns = table.columns.iter();
    let columns: Result<Vec<String>> = columns
        .map(|shape| column::definition(shape, &table.constraints))
        .collect();
    let unlogged = if table.persistence == "unlogged" {
        "UNLOGGED "
    } else {
        ""
    };
    let mut create = format!("CREATE {unlogged}TABLE {name} ({})", columns?.join(", "));
    if !table.inherits.is_empty() {
        let parents: Vec<_> = table.inherits.iter().map(table_name).collect();
        create.push_str(&format!(" INHERITS ({})", parents.join(", ")));
    }
    if let Some(key) = sql(&table.partition_key, "the partition key")? {
        create.push_str(&format!(" PARTITION BY {key}"));
    }
    if !table.options.is_empty() {
        create.push_str(&format!(" WITH ({})", options(&table.options)));
    }
    out.push(create);
    out.extend(
        table
            .columns
            .iter()
            .filter_map(|shape| column::sequence_owner(shape, &name)),
    );
    let is_child = !table.inherits.is_empty();
    for foreign in [false, true] {
        let wanted = constraints(table).into_iter();
        for constraint in wanted.filter(|c| c.foreign == foreign && !(is_child && c.inherited)) {
            out.push(add_constraint(&name, &constraint)?);
        }
    }
    for index in own_indexes(table) {
        out.push(create_index(index)?);
    }
    out.extend(replica_identity(table, &name));
    if let Some((parent, bound)) = &table.partition_of {
        out.push(attach(&name, &table_name(parent), bound)?);
    }
    Ok(out)
}

fn attach(name: &str, parent: &str, bound: &Expression) -> Result<String> {
    let bound = sql(bound, "the partition's bound")?.unwrap_or_default();
    Ok(format!(
        "ALTER TABLE {parent} ATTACH PARTITION {name} {bound}"
    ))
}

fn add_constraint(table: &str, constraint: &Constraint<'_>) -> Result<String> {
    let what = format!("the definition of constraint {}", constraint.name);
    let definition = sql(constraint.definition, &what)?.unwrap_or_default();
    let name = ident(constraint.name);
    Ok(format!(
        "ALTER TABLE {table} ADD CONSTRAINT {name} {definition}"
    ))
}

fn create_index(index: &IndexShape) -> Result<String> {
    let what = format!("the definition of index {}", index.name);
    Ok(sql(&index.definition, &what)?.unwrap_or_default())
}

/// `name=value` with values as literals.
fn options(options: &[Name]) -> String {
    let all = options.iter().map(|option| {
        let option = option.lossy();
        match option.split_once('=') {
            Some((name, value)) => format!("{name} = {}", literal(value)),
            None => option.into_owned(),
        }
    });
    all.collect::<Vec<_>>().join(", ")
}

fn replica_identity(table: &TableShape, name: &str) -> Option<String> {
    let how = match table.replica_identity.as_str() {
        "full" => "FULL",
        "nothing" => "NOTHING",
        // Which index it is stands in no event.
        _ => return None,
    };
    Some(format!("ALTER TABLE {name} REPLICA IDENTITY {how}"))
}

fn alter(event: &DdlEvent, before: &TableShape, after: &TableShape) -> Result<Vec<String>> {
    let name = name_of(after);
    let mut out = Vec::new();
    if before.schema != after.schema {
        out.push(format!(
            "ALTER TABLE {} SET SCHEMA {}",
            name_of(before),
            ident(&after.schema)
        ));
    }
    if before.name != after.name {
        let old = qualified(Some(&after.schema), &before.name);
        out.push(format!(
            "ALTER TABLE {old} RENAME TO {}",
            ident(&after.name)
        ));
    }
    let moved = before.partition_of != after.partition_of;
    // A partition's columns are its parent's, and follow them.
    let columns_follow = before.partition_of.is_some() && !moved;
    let is_child = columns_follow || !before.inherits.is_empty() && !after.inherits.is_empty();
    if moved && let Some((parent, _)) = &before.partition_of {
        out.push(format!(
            "ALTER TABLE {} DETACH PARTITION {name}",
            table_name(parent)
        ));
    }
    for parent in before
        .inherits
        .iter()
        .filter(|parent| !after.inherits.contains(parent))
    {
        out.push(format!(
            "ALTER TABLE {name} NO INHERIT {}",
            table_name(parent)
        ));
    }
    // Texts of constraints and indexes change with the names and types of columns.
    let reworded = before.schema != after.schema
        || before.name != after.name
        || event
            .columns_altered
            .iter()
            .any(|(old, new)| old.name != new.name || old.data_type != new.data_type);
    drop_parts(before, after, reworded, &name, &mut out)?;
    if !columns_follow {
        columns(event, after, &name, is_child, &mut out)?;
    }
    if before.persistence != after.persistence {
        let how = if after.persistence == "unlogged" {
            "UNLOGGED"
        } else {
            "LOGGED"
        };
        out.push(format!("ALTER TABLE {name} SET {how}"));
    }
    set_options(before, after, &name, &mut out);
    add_parts(before, after, reworded, &name, &mut out)?;
    if before.replica_identity != after.replica_identity {
        match replica_identity(after, &name) {
            Some(statement) => out.push(statement),
            None => out.push(format!("ALTER TABLE {name} REPLICA IDENTITY DEFAULT")),
        }
    }
    for parent in after
        .inherits
        .iter()
        .filter(|parent| !before.inherits.contains(parent))
    {
        out.push(format!("ALTER TABLE {name} INHERIT {}", table_name(parent)));
    }
    if moved && let Some((parent, bound)) = &after.partition_of {
        out.push(attach(&name, &table_name(parent), bound)?);
    }
    Ok(out)
}

fn columns(
    event: &DdlEvent,
    after: &TableShape,
    name: &str,
    is_child: bool,
    out: &mut Vec<String>,
) -> Result<()> {
    let exists = if is_child { "IF EXISTS " } else { "" };
    for dropped in &event.columns_dropped {
        out.push(format!(
            "ALTER TABLE {name} DROP COLUMN {exists}{}",
            ident(&dropped.name)
        ));
    }
    for (old, new) in &event.columns_altered {
        if old.name != new.name && !is_child {
            let names = (ident(&old.name), ident(&new.name));
            out.push(format!(
                "ALTER TABLE {name} RENAME COLUMN {} TO {}",
                names.0, names.1
            ));
        }
        let actions = column::changes(old, new, &after.constraints)?;
        for action in actions {
            out.push(format!("ALTER TABLE {name} {action}"));
        }
    }
    for added in &event.columns_added {
        out.extend(column::sequence(added));
        let definition = column::definition(added, &after.constraints)?;
        let exists = if is_child { "IF NOT EXISTS " } else { "" };
        out.push(format!(
            "ALTER TABLE {name} ADD COLUMN {exists}{definition}"
        ));
        out.extend(column::sequence_owner(added, name));
    }
    Ok(())
}

fn set_options(before: &TableShape, after: &TableShape, name: &str, out: &mut Vec<String>) {
    let key = |option: &Name| {
        option
            .lossy()
            .split('=')
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    let kept: Vec<String> = after.options.iter().map(key).collect();
    let gone = before
        .options
        .iter()
        .map(key)
        .filter(|name| !kept.contains(name));
    let gone: Vec<String> = gone.collect();
    if !gone.is_empty() {
        out.push(format!("ALTER TABLE {name} RESET ({})", gone.join(", ")));
    }
    let new = after
        .options
        .iter()
        .filter(|option| !before.options.contains(option));
    let new: Vec<Name> = new.cloned().collect();
    if !new.is_empty() {
        out.push(format!("ALTER TABLE {name} SET ({})", options(&new)));
    }
}

/// Whether a constraint of the same name and, as far as that can be told, of the same meaning is
/// among `others`.
fn is_kept(one: &Constraint<'_>, others: &[Constraint<'_>], reworded: bool) -> bool {
    let same = |other: &&Constraint<'_>| other.name == one.name;
    others.iter().find(same).is_some_and(|other| {
        reworded || other.definition == one.definition || validated(one, other).is_some()
    })
}

/// Whether two definitions differ only in that one is not validated yet.
fn validated<'a>(one: &'a Constraint<'_>, other: &'a Constraint<'_>) -> Option<&'a Name> {
    let (Expression::Sql(one_text), Expression::Sql(other_text)) =
        (one.definition, other.definition)
    else {
        return None;
    };
    let bare = |text: &Name| text.lossy().trim_end_matches(" NOT VALID").to_owned();
    (one_text != other_text && bare(one_text) == bare(other_text)).then_some(one.name)
}

/// Constraints of one definition whose name alone changed.
fn renamed<'a>(gone: &[Constraint<'a>], new: &[Constraint<'a>]) -> Vec<(&'a Name, &'a Name)> {
    let known = |c: &&Constraint<'_>| matches!(c.definition, Expression::Sql(_));
    gone.iter()
        .filter(known)
        .filter_map(|old| {
            let mut same = new.iter().filter(|new| new.definition == old.definition);
            Some((old.name, same.next()?.name))
        })
        .collect()
}

fn changed<'a>(
    from: &'a TableShape,
    to: &'a TableShape,
    reworded: bool,
) -> (Vec<Constraint<'a>>, Vec<(&'a Name, &'a Name)>) {
    let (old, new) = (constraints(from), constraints(to));
    let mut gone: Vec<_> = constraints(from);
    gone.retain(|one| !one.inherited && !is_kept(one, &new, reworded));
    let mut added: Vec<_> = constraints(to);
    added.retain(|one| !one.inherited && !is_kept(one, &old, reworded));
    let renamed = renamed(&gone, &added);
    gone.retain(|one| !renamed.iter().any(|(old, _)| *old == one.name));
    (gone, renamed)
}

fn drop_parts(
    before: &TableShape,
    after: &TableShape,
    reworded: bool,
    name: &str,
    out: &mut Vec<String>,
) -> Result<()> {
    let (gone, renamed) = changed(before, after, reworded);
    for constraint in gone {
        let constraint = ident(constraint.name);
        out.push(format!(
            "ALTER TABLE {name} DROP CONSTRAINT IF EXISTS {constraint}"
        ));
    }
    for (old, new) in renamed {
        out.push(format!(
            "ALTER TABLE {name} RENAME CONSTRAINT {} TO {}",
            ident(old),
            ident(new)
        ));
    }
    for index in own_indexes(before) {
        if kept_index(index, after, reworded).is_none() && index.part_of.is_none() {
            let index = qualified(Some(&after.schema), &index.name);
            out.push(format!("DROP INDEX IF EXISTS {index}"));
        }
    }
    Ok(())
}

/// The same index afterwards, if it is still there.
fn kept_index<'a>(
    index: &IndexShape,
    table: &'a TableShape,
    reworded: bool,
) -> Option<&'a IndexShape> {
    let mut all = table.indexes.iter();
    let same = all.find(|other| other.name == index.name)?;
    (reworded || same.definition == index.definition).then_some(same)
}

fn add_parts(
    before: &TableShape,
    after: &TableShape,
    reworded: bool,
    name: &str,
    out: &mut Vec<String>,
) -> Result<()> {
    let old = constraints(before);
    let (added, renamed) = changed(after, before, reworded);
    for constraint in added {
        if !renamed.iter().any(|(new, _)| *new == constraint.name) {
            out.push(add_constraint(name, &constraint)?);
        }
    }
    for constraint in constraints(after) {
        let same = old.iter().find(|other| other.name == constraint.name);
        let newly = same.and_then(|other| validated(&constraint, other));
        if let (Some(constraint), false) = (newly, reworded) {
            out.push(format!(
                "ALTER TABLE {name} VALIDATE CONSTRAINT {}",
                idents([constraint])
            ));
        }
    }
    for index in own_indexes(after) {
        let schema = Some(&after.schema);
        match kept_index(index, before, reworded) {
            Some(old) if old.part_of == index.part_of => continue,
            Some(_) => {}
            None => out.push(create_index(index)?),
        }
        // A table that is attached brings its indexes along.
        if let Some(parent) = index
            .part_of
            .as_ref()
            .filter(|_| before.partition_of.is_some())
        {
            let (parent, index) = (table_name(parent), qualified(schema, &index.name));
            out.push(format!("ALTER INDEX {parent} ATTACH PARTITION {index}"));
        }
    }
    Ok(())
}
