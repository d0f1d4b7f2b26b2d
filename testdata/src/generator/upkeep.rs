//! Everything else that a busy database sees: maintenance, sequences, messages, large
//! objects, views, functions.

use super::model::{World, quoted};
use super::random::Random;
use super::tables::some_table;

/// A statement that cannot run inside a transaction block.
pub fn outside(random: &mut Random, world: &World) -> String {
    const CATALOGS: &[&str] = &[
        "pg_class",
        "pg_attribute",
        "pg_type",
        "pg_index",
        "pg_constraint",
        "pg_depend",
        "pg_attrdef",
        "pg_enum",
        "pg_namespace",
        "pg_proc",
        "pg_range",
        "pg_inherits",
        "pg_trigger",
        "pg_statistic",
        "pg_opclass",
        "pg_shdepend",
        "pg_database",
        "pg_authid",
        "pg_replication_origin",
    ];
    let catalog = random.pick(CATALOGS);
    let table = some_table(random, world, |_| true)
        .map_or_else(|| "pg_class".to_owned(), |table| table.name);
    match random.weighted(&[5, 5, 4, 3, 4, 2, 2, 2, 2, 1]) {
        0 => format!("vacuum {table};\n"),
        1 => format!(
            "vacuum (full{}) {table};\n",
            random.pick(&["", ", freeze", ", analyze"])
        ),
        2 => format!("vacuum (freeze) {catalog};\n"),
        3 => format!("vacuum full {catalog};\n"),
        4 => format!("vacuum (analyze, index_cleanup on) {catalog};\n"),
        5 => format!("reindex table concurrently {table};\n"),
        6 => "checkpoint;\n".to_owned(),
        8 => format!("reindex table {catalog};\n"),
        9 => "select format('reindex system %I', current_database())\n\\gexec\n".to_owned(),
        _ => "vacuum;\n".to_owned(),
    }
}

/// A statement that can run anywhere.
pub fn inside(random: &mut Random, world: &mut World) -> String {
    match random.weighted(&[6, 4, 5, 2, 4, 3, 4, 2, 2, 1, 1, 2]) {
        0 => message(random),
        1 => sequence(random, world),
        2 => view(random, world),
        3 => large_object(random),
        4 => rewrite(random, world),
        5 => schema(random, world),
        6 => "select pg_sleep(0.003);\n".to_owned(),
        7 => function(random, world),
        8 => "set constraints all immediate;\n".to_owned(),
        9 => catalog_rewrite(random),
        10 => tablespace(random, world),
        _ => "select txid_current();\n".to_owned(),
    }
}

/// A catalog written anew in a transaction, which may yet be rolled back.
fn catalog_rewrite(random: &mut Random) -> String {
    random
        .pick(&[
            "cluster pg_class using pg_class_oid_index;\n",
            "cluster pg_attribute using pg_attribute_relid_attnum_index;\n",
            "cluster pg_type using pg_type_oid_index;\n",
            "cluster pg_enum using pg_enum_oid_index;\n",
            "reindex table pg_class;\n",
            "reindex index pg_attribute_relid_attnam_index;\n",
        ])
        .to_owned()
}

/// A table into another tablespace or back: its rows are copied page by page.
fn tablespace(random: &mut Random, world: &World) -> String {
    let Some(table) = some_table(random, world, |_| true) else {
        return String::new();
    };
    let space = random.pick(&["room", "room", "pg_default"]);
    match random.below(3) {
        0 => format!("set default_tablespace = '{space}';\n"),
        1 => format!(
            "alter table {} set tablespace {space};\nset default_tablespace = '';\n",
            table.name
        ),
        _ => format!("alter table {} set tablespace {space};\n", table.name),
    }
}

/// A logical message, and a record that says nothing behind it. The server orders the changes of a
/// transaction's subtransactions by LSN but takes a message's *end*: with a row of another
/// subtransaction right behind it the two are equal, and which comes first is an accident of its
/// heap. A restore point between them prints nothing and leaves no doubt. It takes no lock, and is
/// of the same statement: a change of a catalog may fail alone, and leave the message without it.
// pg: replication/logical/decode.c logicalmsg_decode, reorderbuffer.c ReorderBufferIterCompare [14-18]
pub fn emit(transactional: bool, prefix: &str, content: &str) -> String {
    let behind = if transactional {
        ", pg_create_restore_point('behind a message')"
    } else {
        ""
    };
    format!("select pg_logical_emit_message({transactional}, '{prefix}', {content}){behind};\n")
}

fn message(random: &mut Random) -> String {
    let transactional = random.chance(60);
    let prefix = random.pick(&["p", "", "with space", "ü"]);
    let content = if random.chance(15) {
        "repeat('long ', 3000)".to_owned()
    } else {
        let content = random.pick(&["", "content", "line\none", "'quoted'", "0"]);
        format!("'{}'", content.replace('\'', "''"))
    };
    emit(transactional, prefix, &content)
}

