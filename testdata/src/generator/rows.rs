//! Statements that change rows.

use std::fmt::Write as _;

use super::model::{Column, Table, World, quoted};
use super::random::Random;
use super::tables::{copy_text, some_table};
use super::values::{expression, present};

/// One statement that changes rows.
pub fn change(random: &mut Random, world: &World) -> String {
    let Some(table) = some_table(random, world, |table| !table.columns.is_empty()) else {
        return "select 1;\n".to_owned();
    };
    match random.weighted(&[24, 6, 18, 10, 6, 3, 4, 3, 2, 3, 3]) {
        1 => many(random, world, &table),
        2 => update(random, world, &table),
        3 => delete(random, &table),
        4 => on_conflict(random, world, &table),
        5 => copy_from_self(random, &table),
        6 => copy_rows(random, world, &table),
        7 => lock(random, &table),
        8 => merge(random, world, &table),
        9 => truncate(random, world, &table),
        10 => subtransactions(random, world, &table),
        _ => insert(random, world, &table),
    }
}

fn chosen<'a>(random: &mut Random, table: &'a Table) -> Vec<&'a Column> {
    let all = random.chance(60);
    table
        .insertable()
        .into_iter()
        .filter(|column| all || table.key.contains(&quoted(&column.name)) || random.chance(60))
        .collect()
}

fn names(columns: &[&Column]) -> String {
    let names: Vec<String> = columns.iter().map(|column| quoted(&column.name)).collect();
    names.join(", ")
}

fn row(random: &mut Random, world: &World, columns: &[&Column], key: &[String]) -> String {
    let values: Vec<String> = columns
        .iter()
        .map(|column| {
            if key.contains(&quoted(&column.name)) {
                present(random, world, &column.kind)
            } else if random.chance(4) {
                "default".to_owned()
            } else {
                expression(random, world, &column.kind)
            }
        })
        .collect();
    format!("({})", values.join(", "))
}

/// `INSERT ... VALUES`, without its end.
fn insert_values(random: &mut Random, world: &World, table: &Table) -> String {
    let columns = chosen(random, table);
    if columns.is_empty() {
        return format!("insert into {} default values", table.name);
    }
    let count = 1 + random.small(4);
    let rows: Vec<String> = (0..count)
        .map(|_| row(random, world, &columns, &table.key))
        .collect();
    format!(
        "insert into {} ({}) values {}",
        table.name,
        names(&columns),
        rows.join(", ")
    )
}

fn insert(random: &mut Random, world: &World, table: &Table) -> String {
    format!("{};\n", insert_values(random, world, table))
}

/// Rows whose integers count up, so that keys rarely clash.
fn many(random: &mut Random, world: &World, table: &Table) -> String {
    let columns = chosen(random, table);
    if columns.is_empty() {
        return String::new();
    }
    let base = random.below(100_000);
    let count = 1 + random.small(400);
    let values: Vec<String> = columns
        .iter()
        .map(|column| match column.kind.sql(world).as_str() {
            "integer" | "bigint" | "numeric" => format!("{base} + i"),
            "uuid" => format!("md5(({base} + i)::text)::uuid"),
            "text" if random.chance(50) => {
                format!("repeat(md5(i::text), 1 + i % {})", 1 + random.below(150))
            }
            _ => expression(random, world, &column.kind),
        })
        .collect();
    format!(
        "insert into {} ({}) select {} from generate_series(1, {count}) i;\n",
        table.name,
        names(&columns),
        values.join(", ")
    )
}

fn some_rows(random: &mut Random, table: &Table) -> String {
    match random.below(8) {
        0 => String::new(),
        1 => format!(" where random() < 0.{}", 1 + random.below(9)),
        // ctid alone does not tell one partition's row from another's; both change then.
        _ => format!(
            " where ctid = any (array(select ctid from {} offset {} limit {}))",
            table.name,
            random.small(30),
            1 + random.small(5)
        ),
    }
}

fn update(random: &mut Random, world: &World, table: &Table) -> String {
    let columns = table.insertable();
    if columns.is_empty() {
        return String::new();
    }
    let mut set = Vec::new();
    for _ in 0..1 + random.small(3) {
        let column = columns[random.below(columns.len())];
        let name = quoted(&column.name);
        if set
            .iter()
            .any(|done: &String| done.starts_with(&format!("{name} =")))
        {
            continue;
        }
        let value = match random.below(5) {
            // The row changes, the value does not: an old value out of line stays as it is.
            0 => name.clone(),
            _ => expression(random, world, &column.kind),
        };
        set.push(format!("{name} = {value}"));
    }
    format!(
        "update {} set {}{};\n",
        table.name,
        set.join(", "),
        some_rows(random, table)
    )
}

fn delete(random: &mut Random, table: &Table) -> String {
    format!("delete from {}{};\n", table.name, some_rows(random, table))
}

