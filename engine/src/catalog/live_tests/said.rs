//! What a server says of its catalogs, and the same from ours.

use redostream_protocol::{Lsn, Oid, Xid};
use redostream_testdata::session::Session;

use super::follower::Follower;
use crate::catalog::CatalogSnapshot;
use crate::catalog::layout::oid;

/// What the server said of its catalogs at some place of the log.
pub(super) struct Said {
    pub(super) lsn: Lsn,
    pub(super) database: String,
    pub(super) viewer: Option<Xid>,
    pub(super) rows: String,
}

/// Texts of reg* and aclitem values of a database, as `REG_TEXTS` prints them.
pub(super) fn reg_texts(follower: &Follower, database: Oid) -> String {
    let view = follower.view(database, None);
    let snapshot = CatalogSnapshot::new(
        follower.catalog.store.clone(),
        follower.transactions.clone(),
    );
    let mut lines = Vec::new();
    let mut add = |symbol: &str, value: &[u8]| {
        let mut text = Vec::new();
        snapshot
            .reg_text(symbol, value, database, None, &mut text)
            .unwrap();
        lines.push(format!("{symbol} {}", String::from_utf8(text).unwrap()));
    };
    for (symbol, catalog, _, _) in REG_TYPES {
        for row in view.scan(catalog).unwrap() {
            let value = row.u32("oid").unwrap();
            // Asking for all functions and operators by a name each would take minutes.
            if value
                % if matches!(symbol, "regprocout" | "regoperout") {
                    50
                } else {
                    1
                }
                == 0
            {
                add(symbol, &value.to_le_bytes());
            }
        }
        add(symbol, &0_u32.to_le_bytes());
        add(symbol, &4_000_000_000_u32.to_le_bytes());
    }
    let item = if follower.wal.format.major < 16 {
        12
    } else {
        16
    };
    for row in view.scan(oid::CLASS).unwrap() {
        if let Some(acl) = row.value("relacl").unwrap() {
            for value in acl[20..].chunks_exact(item) {
                add("aclitemout", value);
            }
        }
    }
    lines.sort_unstable();
    lines.join("\n")
}

const REG_TYPES: [(&str, Oid, &str, &str); 11] = [
    ("regclassout", oid::CLASS, "pg_class", "regclass"),
    ("regtypeout", oid::TYPE, "pg_type", "regtype"),
    ("regprocout", oid::PROC, "pg_proc", "regproc"),
    ("regprocedureout", oid::PROC, "pg_proc", "regprocedure"),
    ("regoperout", oid::OPERATOR, "pg_operator", "regoper"),
    (
        "regoperatorout",
        oid::OPERATOR,
        "pg_operator",
        "regoperator",
    ),
    (
        "regnamespaceout",
        oid::NAMESPACE,
        "pg_namespace",
        "regnamespace",
    ),
    ("regroleout", oid::AUTHID, "pg_authid", "regrole"),
    ("regconfigout", oid::TS_CONFIG, "pg_ts_config", "regconfig"),
    (
        "regdictionaryout",
        oid::TS_DICT,
        "pg_ts_dict",
        "regdictionary",
    ),
    (
        "regcollationout",
        oid::COLLATION,
        "pg_collation",
        "regcollation",
    ),
];

/// The same, asked of the server.
pub(super) fn reg_query() -> String {
    let mut parts: Vec<String> = REG_TYPES
        .iter()
        .map(|(symbol, _, table, name)| {
            let every = if matches!(*symbol, "regprocout" | "regoperout") { 50 } else { 1 };
            format!(
                "select '{symbol} ' || v::pg_catalog.{name}::text as line from (select oid as v from \
                 pg_catalog.{table} where oid::int8 % {every} = 0 union all select 0 union all select 4000000000) as s"
            )
        })
        .collect();
    parts.push("select 'aclitemout ' || unnest(relacl)::text from pg_catalog.pg_class".to_owned());
    format!(
        "select line from ({}) as lines order by line collate \"C\";",
        parts.join(" union all ")
    )
}

/// Length and last bytes: enough to see whether a detoasted value is right.
pub(super) fn hash(value: Option<&[u8]>) -> String {
    let Some(value) = value else {
        return String::new();
    };
    let tail = &value[value.len().saturating_sub(8)..];
    let hex: String = tail.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}:{hex}", value.len())
}

pub(super) type Columns = &'static [(&'static str, char)];

