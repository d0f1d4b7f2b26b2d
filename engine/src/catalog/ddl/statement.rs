//! Which statement of a string of several caused a change.
//!
//! The capture trigger knows the string that the client sent, not which of its statements runs. So
//! the string is taken apart, and the statement that fits the change is given. Where there is any
//! doubt (what is called may run statements of its own, two statements fit, a quote can be read in
//! two ways) the whole string is: it holds the statement, and nothing wrong is said.

use redostream_protocol::ddl::{DdlEvent, ObjectShape};
use redostream_protocol::schema::Name;

/// Statements that run what stands elsewhere.
const CALLS: [&str; 9] = [
    "select", "do", "call", "execute", "with", "values", "explain", "fetch", "table",
];
/// Statements that begin and end transactions.
const TRANSACTIONS: [&str; 8] = [
    "begin",
    "start",
    "commit",
    "end",
    "rollback",
    "abort",
    "savepoint",
    "prepare",
];
/// Statements that change structures.
const CHANGES: [&str; 6] = ["create", "alter", "drop", "comment", "grant", "revoke"];

/// One statement of a string.
struct Statement<'a> {
    text: &'a [u8],
    /// Its words and names: lower case unless quoted.
    words: Vec<Vec<u8>>,
}

impl Statement<'_> {
    fn verb(&self) -> &[u8] {
        self.words.first().map(Vec::as_slice).unwrap_or_default()
    }

    fn is_one_of(&self, verbs: &[&str]) -> bool {
        verbs.iter().any(|verb| verb.as_bytes() == self.verb())
    }

    fn mentions(&self, name: &[u8]) -> bool {
        self.words.iter().any(|word| word == name)
    }

    /// Whether it is a command as the event says, on the object of the event.
    fn fits(&self, event: &DdlEvent) -> bool {
        let mut command = event.command.split(' ').map(str::to_lowercase);
        if command.next().unwrap_or_default().as_bytes() != self.verb() {
            return false;
        }
        // GRANT, REVOKE and COMMENT stand for themselves.
        let object = command.next_back();
        let head = self.words.get(1..self.words.len().min(6));
        let head = head.unwrap_or_default();
        if object.is_some_and(|object| !head.iter().any(|word| *word == object.as_bytes())) {
            return false;
        }
        let table = |shape: &Option<ObjectShape>| match shape {
            Some(ObjectShape::Table(table)) => Some(table.name.clone()),
            _ => None,
        };
        let names = [Some(event.name.clone()), event.old_name.clone()];
        let of_index = event.object == "index";
        let tables = [table(&event.before), table(&event.after)];
        let tables = tables.into_iter().filter(|_| of_index);
        let mut names = names.into_iter().chain(tables).flatten();
        names.any(|name| self.mentions(name.as_bytes()))
    }
}

/// The statement that caused `events`, of a string that was named `number` times before in this
/// transaction; all of the string, if that is not certain.
pub(super) fn cause(sent: &Name, number: usize, events: &[DdlEvent]) -> Name {
    let whole = || sent.clone();
    let Some(statements) = split(sent.as_bytes()) else {
        return whole();
    };
    if statements.len() < 2 || statements.iter().any(|one| one.is_one_of(&CALLS)) {
        return whole();
    }
    let is_change = |one: &Statement<'_>| one.is_one_of(&CHANGES);
    let first = statements.iter().position(is_change);
    let last = statements.iter().rposition(is_change);
    let (Some(first), Some(last)) = (first, last) else {
        return whole();
    };
    // In one transaction they come in turn.
    let between = &statements[first..=last];
    let one_transaction = !between.iter().any(|one| one.is_one_of(&TRANSACTIONS));
    let changes: Vec<_> = between.iter().filter(|one| is_change(one)).collect();
    for event in events {
        let fitting: Vec<_> = changes.iter().filter(|one| one.fits(event)).collect();
        let in_turn = changes.get(number).filter(|one| one.fits(event));
        match (&fitting[..], in_turn) {
            ([one], _) => return Name::from(one.text),
            ([_, ..], Some(one)) if one_transaction => return Name::from(one.text),
            _ => {}
        }
    }
    whole()
}

/// Takes a string apart; none if that cannot be done for certain.
// pg: parser/scan.l [14-18]
fn split(sent: &[u8]) -> Option<Vec<Statement<'_>>> {
    let mut statements = Vec::new();
    let mut words: Vec<Vec<u8>> = Vec::new();
    let (mut at, mut begin, mut depth) = (0, 0, 0_usize);
    while let Some(&byte) = sent.get(at) {
        let rest = &sent[at..];
        at += match byte {
            b'-' if rest.starts_with(b"--") => {
                let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
                end.unwrap_or(rest.len())
            }
            b'/' if rest.starts_with(b"/*") => comment(rest)?,
            b'\'' => {
                // A backslash may or may not be an escape, as the session has it.
                let length = quoted(rest, b'\'')?;
                if rest[..length].contains(&b'\\') {
                    return None;
                }
                length
            }
            b'"' => {
                let length = quoted(rest, b'"')?;
                words.push(unquoted(&rest[1..length - 1]));
                length
            }
            b'$' => dollar_quoted(rest)?,
            b'(' | b'[' => {
                depth += 1;
                1
            }
            b')' | b']' => {
                depth = depth.checked_sub(1)?;
                1
            }
            b';' if depth == 0 => {
                finish(&sent[begin..at], &mut words, &mut statements);
                begin = at + 1;
                1
            }
            byte if is_word(byte) => {
                let length = rest
                    .iter()
                    .take_while(|byte| is_word(**byte) || **byte == b'$')
                    .count();
                let word = rest[..length].to_ascii_lowercase();
                // E'..', U&'..', B'..', X'..', N'..' and their like; bodies of functions.
                if rest.get(length) == Some(&b'\'') || word == b"atomic" {
                    return None;
                }
                words.push(word);
                length
            }
            _ => 1,
        };
    }
    finish(&sent[begin..], &mut words, &mut statements);
    (depth == 0).then_some(statements)
}

