//! Layouts of catalogs: the two that are built in, and the form all of them have in memory.
//!
//! `pg_attribute` describes every catalog, itself too, but something has to be known to read it;
//! `pg_class` has to be known to find the files. Everything else is read from `pg_attribute`.

use redostream_protocol::Oid;

use super::tuple::Storage;
use super::writer::{KEYS, ObjectKind};

/// OIDs of the catalogs that are read by name.
// pg: catalog/pg_*.h CATALOG [14-18]
pub(crate) mod oid {
    use redostream_protocol::Oid;

    pub(crate) const TYPE: Oid = Oid(1247);
    pub(crate) const ATTRIBUTE: Oid = Oid(1249);
    pub(crate) const PROC: Oid = Oid(1255);
    pub(crate) const CLASS: Oid = Oid(1259);
    pub(crate) const AUTHID: Oid = Oid(1260);
    pub(crate) const DATABASE: Oid = Oid(1262);
    pub(crate) const ATTRDEF: Oid = Oid(2604);
    pub(crate) const CONSTRAINT: Oid = Oid(2606);
    pub(crate) const INDEX: Oid = Oid(2610);
    pub(crate) const INHERITS: Oid = Oid(2611);
    pub(crate) const NAMESPACE: Oid = Oid(2615);
    pub(crate) const OPERATOR: Oid = Oid(2617);
    pub(crate) const COLLATION: Oid = Oid(3456);
    pub(crate) const ENUM: Oid = Oid(3501);
    pub(crate) const RANGE: Oid = Oid(3541);
    pub(crate) const TS_DICT: Oid = Oid(3600);
    pub(crate) const TS_CONFIG: Oid = Oid(3602);
    pub(crate) const REPLICATION_ORIGIN: Oid = Oid(6000);
    pub(crate) const TABLESPACE: Oid = Oid(1213);
    pub(crate) const SEQUENCE: Oid = Oid(2224);
    pub(crate) const AM: Oid = Oid(2601);
    pub(crate) const DEPEND: Oid = Oid(2608);
    pub(crate) const DESCRIPTION: Oid = Oid(2609);
    pub(crate) const PARTITIONED_TABLE: Oid = Oid(3350);
    pub(crate) const OPERATOR_CLASS: Oid = Oid(2616);
    pub(crate) const OPERATOR_FAMILY: Oid = Oid(2753);
    pub(crate) const TRIGGER: Oid = Oid(2620);
    pub(crate) const POLICY: Oid = Oid(3256);
    pub(crate) const REWRITE: Oid = Oid(2618);
    pub(crate) const EXTENSION: Oid = Oid(3079);
    pub(crate) const LANGUAGE: Oid = Oid(2612);
    pub(crate) const CONVERSION: Oid = Oid(2607);
    pub(crate) const FOREIGN_DATA_WRAPPER: Oid = Oid(2328);
    pub(crate) const FOREIGN_SERVER: Oid = Oid(1417);
    pub(crate) const FOREIGN_TABLE: Oid = Oid(3118);
    pub(crate) const PUBLICATION: Oid = Oid(6104);
    pub(crate) const EVENT_TRIGGER: Oid = Oid(3466);
    pub(crate) const TS_PARSER: Oid = Oid(3601);
    pub(crate) const TS_TEMPLATE: Oid = Oid(3764);
    pub(crate) const STATISTICS: Oid = Oid(3381);
    pub(crate) const PUBLICATION_TABLE: Oid = Oid(6106);
    /// From 15 on.
    pub(crate) const PUBLICATION_SCHEMA: Oid = Oid(6237);
    pub(crate) const TS_CONFIG_MAP: Oid = Oid(3603);
    pub(crate) const FAMILY_OPERATOR: Oid = Oid(2602);
    pub(crate) const FAMILY_FUNCTION: Oid = Oid(2603);
    pub(crate) const CAST: Oid = Oid(2605);
    pub(crate) const TRANSFORM: Oid = Oid(3576);
    pub(crate) const USER_MAPPING: Oid = Oid(1418);
    pub(crate) const DEFAULT_ACL: Oid = Oid(826);
    pub(crate) const SECURITY_LABEL: Oid = Oid(3596);
    /// Shared by all databases; each row is of one.
    pub(crate) const SUBSCRIPTION: Oid = Oid(6100);
}

/// Tablespace of the shared catalogs, `pg_global`.
pub(crate) const GLOBAL_TABLESPACE: Oid = Oid(1664);

/// One column of a catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CatalogColumn {
    pub(crate) name: String,
    pub(crate) storage: Storage,
    /// Whether it can be null; what follows such a column has no fixed place.
    pub(crate) nullable: bool,
}

/// The columns of a catalog, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CatalogLayout {
    pub(crate) columns: Vec<CatalogColumn>,
    /// Which columns say what a row describes, by their offsets.
    pub(crate) keys: Vec<(usize, ObjectKind)>,
}

