//! What the targets share: relations made from bytes, and logs made around bytes.

use std::sync::Arc;

use redostream_engine::catalog::relation::{Attribute, Layout, Target};
use redostream_engine::framing::format::{FORMATS, WalFormat};
use redostream_protocol::Oid;
use redostream_protocol::schema::{
    Column, CompositeField, Database, EnumLabel, Name, OutputFunction, Relation, RelationVersion,
    TypeDesc, TypeShape,
};

/// Output functions, with the length and alignment of their types.
const FUNCTIONS: &[(&str, &str, i16, u8)] = &[
    ("textout", "", -1, b'i'),
    ("int4out", "", 4, b'i'),
    ("numeric_out", "", -1, b'i'),
    ("jsonb_out", "", -1, b'i'),
    ("json_out", "", -1, b'i'),
    ("jsonpath_out", "", -1, b'i'),
    ("tsvectorout", "", -1, b'i'),
    ("tsqueryout", "", -1, b'i'),
    ("varbit_out", "", -1, b'i'),
    ("inet_out", "", -1, b'i'),
    ("path_out", "", -1, b'd'),
    ("poly_out", "", -1, b'd'),
    ("box_out", "", 32, b'd'),
    ("circle_out", "", 24, b'd'),
    ("interval_out", "", 16, b'd'),
    ("timestamptz_out", "", 8, b'd'),
    ("timetz_out", "", 12, b'd'),
    ("date_out", "", 4, b'i'),
    ("float8out", "", 8, b'd'),
    ("float4out", "", 4, b'i'),
    ("cash_out", "", 8, b'd'),
    ("charout", "", 1, b'c'),
    ("nameout", "", 64, b'c'),
    ("cstring_out", "", -2, b'c'),
    ("xml_out", "", -1, b'i'),
    ("byteaout", "", -1, b'i'),
    ("boolout", "", 1, b'c'),
    ("uuid_out", "", 16, b'c'),
    ("tidout", "", 6, b's'),
    ("pg_lsn_out", "", 8, b'd'),
    ("txid_snapshot_out", "", -1, b'd'),
    ("pg_snapshot_out", "", -1, b'd'),
    ("int2vectorout", "", -1, b'i'),
    ("oidvectorout", "", -1, b'i'),
    ("macaddr8_out", "", 8, b'i'),
    ("aclitemout", "", 16, b'd'),
    ("hstore_out", "hstore", -1, b'i'),
    ("ltree_out", "ltree", -1, b'i'),
    ("lquery_out", "ltree", -1, b'i'),
    ("ltxtq_out", "ltree", -1, b'i'),
    ("cube_out", "cube", -1, b'd'),
    ("seg_out", "seg", 12, b'i'),
    ("isn_out", "isn", 8, b'd'),
    ("vector_out", "vector", -1, b'i'),
    ("halfvec_out", "vector", -1, b'i'),
    ("sparsevec_out", "vector", -1, b'i'),
    ("bqarr_out", "_int", -1, b'i'),
    ("not_known_out", "other", -1, b'i'),
];

/// Bytes taken from the front.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// The next byte, 0 at the end.
    pub fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().map_or((0, self.0), |(a, b)| (*a, b));
        self.0 = rest;
        first
    }

    /// As many of the next bytes as there are.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A version.
    pub fn format(&mut self) -> &'static WalFormat {
        &FORMATS[usize::from(self.byte()) % FORMATS.len()]
    }
}

/// Makes a type from bytes.
pub fn data_type(input: &mut Input<'_>, depth: usize) -> Arc<TypeDesc> {
    let choice = usize::from(input.byte());
    let shape = match choice % 64 {
        _ if depth > 3 => None,
        58 => Some(TypeShape::Enum(
            (0..input.byte() % 4)
                .map(|number| EnumLabel {
                    oid: Oid(u32::from(number)),
                    sort_bits: 0,
                    label: Name::from("label"),
                })
                .collect(),
        )),
        59 => Some(TypeShape::Domain(data_type(input, depth + 1))),
        60 => Some(TypeShape::Array {
            element: data_type(input, depth + 1),
            delimiter: b',',
        }),
        61 => Some(TypeShape::Range(data_type(input, depth + 1))),
        62 => {
            let range = named(-1, b'i', TypeShape::Range(data_type(input, depth + 1)));
            Some(TypeShape::Multirange(range))
        }
        63 => Some(TypeShape::Composite(
            (0..input.byte() % 5)
                .map(|_| {
                    let part = data_type(input, depth + 1);
                    let (length, align) = (part.length, part.align);
                    CompositeField {
                        name: Name::from("f"),
                        data_type: (input.byte() % 5 != 0).then_some(part),
                        length,
                        align,
                    }
                })
                .collect(),
        )),
        _ => None,
    };
    match shape {
        Some(TypeShape::Enum(labels)) => named(4, b'i', TypeShape::Enum(labels)),
        Some(TypeShape::Domain(base)) => named(
            base.length,
            base.align,
            TypeShape::Domain(Arc::clone(&base)),
        ),
        Some(shape) => named(-1, b'd', shape),
        None => {
            let (symbol, library, length, align) = FUNCTIONS[choice % FUNCTIONS.len()];
            let output = OutputFunction {
                symbol: symbol.to_owned(),
                library: library.to_owned(),
            };
            named(length, align, TypeShape::Base(output))
        }
    }
}

fn named(length: i16, align: u8, shape: TypeShape) -> Arc<TypeDesc> {
    Arc::new(TypeDesc {
        oid: Oid(20_000),
        schema: Name::from("public"),
        name: Name::from("made"),
        formatted: Name::from("public.made"),
        length,
        align,
        shape,
    })
}

/// Makes a table, or the target of TOAST chunks, from bytes.
pub fn target(input: &mut Input<'_>, major: u16) -> Arc<Target> {
    let count = input.byte() % 20;
    if count == 19 {
        return Arc::new(Target::Toast { oid: Oid(30_000) });
    }
    let (mut columns, mut attributes) = (Vec::new(), Vec::new());
    for number in 0..count {
        let part = data_type(input, 0);
        let flags = input.byte();
        let dropped = flags & 3 == 3;
        attributes.push(Attribute {
            length: part.length,
            align: match part.align {
                b'd' => 8,
                b'i' => 4,
                b's' => 2,
                _ => 1,
            },
            storage: if flags & 4 == 0 { b'x' } else { b'p' },
            by_value: false,
            not_null: flags & 8 != 0,
            dropped,
            virtual_generated: flags & 0x30 == 0x30,
            needs_catalog: false,
            offset: None,
            column: (!dropped).then_some(columns.len() as u16),
            missing: (flags & 0xC0 == 0xC0).then(|| input.take(8).to_vec()),
        });
        if !dropped {
            columns.push(Column {
                number: i16::from(number) + 1,
                name: Name::from(format!("c{number}").as_str()),
                data_type: part,
                modifier: -1,
                not_null: false,
                key: flags & 0x40 != 0,
                generated: 0,
            });
        }
    }
    let database = Database {
        major,
        encoding: 6,
        ..Database::default()
    };
    let relation = Relation {
        version: RelationVersion(1),
        database: Arc::new(database),
        oid: Oid(20_000),
        schema: Name::from("public"),
        name: Name::from("t"),
        kind: b'r',
        replica_identity: b'd',
        structure: None,
        columns,
    };
    Arc::new(Target::Table(Arc::new(Layout {
        relation: Arc::new(relation),
        attributes,
        fixed: 0,
        toast: Oid(30_000),
        needs_catalog: false,
    })))
}