fn on_conflict(random: &mut Random, world: &World, table: &Table) -> String {
    let insert = insert_values(random, world, table);
    if table.key.is_empty() || random.chance(35) {
        return format!("{insert} on conflict do nothing;\n");
    }
    let columns = table.insertable();
    if columns.is_empty() {
        return String::new();
    }
    let column = columns[random.below(columns.len())];
    let name = quoted(&column.name);
    let value = if random.chance(50) {
        format!("excluded.{name}")
    } else {
        present(random, world, &column.kind)
    };
    format!(
        "{insert} on conflict ({}) do update set {name} = {value};\n",
        table.key.join(", ")
    )
}

/// Rows out to a program and in again: whatever types they have, as a multi-insert.
fn copy_from_self(random: &mut Random, table: &Table) -> String {
    let columns: Vec<&Column> = table
        .insertable()
        .into_iter()
        .filter(|column| !table.key.contains(&quoted(&column.name)))
        .collect();
    if columns.is_empty() {
        return String::new();
    }
    let list = names(&columns);
    let file = format!("../copied{}", random.below(1_000_000));
    let limit = 1 + random.small(150);
    format!(
        "copy (select {list} from {t} limit {limit}) to program 'cat > {file}';\ncopy {t} ({list}) from program 'cat {file}; rm {file}';\n",
        t = table.name
    )
}

/// Rows in through psql, as a multi-insert.
fn copy_rows(random: &mut Random, world: &World, table: &Table) -> String {
    // Values that could end a psql statement or open a quote stay out: where COPY itself
    // fails, psql reads its rows as SQL.
    let safe = [
        "int2",
        "int4",
        "int8",
        "uuid",
        "date",
        "bytea",
        "float8",
        "oid",
        "bit7",
        "bool",
        "numeric_small",
    ];
    let columns: Vec<&Column> = table
        .insertable()
        .into_iter()
        .filter(|column| matches!(&column.kind, super::kinds::Kind::Base(base) if safe.contains(&base.values)))
        .collect();
    if columns.is_empty() {
        return String::new();
    }
    let mut sql = format!("copy {} ({}) from stdin;\n", table.name, names(&columns));
    for _ in 0..1 + random.small(60) {
        let values: Vec<String> = columns
            .iter()
            .map(|column| copy_text(random, world, &column.kind))
            .collect();
        let _ = writeln!(sql, "{}", values.join("\t"));
    }
    sql.push_str("\\.\n;\n");
    sql
}

fn lock(random: &mut Random, table: &Table) -> String {
    let strength = random.pick(&["update", "share", "key share", "no key update"]);
    format!(
        "select count(*) from (select 1 from {} limit 20 for {strength}) x;\n",
        table.name
    )
}

fn merge(random: &mut Random, world: &World, table: &Table) -> String {
    let columns = table.insertable();
    if world.major < 15 || columns.is_empty() || table.key.len() != 1 {
        return update(random, world, table);
    }
    let column = columns[random.below(columns.len())];
    let name = quoted(&column.name);
    format!(
        "merge into {t} d using (select {k} as k from {t} limit 6) s on d.{k} = s.k when matched and random() < 0.3 then delete when matched then update set {name} = {value};\n",
        t = table.name,
        k = table.key[0],
        value = expression(random, world, &column.kind),
    )
}

fn truncate(random: &mut Random, world: &World, table: &Table) -> String {
    let mut list = table.name.clone();
    for _ in 0..random.small(2) {
        if let Some(other) = some_table(random, world, |other| other.name != table.name)
            && !list.contains(&other.name)
        {
            list = format!("{list}, {}", other.name);
        }
    }
    format!(
        "truncate {list}{}{};\n",
        random.pick(&["", " restart identity"]),
        random.pick(&["", " cascade", " cascade"])
    )
}

/// A block whose every round is a subtransaction, some of them rolled back.
fn subtransactions(random: &mut Random, world: &World, table: &Table) -> String {
    let insert = insert_values(random, world, table);
    let rounds = match random.below(100) {
        0 => 3000 + random.below(8000),
        1..=24 => 70 + random.below(60),
        _ => 2 + random.below(10),
    };
    // Long values so many times would be another kind of test.
    let insert = if rounds > 1000 {
        format!("insert into {} default values", table.name)
    } else {
        insert
    };
    let bad = 2 + random.below(5);
    let column = table
        .insertable()
        .first()
        .map_or_else(|| "xmin".to_owned(), |column| quoted(&column.name));
    format!(
        "do $block$ begin for i in 1..{rounds} loop begin {insert}; if i % {bad} = 0 then raise exception 'undone'; end if; exception when others then begin update {t} set {column} = {column} where ctid = any (array(select ctid from {t} limit 1)); exception when others then null; end; end; end loop; end $block$;\n",
        t = table.name
    )
}
