//! Text of values that name catalog rows: reg* types and `aclitem`.
//!
//! What their output functions print depends on rows as of the value's place in the log, so
//! decoders ask an unchanging copy of the catalogs. `search_path` is empty: what is not in
//! `pg_catalog` is printed with its schema.
// pg: utils/adt/regproc.c, utils/adt/acl.c [14-18]

use std::collections::BTreeMap;

use parking_lot::RwLock;
use redostream_protocol::render::identifier::push_identifier;
use redostream_protocol::schema::Name;
use redostream_protocol::{DatabaseOid, Oid, Xid};
use std::sync::Arc;

use super::CatalogError;
use super::layout::oid;
use super::store::Store;
use super::type_desc::{PG_CATALOG, format_type_of};
use super::view::{Row, View};
use crate::gate::transactions::Transactions;

/// Letters of the privileges, from the lowest bit; later versions add to the end.
// pg: utils/acl.h ACL_ALL_RIGHTS_STR [14-18]
const RIGHTS: &[u8] = b"arwdDxtXUCTcsAm";
/// Encodings that ICU does not know, where collations of ICU are not seen.
// pg: common/encnames.c pg_enc2icu_tbl [14-18]
const WITHOUT_ICU: [i32; 5] = [0, 5, 7, 17, 21];

/// The catalogs at one point of the log, unchanging, for decoders on any thread.
#[derive(Debug)]
pub struct CatalogSnapshot {
    store: Store,
    transactions: Transactions,
    /// Texts made before.
    known: RwLock<BTreeMap<Asked, Arc<[u8]>>>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Asked {
    symbol: String,
    value: Vec<u8>,
    database: DatabaseOid,
    viewer: Option<Xid>,
}

impl CatalogSnapshot {
    pub(crate) fn new(store: Store, transactions: Transactions) -> CatalogSnapshot {
        CatalogSnapshot {
            store,
            transactions,
            known: RwLock::default(),
        }
    }

    /// What is committed in a database.
    pub(crate) fn view(&self, database: DatabaseOid) -> View<'_> {
        View {
            store: &self.store,
            database,
            viewer: None,
            transactions: &self.transactions,
        }
    }

    /// Appends the text of a value as the output function `symbol` prints it with an empty
    /// `search_path`. `value` is the column's bytes, `viewer` the row's top-level transaction.
    pub fn reg_text(
        &self,
        symbol: &str,
        value: &[u8],
        database: DatabaseOid,
        viewer: Option<Xid>,
        out: &mut Vec<u8>,
    ) -> Result<(), CatalogError> {
        let viewer = viewer.filter(|top| self.store.writers.contains_key(top));
        let asked = Asked {
            symbol: symbol.to_owned(),
            value: value.to_vec(),
            database,
            viewer,
        };
        if let Some(text) = self.known.read().get(&asked) {
            out.extend_from_slice(text);
            return Ok(());
        }
        let view = View {
            store: &self.store,
            database,
            viewer,
            transactions: &self.transactions,
        };
        let mut text = Vec::new();
        write(&view, symbol, value, &mut text)?;
        out.extend_from_slice(&text);
        self.known.write().insert(asked, text.into());
        Ok(())
    }
}