pub(super) const COLUMNS: [(&str, Oid, Columns); 9] = [
    (
        "pg_class",
        oid::CLASS,
        &[
            ("oid", 'o'),
            ("relname", 'n'),
            ("relnamespace", 'o'),
            ("relfilenode", 'o'),
            ("reltablespace", 'o'),
            ("reltoastrelid", 'o'),
            ("relkind", 'c'),
            ("relnatts", 's'),
            ("relreplident", 'c'),
            ("relrewrite", 'o'),
        ],
    ),
    (
        "pg_attribute",
        oid::ATTRIBUTE,
        &[
            ("attrelid", 'o'),
            ("attnum", 's'),
            ("attname", 'n'),
            ("atttypid", 'o'),
            ("attlen", 's'),
            ("attalign", 'c'),
            ("attnotnull", 'b'),
            ("attisdropped", 'b'),
            ("atthasmissing", 'b'),
        ],
    ),
    (
        "pg_type",
        oid::TYPE,
        &[
            ("oid", 'o'),
            ("typname", 'n'),
            ("typtype", 'c'),
            ("typelem", 'o'),
            ("typoutput", 'o'),
        ],
    ),
    (
        "pg_proc",
        oid::PROC,
        &[
            ("oid", 'o'),
            ("proname", 'n'),
            ("prosrc", 'h'),
            ("probin", 'h'),
        ],
    ),
    (
        "pg_enum",
        oid::ENUM,
        &[("oid", 'o'), ("enumtypid", 'o'), ("enumlabel", 'n')],
    ),
    (
        "pg_range",
        oid::RANGE,
        &[("rngtypid", 'o'), ("rngmultitypid", 'o')],
    ),
    (
        "pg_index",
        oid::INDEX,
        &[("indexrelid", 'o'), ("indrelid", 'o'), ("indisvalid", 'b')],
    ),
    (
        "pg_namespace",
        oid::NAMESPACE,
        &[("oid", 'o'), ("nspname", 'n')],
    ),
    (
        "pg_database",
        oid::DATABASE,
        &[("oid", 'o'), ("datname", 'n'), ("dattablespace", 'o')],
    ),
];

/// The same rows, asked of the server.
fn query() -> String {
    let parts: Vec<String> = COLUMNS
        .iter()
        .map(|(name, _, columns)| {
            let columns: Vec<String> = columns
                .iter()
                .map(|(column, kind)| match kind {
                    'h' => format!(
                        "coalesce(octet_length({column})::text || ':' || \
                         encode(substring(convert_to({column}, 'UTF8') from \
                         greatest(octet_length({column}) - 7, 1)), 'hex'), '')"
                    ),
                    'b' => format!("case when {column} then 't' else 'f' end"),
                    'o' => format!("{column}::oid::text"),
                    _ => format!("{column}::text"),
                })
                .collect();
            let text = columns.join(" || ' ' || ");
            format!("select '{name} ' || {text} as line from pg_catalog.{name}")
        })
        .collect();
    format!(
        "select line from ({}) as lines order by line collate \"C\";",
        parts.join(" union all ")
    )
}

/// Bare names mean pg_catalog only, and no mistake of a test waits for ever.
pub(super) const SESSION: &str =
    "set search_path = '';\nset client_encoding = 'UTF8';\nset lock_timeout = '20s';";

pub(super) const TABLES: &str = "select line from (select n.nspname || '.' || c.relname || '.' || a.attname || ' ' || \
    format_type(a.atttypid, null) || ' ' || case when exists (select from pg_catalog.pg_index i \
    where i.indrelid = c.oid and a.attnum = any ((i.indkey::int2[])[0:i.indnkeyatts - 1]) and \
    case c.relreplident when 'd' then i.indisprimary when 'i' then i.indisreplident end) \
    then 't' else 'f' end as line from pg_catalog.pg_attribute a \
    join pg_catalog.pg_class c on c.oid = a.attrelid \
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
    where c.oid >= 16384 and a.attnum > 0 and not a.attisdropped and c.relkind in ('r', 'm', 'p')) as lines \
    order by line collate \"C\";";

/// Asks inside an open session, where nobody else writes.
pub(super) fn ask(session: &mut Session, database: &str) -> Said {
    let place = session
        .run("select pg_current_wal_insert_lsn() || ' ' || coalesce(pg_current_xact_id_if_assigned()::text, '0');")
        .unwrap();
    let rows = session.run(&query()).unwrap();
    let (lsn, xid) = place.trim().split_once(' ').unwrap();
    let xid: u64 = xid.parse().unwrap();
    Said {
        lsn: lsn.parse().unwrap(),
        database: database.to_owned(),
        viewer: (xid != 0).then_some(Xid(xid as u32)),
        rows,
    }
}

pub(super) fn check(follower: &mut Follower, said: &Said) {
    follower.follow(said.lsn);
    let database = follower.database_oid(&said.database);
    let ours = follower.rows(database, said.viewer);
    assert_same(&ours, &said.rows, &format!("at {}", said.lsn));
    follower.assert_cache(database, said.viewer);
}

pub(super) fn assert_same(ours: &str, theirs: &str, what: &str) {
    if ours != theirs {
        let ours: std::collections::BTreeSet<_> = ours.lines().collect();
        let theirs: std::collections::BTreeSet<_> = theirs.lines().collect();
        let more: Vec<_> = ours.difference(&theirs).take(20).collect();
        let less: Vec<_> = theirs.difference(&ours).take(20).collect();
        panic!("{what}: we have {more:#?}\nthey have {less:#?}");
    }
}
