//! What a written catalog tuple belongs to, as far as DDL events tell of it.

use redostream_protocol::{DatabaseOid, Oid};
use serde::{Deserialize, Serialize};

use super::super::layout::{CatalogLayout, oid};
use super::super::tuple::{fixed_u8, fixed_u32};

/// An object whose catalog rows were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Touched {
    /// The catalog that the object itself stands in.
    pub(crate) catalog: Oid,
    /// Its OID; for a comment or label, that of the object it is on.
    pub(crate) oid: Oid,
    /// For a comment or label: the catalog of the object it is on.
    pub(crate) class: Oid,
    /// For a comment or label: the column, 0 for the whole object.
    pub(crate) sub: i32,
}

impl Touched {
    pub(crate) const fn new(catalog: Oid, oid: Oid) -> Self {
        Touched {
            catalog,
            oid,
            class: Oid::INVALID,
            sub: 0,
        }
    }
}

/// Catalogs whose rows belong to an object of another catalog, or are objects themselves: catalog,
/// column with the object's OID, the object's catalog.
const PARTS: [(Oid, &str, Oid); 20] = [
    (oid::CLASS, "oid", oid::CLASS),
    (oid::ATTRIBUTE, "attrelid", oid::CLASS),
    (oid::INDEX, "indrelid", oid::CLASS),
    (oid::INDEX, "indexrelid", oid::CLASS),
    (oid::ATTRDEF, "adrelid", oid::CLASS),
    (oid::CONSTRAINT, "conrelid", oid::CLASS),
    (oid::CONSTRAINT, "contypid", oid::TYPE),
    (oid::INHERITS, "inhrelid", oid::CLASS),
    (oid::PARTITIONED_TABLE, "partrelid", oid::CLASS),
    (oid::SEQUENCE, "seqrelid", oid::CLASS),
    (oid::FOREIGN_TABLE, "ftrelid", oid::CLASS),
    (oid::TYPE, "oid", oid::TYPE),
    (oid::ENUM, "enumtypid", oid::TYPE),
    (oid::RANGE, "rngtypid", oid::TYPE),
    (oid::REWRITE, "ev_class", oid::CLASS),
    (oid::PUBLICATION_TABLE, "prpubid", oid::PUBLICATION),
    (oid::PUBLICATION_SCHEMA, "pnpubid", oid::PUBLICATION),
    (oid::TS_CONFIG_MAP, "mapcfg", oid::TS_CONFIG),
    (oid::FAMILY_OPERATOR, "amopfamily", oid::OPERATOR_FAMILY),
    (oid::FAMILY_FUNCTION, "amprocfamily", oid::OPERATOR_FAMILY),
];

/// Objects that have a row of their own and are told of by name.
const WHOLE: [Oid; 27] = [
    oid::NAMESPACE,
    oid::PROC,
    oid::TRIGGER,
    oid::POLICY,
    oid::REWRITE,
    oid::EXTENSION,
    oid::LANGUAGE,
    oid::OPERATOR,
    oid::OPERATOR_CLASS,
    oid::OPERATOR_FAMILY,
    oid::COLLATION,
    oid::CONVERSION,
    oid::FOREIGN_DATA_WRAPPER,
    oid::FOREIGN_SERVER,
    oid::PUBLICATION,
    oid::EVENT_TRIGGER,
    oid::TS_CONFIG,
    oid::TS_DICT,
    oid::TS_PARSER,
    oid::TS_TEMPLATE,
    oid::STATISTICS,
    oid::AM,
    oid::CAST,
    oid::TRANSFORM,
    oid::USER_MAPPING,
    oid::DEFAULT_ACL,
    oid::SUBSCRIPTION,
];

/// What is said of an object, in a catalog beside it.
const SAID: [Oid; 2] = [oid::DESCRIPTION, oid::SECURITY_LABEL];

/// How a member of an extension depends on it.
// pg: catalog/dependency.h DEPENDENCY_EXTENSION [14-18]
pub(crate) const MEMBER: u8 = b'e';

/// Whether rows of a catalog can lead to DDL events.
pub(crate) fn concerns(catalog: Oid) -> bool {
    catalog == oid::DEPEND
        || SAID.contains(&catalog)
        || WHOLE.contains(&catalog)
        || PARTS.iter().any(|(part, _, _)| *part == catalog)
}

/// The objects that a written tuple belongs to.
pub(crate) fn objects_of(
    catalog: Oid,
    layout: &CatalogLayout,
    tuple: &[u8],
    mut found: impl FnMut(Touched),
) {
    let column = |name| fixed_u32(tuple, layout.fixed_offset(name)?).map(Oid);
    for (part, name, object) in PARTS {
        if part == catalog
            && let Some(oid) = column(name).filter(|oid| oid.is_valid())
        {
            found(Touched::new(object, oid));
        }
    }
    if WHOLE.contains(&catalog)
        && let Some(oid) = column("oid")
    {
        found(Touched::new(catalog, oid));
    }
    // An extension is the sum of its members: nothing else is written when one is added or dropped.
    if catalog == oid::DEPEND
        && column("refclassid") == Some(oid::EXTENSION)
        && let Some(at) = layout.fixed_offset("deptype")
        && fixed_u8(tuple, at) == Some(MEMBER)
        && let Some(extension) = column("refobjid")
    {
        found(Touched::new(oid::EXTENSION, extension));
    }
    if SAID.contains(&catalog)
        && let (Some(object), Some(class), Some(sub)) =
            (column("objoid"), column("classoid"), column("objsubid"))
    {
        found(Touched {
            catalog,
            oid: object,
            class,
            sub: sub.0.cast_signed(),
        });
    }
}

/// What one record wrote.
#[derive(Clone, Debug, Default)]
pub(crate) struct Written {
    pub(crate) database: DatabaseOid,
    pub(crate) objects: Vec<Touched>,
}
