//! The types a column can have.

use super::model::World;
use super::random::Random;

/// A built-in type, with what matters for choosing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// As written in SQL.
    pub sql: &'static str,
    /// Names the maker of its values in [`super::values`].
    pub values: &'static str,
    /// Has a btree order, so it can be in a key.
    pub ordered: bool,
    /// Likeliness.
    weight: usize,
}

const fn base(sql: &'static str, values: &'static str, ordered: bool, weight: usize) -> Base {
    Base {
        sql,
        values,
        ordered,
        weight,
    }
}

/// Every built-in type that is drawn.
pub const BASES: &[Base] = &[
    base("smallint", "int2", true, 4),
    base("integer", "int4", true, 12),
    base("bigint", "int8", true, 6),
    base("numeric", "numeric", true, 6),
    base("numeric(12,3)", "numeric_small", true, 3),
    base("numeric(5,-2)", "int4_small", true, 1),
    base("real", "float4", true, 4),
    base("double precision", "float8", true, 4),
    base("money", "money", true, 2),
    base("boolean", "bool", true, 4),
    base("\"char\"", "char", true, 2),
    base("character(5)", "text_short", true, 3),
    base("bpchar", "text_short", true, 1),
    base("character varying(20)", "text_short", true, 4),
    base("character varying", "text", true, 3),
    base("text", "text", true, 14),
    base("text collate \"C\"", "text", true, 2),
    base("name", "text_short", true, 2),
    base("bytea", "bytea", true, 5),
    base("bit(7)", "bit7", true, 2),
    base("bit varying", "varbit", true, 2),
    base("date", "date", true, 3),
    base("time", "time", true, 2),
    base("time(2) with time zone", "timetz", true, 2),
    base("timestamp", "timestamp", true, 3),
    base("timestamp(3)", "timestamp", true, 1),
    base("timestamp with time zone", "timestamptz", true, 4),
    base("interval", "interval", true, 3),
    base("interval hour to second", "interval", true, 1),
    base("uuid", "uuid", true, 3),
    base("inet", "inet", true, 2),
    base("cidr", "cidr", true, 1),
    base("macaddr", "macaddr", true, 1),
    base("macaddr8", "macaddr8", true, 1),
    base("point", "point", false, 1),
    base("line", "line", false, 1),
    base("lseg", "lseg", false, 1),
    base("box", "box", false, 1),
    base("path", "path", false, 1),
    base("polygon", "polygon", false, 1),
    base("circle", "circle", false, 1),
    base("tsvector", "tsvector", true, 2),
    base("tsquery", "tsquery", true, 1),
    base("json", "json", false, 3),
    base("jsonb", "jsonb", true, 5),
    base("jsonpath", "jsonpath", false, 1),
    base("xml", "xml", false, 1),
    base("pg_lsn", "pg_lsn", true, 1),
    base("txid_snapshot", "snapshot", false, 1),
    base("pg_snapshot", "snapshot", false, 1),
    base("xid", "xid", false, 1),
    base("xid8", "xid8", true, 1),
    base("cid", "xid", false, 1),
    base("tid", "tid", true, 1),
    base("oid", "oid", true, 2),
    base("oidvector", "int2vector", true, 1),
    base("int2vector", "int2vector", false, 1),
    base("regclass", "regclass", true, 1),
    base("regtype", "regtype", true, 1),
    base("regproc", "regproc", true, 1),
    base("regprocedure", "regprocedure", true, 1),
    base("regoper", "regoper", true, 1),
    base("regoperator", "regoperator", true, 1),
    base("regrole", "regrole", true, 1),
    base("regnamespace", "regnamespace", true, 1),
    base("regconfig", "regconfig", true, 1),
    base("regdictionary", "regdictionary", true, 1),
    base("regcollation", "regcollation", true, 1),
    base("aclitem", "aclitem", false, 1),
    base("refcursor", "text", false, 1),
    base("int4range", "int4range", true, 2),
    base("int8range", "int8range", true, 1),
    base("numrange", "numrange", true, 2),
    base("daterange", "daterange", true, 1),
    base("tsrange", "tsrange", true, 1),
    base("tstzrange", "tstzrange", true, 1),
    base("int4multirange", "int4multirange", true, 1),
    base("nummultirange", "nummultirange", true, 1),
    base("datemultirange", "datemultirange", true, 1),
    base("tstzmultirange", "tstzmultirange", true, 1),
    base("public.citext", "text_short", true, 1),
    base("public.hstore", "hstore", true, 1),
    base("public.ltree", "ltree", true, 1),
    base("public.cube", "cube", true, 1),
    base("public.seg", "seg", true, 1),
    base("public.isbn13", "isbn13", true, 1),
];

/// The extensions that some of them come from; the setup creates them.
pub const EXTENSIONS: &[&str] = &["citext", "hstore", "ltree", "cube", "seg", "isn"];

/// The type of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Built in.
    Base(Base),
    /// One of ours: an enum, composite, domain or range, by its index in the world.
    Own(usize),
    /// An array.
    Array(Box<Kind>),
}

impl Kind {
    /// As written in a column definition.
    pub fn sql(&self, world: &World) -> String {
        match self {
            Self::Base(base) => base.sql.to_owned(),
            Self::Own(index) => world.types[*index].name.clone(),
            Self::Array(inner) => match &**inner {
                Self::Base(base) if base.sql.contains(" collate") => "text[]".to_owned(),
                inner => format!("{}[]", inner.sql(world)),
            },
        }
    }

    /// As written in a cast.
    pub fn cast(&self, world: &World) -> String {
        self.sql(world).replace(" collate \"C\"", "")
    }

    /// Whether it can be in a key.
    pub fn ordered(&self, world: &World) -> bool {
        match self {
            Self::Base(base) => base.ordered,
            Self::Own(index) => world.types[*index].ordered,
            Self::Array(inner) => inner.ordered(world),
        }
    }
}

/// Whether a type's text depends on other rows of the catalog.
fn names_objects(values: &str) -> bool {
    values.starts_with("reg") || values == "aclitem"
}

/// Draws a built-in type.
pub fn draw_base(random: &mut Random, world: &World) -> Base {
    let left_out = |base: &Base| !world.object_names && names_objects(base.values);
    let weights: Vec<usize> = BASES
        .iter()
        .map(|base| if left_out(base) { 0 } else { base.weight })
        .collect();
    BASES[random.weighted(&weights)]
}

/// Draws any type.
pub fn draw(random: &mut Random, world: &World) -> Kind {
    if !world.types.is_empty() && random.chance(12) {
        let own = Kind::Own(random.below(world.types.len()));
        return if random.chance(20) {
            Kind::Array(Box::new(own))
        } else {
            own
        };
    }
    let base = draw_base(random, world);
    // The two vectors are arrays themselves and have no arrays in use.
    if random.chance(12) && !base.sql.ends_with("vector") {
        Kind::Array(Box::new(Kind::Base(base)))
    } else {
        Kind::Base(base)
    }
}

/// Draws a type that can be a key and whose values are short.
pub fn draw_key(random: &mut Random, world: &World) -> Base {
    let short = [
        "int4",
        "int4",
        "int4",
        "int8",
        "int2",
        "uuid",
        "text_short",
        "date",
        "numeric_small",
        "oid",
    ];
    loop {
        let base = draw_base(random, world);
        if short.contains(&base.values) {
            return base;
        }
    }
}
