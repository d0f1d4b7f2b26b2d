//! Statements that change tables.

use std::fmt::Write as _;

use super::kinds::{BASES, Kind, draw};
use super::model::{Column, Table, World, quoted};
use super::random::Random;
use super::tables::{column, some_table};
use super::values::present;

/// One change to a table of the model, or to what hangs on it.
pub fn alter(random: &mut Random, world: &mut World) -> String {
    if world.tables.is_empty() {
        return super::tables::create(random, world);
    }
    let at = random.below(world.tables.len());
    let mut table = world.tables[at].clone();
    let sql = match random.weighted(&[12, 8, 8, 3, 8, 5, 3, 6, 6, 4, 4, 3]) {
        0 => add_column(random, world, &mut table),
        1 => drop_column(random, &mut table),
        2 => change_type(random, world, &mut table),
        3 => defaults(random, world, &table),
        4 => rename(random, world, &mut table),
        5 => storage(random, world, &table),
        6 => persistence(random, &table),
        7 => identity(random, &table),
        8 => index(random, world, &mut table),
        9 => constraint(random, world, &table),
        10 => partition(random, world, &mut table),
        _ => several(random, world, &mut table),
    };
    world.tables[at] = table;
    sql
}

fn some_column(random: &mut Random, table: &Table) -> Option<Column> {
    if table.columns.is_empty() {
        None
    } else {
        Some(table.columns[random.below(table.columns.len())].clone())
    }
}

fn add_column(random: &mut Random, world: &mut World, table: &mut Table) -> String {
    if random.chance(20) {
        let name = world.column_name(random);
        let kind = Kind::Base(BASES[1]);
        table.columns.push(Column {
            name: name.clone(),
            kind,
            computed: false,
        });
        let value = random.pick(&[
            "(random() * 100)::int",
            "77",
            "nextval('public.shared_seq')",
            "null",
        ]);
        return format!(
            "alter table {} add column {} integer default {value};\n",
            table.name,
            quoted(&name)
        );
    }
    let definition = column(random, world, table);
    format!("alter table {} add column {definition};\n", table.name)
}

fn drop_column(random: &mut Random, table: &mut Table) -> String {
    if table.columns.is_empty() {
        return String::new();
    }
    let at = random.below(table.columns.len());
    let column = table.columns.remove(at);
    table.key.retain(|key| *key != quoted(&column.name));
    let cascade = if random.chance(60) { " cascade" } else { "" };
    format!(
        "alter table {} drop column {}{cascade};\n",
        table.name,
        quoted(&column.name)
    )
}

fn change_type(random: &mut Random, world: &mut World, table: &mut Table) -> String {
    if table.columns.is_empty() {
        return String::new();
    }
    let at = random.below(table.columns.len());
    let name = quoted(&table.columns[at].name);
    let kind = match random.below(4) {
        // To text works from everything.
        0 | 1 => Kind::Base(BASES[15]),
        2 => Kind::Base(BASES[2]),
        _ => draw(random, world),
    };
    let sql = kind.sql(world);
    let using = if random.chance(60) {
        format!(" using {name}::text::{}", kind.cast(world))
    } else if random.chance(20) {
        format!(" using {}", present(random, world, &kind))
    } else {
        String::new()
    };
    table.columns[at].kind = kind;
    format!(
        "alter table {} alter column {name} type {sql}{using};\n",
        table.name
    )
}

fn defaults(random: &mut Random, world: &World, table: &Table) -> String {
    let Some(column) = some_column(random, table) else {
        return String::new();
    };
    let name = quoted(&column.name);
    let change = match random.below(5) {
        0 => format!("set default {}", present(random, world, &column.kind)),
        1 => "drop default".to_owned(),
        2 => "set not null".to_owned(),
        3 => "drop not null".to_owned(),
        _ => format!("set statistics {}", random.below(500)),
    };
    format!("alter table {} alter column {name} {change};\n", table.name)
}

fn rename(random: &mut Random, world: &mut World, table: &mut Table) -> String {
    let (schema, _) = table.name.split_once('.').unwrap_or(("public", ""));
    let schema = schema.to_owned();
    match random.below(4) {
        0 => {
            let name = quoted(&world.fresh_name(random, "r"));
            let old = std::mem::replace(&mut table.name, format!("{schema}.{name}"));
            format!("alter table {old} rename to {name};\n")
        }
        1 => {
            let target = world.schema(random);
            let bare = table
                .name
                .split_once('.')
                .map_or(table.name.clone(), |(_, bare)| bare.to_owned());
            let old = std::mem::replace(&mut table.name, format!("{target}.{bare}"));
            format!("alter table {old} set schema {target};\n")
        }
        _ => {
            if table.columns.is_empty() {
                return String::new();
            }
            let at = random.below(table.columns.len());
            let name = world.column_name(random);
            let old = quoted(&std::mem::replace(
                &mut table.columns[at].name,
                name.clone(),
            ));
            for key in &mut table.key {
                if *key == old {
                    *key = quoted(&name);
                }
            }
            format!(
                "alter table {} rename column {old} to {};\n",
                table.name,
                quoted(&name)
            )
        }
    }
}

