//! Puts statements into transactions and sessions.

use std::fmt::Write as _;

use super::model::World;
use super::random::Random;
use super::{alter, rows, tables, upkeep};

/// What runs first, alone: types and tables that all sessions use.
pub fn setup(random: &mut Random, world: &mut World, shared_tables: usize) -> String {
    let mut sql = String::from(
        "set timezone = 'UTC';\ncreate sequence public.shared_seq;\ncreate schema \"Shared Schema\";\n",
    );
    world.schemas.push("\"Shared Schema\"".to_owned());
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
        "set timezone = 'UTC';\nset lock_timeout = '60ms';\nset statement_timeout = '10s';\n",
    );
    let _ = writeln!(sql, "select setseed(0.{});", random.below(1000));
    if random.chance(60) {
        // Every statement of a transaction in a subtransaction of its own.
        sql.push_str("\\set ON_ERROR_ROLLBACK on\n");
    }
    if random.chance(30) {
        sql.push_str("set synchronous_commit = off;\n");
    }
    for count in 0..transactions {
        match random.weighted(&[4, 2, 10]) {
            0 => sql.push_str(&statement(random, world)),
            1 => sql.push_str(&upkeep::outside(random, world)),
            _ => transaction(random, world, number, count, &mut sql),
        }
    }
    sql.push_str("rollback;\n");
    sql
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
    let _ = writeln!(sql, "begin{level};");
    body(random, world, sql, 0);
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
    match random.weighted(&[60, 7, 2, 16, 2, 3, 12]) {
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
