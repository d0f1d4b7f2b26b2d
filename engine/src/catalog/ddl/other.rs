//! Objects without columns: schemas, sequences, types, and those that are only named.

use redostream_protocol::Oid;
use redostream_protocol::ddl::{Expression, Property};
use redostream_protocol::schema::Name;

use super::super::CatalogError;
use super::super::layout::oid;
use super::super::view::{Row, View};
use super::constraint::of_domain;
use super::expression::Printer;
use super::names::{schema_name, table_name, type_text};
use super::state::OtherState;
use super::table::{attributes, collation, encoding, persistence};
use super::touched::Touched;

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
const NAMED: [Named; 22] = [
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
        oid::TYPE => data_type(view, touched.oid),
        oid::DESCRIPTION => comment(view, touched),
        oid::CAST | oid::TRANSFORM | oid::USER_MAPPING => {
            let row = view.row_of(touched.catalog, "oid", touched.oid)?;
            row.map(|row| link(view, touched.catalog, &row)).transpose()
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
        state.schema = Some(schema_name(view, row.oid(column)?)?);
    }
    for (part, key) in members(known.catalog) {
        for member in of_whole(view, *part, key, state.oid)? {
            // In whatever order they stand.
            state.rest ^= member.checksum(None);
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

/// An object that has no name of its own: named by what it links.
fn link(view: &View<'_>, catalog: Oid, row: &Row<'_>) -> Result<OtherState, CatalogError> {
    let data_type = |column| Ok::<_, CatalogError>(type_text(view, row.oid(column)?, -1)?.0);
    let mut state = OtherState {
        oid: row.oid("oid")?,
        rest: row.checksum(None),
        ..OtherState::default()
    };
    let (object, name) = match catalog {
        oid::CAST => {
            let (source, target) = (data_type("castsource")?, data_type("casttarget")?);
            state.references = vec![row.oid("castsource")?, row.oid("casttarget")?];
            let name = [b"(", source.as_bytes(), b" AS ", target.as_bytes(), b")"].concat();
            state.set("source", Property::Text(source));
            state.set("target", Property::Text(target));
            ("cast", name)
        }
        oid::TRANSFORM => {
            let of = data_type("trftype")?;
            let language = view.row_of(oid::LANGUAGE, "oid", row.oid("trflang")?)?;
            let language = language.map(|row| row.name("lanname")).transpose()?;
            let language = language.unwrap_or_default();
            state.references = vec![row.oid("trftype")?, row.oid("trflang")?];
            let name = [b"FOR ", of.as_bytes(), b" LANGUAGE ", language.as_bytes()].concat();
            state.set("type", Property::Text(of));
            state.set("language", Property::Text(language));
            ("transform", name)
        }
        _ => {
            let user = view.row_of(oid::AUTHID, "oid", row.oid("umuser")?)?;
            let user = user.map(|row| row.name("rolname")).transpose()?;
            let server = row.oid("umserver")?;
            state.references = vec![server];
            let server = view.row_of(oid::FOREIGN_SERVER, "oid", server)?;
            let server = server.map(|row| row.name("srvname")).transpose()?;
            state.set("server", server.map_or(Property::Null, Property::Text));
            (
                "user mapping",
                user.map_or(b"public".to_vec(), |user| user.0),
            )
        }
    };
    object.clone_into(&mut state.object);
    state.name = Name(name);
    Ok(state)
}

/// A sequence, by its row in `pg_class`.
pub(crate) fn sequence(
    view: &View<'_>,
    class: &Row<'_>,
) -> Result<Option<OtherState>, CatalogError> {
    let relation = class.oid("oid")?;
    let Some(row) = view.row_of(oid::SEQUENCE, "seqrelid", relation)? else {
        return Ok(None);
    };
    let mut state = OtherState {
        oid: relation,
        object: "sequence".to_owned(),
        schema: Some(schema_name(view, class.oid("relnamespace")?)?),
        name: class.name("relname")?,
        references: vec![class.oid("relnamespace")?],
        privileges: Privileges::of(class, Some("relacl"), "sequence")?,
        rest: class.oid("relowner")?.0,
        ..OtherState::default()
    };
    let (data_type, _) = type_text(view, row.oid("seqtypid")?, -1)?;
    state.set("data_type", Property::Text(data_type));
    for (key, column) in [
        ("start", "seqstart"),
        ("increment", "seqincrement"),
        ("minimum", "seqmin"),
        ("maximum", "seqmax"),
        ("cache", "seqcache"),
    ] {
        state.set(key, Property::Number(row.whole(column)?));
    }
    state.set("cycle", Property::Bool(row.flag("seqcycle")?));
    let persistence = persistence(class.byte("relpersistence")?);
    state.set("persistence", Property::Text(Name::from(persistence)));
    let mut owned_by = Property::Null;
    for depend in view.rows(oid::DEPEND, "objid", relation.0)? {
        let (column, kind) = (depend.i32("refobjsubid")?, depend.byte("deptype")?);
        let of_column = matches!(kind, b'a' | b'i')
            && depend.oid("classid")? == oid::CLASS
            && depend.oid("refclassid")? == oid::CLASS
            && column > 0;
        if !of_column {
            continue;
        }
        state.table = depend.oid("refobjid")?;
        if let Some(table) = table_name(view, state.table)? {
            owned_by = Property::Parts(vec![
                ("schema".to_owned(), Property::Text(table.schema)),
                ("table".to_owned(), Property::Text(table.table)),
                ("column".to_owned(), column_name(view, state.table, column)?),
                ("identity".to_owned(), Property::Bool(kind == b'i')),
            ]);
        }
    }
    state.set("owned_by", owned_by);
    Ok(Some(state))
}

fn column_name(view: &View<'_>, table: Oid, number: i32) -> Result<Property, CatalogError> {
    for row in attributes(view, table)? {
        if i32::from(row.i16("attnum")?) == number {
            return Ok(Property::Text(row.name("attname")?));
        }
    }
    Ok(Property::Null)
}

/// A type that somebody made by name: no array, no row type of a table, no multirange.
fn data_type(view: &View<'_>, oid: Oid) -> Result<Option<OtherState>, CatalogError> {
    let Some(row) = view.row_of(oid::TYPE, "oid", oid)? else {
        return Ok(None);
    };
    let namespace = row.oid("typnamespace")?;
    let mut state = OtherState {
        oid,
        object: "type".to_owned(),
        schema: Some(schema_name(view, namespace)?),
        name: row.name("typname")?,
        references: vec![namespace],
        privileges: Privileges::of(&row, Some("typacl"), "type")?,
        rest: row.oid("typowner")?.0,
        ..OtherState::default()
    };
    let kind = match row.byte("typtype")? {
        b'e' => {
            state.set("labels", labels(view, oid)?);
            "enum"
        }
        b'd' => {
            domain(view, &row, &mut state)?;
            "domain"
        }
        b'c' => {
            let relation = row.oid("typrelid")?;
            let class = view.row_of(oid::CLASS, "oid", relation)?;
            match class {
                Some(class) if class.byte("relkind")? == b'c' => {}
                _ => return Ok(None),
            }
            fields(view, relation, &mut state)?;
            "composite"
        }
        b'r' => {
            let range = view.row_of(oid::RANGE, "rngtypid", oid)?;
            if let Some(range) = range {
                let subtype = range.oid("rngsubtype")?;
                state.references.push(subtype);
                let (text, _) = type_text(view, subtype, -1)?;
                state.set("subtype", Property::Text(text));
                let multirange = range.oid("rngmultitypid")?;
                let (text, _) = type_text(view, multirange, -1)?;
                state.set("multirange", Property::Text(text));
            }
            "range"
        }
        b'b' if !row.oid("typelem")?.is_valid() => {
            state.rest = row.checksum(Some("typacl"));
            "base"
        }
        _ => return Ok(None),
    };
    state.set("kind", Property::Text(Name::from(kind)));
    if kind == "domain" {
        state.object = "domain".to_owned();
    }
    Ok(Some(state))
}

fn labels(view: &View<'_>, oid: Oid) -> Result<Property, CatalogError> {
    let mut labels = Vec::new();
    for row in view.rows(oid::ENUM, "enumtypid", oid.0)? {
        let order = f32::from_bits(row.u32("enumsortorder")?);
        labels.push((order, row.name("enumlabel")?));
    }
    labels.sort_by(|one, other| one.0.total_cmp(&other.0));
    let labels = labels.into_iter().map(|(_, label)| Property::Text(label));
    Ok(Property::List(labels.collect()))
}

fn fields(view: &View<'_>, relation: Oid, state: &mut OtherState) -> Result<(), CatalogError> {
    let mut fields = Vec::new();
    for row in attributes(view, relation)? {
        let data_type = row.oid("atttypid")?;
        state.references.push(data_type);
        let (text, _) = type_text(view, data_type, row.i32("atttypmod")?)?;
        let collation = collation(view, data_type, row.oid("attcollation")?)?;
        fields.push(Property::Parts(vec![
            ("name".to_owned(), Property::Text(row.name("attname")?)),
            ("type".to_owned(), Property::Text(text)),
            (
                "collation".to_owned(),
                collation.map_or(Property::Null, Property::Text),
            ),
        ]));
    }
    state.set("attributes", Property::List(fields));
    Ok(())
}

fn domain(view: &View<'_>, row: &Row<'_>, state: &mut OtherState) -> Result<(), CatalogError> {
    let base = row.oid("typbasetype")?;
    state.references.push(base);
    let (text, _) = type_text(view, base, row.i32("typtypmod")?)?;
    state.set("base_type", Property::Text(text));
    state.set("nullable", Property::Bool(!row.flag("typnotnull")?));
    let printer = Printer::new(*view, encoding(view)?, &[]);
    let default = row.value("typdefaultbin")?;
    let default = default.map_or(Expression::None, |stored| printer.text(&stored));
    state.set_expression("default", "default_unknown", default);
    let collation = collation(view, base, row.oid("typcollation")?)?;
    state.set(
        "collation",
        collation.map_or(Property::Null, Property::Text),
    );
    let mut constraints = Vec::new();
    for constraint in of_domain(view, state.oid, &printer)? {
        let mut parts = OtherState::default();
        parts.set("name", Property::Text(constraint.name));
        parts.set("kind", Property::Text(Name::from(constraint.kind.as_str())));
        parts.set_expression("definition", "expression_unknown", constraint.definition);
        constraints.push(Property::Parts(parts.properties));
    }
    state.set("constraints", Property::List(constraints));
    Ok(())
}

/// A comment, by the object it is on.
fn comment(view: &View<'_>, touched: &Touched) -> Result<Option<OtherState>, CatalogError> {
    for row in view.rows(oid::DESCRIPTION, "objoid", touched.oid.0)? {
        if row.oid("classoid")? != touched.class || row.i32("objsubid")? != touched.sub {
            continue;
        }
        let Some(mut state) = subject(view, touched)? else {
            return Ok(None);
        };
        let text = row.value("description")?.unwrap_or_default().into_owned();
        state.set("comment", Property::Text(Name(text)));
        return Ok(Some(state));
    }
    Ok(None)
}

/// The object that a comment is on, named.
fn subject(view: &View<'_>, touched: &Touched) -> Result<Option<OtherState>, CatalogError> {
    let mut state = OtherState {
        oid: touched.oid,
        ..OtherState::default()
    };
    if touched.class == oid::CONSTRAINT {
        let Some(row) = view.row_of(oid::CONSTRAINT, "oid", touched.oid)? else {
            return Ok(None);
        };
        "constraint".clone_into(&mut state.object);
        state.schema = Some(schema_name(view, row.oid("connamespace")?)?);
        state.name = row.name("conname")?;
        state.table = row.oid("conrelid")?;
        if let Some(table) = table_name(view, state.table)? {
            state.set("table", Property::Text(table.table));
        }
        return Ok(Some(state));
    }
    if touched.class != oid::CLASS {
        let of = Touched::new(touched.class, touched.oid);
        let Some(other) = describe(view, &of)? else {
            return Ok(None);
        };
        state.object = other.object;
        state.schema = other.schema;
        state.name = other.name;
        return Ok(Some(state));
    }
    let Some(class) = view.row_of(oid::CLASS, "oid", touched.oid)? else {
        return Ok(None);
    };
    let kind = match class.byte("relkind")? {
        b'i' | b'I' => "index",
        kind => super::state::object_of_kind(kind),
    };
    kind.clone_into(&mut state.object);
    state.schema = Some(schema_name(view, class.oid("relnamespace")?)?);
    state.name = class.name("relname")?;
    state.table = touched.oid;
    if touched.sub > 0 {
        state.object = "column".to_owned();
        state.set("table", Property::Text(state.name.clone()));
        state.set("column", column_name(view, touched.oid, touched.sub)?);
    }
    Ok(Some(state))
}

/// What others may do with an object, as far as it takes to tell a grant from a revocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Privileges {
    /// Checksum of the list.
    pub(crate) list: u32,
    /// Privileges given, over all roles.
    pub(crate) count: u32,
}

impl Privileges {
    /// Adds those of a column.
    pub(crate) fn add(&mut self, number: i16, column: Privileges) {
        if column != Privileges::default() {
            let mut list = crc32fast::Hasher::new_with_initial(self.list);
            list.update(&number.to_le_bytes());
            list.update(&column.list.to_le_bytes());
            self.list = list.finalize();
            self.count += column.count;
        }
    }

    /// The privileges in a row's column of access rights.
    ///
    /// ```text
    /// array header 20 bytes | items: grantee u32, grantor u32, rights u32 (16 on: u64)
    /// ```
    // pg: utils/acl.h AclItem [14-15: 12 bytes, 16-18: 16 bytes]
    pub(crate) fn of(
        row: &Row<'_>,
        column: Option<&'static str>,
        object: &str,
    ) -> Result<Privileges, CatalogError> {
        let Some(column) = column else {
            return Ok(Privileges::default());
        };
        let Some(list) = row.value(column)? else {
            return Ok(Privileges {
                list: 0,
                count: by_default(object, row.major()),
            });
        };
        let items = list.get(20..).unwrap_or_default();
        let item_bytes = if row.major() >= 16 { 16 } else { 12 };
        let rights = items.chunks_exact(item_bytes).map(|item| {
            let bits = item[8..].iter().map(|byte| byte.count_ones());
            bits.sum::<u32>()
        });
        Ok(Privileges {
            list: crc32fast::hash(&list),
            count: rights.sum(),
        })
    }
}

/// Privileges that an object has without a list: its owner's, and some that all have.
// pg: utils/adt/acl.c acldefault [14-18; 17 on: MAINTAIN]
const fn by_default(object: &str, major: u16) -> u32 {
    match object.as_bytes() {
        b"sequence" => 3,
        b"schema" | b"function" | b"type" | b"language" => 2,
        b"foreign data wrapper" | b"server" => 1,
        b"column" => 0,
        _ if major >= 17 => 8,
        _ => 7,
    }
}
