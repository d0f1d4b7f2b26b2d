//! Objects without columns: which describes which, and those that are only named.

use redostream_protocol::Oid;
use redostream_protocol::ddl::Property;

use super::super::CatalogError;
use super::super::layout::oid;
use super::super::view::{Row, View};
use super::comment;
use super::names::{schema_name, table_name, type_text};
use super::privileges::Privileges;
use super::state::OtherState;
use super::touched::{MEMBER, Touched};
use super::{data_type, linked};

/// A catalog whose objects are named and no more.
struct Named {
    catalog: Oid,
    /// Object type as events name it.
    object: &'static str,
    name: &'static str,
    namespace: Option<&'static str>,
    /// The column with the table that the object is a part of.
    table: Option<&'static str>,
    privileges: Option<&'static str>,
}

const fn named(
    catalog: Oid,
    object: &'static str,
    name: &'static str,
    namespace: Option<&'static str>,
) -> Named {
    Named {
        catalog,
        object,
        name,
        namespace,
        table: None,
        privileges: None,
    }
}

const fn of_table(
    catalog: Oid,
    object: &'static str,
    name: &'static str,
    table: &'static str,
) -> Named {
    Named {
        table: Some(table),
        ..named(catalog, object, name, None)
    }
}

// pg: catalog/pg_*.h [14-18]
const NAMED: [Named; 23] = [
    Named {
        privileges: Some("nspacl"),
        ..named(oid::NAMESPACE, "schema", "nspname", None)
    },
    Named {
        privileges: Some("proacl"),
        ..named(oid::PROC, "function", "proname", Some("pronamespace"))
    },
    of_table(oid::TRIGGER, "trigger", "tgname", "tgrelid"),
    of_table(oid::POLICY, "policy", "polname", "polrelid"),
    of_table(oid::REWRITE, "rule", "rulename", "ev_class"),
    named(oid::EXTENSION, "extension", "extname", None),
    Named {
        privileges: Some("lanacl"),
        ..named(oid::LANGUAGE, "language", "lanname", None)
    },
    named(oid::OPERATOR, "operator", "oprname", Some("oprnamespace")),
    named(
        oid::OPERATOR_CLASS,
        "operator class",
        "opcname",
        Some("opcnamespace"),
    ),
    named(
        oid::OPERATOR_FAMILY,
        "operator family",
        "opfname",
        Some("opfnamespace"),
    ),
    named(
        oid::COLLATION,
        "collation",
        "collname",
        Some("collnamespace"),
    ),
    named(
        oid::CONVERSION,
        "conversion",
        "conname",
        Some("connamespace"),
    ),
    Named {
        privileges: Some("fdwacl"),
        ..named(
            oid::FOREIGN_DATA_WRAPPER,
            "foreign data wrapper",
            "fdwname",
            None,
        )
    },
    Named {
        privileges: Some("srvacl"),
        ..named(oid::FOREIGN_SERVER, "server", "srvname", None)
    },
    named(oid::PUBLICATION, "publication", "pubname", None),
    named(oid::SUBSCRIPTION, "subscription", "subname", None),
    named(oid::EVENT_TRIGGER, "event trigger", "evtname", None),
    named(
        oid::TS_CONFIG,
        "text search configuration",
        "cfgname",
        Some("cfgnamespace"),
    ),
    named(
        oid::TS_DICT,
        "text search dictionary",
        "dictname",
        Some("dictnamespace"),
    ),
    named(
        oid::TS_PARSER,
        "text search parser",
        "prsname",
        Some("prsnamespace"),
    ),
    named(
        oid::TS_TEMPLATE,
        "text search template",
        "tmplname",
        Some("tmplnamespace"),
    ),
    Named {
        table: Some("stxrelid"),
        ..named(
            oid::STATISTICS,
            "statistics",
            "stxname",
            Some("stxnamespace"),
        )
    },
    named(oid::AM, "access method", "amname", None),
];

/// The object in a catalog, if it is one of those that events tell of.
pub(crate) fn describe(
    view: &View<'_>,
    touched: &Touched,
) -> Result<Option<OtherState>, CatalogError> {
    match touched.catalog {
        oid::TYPE => data_type::describe(view, touched.oid),
        oid::DESCRIPTION => comment::comment(view, touched),
        oid::SECURITY_LABEL => comment::labels(view, touched),
        oid::CAST | oid::TRANSFORM | oid::USER_MAPPING | oid::DEFAULT_ACL => {
            let row = view.row_of(touched.catalog, "oid", touched.oid)?;
            row.map(|row| linked::describe(view, touched.catalog, &row))
                .transpose()
        }
        catalog => {
            let Some(known) = NAMED.iter().find(|named| named.catalog == catalog) else {
                return Ok(None);
            };
            let Some(row) = view.row_of(catalog, "oid", touched.oid)? else {
                return Ok(None);
            };
            of_row(view, known, &row)
        }
    }
}

