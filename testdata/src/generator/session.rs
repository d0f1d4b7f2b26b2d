//! Puts statements into transactions and sessions.

use std::fmt::Write as _;

use super::kinds::EXTENSIONS;
use super::model::World;
use super::random::Random;
use super::{alter, rows, tables, upkeep};

/// What runs first, alone: types and tables that all sessions use.
pub fn setup(random: &mut Random, world: &mut World, shared_tables: usize) -> String {
    let mut sql = String::from(
        "set client_encoding = 'UTF8';\nset timezone = 'UTC';\ncreate sequence public.shared_seq;\ncreate schema \"Shared Schema\";\n",
    );
    world.schemas.push("\"Shared Schema\"".to_owned());
    for extension in EXTENSIONS {
        let _ = writeln!(sql, "create extension {extension} schema public;");
    }
    let _ = writeln!(sql, "select setseed(0.{});", random.below(1000));
    for _ in 0..3 + random.below(4) {
        sql.push_str(&tables::create_type(random, world));
    }
    for _ in 0..shared_tables {
        sql.push_str(&tables::create(random, world));
    }
    for _ in 0..shared_tables * 3 {
        sql.push_str(&rows::change(random, world));
    }
    sql
}

/// The script of one session.
pub fn script(
    random: &mut Random,
    world: &mut World,
    number: usize,
    transactions: usize,
) -> String {
    let mut sql = String::from(
        "set client_encoding = 'UTF8';\nset timezone = 'UTC';\nset lock_timeout = '60ms';\nset statement_timeout = '10s';\n",
    );
    let _ = writeln!(sql, "select setseed(0.{});", random.below(1000));
    if random.chance(60) {
        // Every statement of a transaction in a subtransaction of its own.
        sql.push_str("\\set ON_ERROR_ROLLBACK on\n");
    }
    if random.chance(30) {
        sql.push_str("set synchronous_commit = off;\n");
    }
    if random.chance(15) {
        origin(random, number, &mut sql);
    }
    for count in 0..transactions {
        match random.weighted(&[40, 20, 100, 2]) {
            0 => sql.push_str(&statement(random, world)),
            1 => sql.push_str(&upkeep::outside(random, world)),
            2 => transaction(random, world, number, count, &mut sql),
            _ => savepoints(random, world, &mut sql),
        }
    }
    sql.push_str("rollback;\n");
    sql
}

/// The session replays what came from elsewhere: its commits name an origin. Names of origins
/// belong to the cluster, so this one has the database's in it.
fn origin(random: &mut Random, number: usize, sql: &mut String) {
    let _ = writeln!(
        sql,
        "select format('origin {number} of %s', current_database()) as origin \\gset\n\
         select pg_replication_origin_create(:'origin');\n\
         select pg_replication_origin_session_setup(:'origin');"
    );
    if random.chance(50) {
        let _ = writeln!(
            sql,
            "begin;\nselect pg_replication_origin_xact_setup('0/{:X}', '2001-02-03 04:05:06.7+00');\ncommit;",
            1 + random.below(1_000_000)
        );
    }
}

/// Very many savepoints, one in the other, with a row here and there, ended at several levels.
fn savepoints(random: &mut Random, world: &mut World, sql: &mut String) {
    let depth = if random.chance(15) {
        1000
    } else {
        65 + random.below(200)
    };
    let before = world.clone();
    sql.push_str("begin;\n");
    for level in 0..depth {
        let _ = writeln!(sql, "savepoint deep{level};");
        if random.chance(8) {
            sql.push_str(&rows::change(random, world));
        } else if random.chance(8) {
            sql.push_str(&upkeep::emit(true, "deep", "'x'"));
        }
        if random.chance(4) {
            let to = level - random.below(level.min(20) + 1);
            let word = random.pick(&["rollback to", "release"]);
            let _ = writeln!(sql, "{word} savepoint deep{to};");
        }
    }
    sql.push_str(&rows::change(random, world));
    sql.push_str(random.pick(&["commit;\n", "commit;\n", "rollback;\n"]));
    world.restore(&before);
}

fn transaction(
    random: &mut Random,
    world: &mut World,
    number: usize,
    count: usize,
    sql: &mut String,
) {
    let before = world.clone();
    let level = random.pick(&[
        "",
        "",
        "",
        " isolation level repeatable read",
        " isolation level serializable",
    ]);
    let start = sql.len();
    let _ = writeln!(sql, "begin{level};");
    body(random, world, sql, 0);
    // While a prepared transaction has locked a catalog, no session of the database can begin, and
    // so nobody could end it. (Those with a relation map cannot be rewritten and prepared.)
    let bars_everybody = sql[start..].contains("cluster pg_enum");
    match random.weighted(&[70, 18, 8, 4]) {
        0 => sql.push_str("commit;\n"),
        1 => {
            sql.push_str("rollback;\n");
            world.restore(&before);
        }
        2 => {
            let gid = format!("session{number} {count}");
            let _ = writeln!(
                sql,
                "select 'prepared {gid} of ' || current_database() as gid \\gset"
            );
            sql.push_str("prepare transaction :'gid';\n");
            if random.chance(40) {
                sql.push_str("select pg_sleep(0.01);\n");
            }
            match random.below(3) {
                0 => {
                    sql.push_str("rollback prepared :'gid';\n");
                    world.restore(&before);
                }
                1 => sql.push_str("commit prepared :'gid';\n"),
                _ if bars_everybody => sql.push_str("commit prepared :'gid';\n"),
                // Left to the end; until then its locks are in the way of the others.
                _ => world.restore(&before),
            }
            sql.push_str("rollback;\n");
        }
        _ => sql.push_str("commit and chain;\nselect 1;\ncommit;\n"),
    }
}

fn body(random: &mut Random, world: &mut World, sql: &mut String, depth: usize) {
    for _ in 0..1 + random.small(7) {
        if depth < 4 && random.chance(18) {
            let before = world.clone();
            let name = format!("sp{depth}");
            let _ = writeln!(sql, "savepoint {name};");
            body(random, world, sql, depth + 1);
            match random.below(4) {
                0 => {
                    let _ = writeln!(sql, "rollback to savepoint {name};");
                    world.restore(&before);
                }
                1 => {
                    let _ = writeln!(
                        sql,
                        "rollback to savepoint {name};\nrelease savepoint {name};"
                    );
                    world.restore(&before);
                }
                2 => {
                    let _ = writeln!(sql, "release savepoint {name};");
                }
                _ => {}
            }
        } else {
            let statement = statement(random, world);
            sql.push_str(&statement);
        }
    }
}

/// One statement that can run inside a transaction.
fn statement(random: &mut Random, world: &mut World) -> String {
    match random.weighted(&[world.rows, 7, 2, 16, 2, 3, 12]) {
        1 => tables::create(random, world),
        2 => tables::drop(random, world),
        3 => alter::alter(random, world),
        4 => tables::create_type(random, world),
        5 => tables::alter_type(random, world),
        6 => upkeep::inside(random, world),
        _ => rows::change(random, world),
    }
}

/// What runs last, alone: ends what is still prepared, one way or the other.
pub fn finish(random: &mut Random) -> String {
    let odd = random.below(2);
    format!(
        "select format('%s prepared %L', case when length(gid) % 2 = {odd} then 'commit' else 'rollback' end, gid)\n  from pg_prepared_xacts where database = current_database() order by gid\n\\gexec\n"
    )
}
