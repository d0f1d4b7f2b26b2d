//! Structures of tables as lines: the server's, ours, and where they differ.
//!
//! What we say is unknown is counted and may differ; everything else is to be the server's text.

use std::collections::BTreeMap;

use redostream_protocol::ddl::{Expression, TableName, TableShape};
use redostream_protocol::schema::Name;
use redostream_protocol::{Lsn, Xid};
use redostream_testdata::session::Session;
use redostream_testdata::structures::{LOCKED, STRUCTURES};

/// What stands for a text that we do not know.
const UNKNOWN: &str = "?";

pub(super) type Lines = BTreeMap<String, String>;

/// What the server said of its tables at some place of the log.
pub(super) struct Said {
    pub(super) lsn: Lsn,
    pub(super) viewer: Option<Xid>,
    /// What came before it.
    pub(super) after: String,
    pub(super) lines: Lines,
}

fn split(text: &str) -> Lines {
    let pairs = text.lines().filter_map(|line| line.split_once('~'));
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// What the server says of its tables here.
pub(super) fn structures(session: &mut Session) -> Lines {
    split(&session.run(&STRUCTURES.replace('\n', " ")).unwrap())
}

/// Asks inside an open session, where nobody else writes; none if its transaction has failed.
pub(super) fn ask(session: &mut Session, after: &str) -> Option<Said> {
    let place = "select pg_current_wal_insert_lsn() || ' ' || coalesce(pg_current_xact_id_if_assigned()::text, '0');";
    let place = session.run(place).unwrap();
    let (lsn, xid) = place.trim().split_once(' ')?;
    let xid: u64 = xid.parse().unwrap();
    Some(Said {
        lsn: lsn.parse().unwrap(),
        viewer: (xid != 0).then_some(Xid(xid as u32)),
        after: after.to_owned(),
        lines: structures(session),
    })
}

fn text(expression: &Expression) -> String {
    match expression {
        Expression::Sql(sql) => sql.lossy().replace('\n', "\\n"),
        Expression::None => String::new(),
        Expression::Unknown => UNKNOWN.to_owned(),
    }
}

fn ident(name: &Name, major: u16) -> String {
    let mut out = Vec::new();
    redostream_protocol::render::identifier::push_identifier(&mut out, name.as_bytes(), major);
    String::from_utf8(out).unwrap()
}

/// Our structures, as `STRUCTURES` prints the server's.
pub(super) fn lines_of(tables: &[TableShape], major: u16) -> Lines {
    let mut lines = Lines::from([("answer".to_owned(), "yes".to_owned())]);
    let ident = |name: &Name| ident(name, major);
    let qualified = |name: &TableName| format!("{}.{}", ident(&name.schema), ident(&name.table));
    for table in tables {
        let t = format!("{}.{}", ident(&table.schema), ident(&table.name));
        let mut add = |what: &str, part: &str, value: String| {
            let key = if part.is_empty() {
                format!("{what} {t}")
            } else {
                format!("{what} {t}.{part}")
            };
            lines.insert(key, value);
        };
        let kind = match table.kind.as_str() {
            "partitioned_table" => "p",
            "view" => "v",
            "materialized_view" => "m",
            "foreign_table" => "f",
            _ => "r",
        };
        let first = |word: &str| word.chars().next().unwrap().to_string();
        let persistence = match table.persistence.as_str() {
            "temporary" => "t".to_owned(),
            other => first(other),
        };
        add(
            "table",
            "",
            format!("{kind}{persistence}{}", first(&table.replica_identity)),
        );
        if table.partition_key != Expression::None {
            add("key", "", text(&table.partition_key));
        }
        if let Some((parent, bound)) = &table.partition_of {
            add("bound", "", text(bound));
            add("parents", "", qualified(parent));
        } else if !table.inherits.is_empty() {
            let parents: Vec<_> = table.inherits.iter().map(qualified).collect();
            add("parents", "", parents.join(","));
        }
        if !table.options.is_empty() {
            let options: Vec<_> = table
                .options
                .iter()
                .map(|o| o.lossy().into_owned())
                .collect();
            add("options", "", options.join(","));
        }
        for column in &table.columns {
            let name = ident(&column.name);
            let letter = |byte: u8| {
                if byte == 0 {
                    String::new()
                } else {
                    char::from(byte).to_string()
                }
            };
            let collation = column.collation.as_ref().map_or(String::new(), |c| {
                let text = c.lossy().into_owned();
                if text.contains('.') {
                    text
                } else {
                    format!("pg_catalog.{text}")
                }
            });
            let described = format!(
                "{} {} {}{} {collation}",
                column.data_type,
                !column.nullable,
                letter(column.identity),
                letter(column.generated),
            );
            add(
                "column",
                &name,
                if column.modifier_unknown {
                    UNKNOWN.to_owned()
                } else {
                    described
                },
            );
            if column.default != Expression::None {
                add("default", &name, text(&column.default));
            }
            if let Some(sequence) = &column.sequence {
                add("sequence", &name, sequence.table.lossy().into_owned());
            }
        }
        if let Some(key) = &table.primary_key {
            add("constraint", &ident(&key.name), text(&key.definition));
        }
        for constraint in &table.constraints {
            add(
                "constraint",
                &ident(&constraint.name),
                text(&constraint.definition),
            );
        }
        for index in &table.indexes {
            add("index", &ident(&index.name), text(&index.definition));
        }
    }
    lines
}

#[derive(Default)]
pub(super) struct Counted {
    /// Places at which the server answered.
    pub(super) places: usize,
    /// Places at which it did not: another transaction had locked a catalog.
    pub(super) unanswered: usize,
    pub(super) lines: usize,
    /// Texts that the server did not give, since their table was locked; that there is one is
    /// compared.
    pub(super) locked: usize,
    pub(super) unknown: BTreeMap<String, String>,
}

impl std::fmt::Display for Counted {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Counted {
            places, unanswered, ..
        } = self;
        let (lines, locked, unknown) = (self.lines, self.locked, self.unknown.len());
        write!(
            out,
            "{places} places, {unanswered} without an answer, {lines} lines compared, {locked} \
             texts locked, {unknown} not known"
        )
    }
}