fn storage(random: &mut Random, world: &World, table: &Table) -> String {
    let Some(column) = some_column(random, table) else {
        return String::new();
    };
    let name = quoted(&column.name);
    let change = match random.below(4) {
        0 => {
            let methods: &[&str] = if world.major == 15 {
                &["pglz", "lz4", "default"]
            } else {
                &["pglz", "default"]
            };
            format!("set compression {}", random.pick(methods))
        }
        _ => format!(
            "set storage {}",
            random.pick(&["external", "extended", "main", "plain"])
        ),
    };
    format!("alter table {} alter column {name} {change};\n", table.name)
}

fn persistence(random: &mut Random, table: &Table) -> String {
    let change = random.pick(&[
        "set logged",
        "set unlogged",
        "set logged",
        "set (fillfactor = 50)",
        "reset (fillfactor)",
        "enable row level security",
        "disable row level security",
        "set tablespace pg_default",
        "disable trigger all",
        "enable trigger all",
    ]);
    format!("alter table {} {change};\n", table.name)
}

fn identity(random: &mut Random, table: &Table) -> String {
    let change = match random.below(6) {
        0..=2 => "full".to_owned(),
        3 => "default".to_owned(),
        4 => "nothing".to_owned(),
        _ => match table.indexes.last() {
            Some(index) => format!("using index {index}"),
            None => "full".to_owned(),
        },
    };
    format!("alter table {} replica identity {change};\n", table.name)
}

fn index(random: &mut Random, world: &mut World, table: &mut Table) -> String {
    let Some(column) = some_column(random, table) else {
        return String::new();
    };
    let column = quoted(&column.name);
    if !table.indexes.is_empty() && random.chance(30) {
        let schema = table
            .name
            .split_once('.')
            .map_or("public", |(schema, _)| schema)
            .to_owned();
        let index = table.indexes.remove(0);
        return format!("drop index {schema}.{index};\n");
    }
    let name = quoted(&world.fresh_name(random, "i"));
    table.indexes.push(name.clone());
    match random.below(4) {
        0 => format!(
            "alter table {t} alter column {column} set not null;\ncreate unique index {name} on {t} ({column});\nalter table {t} replica identity using index {name};\n",
            t = table.name
        ),
        1 => format!(
            "create index {name} on {} using hash ({column});\n",
            table.name
        ),
        2 => format!(
            "create index {name} on {} (({column} is null)) where {column} is not null;\n",
            table.name
        ),
        _ => format!(
            "create unique index {name} on {} ({column}) include ({column});\n",
            table.name
        ),
    }
}

fn constraint(random: &mut Random, world: &mut World, table: &Table) -> String {
    let Some(column) = some_column(random, table) else {
        return String::new();
    };
    let (column, name) = (quoted(&column.name), quoted(&world.fresh_name(random, "k")));
    let table = &table.name;
    match random.below(4) {
        0 => format!(
            "alter table {table} add constraint {name} check ({column} is not null) not valid;\nalter table {table} validate constraint {name};\n"
        ),
        1 => format!("alter table {table} add constraint {name} unique ({column}) deferrable;\n"),
        2 => format!(
            "alter table {table} add constraint {name} check (true);\nalter table {table} drop constraint {name};\n"
        ),
        _ => format!(
            "comment on table {table} is 'comment {}';\ngrant select on {table} to public;\n",
            name.replace('\'', "")
        ),
    }
}

fn partition(random: &mut Random, world: &mut World, table: &mut Table) -> String {
    if !table.partitioned {
        let Some(parent) = some_table(random, world, |other| !other.partitioned) else {
            return String::new();
        };
        let change = random.pick(&["inherit", "no inherit"]);
        return format!("alter table {} {change} {};\n", table.name, parent.name);
    }
    table.partitions += 1;
    let number = world.fresh_number();
    let part = format!("public.\"extra{number}\"");
    let low = 10_000 + 100 * number;
    let mut sql = format!("create table {part} (like {} including all);\n", table.name);
    let bound = if random.chance(50) {
        format!("for values from ({low}) to ({})", low + 50)
    } else {
        format!("for values in ({low}, {})", low + 1)
    };
    let _ = writeln!(
        sql,
        "alter table {} attach partition {part} {bound};",
        table.name
    );
    if random.chance(40) {
        let _ = writeln!(sql, "alter table {} detach partition {part};", table.name);
    }
    sql
}

fn several(random: &mut Random, world: &mut World, table: &mut Table) -> String {
    let added = column(random, world, table);
    let other = column(random, world, table);
    let name = &table.name;
    match some_column(random, table) {
        Some(column) if random.chance(50) => format!(
            "alter table {name} add column {added}, add column {other}, alter column {} set storage main;\n",
            quoted(&column.name)
        ),
        _ => format!("alter table {name} add column {added}, add column {other};\n"),
    }
}