fn write(
    view: &View<'_>,
    symbol: &str,
    value: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), CatalogError> {
    let bad = || CatalogError::Value {
        symbol: symbol.to_owned(),
        bytes: value.len(),
    };
    if symbol == "aclitemout" {
        return acl_item(view, value, out, bad);
    }
    let raw: [u8; 4] = value.try_into().map_err(|_| bad())?;
    let named = Oid(u32::from_le_bytes(raw));
    let (catalog, none) = match symbol {
        "regclassout" => (oid::CLASS, b'-'),
        "regtypeout" => (oid::TYPE, b'-'),
        "regprocout" | "regprocedureout" => (oid::PROC, b'-'),
        "regoperout" | "regoperatorout" => (oid::OPERATOR, b'0'),
        "regnamespaceout" => (oid::NAMESPACE, b'-'),
        "regroleout" => (oid::AUTHID, b'-'),
        "regconfigout" => (oid::TS_CONFIG, b'-'),
        "regdictionaryout" => (oid::TS_DICT, b'-'),
        "regcollationout" => (oid::COLLATION, b'-'),
        _ => return Err(bad()),
    };
    if !named.is_valid() {
        out.push(none);
        return Ok(());
    }
    let Some(row) = view.row_of(catalog, "oid", named)? else {
        out.extend_from_slice(named.to_string().as_bytes());
        return Ok(());
    };
    match symbol {
        "regclassout" => qualified(view, &row, "relnamespace", "relname", out),
        "regtypeout" => {
            out.extend_from_slice(format_type_of(view, named, 0)?.as_bytes());
            Ok(())
        }
        "regprocout" => procedure_name(view, &row, out),
        "regprocedureout" => procedure(view, &row, out),
        "regoperout" => operator_name(view, &row, out),
        "regoperatorout" => operator(view, &row, out),
        "regnamespaceout" => {
            quoted(view, &row.name("nspname")?, out);
            Ok(())
        }
        "regroleout" => {
            quoted(view, &row.name("rolname")?, out);
            Ok(())
        }
        "regconfigout" => qualified(view, &row, "cfgnamespace", "cfgname", out),
        "regdictionaryout" => qualified(view, &row, "dictnamespace", "dictname", out),
        _ => collation(view, &row, out),
    }
}

fn quoted(view: &View<'_>, name: &Name, out: &mut Vec<u8>) {
    push_identifier(out, name.as_bytes(), view.store.format.major);
}

/// The schema and a dot, unless it is `pg_catalog`.
fn schema(view: &View<'_>, namespace: Oid, out: &mut Vec<u8>) -> Result<(), CatalogError> {
    if namespace != PG_CATALOG {
        forced_schema(view, namespace, out)?;
    }
    Ok(())
}

fn forced_schema(view: &View<'_>, namespace: Oid, out: &mut Vec<u8>) -> Result<(), CatalogError> {
    // A schema that is gone is left out, as the server's own null is.
    if let Some(row) = view.row_of(oid::NAMESPACE, "oid", namespace)? {
        quoted(view, &row.name("nspname")?, out);
        out.push(b'.');
    }
    Ok(())
}

fn qualified(
    view: &View<'_>,
    row: &Row<'_>,
    namespace: &str,
    name: &str,
    out: &mut Vec<u8>,
) -> Result<(), CatalogError> {
    schema(view, row.oid(namespace)?, out)?;
    quoted(view, &row.name(name)?, out);
    Ok(())
}

/// Whether a name in `pg_catalog` leads to one row only.
fn is_unique(
    view: &View<'_>,
    catalog: Oid,
    namespace: &str,
    name: &str,
    row: &Row<'_>,
) -> Result<bool, CatalogError> {
    if row.oid(namespace)? != PG_CATALOG {
        return Ok(false);
    }
    let wanted = row.name(name)?;
    let mut others = 0;
    for other in view.scan(catalog)? {
        if other.name(name)? == wanted && other.oid(namespace)? == PG_CATALOG {
            others += 1;
        }
    }
    Ok(others == 1)
}

fn procedure_name(view: &View<'_>, row: &Row<'_>, out: &mut Vec<u8>) -> Result<(), CatalogError> {
    if !is_unique(view, oid::PROC, "pronamespace", "proname", row)? {
        forced_schema(view, row.oid("pronamespace")?, out)?;
    }
    quoted(view, &row.name("proname")?, out);
    Ok(())
}

fn procedure(view: &View<'_>, row: &Row<'_>, out: &mut Vec<u8>) -> Result<(), CatalogError> {
    qualified(view, row, "pronamespace", "proname", out)?;
    out.push(b'(');
    for (index, argument) in row.oids("proargtypes")?.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(format_type_of(view, argument, 0)?.as_bytes());
    }
    out.push(b')');
    Ok(())
}

fn operator_name(view: &View<'_>, row: &Row<'_>, out: &mut Vec<u8>) -> Result<(), CatalogError> {
    if !is_unique(view, oid::OPERATOR, "oprnamespace", "oprname", row)? {
        forced_schema(view, row.oid("oprnamespace")?, out)?;
    }
    out.extend_from_slice(row.name("oprname")?.as_bytes());
    Ok(())
}