/// From 15 on the server calls the asking session's temporary schema `pg_temp` in definitions.
// pg: utils/adt/ruleutils.c get_namespace_name_or_temp [15-18]
fn by_its_own_name(key: &str, definition: &str) -> String {
    let of = key
        .split(' ')
        .nth(1)
        .and_then(|name| name.split('.').next());
    match of.filter(|schema| schema.starts_with("pg_temp_")) {
        Some(schema) => {
            let own = definition.replace(" pg_temp.", &format!(" {schema}."));
            match own.strip_prefix("nextval('") {
                // A sequence of its own is in the session's path.
                Some(rest) if !rest.contains('.') => format!("nextval('{schema}.{rest}"),
                _ => own,
            }
        }
        None => definition.to_owned(),
    }
}

pub(super) fn compare(ours: &Lines, said: &Said, counted: &mut Counted) -> Result<(), String> {
    if said.lines.is_empty() {
        counted.unanswered += 1;
        return Ok(());
    }
    let mut told = String::new();
    for (key, theirs) in &said.lines {
        match ours.get(key).map(String::as_str) {
            Some(UNKNOWN) => {
                counted.unknown.insert(key.clone(), theirs.clone());
            }
            Some(_) if theirs == LOCKED => counted.locked += 1,
            Some(value) if *value == by_its_own_name(key, theirs) => {}
            other => told.push_str(&format!("{key}\n  server {theirs}\n  ours   {other:?}\n")),
        }
    }
    for (key, value) in ours {
        if !said.lines.contains_key(key) {
            told.push_str(&format!("{key}\n  server has none\n  ours   {value}\n"));
        }
    }
    counted.places += 1;
    counted.lines += said.lines.len();
    if told.is_empty() {
        return Ok(());
    }
    Err(format!("at {} after: {}\n{told}", said.lsn, said.after))
}