impl CatalogLayout {
    /// The layout of a catalog with these columns.
    pub(crate) fn new(catalog: Oid, columns: Vec<CatalogColumn>) -> CatalogLayout {
        let mut layout = CatalogLayout {
            columns,
            keys: Vec::new(),
        };
        for (keyed, column, kind) in KEYS {
            if keyed == catalog {
                let offset = layout.fixed_offset(column);
                layout.keys.extend(offset.map(|offset| (offset, kind)));
            }
        }
        layout
    }

    /// Which column has this name.
    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// The offset of a fixed-width column that no null or variable-length column stands before.
    pub(crate) fn fixed_offset(&self, name: &str) -> Option<usize> {
        let mut at = 0_usize;
        for column in &self.columns {
            let length = usize::try_from(column.storage.length).ok()?;
            at = at.next_multiple_of(usize::from(column.storage.align.max(1)));
            if column.nullable {
                return None;
            }
            if column.name == name {
                return Some(at);
            }
            at += length;
        }
        None
    }

    /// How the columns are stored, in order.
    pub(crate) fn storage(&self) -> impl Iterator<Item = Storage> {
        self.columns.iter().map(|column| column.storage)
    }
}

/// `typalign` in bytes.
pub(crate) const fn align_bytes(align: u8) -> u8 {
    match align {
        b's' => 2,
        b'i' => 4,
        b'd' => 8,
        _ => 1,
    }
}