fn operator(view: &View<'_>, row: &Row<'_>, out: &mut Vec<u8>) -> Result<(), CatalogError> {
    schema(view, row.oid("oprnamespace")?, out)?;
    out.extend_from_slice(row.name("oprname")?.as_bytes());
    for (before, column) in [(b'(', "oprleft"), (b',', "oprright")] {
        out.push(before);
        let argument = row.oid(column)?;
        if argument.is_valid() {
            out.extend_from_slice(format_type_of(view, argument, 0)?.as_bytes());
        } else {
            out.extend_from_slice(b"NONE");
        }
    }
    out.push(b')');
    Ok(())
}

/// A collation of `pg_catalog` is seen by its bare name if it is the one for the database's
/// encoding, or for any encoding where the former does not exist.
// pg: catalog/namespace.c lookup_collation [14-18]
fn collation(view: &View<'_>, row: &Row<'_>, out: &mut Vec<u8>) -> Result<(), CatalogError> {
    let name = row.name("collname")?;
    let namespace = row.oid("collnamespace")?;
    let mut seen = namespace == PG_CATALOG;
    if seen {
        let database = view.row_of(oid::DATABASE, "oid", view.database)?;
        let encoding = database.map_or(Ok(0), |row| row.i32("encoding"))?;
        let own = row.i32("collencoding")?;
        seen = own == encoding;
        if own == -1 {
            let icu = row.byte("collprovider")? == b'i';
            seen = !(icu && WITHOUT_ICU.contains(&encoding));
            for other in view.scan(oid::COLLATION)? {
                let hides = other.i32("collencoding")? == encoding
                    && other.oid("collnamespace")? == PG_CATALOG
                    && other.name("collname")? == name;
                seen = seen && !hides;
            }
        }
    }
    if !seen {
        forced_schema(view, namespace, out)?;
    }
    quoted(view, &name, out);
    Ok(())
}

/// ```text
/// grantee u32 | grantor u32 | privileges and, in the upper half, grant options:
///                             u32 [14-15], u64 [16-18]
/// ```
// pg: utils/acl.h AclItem, utils/adt/acl.c aclitemout [14-18]
fn acl_item(
    view: &View<'_>,
    value: &[u8],
    out: &mut Vec<u8>,
    bad: impl Fn() -> CatalogError,
) -> Result<(), CatalogError> {
    let word = |at: usize| -> Option<u32> {
        let raw = value.get(at..at + 4)?;
        Some(u32::from_le_bytes(raw.try_into().ok()?))
    };
    let grantee = Oid(word(0).ok_or_else(&bad)?);
    let grantor = Oid(word(4).ok_or_else(&bad)?);
    let low = word(8).ok_or_else(&bad)?;
    let (privileges, options) = match value.len() {
        12 => (low & 0xFFFF, low >> 16),
        16 => (low, word(12).ok_or_else(&bad)?),
        _ => return Err(bad()),
    };
    if grantee.is_valid() {
        role(view, grantee, out)?;
    }
    out.push(b'=');
    for (bit, letter) in RIGHTS.iter().enumerate() {
        if privileges & (1 << bit) != 0 {
            out.push(*letter);
        }
        if options & (1 << bit) != 0 {
            out.push(b'*');
        }
    }
    out.push(b'/');
    role(view, grantor, out)
}

// pg: utils/adt/acl.c putid [14-18]
fn role(view: &View<'_>, oid: Oid, out: &mut Vec<u8>) -> Result<(), CatalogError> {
    let Some(row) = view.row_of(oid::AUTHID, "oid", oid)? else {
        out.extend_from_slice(oid.to_string().as_bytes());
        return Ok(());
    };
    let name = row.name("rolname")?;
    let is_safe = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    if name.0.iter().all(is_safe) {
        out.extend_from_slice(&name.0);
        return Ok(());
    }
    out.push(b'"');
    for byte in &name.0 {
        if *byte == b'"' {
            out.push(b'"');
        }
        out.push(*byte);
    }
    out.push(b'"');
    Ok(())
}
