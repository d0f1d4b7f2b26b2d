//! What the generator believes to exist.

use super::kinds::{Base, Kind};
use super::random::Random;

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Name, not quoted.
    pub name: String,
    /// Type.
    pub kind: Kind,
    /// Values cannot be given (generated, identity always).
    pub computed: bool,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Quoted and qualified.
    pub name: String,
    /// The live columns.
    pub columns: Vec<Column>,
    /// Names of the columns of the primary key, quoted.
    pub key: Vec<String>,
    /// Split over partitions, by its first column.
    pub partitioned: bool,
    /// Constraint and index names, quoted, that may be dropped or used.
    pub indexes: Vec<String>,
    /// How many partitions were ever made, to name and bound the next.
    pub partitions: usize,
}

/// What a type of ours is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnKind {
    /// Its labels.
    Enum(Vec<String>),
    /// Its attributes.
    Composite(Vec<Kind>),
    /// What it is over.
    Domain(Kind),
    /// A range over this.
    Range(Base),
}

/// A type of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnType {
    /// Quoted and qualified.
    pub name: String,
    /// What it is.
    pub kind: OwnKind,
    /// Has a btree order.
    pub ordered: bool,
}

/// All that is believed to exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct World {
    /// The server's major version.
    pub major: u32,
    /// Schemas, quoted.
    pub schemas: Vec<String>,
    /// Types.
    pub types: Vec<OwnType>,
    /// Tables.
    pub tables: Vec<Table>,
    /// Materialised views with a unique index on `i`, quoted and qualified.
    pub views: Vec<String>,
    /// Sequences, quoted and qualified.
    pub sequences: Vec<String>,
    /// Types whose text depends on other rows of the catalog are drawn too.
    pub object_names: bool,
    /// How many statements change rows, for some 40 that change structures.
    pub rows: usize,
    /// How many of the types and schemas other sessions use too. Renaming or changing those takes
    /// no lock on the tables that use them, and a server that decodes two such transactions one
    /// after the other may print the first with what its caches hold of the second: its answer is
    /// then an accident, and nothing to be held against. They are changed only in the setup.
    pub shared: (usize, usize),
    prefix: String,
    /// Never goes back, so that no name is used twice.
    names: usize,
}

impl World {
    /// An empty one; `prefix` begins every name made.
    pub fn new(major: u32, prefix: &str) -> Self {
        Self {
            major,
            schemas: vec!["public".to_owned()],
            types: Vec::new(),
            tables: Vec::new(),
            views: Vec::new(),
            sequences: Vec::new(),
            object_names: true,
            rows: 60,
            shared: (0, 1),
            prefix: prefix.to_owned(),
            names: 0,
        }
    }

    /// The same world as a session sees it, with names of its own for what it makes.
    #[must_use]
    pub fn for_session(&self, number: usize) -> Self {
        Self {
            prefix: format!("s{number}"),
            names: 0,
            shared: (self.types.len(), self.schemas.len()),
            ..self.clone()
        }
    }

    /// A name that nothing has: often plain, now and then one that needs quoting.
    pub fn fresh_name(&mut self, random: &mut Random, what: &str) -> String {
        self.names += 1;
        let plain = format!("{}{what}{}", self.prefix, self.names);
        match random.below(16) {
            0 => format!("{plain} Mixed Case"),
            1 => format!("{plain}\"quote"),
            2 => format!("{plain}ü€"),
            _ => plain,
        }
    }

    /// A name for a column: sometimes a keyword.
    pub fn column_name(&mut self, random: &mut Random) -> String {
        const WORDS: &[&str] = &[
            "select",
            "user",
            "value",
            "order",
            "json",
            "system_user",
            "Upper",
            "a b",
            "merge_action",
            "between",
            "x'y",
        ];
        self.names += 1;
        if random.chance(10) {
            format!(
                "{}{}",
                random.pick(WORDS),
                if random.chance(30) {
                    String::new()
                } else {
                    self.names.to_string()
                }
            )
        } else {
            format!("c{}", self.names)
        }
    }

    /// A number never given before.
    pub fn fresh_number(&mut self) -> usize {
        self.names += 1;
        self.names
    }

    /// One of the schemas.
    pub fn schema(&self, random: &mut Random) -> String {
        self.schemas[random.below(self.schemas.len())].clone()
    }

    /// Restores what was believed at a savepoint; names stay used.
    pub fn restore(&mut self, earlier: &World) {
        let names = self.names;
        *self = earlier.clone();
        self.names = names;
    }
}

impl Table {
    /// Names of the columns that take values, quoted.
    pub fn insertable(&self) -> Vec<&Column> {
        self.columns
            .iter()
            .filter(|column| !column.computed)
            .collect()
    }
}

/// Quotes an identifier, whether it needs it or not.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quotes a string.
pub fn literal(text: &str) -> String {
    if text.contains('\\') {
        format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_doubles_what_ends_a_quote() {
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'"), "E'a\\\\'''");
    }
}