fn finish<'a>(text: &'a [u8], words: &mut Vec<Vec<u8>>, statements: &mut Vec<Statement<'a>>) {
    let words = std::mem::take(words);
    if !words.is_empty() {
        let text = text.trim_ascii();
        statements.push(Statement { text, words });
    }
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// Bytes of a comment, which may hold others.
fn comment(rest: &[u8]) -> Option<usize> {
    let (mut at, mut depth) = (0, 0);
    loop {
        let rest = rest.get(at..).filter(|rest| !rest.is_empty())?;
        if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += 1;
        }
    }
}

/// Bytes of what stands in quotes, these included; a doubled quote is one of the text.
fn quoted(rest: &[u8], quote: u8) -> Option<usize> {
    let mut at = 1;
    loop {
        at += rest.get(at..)?.iter().position(|byte| *byte == quote)? + 1;
        if rest.get(at) != Some(&quote) {
            return Some(at);
        }
        at += 1;
    }
}

fn unquoted(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut bytes = name.iter();
    while let Some(byte) = bytes.next() {
        out.push(*byte);
        if *byte == b'"' {
            bytes.next();
        }
    }
    out
}

/// Bytes of a dollar-quoted string; 1 for a dollar that begins none.
fn dollar_quoted(rest: &[u8]) -> Option<usize> {
    let tag = rest
        .iter()
        .skip(1)
        .take_while(|byte| is_word(**byte))
        .count()
        + 2;
    let Some(opening) = rest.get(..tag).filter(|tag| tag.ends_with(b"$")) else {
        return Some(1);
    };
    if rest.get(1).is_some_and(u8::is_ascii_digit) {
        return Some(1);
    }
    let mut within = rest[tag..].windows(tag);
    within
        .position(|window| window == opening)
        .map(|at| tag + at + tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(command: &str, name: &str) -> DdlEvent {
        DdlEvent {
            command: command.to_owned(),
            object: command
                .split_once(' ')
                .map_or("", |(_, object)| object)
                .to_lowercase(),
            name: Name::from(name),
            ..DdlEvent::default()
        }
    }

    fn caused(sent: &str, number: usize, command: &str, name: &str) -> String {
        let events = [event(command, name)];
        cause(&Name::from(sent), number, &events)
            .lossy()
            .into_owned()
    }

    #[test]
    fn the_statement_that_fits() {
        let sent = "create table a (x int); -- drop table b;\n create unique index i on a (x);\
                    drop table if exists \"B\"\"b\" cascade;";
        assert_eq!(
            caused(sent, 0, "CREATE TABLE", "a"),
            "create table a (x int)"
        );
        assert_eq!(
            caused(sent, 1, "CREATE INDEX", "i"),
            "-- drop table b;\n create unique index i on a (x)"
        );
        assert_eq!(
            caused(sent, 2, "DROP TABLE", "B\"b"),
            "drop table if exists \"B\"\"b\" cascade"
        );
        // Nothing there says that.
        for (command, name) in [
            ("DROP TABLE", "b"),
            ("DROP VIEW", "i"),
            ("ALTER TABLE", "a"),
        ] {
            assert_eq!(caused(sent, 0, command, name), sent);
        }
        assert_eq!(
            caused("create table a ()", 0, "DROP VIEW", "x"),
            "create table a ()"
        );
    }

    #[test]
    fn of_several_the_one_whose_turn_it_is() {
        let sent = "begin; alter table a add b int; alter table a add c int; commit";
        assert_eq!(
            caused(sent, 0, "ALTER TABLE", "a"),
            "alter table a add b int"
        );
        assert_eq!(
            caused(sent, 1, "ALTER TABLE", "a"),
            "alter table a add c int"
        );
        assert_eq!(caused(sent, 2, "ALTER TABLE", "a"), sent);
        let two = "alter table a add b int; commit; alter table a add c int";
        assert_eq!(caused(two, 0, "ALTER TABLE", "a"), two);
    }

    #[test]
    fn in_doubt_all_of_it() {
        for sent in [
            "select f(); create table a ()",
            "do $$ begin execute 'x'; end $$; create table a ()",
            "create table a (x text default E'\\';'); create table b ()",
            "create table a (x text default '\\'); create table b ()",
            "create function f() begin atomic select 1; end; create table a ()",
            "create table a ('; create table b ()",
            "create table a (); /* /* */ create table b ()",
            "create table a (); $x$ create table b ()",
        ] {
            assert_eq!(caused(sent, 0, "CREATE TABLE", "a"), sent);
        }
        let rule =
            "create rule r as on insert to a do (delete from b; delete from c); drop table b";
        assert!(!caused(rule, 0, "CREATE RULE", "r").contains("drop"));
        let quoted = "create function f() as $f$ drop table a; $f$ language sql; drop table a";
        assert_eq!(caused(quoted, 1, "DROP TABLE", "a"), "drop table a");
    }
}
