//! Statements with what is to be told of them: `statements/tables.txt` and
//! `statements/expressions.txt`.

use std::path::PathBuf;

/// A statement, and the events it causes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// What is run.
    pub sql: String,
    /// Whether it ends in an error; what it committed before that stays.
    pub fails: bool,
    /// What is told of it, an event a line.
    pub told: Vec<String>,
}

/// An expression, and the type of the column whose default it is; none for a check's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expression {
    /// The column's type, as SQL.
    pub data_type: Option<String>,
    /// The expression, as SQL.
    pub sql: String,
}

fn read(name: &str) -> String {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("statements");
    let path = folder.join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every form of `ALTER TABLE` and of what renames, one after another, as a server of this version
/// knows them.
///
/// A line is a statement, the indented lines below it are its events. `[17-]` before either says
/// from which version on there is such a thing, `[-17]` up to which, `[15-17]` both. `! ` before a
/// statement says that it ends in an error. A line with `#` says what follows.
#[must_use]
pub fn tables(major: u32) -> Vec<Statement> {
    let mut statements: Vec<Statement> = Vec::new();
    let mut skipped = false;
    for line in read("tables.txt").lines() {
        if line.starts_with('#') || line.trim().is_empty() {
            continue;
        }
        let (known, text) = for_version(line.trim_start(), major);
        if line.starts_with(' ') {
            if known
                && !skipped
                && let Some(last) = statements.last_mut()
            {
                last.told.push(text.to_owned());
            }
            continue;
        }
        skipped = !known;
        if known {
            let failing = text.strip_prefix("! ");
            statements.push(Statement {
                sql: failing.unwrap_or(text).to_owned(),
                fails: failing.is_some(),
                told: Vec::new(),
            });
        }
    }
    statements
}

/// Whether a line is meant for this version, and the rest of it: behind `[17-] ` and the like, as
/// [`tables`] has them.
#[must_use]
pub fn for_version(line: &str, major: u32) -> (bool, &str) {
    let Some((versions, text)) = line
        .strip_prefix('[')
        .and_then(|line| line.split_once("] "))
    else {
        return (true, line);
    };
    let Some((first, last)) = versions.split_once('-') else {
        return (true, line);
    };
    let number = |text: &str, otherwise| text.parse().unwrap_or(otherwise);
    let known = (number(first, 0)..=number(last, u32::MAX)).contains(&major);
    (known, text)
}

/// Expressions of many shapes: `type | default`, or ` | check` over the columns of
/// [`CHECKED`].
#[must_use]
pub fn expressions() -> Vec<Expression> {
    let text = read("expressions.txt");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once(" | "))
        .map(|(data_type, sql)| Expression {
            data_type: Some(data_type.trim().to_owned()).filter(|name| !name.is_empty()),
            sql: sql.to_owned(),
        })
        .collect()
}

/// What the expressions name.
pub const NAMED: &str = "
create extension hstore; create extension citext; create extension cube; create extension ltree;
create schema f; create schema \"F x\";
create sequence f.seq; create sequence f.\"Odd seq\"; create sequence f.\"it's\";
create type f.color as enum ('red', 'it''s');
create type f.pair as (a int, b text);
create domain f.positive as int check (value > 0);
create domain f.dtext as text default 'd' check (value <> 'bad' and length(value) < 100);
create type f.span as range (subtype = float8);
create function f.named(a int, b int default 5) returns text language sql immutable as 'select 1::text';
create function f.vari(variadic a int[]) returns text language sql immutable as 'select 1::text';
create function f.one() returns int language sql immutable as 'select 1';
create function \"F x\".\"G g\"(text) returns text language sql immutable as 'select 1::text';
create function \"F x\".\"select\"(text) returns text language sql immutable as 'select 1::text';
create operator f.=== (leftarg = int, rightarg = int, function = int4eq);";

/// The table that checks are on.
pub const CHECKED: &str = "
create table f.checked (a int, b text, num numeric, ts timestamp, tz timestamptz, d date,
  v varchar(10), c char(5), arr int[], col f.color, p f.pair, dom f.positive, j jsonb, x xml,
  bo bool, \"Odd Col\" int, \"select\" int, i interval, m money, f8 float8, f4 float4, r int4range,
  bt bit(3), by bytea, u uuid, cit citext, hs hstore, t text);";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_for_some_versions_or_for_all() {
        for (line, major, known) in [
            ("alter", 14, true),
            ("[17-] alter", 16, false),
            ("[17-] alter", 18, true),
            ("[-14] alter", 14, true),
            ("[-14] alter", 15, false),
            ("[15-17] alter", 16, true),
            ("[15-17] alter", 18, false),
        ] {
            assert_eq!(for_version(line, major), (known, "alter"), "{line}");
        }
        for major in [14, 18] {
            let statements = tables(major);
            assert!(statements.len() > 200);
            assert!(statements.iter().filter(|one| !one.told.is_empty()).count() > 150);
        }
        assert!(expressions().len() > 300);
    }
}