fn of_row(
    view: &View<'_>,
    known: &Named,
    row: &Row<'_>,
) -> Result<Option<OtherState>, CatalogError> {
    let name = row.name(known.name)?;
    let mut state = OtherState {
        oid: row.oid("oid")?,
        object: known.object.to_owned(),
        name,
        rest: row.checksum(known.privileges),
        privileges: Privileges::of(row, known.privileges, known.object)?,
        ..OtherState::default()
    };
    let hidden = match known.catalog {
        // Made for the first temporary table of a session, and kept for later ones.
        oid::NAMESPACE => {
            let name = state.name.as_bytes();
            name.starts_with(b"pg_temp_") || name.starts_with(b"pg_toast_temp_")
        }
        oid::TRIGGER => row.flag("tgisinternal")? || row.oid("tgparentid")?.is_valid(),
        oid::REWRITE => state.name.as_bytes() == b"_RETURN",
        _ => false,
    };
    if hidden {
        return Ok(None);
    }
    if known.catalog == oid::PROC {
        state.object = match row.byte("prokind")? {
            b'p' => "procedure",
            b'a' => "aggregate",
            _ => "function",
        }
        .to_owned();
        let mut arguments = Vec::new();
        for argument in row.oids("proargtypes")? {
            arguments.push(Property::Text(type_text(view, argument, -1)?.0));
        }
        state.set("arguments", Property::List(arguments));
    }
    if let Some(column) = known.namespace {
        state.namespace = row.oid(column)?;
        state.schema = Some(schema_name(view, state.namespace)?);
    }
    for (part, key) in members(known.catalog) {
        for member in of_whole(view, *part, key, state.oid)? {
            // In whatever order they stand.
            state.rest ^= member.checksum(None);
        }
    }
    if known.catalog == oid::EXTENSION {
        for member in view.rows(oid::DEPEND, "refobjid", state.oid.0)? {
            if member.oid("refclassid")? == oid::EXTENSION && member.byte("deptype")? == MEMBER {
                state.rest ^= member.checksum(None);
            }
        }
    }
    if known.catalog == oid::PUBLICATION {
        published(view, &mut state)?;
    }
    if let Some(column) = known.table {
        state.table = row.oid(column)?;
        if let Some(table) = table_name(view, state.table)? {
            state.schema.get_or_insert_with(|| table.schema.clone());
            state.set("table", Property::Text(table.table));
        }
    }
    Ok(Some(state))
}

/// Catalogs with rows that belong to an object of `catalog` and are told with it, each with the
/// column that names it.
const fn members(catalog: Oid) -> &'static [(Oid, &'static str)] {
    match catalog {
        oid::PUBLICATION => &[
            (oid::PUBLICATION_TABLE, "prpubid"),
            (oid::PUBLICATION_SCHEMA, "pnpubid"),
        ],
        oid::TS_CONFIG => &[(oid::TS_CONFIG_MAP, "mapcfg")],
        oid::OPERATOR_FAMILY => &[
            (oid::FAMILY_OPERATOR, "amopfamily"),
            (oid::FAMILY_FUNCTION, "amprocfamily"),
        ],
        _ => &[],
    }
}

/// The rows of `part` that belong to an object; none where the version has no such catalog.
fn of_whole<'a>(
    view: &View<'a>,
    part: Oid,
    key: &'static str,
    whole: Oid,
) -> Result<Vec<Row<'a>>, CatalogError> {
    if part == oid::PUBLICATION_SCHEMA && view.store.format.major < 15 {
        return Ok(Vec::new());
    }
    view.rows(part, key, whole.0)
}

/// What a publication publishes.
fn published(view: &View<'_>, state: &mut OtherState) -> Result<(), CatalogError> {
    let mut tables = Vec::new();
    for row in view.rows(oid::PUBLICATION_TABLE, "prpubid", state.oid.0)? {
        let table = row.oid("prrelid")?;
        state.references.push(table);
        tables.extend(table_name(view, table)?);
    }
    tables.sort_by(|one, other| (&one.schema, &one.table).cmp(&(&other.schema, &other.table)));
    let tables = tables.into_iter().map(|table| {
        Property::Parts(vec![
            ("schema".to_owned(), Property::Text(table.schema)),
            ("table".to_owned(), Property::Text(table.table)),
        ])
    });
    state.set("tables", Property::List(tables.collect()));
    let mut schemas = Vec::new();
    for row in of_whole(view, oid::PUBLICATION_SCHEMA, "pnpubid", state.oid)? {
        let schema = row.oid("pnnspid")?;
        state.references.push(schema);
        schemas.push(schema_name(view, schema)?);
    }
    schemas.sort();
    let schemas = schemas.into_iter().map(Property::Text).collect();
    state.set("schemas", Property::List(schemas));
    Ok(())
}