fn sequence(random: &mut Random, world: &mut World) -> String {
    if world.sequences.is_empty() || random.chance(25) {
        let name = format!(
            "{}.{}",
            world.schema(random),
            quoted(&world.fresh_name(random, "q"))
        );
        world.sequences.push(name.clone());
        return format!("create sequence {name};\n");
    }
    let name = world.sequences[random.below(world.sequences.len())].clone();
    match random.below(4) {
        0 => format!(
            "select setval('{}', {});\n",
            name.replace('\'', "''"),
            1 + random.below(1000)
        ),
        1 => format!(
            "alter sequence {name} restart with {};\n",
            1 + random.below(100)
        ),
        _ => format!(
            "select nextval('{}') from generate_series(1, {});\n",
            name.replace('\'', "''"),
            1 + random.below(40)
        ),
    }
}

fn view(random: &mut Random, world: &mut World) -> String {
    if world.views.is_empty() || random.chance(35) {
        let name = format!(
            "{}.{}",
            world.schema(random),
            quoted(&world.fresh_name(random, "m"))
        );
        world.views.push(name.clone());
        return format!(
            "create materialized view {name} as select i, md5(i::text || (random() > 0.5)::text) as m from generate_series(1, {}) i;\ncreate unique index on {name} (i);\n",
            1 + random.small(40)
        );
    }
    let at = random.below(world.views.len());
    let name = world.views[at].clone();
    match random.below(6) {
        0 => {
            world.views.remove(at);
            format!("drop materialized view {name};\n")
        }
        1 | 2 => format!("refresh materialized view {name};\n"),
        3 => format!("alter materialized view {name} set (fillfactor = 70);\n"),
        _ => format!("refresh materialized view concurrently {name};\n"),
    }
}

fn large_object(random: &mut Random) -> String {
    match random.below(3) {
        0 => format!(
            "select lo_from_bytea(0, convert_to(repeat('large ', {}), 'UTF8'));\n",
            1 + random.below(2000)
        ),
        1 => "select lo_put(oid, 3, 'patch') from pg_largeobject_metadata limit 1;\n".to_owned(),
        _ => "select lo_unlink(oid) from pg_largeobject_metadata limit 1;\n".to_owned(),
    }
}

fn rewrite(random: &mut Random, world: &World) -> String {
    let Some(table) = some_table(random, world, |_| true) else {
        return String::new();
    };
    match random.below(5) {
        0 if !table.key.is_empty() => {
            // The key's index has a name the server made up.
            let bare = table
                .name
                .split_once('.')
                .map_or(table.name.as_str(), |(_, bare)| bare);
            format!(
                "cluster {} using {};\n",
                table.name,
                quoted(&format!("{}_pkey", bare.trim_matches('"')))
            )
        }
        1 => format!("reindex table {};\n", table.name),
        2 => format!("analyze {};\n", table.name),
        3 => format!("lock table {} in share mode;\n", table.name),
        _ => format!(
            "alter table {} alter column {} type text;\n",
            table.name,
            table
                .columns
                .first()
                .map_or_else(|| "x".to_owned(), |column| quoted(&column.name))
        ),
    }
}

fn schema(random: &mut Random, world: &mut World) -> String {
    let name = quoted(&world.fresh_name(random, "n"));
    let (_, shared) = world.shared;
    if world.schemas.len() <= shared || random.chance(60) {
        world.schemas.push(name.clone());
        return format!("create schema {name};\n");
    }
    let at = shared + random.below(world.schemas.len() - shared);
    let old = std::mem::replace(&mut world.schemas[at], name.clone());
    let renamed = |full: &mut String| {
        if let Some(rest) = full.strip_prefix(&format!("{old}.")) {
            *full = format!("{name}.{rest}");
        }
    };
    world
        .tables
        .iter_mut()
        .for_each(|table| renamed(&mut table.name));
    world
        .types
        .iter_mut()
        .for_each(|own| renamed(&mut own.name));
    world.views.iter_mut().for_each(renamed);
    world.sequences.iter_mut().for_each(renamed);
    format!("alter schema {old} rename to {name};\n")
}

fn function(random: &mut Random, world: &mut World) -> String {
    let number = world.fresh_number();
    let Some(table) = some_table(random, world, |table| !table.partitioned) else {
        return String::new();
    };
    let name = format!("public.\"f{number}_{}\"", random.below(1_000_000));
    format!(
        "create function {name}() returns trigger language plpgsql as $f$ begin if random() < 0.1 then return null; end if; return new; end $f$;\ncreate trigger \"tr{number}\" before insert or update on {} for each row execute function {name}();\n",
        table.name
    )
}