/// A built-in column: name, `attlen`, `attalign`.
type BuiltIn = (&'static str, i16, u8);

const ATTRIBUTE_HEAD: [BuiltIn; 3] = [
    ("attrelid", 4, b'i'),
    ("attname", 64, b'c'),
    ("atttypid", 4, b'i'),
];
const ATTRIBUTE_FLAGS: [BuiltIn; 11] = [
    ("attbyval", 1, b'c'),
    ("attalign", 1, b'c'),
    ("attstorage", 1, b'c'),
    ("attcompression", 1, b'c'),
    ("attnotnull", 1, b'c'),
    ("atthasdef", 1, b'c'),
    ("atthasmissing", 1, b'c'),
    ("attidentity", 1, b'c'),
    ("attgenerated", 1, b'c'),
    ("attisdropped", 1, b'c'),
    ("attislocal", 1, b'c'),
];
const ATTRIBUTE_TAIL: [BuiltIn; 3] = [
    ("attoptions", -1, b'i'),
    ("attfdwoptions", -1, b'i'),
    ("attmissingval", -1, b'd'),
];

// pg: catalog/pg_attribute.h [14-18]
const ATTRIBUTE_14: [&[BuiltIn]; 6] = [
    &ATTRIBUTE_HEAD,
    &[
        ("attstattarget", 4, b'i'),
        ("attlen", 2, b's'),
        ("attnum", 2, b's'),
        ("attndims", 4, b'i'),
        ("attcacheoff", 4, b'i'),
        ("atttypmod", 4, b'i'),
    ],
    &ATTRIBUTE_FLAGS,
    &[("attinhcount", 4, b'i'), ("attcollation", 4, b'i')],
    &[("attacl", -1, b'i')],
    &ATTRIBUTE_TAIL,
];
const ATTRIBUTE_16: [&[BuiltIn]; 6] = [
    &ATTRIBUTE_HEAD,
    &[
        ("attlen", 2, b's'),
        ("attnum", 2, b's'),
        ("attcacheoff", 4, b'i'),
        ("atttypmod", 4, b'i'),
        ("attndims", 2, b's'),
    ],
    &ATTRIBUTE_FLAGS,
    &[
        ("attinhcount", 2, b's'),
        ("attstattarget", 2, b's'),
        ("attcollation", 4, b'i'),
    ],
    &[("attacl", -1, b'd')],
    &ATTRIBUTE_TAIL,
];
const ATTRIBUTE_17: [&[BuiltIn]; 6] = [
    &ATTRIBUTE_HEAD,
    ATTRIBUTE_16[1],
    &ATTRIBUTE_FLAGS,
    &[
        ("attinhcount", 2, b's'),
        ("attcollation", 4, b'i'),
        ("attstattarget", 2, b's'),
    ],
    &[("attacl", -1, b'd')],
    &ATTRIBUTE_TAIL,
];
const ATTRIBUTE_18: [&[BuiltIn]; 6] = [
    &ATTRIBUTE_HEAD,
    &[
        ("attlen", 2, b's'),
        ("attnum", 2, b's'),
        ("atttypmod", 4, b'i'),
        ("attndims", 2, b's'),
    ],
    &ATTRIBUTE_FLAGS,
    ATTRIBUTE_17[3],
    &[("attacl", -1, b'd')],
    &ATTRIBUTE_TAIL,
];

// pg: catalog/pg_class.h [14-18]
const CLASS_HEAD: [BuiltIn; 12] = [
    ("oid", 4, b'i'),
    ("relname", 64, b'c'),
    ("relnamespace", 4, b'i'),
    ("reltype", 4, b'i'),
    ("reloftype", 4, b'i'),
    ("relowner", 4, b'i'),
    ("relam", 4, b'i'),
    ("relfilenode", 4, b'i'),
    ("reltablespace", 4, b'i'),
    ("relpages", 4, b'i'),
    ("reltuples", 4, b'i'),
    ("relallvisible", 4, b'i'),
];
const CLASS_MIDDLE: [BuiltIn; 18] = [
    ("reltoastrelid", 4, b'i'),
    ("relhasindex", 1, b'c'),
    ("relisshared", 1, b'c'),
    ("relpersistence", 1, b'c'),
    ("relkind", 1, b'c'),
    ("relnatts", 2, b's'),
    ("relchecks", 2, b's'),
    ("relhasrules", 1, b'c'),
    ("relhastriggers", 1, b'c'),
    ("relhassubclass", 1, b'c'),
    ("relrowsecurity", 1, b'c'),
    ("relforcerowsecurity", 1, b'c'),
    ("relispopulated", 1, b'c'),
    ("relreplident", 1, b'c'),
    ("relispartition", 1, b'c'),
    ("relrewrite", 4, b'i'),
    ("relfrozenxid", 4, b'i'),
    ("relminmxid", 4, b'i'),
];
const CLASS_TAIL_14: [BuiltIn; 3] = [
    ("relacl", -1, b'i'),
    ("reloptions", -1, b'i'),
    ("relpartbound", -1, b'i'),
];
const CLASS_TAIL_16: [BuiltIn; 3] = [
    ("relacl", -1, b'd'),
    ("reloptions", -1, b'i'),
    ("relpartbound", -1, b'i'),
];
const CLASS_14: [&[BuiltIn]; 3] = [&CLASS_HEAD, &CLASS_MIDDLE, &CLASS_TAIL_14];
const CLASS_16: [&[BuiltIn]; 3] = [&CLASS_HEAD, &CLASS_MIDDLE, &CLASS_TAIL_16];
const CLASS_18: [&[BuiltIn]; 4] = [
    &CLASS_HEAD,
    &[("relallfrozen", 4, b'i')],
    &CLASS_MIDDLE,
    &CLASS_TAIL_16,
];

/// The layout of `pg_attribute` in a major version.
pub(crate) fn pg_attribute(major: u16) -> CatalogLayout {
    match major {
        ..=15 => from_parts(oid::ATTRIBUTE, &ATTRIBUTE_14),
        16 => from_parts(oid::ATTRIBUTE, &ATTRIBUTE_16),
        17 => from_parts(oid::ATTRIBUTE, &ATTRIBUTE_17),
        _ => from_parts(oid::ATTRIBUTE, &ATTRIBUTE_18),
    }
}

/// The layout of `pg_class` in a major version.
pub(crate) fn pg_class(major: u16) -> CatalogLayout {
    match major {
        ..=15 => from_parts(oid::CLASS, &CLASS_14),
        16..=17 => from_parts(oid::CLASS, &CLASS_16),
        _ => from_parts(oid::CLASS, &CLASS_18),
    }
}

fn from_parts(catalog: Oid, parts: &[&[BuiltIn]]) -> CatalogLayout {
    let mut columns = Vec::new();
    let mut fixed = true;
    for (name, length, align) in parts.iter().copied().flatten() {
        // pg_attribute's statistics target became nullable together with its move to the end.
        let last_fixed: Option<&CatalogColumn> = columns.last();
        let moved = *name == "attstattarget"
            && last_fixed.is_some_and(|column| column.name == "attcollation");
        fixed &= *length > 0 && !moved;
        columns.push(CatalogColumn {
            name: (*name).to_owned(),
            storage: Storage {
                length: *length,
                align: align_bytes(*align),
            },
            nullable: !fixed,
        });
    }
    CatalogLayout::new(catalog, columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_by_version() {
        // major, attnum, attisdropped, attcollation, relfilenode, relkind, relrewrite
        for (major, offsets) in [
            (14, [78, 101, 108, 88, 115, 128]),
            (15, [78, 101, 108, 88, 115, 128]),
            (16, [74, 95, 104, 88, 115, 128]),
            (17, [74, 95, 100, 88, 115, 128]),
            (18, [74, 91, 96, 88, 119, 132]),
        ] {
            let attribute = pg_attribute(major);
            let class = pg_class(major);
            let found = [
                attribute.fixed_offset("attnum"),
                attribute.fixed_offset("attisdropped"),
                attribute.fixed_offset("attcollation"),
                class.fixed_offset("relfilenode"),
                class.fixed_offset("relkind"),
                class.fixed_offset("relrewrite"),
            ];
            assert_eq!(found.map(Option::unwrap), offsets, "{major}");
            assert_eq!(attribute.fixed_offset("attmissingval"), None);
            assert_eq!(attribute.fixed_offset("no such column"), None);
            assert_eq!(attribute.columns.len(), if major == 18 { 25 } else { 26 });
        }
    }
}
