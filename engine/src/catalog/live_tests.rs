//! The catalog held against a server: a copied data directory and the WAL written afterwards,
//! compared with what the server itself says of its catalogs.

use std::path::Path;

use redostream_protocol::{Lsn, Oid, Xid};
use redostream_testdata::cluster::{Cluster, ClusterOptions, Stop};
use redostream_testdata::files::copy_tree;
use redostream_testdata::generator::{Size, generate};
use redostream_testdata::server::{MAJORS, Server};

use super::bootstrap::{DataDirectory, Upstream, load};
use super::layout::oid;
use super::view::View;
use super::*;
use crate::framing::rmgr::id;
use crate::framing::xact::{self, op};

/// WAL segments of one timeline, read as one stretch of bytes.
struct Wal {
    format: &'static WalFormat,
    segment_bytes: u64,
    first: u64,
    bytes: Vec<u8>,
    position: u64,
    last: u64,
}

impl Wal {
    fn open(directory: &Path, format: &'static WalFormat, segment_bytes: u64, start: Lsn) -> Wal {
        let mut number = start.0 / segment_bytes;
        let first = number * segment_bytes;
        let mut bytes = Vec::new();
        let per_log = 0x1_0000_0000 / segment_bytes;
        loop {
            let name = format!("{:08X}{:08X}{:08X}", 1, number / per_log, number % per_log);
            match std::fs::read(directory.join(name)) {
                Ok(segment) => bytes.extend(segment),
                Err(_) => break,
            }
            number += 1;
        }
        Wal {
            format,
            segment_bytes,
            first,
            bytes,
            position: start.0,
            last: 0,
        }
    }

    fn take(&mut self, wanted: usize) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        while out.len() < wanted {
            if self.position.is_multiple_of(8192) {
                let long = self.position.is_multiple_of(self.segment_bytes);
                let at = (self.position - self.first) as usize;
                let address = self.bytes.get(at + 8..at + 16)?;
                if address != self.position.to_le_bytes() {
                    return None;
                }
                self.position += if long { 40 } else { 24 };
            }
            let at = (self.position - self.first) as usize;
            let room = (8192 - self.position % 8192) as usize;
            let here = room.min(wanted - out.len());
            out.extend_from_slice(self.bytes.get(at..at + here)?);
            self.position += here as u64;
        }
        Some(out)
    }

    /// Where the next record starts.
    fn settle(&mut self) -> u64 {
        self.position = self.position.next_multiple_of(8);
        if self.position.is_multiple_of(8192) {
            let long = self.position.is_multiple_of(self.segment_bytes);
            self.position += if long { 40 } else { 24 };
        }
        self.position
    }

    /// The next record: start, end, bytes.
    fn next(&mut self) -> Option<(Lsn, Lsn, Vec<u8>)> {
        let start = self.settle();
        let mut bytes = self.take(4)?;
        let length = u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
        if length < 24 {
            return None;
        }
        bytes.extend(self.take(length - 4)?);
        let prev = u64::from_le_bytes(bytes[8..16].try_into().unwrap());
        if self.last != 0 && prev != self.last {
            return None;
        }
        self.last = start;
        let end = self.position;
        if bytes[17] == id::XLOG && bytes[16] & 0xF0 == 0x40 {
            self.position = self.position.next_multiple_of(self.segment_bytes);
        }
        Some((Lsn(start), Lsn(end), bytes))
    }
}

/// What the server said of its catalogs at some place of the log.
struct Said {
    lsn: Lsn,
    database: String,
    viewer: Option<Xid>,
    rows: String,
}

/// The gate in small.
struct Follower {
    catalog: Catalog,
    transactions: Transactions,
    prepared: FxHashSet<Xid>,
    wal: Wal,
}

impl Follower {
    /// Loads a data directory and replays up to where its catalog can be trusted.
    fn new(data: &Path, pg_wal: &Path, upstream: Option<&dyn Upstream>) -> Follower {
        let directory = DataDirectory::open(data).unwrap();
        let format = directory.format();
        let mut catalog = Catalog::new(format);
        let bootstrap = load(&directory, upstream, &mut catalog).unwrap();
        let wal = Wal::open(pg_wal, format, bootstrap.segment_bytes, bootstrap.redo);
        let prepared = bootstrap.prepared.iter();
        let mut follower = Follower {
            catalog,
            transactions: Transactions::default(),
            prepared: prepared.map(|prepared| prepared.xid).collect(),
            wal,
        };
        follower.follow(bootstrap.rule.at_least);
        if !bootstrap.rule.end_of_wal {
            follower.catalog.consistent().unwrap();
        }
        follower
    }

    /// Replays what starts before `lsn`.
    fn follow(&mut self, lsn: Lsn) -> u64 {
        let mut records = 0;
        while self.wal.settle() < lsn.0 {
            let Some((start, end, bytes)) = self.wal.next() else {
                break;
            };
            records += 1;
            let record = Record::parse(&bytes, start, end, self.wal.format).unwrap();
            if record.top_xid.is_valid() {
                self.transactions.assign(record.xid, record.top_xid);
            }
            if record.rmgr == id::TRANSACTION {
                self.transaction(&record);
            } else if record.rmgr == id::XLOG && matches!(record.op(), 0x00 | 0x90) {
                let tops: Vec<Xid> = self.transactions.tops().collect();
                for top in tops.into_iter().filter(|top| !self.prepared.contains(top)) {
                    self.transactions.end(top);
                }
                self.catalog.all_gone(&self.prepared);
            } else if record.rmgr == id::STANDBY && record.op() == 0x10 {
                let word =
                    |at: usize| u32::from_le_bytes(record.main[at..at + 4].try_into().unwrap());
                let running: Vec<Xid> = (0..word(0))
                    .map(|n| Xid(word(24 + n as usize * 4)))
                    .collect();
                self.catalog
                    .running_transactions(Xid(word(12)), Xid(word(16)), &running);
            } else {
                let replayed = self.catalog.replay(&record, &self.transactions);
                replayed.unwrap_or_else(|error| panic!("{start}: {error}"));
            }
        }
        records
    }

    fn transaction(&mut self, record: &Record<'_>) {
        let format = self.wal.format;
        let end = || xact::parse_end(record.info, record.main, format).unwrap();
        match record.op() & op::MASK {
            op::COMMIT | op::COMMIT_PREPARED => {
                let end = end();
                let top = end.prepared_xid.unwrap_or(record.xid);
                for sub in &end.subxacts {
                    self.transactions.assign(*sub, top);
                }
                let catalog = &mut self.catalog;
                catalog
                    .commit(top, &end, record.end_lsn, &self.transactions)
                    .unwrap();
                self.transactions.end(top);
            }
            op::ABORT | op::ABORT_PREPARED => {
                let end = end();
                let xid = end.prepared_xid.unwrap_or(record.xid);
                let top = self.transactions.top_of(xid);
                for sub in &end.subxacts {
                    self.transactions.assign(*sub, top);
                }
                let catalog = &mut self.catalog;
                catalog
                    .abort(xid, &end, record.end_lsn, &self.transactions)
                    .unwrap();
                if top == xid {
                    self.prepared.remove(&top);
                    self.transactions.end(top);
                } else {
                    let subs = std::iter::once(xid).chain(end.subxacts.iter().copied());
                    self.transactions.abort_subtransactions(subs);
                }
            }
            op::PREPARE => {
                let end = xact::parse_prepare(record.main, format).unwrap();
                self.prepared.extend(end.prepared_xid);
                for sub in &end.subxacts {
                    self.transactions.assign(*sub, end.prepared_xid.unwrap());
                }
            }
            op::ASSIGNMENT => {
                let (top, subs) = xact::parse_assignment(record.main).unwrap();
                for sub in subs {
                    self.transactions.assign(sub, top);
                    self.catalog.assigned(sub, top);
                }
            }
            _ => {}
        }
    }

    fn database_oid(&self, name: &str) -> Oid {
        let all = self.catalog.databases().unwrap();
        let found = all.iter().find(|database| database.name.lossy() == name);
        found.unwrap_or_else(|| panic!("no database {name}")).oid
    }

    /// Our rows, as `QUERY` prints the server's.
    fn rows(&self, database: Oid, viewer: Option<Xid>) -> String {
        let view = View {
            store: &self.catalog.store,
            database,
            viewer,
            transactions: &self.transactions,
        };
        let mut lines = Vec::new();
        for (name, catalog, columns) in COLUMNS {
            for row in view.scan(catalog).unwrap() {
                let mut line = name.to_owned();
                for (column, kind) in columns {
                    line.push(' ');
                    line.push_str(&match kind {
                        'o' => row.u32(column).unwrap().to_string(),
                        's' => row.i16(column).unwrap().to_string(),
                        'n' => row.name(column).unwrap().lossy().into_owned(),
                        'c' => match row.byte(column).unwrap() {
                            0 => String::new(),
                            byte => char::from(byte).to_string(),
                        },
                        'b' => if row.flag(column).unwrap() { "t" } else { "f" }.to_owned(),
                        'h' => hash(row.value(column).unwrap().as_deref()),
                        other => panic!("{other}"),
                    });
                }
                lines.push(line);
            }
        }
        lines.sort_unstable();
        lines.join("\n")
    }

    /// Formatted types and key columns of every table, as `TABLES` prints them.
    fn tables(&mut self, database: Oid) -> String {
        let view = View {
            store: &self.catalog.store,
            database,
            viewer: None,
            transactions: &self.transactions,
        };
        let mut oids = Vec::new();
        for row in view.scan(oid::CLASS).unwrap() {
            let oid = row.oid("oid").unwrap();
            if oid.0 >= 16384 && matches!(row.byte("relkind").unwrap(), b'r' | b'm' | b'p') {
                oids.push((oid, row.oid("relfilenode").unwrap()));
            }
        }
        let mut lines = Vec::new();
        for (oid, file) in oids {
            let by_oid = self
                .catalog
                .resolve_oid(database, oid, None, &self.transactions)
                .unwrap();
            if file.is_valid() {
                let node = RelFileNode {
                    tablespace: Oid(1663),
                    database,
                    relation: file,
                };
                let by_file = self.catalog.resolve(node, None, &self.transactions);
                assert_eq!(by_file.as_ref(), Ok(&by_oid));
            }
            let Target::Table(layout) = &*by_oid else {
                panic!("{oid}: {by_oid:?}");
            };
            let relation = &layout.relation;
            for column in &relation.columns {
                lines.push(format!(
                    "{}.{}.{} {} {}",
                    relation.schema,
                    relation.name,
                    column.name,
                    column.data_type.formatted,
                    if column.key { "t" } else { "f" }
                ));
            }
        }
        lines.sort_unstable();
        lines.join("\n")
    }
}

/// Texts of reg* and aclitem values of a database, as `REG_TEXTS` prints them.
fn reg_texts(follower: &Follower, database: Oid) -> String {
    let view = View {
        store: &follower.catalog.store,
        database,
        viewer: None,
        transactions: &follower.transactions,
    };
    let snapshot = follower.catalog.snapshot(&follower.transactions);
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
fn reg_query() -> String {
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
fn hash(value: Option<&[u8]>) -> String {
    let Some(value) = value else {
        return String::new();
    };
    let tail = &value[value.len().saturating_sub(8)..];
    let hex: String = tail.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}:{hex}", value.len())
}

type Columns = &'static [(&'static str, char)];

const COLUMNS: [(&str, Oid, Columns); 9] = [
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
const SESSION: &str =
    "set search_path = '';\nset client_encoding = 'UTF8';\nset lock_timeout = '20s';";

const TABLES: &str = "select line from (select n.nspname || '.' || c.relname || '.' || a.attname || ' ' || \
    format_type(a.atttypid, null) || ' ' || case when exists (select from pg_catalog.pg_index i \
    where i.indrelid = c.oid and a.attnum = any ((i.indkey::int2[])[0:i.indnkeyatts - 1]) and \
    case c.relreplident when 'd' then i.indisprimary when 'i' then i.indisreplident end) \
    then 't' else 'f' end as line from pg_catalog.pg_attribute a \
    join pg_catalog.pg_class c on c.oid = a.attrelid \
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
    where c.oid >= 16384 and a.attnum > 0 and not a.attisdropped and c.relkind in ('r', 'm', 'p')) as lines \
    order by line collate \"C\";";

/// Asks inside an open session, where nobody else writes.
fn ask(session: &mut redostream_testdata::session::Session, database: &str) -> Said {
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

fn check(follower: &mut Follower, said: &Said) {
    follower.follow(said.lsn);
    let database = follower.database_oid(&said.database);
    let ours = follower.rows(database, said.viewer);
    assert_same(&ours, &said.rows, &format!("at {}", said.lsn));
}

fn assert_same(ours: &str, theirs: &str, what: &str) {
    if ours != theirs {
        let ours: std::collections::BTreeSet<_> = ours.lines().collect();
        let theirs: std::collections::BTreeSet<_> = theirs.lines().collect();
        let more: Vec<_> = ours.difference(&theirs).take(20).collect();
        let less: Vec<_> = theirs.difference(&ours).take(20).collect();
        panic!("{what}: we have {more:#?}\nthey have {less:#?}");
    }
}

const BEFORE: &str = "
create schema s;
create type s.pen as enum ('red', 'blue');
create type pair as (a int, b text);
create domain even as int check (value % 2 = 0);
create table t (a int primary key, b text, c s.pen, d pair[], e even, f int4range, g \"char\");
create table big as select g as a, g::text as b from generate_series(1, 500) g;
create table dropped (a int, b text, c int);
alter table dropped drop column b;
insert into dropped values (1, 2);
alter table dropped add column d int default 42, add column e text default 'missing text';
create role \"odd name\"; create role plain; grant select, update on t to plain with grant option;
grant all on big to public; grant select on big to \"odd name\";
create function s.f(int, text[], s.pen) returns int language sql as 'select 1';
create function public.abs(int) returns int language sql as 'select 1';
create function s.g(int, s.pen) returns boolean language sql as 'select true';
create operator public.@@@@ (leftarg = int, rightarg = s.pen, function = s.g);
create operator s.@@@@ (leftarg = int, rightarg = s.pen, function = s.g);
create text search configuration s.\"Cfg\" (copy = simple);
create collation s.c (locale = 'C', provider = libc);
";

const AFTER: [&str; 12] = [
    "alter table t add column h numeric(10, 2); alter type s.pen add value 'green' before 'blue';",
    "begin; create table gone (a serial primary key, b int unique); insert into gone select 1, 2; rollback;",
    "begin; create table kept (a serial primary key, b int unique); savepoint x; \
     alter table kept add column c text; rollback to x; alter table kept add column d s.pen; \
     savepoint y; create table inner_one (a int); release y; commit;",
    "create function long_one() returns text language sql as $f$ select '$f$ || repeat('abcdefgh', 1) || $f$' $f$;",
    "do $d$ begin execute 'create function large() returns int language plpgsql as ' || \
     quote_literal('begin -- ' || (select string_agg(md5(g::text), ' ') from generate_series(1, 900) g) || \
     ' ' || chr(10) || ' return 1; end'); end $d$;",
    "do $d$ begin for i in 1..200 loop execute format('create table many_%s (a int, b text, c int[])', i); end loop; end $d$;",
    "do $d$ begin for i in 1..150 loop execute format('drop table many_%s', i); end loop; end $d$;",
    "vacuum pg_class; vacuum pg_attribute; vacuum pg_type; vacuum pg_depend;",
    "vacuum full pg_class; vacuum full pg_attribute; vacuum full pg_type; vacuum full pg_proc; vacuum full pg_enum; vacuum full pg_index; vacuum full pg_database;",
    "alter table t rename to renamed; alter schema s rename to schemata; alter type pair rename to couple; create index concurrently on big (a);",
    "vacuum freeze pg_class; vacuum freeze pg_attribute; vacuum freeze pg_type; vacuum freeze pg_namespace; analyze;",
    "vacuum full big; alter table big alter column a type bigint; create materialized view mv as select * from big; refresh materialized view mv; truncate big;",
];

fn run(major: u32, settings: &[(&str, &str)]) {
    let Some(server) = Server::for_test(major) else {
        return;
    };
    let mut options = ClusterOptions::default().with("autovacuum", "off");
    for (name, value) in settings {
        options = options.with(name, value);
    }
    let mut cluster = Cluster::create(server, &options).unwrap();
    cluster.start().unwrap();
    cluster.sql("postgres", "create database d").unwrap();
    cluster.sql("d", BEFORE).unwrap();
    cluster.stop(Stop::Fast).unwrap();
    let copy = cluster.root().join("copy");
    copy_tree(cluster.data(), &copy, &|_| true).unwrap();
    cluster.start().unwrap();

    let mut all = Vec::new();
    let mut session = cluster.session("d").unwrap();
    session.run(SESSION).unwrap();
    all.push(ask(&mut session, "d"));
    for step in AFTER {
        for statement in step.split_inclusive(';') {
            // Dollar-quoted bodies are not to be split.
            if step.contains('$') {
                break;
            }
            session
                .run(&format!("set search_path = public; {statement}"))
                .unwrap();
        }
        if step.contains('$') {
            session
                .run(&format!("set search_path = public; {step}"))
                .unwrap();
        }
        session.run("set search_path = '';").unwrap();
        all.push(ask(&mut session, "d"));
    }
    inside(&mut session, &mut all);
    databases(&cluster, &mut session, &mut all);
    multixacts(&cluster, &mut session, &mut all);
    session.run("set search_path = '';").unwrap();
    let tables = session.run(TABLES).unwrap();
    let texts = session.run(&reg_query()).unwrap();
    let end = cluster.flushed_lsn().unwrap();
    drop(session);

    let mut follower = Follower::new(&copy, &cluster.data().join("pg_wal"), None);
    for (number, said) in all.iter().enumerate() {
        eprintln!("{major}: place {number} at {}", said.lsn);
        check(&mut follower, said);
        if number % 5 == 4 {
            // A restart point in between must change nothing.
            let stored = postcard::to_stdvec(&follower.catalog).unwrap();
            follower.catalog = postcard::from_bytes(&stored).unwrap();
        }
    }
    follower.follow(end.parse().unwrap());
    let database = follower.database_oid("d");
    assert_same(&follower.tables(database), &tables, "tables");
    assert_same(&reg_texts(&follower, database), &texts, "texts");
    assert!(!follower.catalog.has_any_changes());
}

/// What an open transaction sees of its own changes, and what is left of them.
fn inside(session: &mut redostream_testdata::session::Session, all: &mut Vec<Said>) {
    let mut step = |sql: &str| {
        session
            .run(&format!(
                "set search_path = public;\n{sql}\nset search_path = '';"
            ))
            .unwrap();
        all.push(ask(session, "d"));
    };
    step(
        "begin; alter table renamed add column own int; create table own_table (a int, b schemata.pen);",
    );
    step("savepoint a; drop table own_table; alter table renamed rename to other;");
    step(
        "rollback to a; savepoint b; alter type schemata.pen rename to pencil; release b; release a;",
    );
    step(
        "cluster pg_class using pg_class_oid_index; create table after_cluster (a int); insert into after_cluster values (1);",
    );
    step("alter table big add column z int default 7; commit;");
    step("begin; cluster pg_class using pg_class_oid_index; create table lost (a int);");
    step("rollback;");
    step(
        "begin; alter table big rename to prepared; insert into after_cluster values (2); prepare transaction 'p';",
    );
    step("select 1;");
    step("commit prepared 'p';");
}

/// Databases made in both ways, moved and dropped.
fn databases(
    cluster: &Cluster,
    session: &mut redostream_testdata::session::Session,
    all: &mut Vec<Said>,
) {
    let major = cluster.server.major;
    let space = cluster.root().join("space");
    std::fs::create_dir(&space).unwrap();
    let data = std::fs::metadata(cluster.data()).unwrap();
    use std::os::unix::fs::MetadataExt;
    std::os::unix::fs::chown(&space, Some(data.uid()), Some(data.gid())).unwrap();
    cluster
        .sql(
            "postgres",
            &format!("create tablespace space location '{}'", space.display()),
        )
        .unwrap();
    cluster
        .sql("template1", "create table in_template (a int)")
        .unwrap();
    let strategies: &[&str] = if major == 14 {
        &[""]
    } else {
        &["strategy = wal_log", "strategy = file_copy"]
    };
    for (number, strategy) in strategies.iter().enumerate() {
        let name = format!("made_{number}");
        cluster
            .sql("postgres", &format!("create database {name} {strategy}"))
            .unwrap();
        cluster
            .sql(
                &name,
                "create table t (a int, b text); alter table in_template add b int;",
            )
            .unwrap();
        cluster
            .sql(
                "postgres",
                &format!("alter database {name} set tablespace space"),
            )
            .unwrap();
        cluster
            .sql(&name, "vacuum full pg_class; create table u (a int);")
            .unwrap();
        let mut inner = cluster.session(&name).unwrap();
        inner.run("set search_path = '';").unwrap();
        all.push(ask(&mut inner, &name));
    }
    cluster.sql("postgres", "drop database made_0").unwrap();
    all.push(ask(session, "d"));
}

/// Rows locked by one transaction while another changes them.
fn multixacts(
    cluster: &Cluster,
    session: &mut redostream_testdata::session::Session,
    all: &mut Vec<Said>,
) {
    let mut other = cluster.session("d").unwrap();
    other.run(SESSION).unwrap();
    let locks = "begin; select oid from pg_class where x                 select oid from pg_namespace for share; select pg_current_xact_id();";
    other.run(locks).unwrap();
    session.run("begin; alter table public.dropped set (fillfactor = 50); alter table public.kept set (fillfactor = 70);").unwrap();
    session.run("set search_path = '';").unwrap();
    all.push(ask(session, "d"));
    session
        .run("rollback; alter table public.kept set (fillfactor = 60);")
        .unwrap();
    session.run("set search_path = '';").unwrap();
    all.push(ask(session, "d"));
    other
        .run("alter table public.dropped rename to dropped_too; commit;")
        .unwrap();
    all.push(ask(session, "d"));
    session.run("vacuum freeze pg_catalog.pg_class;").unwrap();
    all.push(ask(session, "d"));
}

/// A server as the upstream of the directory it writes to.
struct Running<'a>(&'a Cluster);

impl Upstream for Running<'_> {
    fn flushed_or_replayed(&self) -> Result<Lsn, String> {
        let lsn = self.0.flushed_lsn().map_err(|error| error.to_string())?;
        lsn.parse()
            .map_err(|error: redostream_protocol::ids::ParseLsnError| error.to_string())
    }
}

/// How the directory is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// While its server writes to it.
    Live,
    /// After a crash.
    Crashed,
}

/// Random SQL of several sessions at once; the directory is read somewhere in the middle of it.
fn run_random(major: u32, seed: u64, how: How) {
    let Some(server) = Server::for_test(major) else {
        return;
    };
    eprintln!("major {major}, seed {seed}");
    let options = ClusterOptions::default()
        .with("autovacuum_naptime", "1s")
        .with("full_page_writes", "on");
    let mut cluster = Cluster::create(server, &options).unwrap();
    cluster.start().unwrap();
    cluster.sql("postgres", "create database d").unwrap();
    cluster.sql("d", BEFORE).unwrap();
    let script = generate(seed, major, Size::default());
    cluster
        .run_scripts("d", std::slice::from_ref(&script.setup))
        .unwrap();
    let wal = cluster.data().join("pg_wal");
    let copy = cluster.root().join("copy");
    let mut follower = None;
    if how == How::Live {
        let upkeep = UPKEEP.repeat(6);
        let mut sessions = script.sessions.clone();
        sessions.push(upkeep);
        std::thread::scope(|scope| {
            let cluster = &cluster;
            let running = scope.spawn(move || cluster.run_scripts("d", &sessions).unwrap());
            std::thread::sleep(std::time::Duration::from_millis(500 + seed % 700));
            // The log up to M is there only once it is written; followed below.
            let directory = DataDirectory::open(cluster.data()).unwrap();
            let mut catalog = Catalog::new(directory.format());
            let bootstrap = load(&directory, Some(&Running(cluster)), &mut catalog).unwrap();
            running.join().unwrap();
            follower = Some((catalog, bootstrap, directory.format()));
        });
    } else {
        cluster.run_scripts("d", &script.sessions).unwrap();
        let mut open = cluster.session("d").unwrap();
        open.run("begin; create table never (a int); select pg_switch_wal();")
            .unwrap();
        cluster.stop(Stop::Immediate).unwrap();
        copy_tree(cluster.data(), &copy, &|_| true).unwrap();
        cluster.start().unwrap();
    }
    cluster
        .run_scripts("d", std::slice::from_ref(&script.finish))
        .unwrap();
    let mut session = cluster.session("d").unwrap();
    session.run(SESSION).unwrap();
    let mut all = vec![ask(&mut session, "d")];
    session
        .run("vacuum full pg_catalog.pg_class; create table public.last_one (a int);")
        .unwrap();
    all.push(ask(&mut session, "d"));
    let tables = session.run(TABLES).unwrap();
    drop(session);
    cluster.flushed_lsn().unwrap();

    let mut follower = match follower {
        Some((catalog, bootstrap, format)) => {
            let wal = Wal::open(&wal, format, bootstrap.segment_bytes, bootstrap.redo);
            let prepared = bootstrap.prepared.iter();
            let mut follower = Follower {
                catalog,
                transactions: Transactions::default(),
                prepared: prepared.map(|prepared| prepared.xid).collect(),
                wal,
            };
            let records = follower.follow(bootstrap.rule.at_least);
            eprintln!("{records} records up to {}", bootstrap.rule.at_least);
            follower.catalog.consistent().unwrap();
            follower
        }
        None => {
            let mut follower = Follower::new(&copy, &wal, None);
            follower.follow(all[0].lsn);
            follower.catalog.consistent().unwrap();
            follower
        }
    };
    for said in &all {
        check(&mut follower, said);
    }
    let database = follower.database_oid("d");
    assert_same(&follower.tables(database), &tables, "tables");
}

const UPKEEP: &str = "
vacuum full pg_class; create table up (a serial primary key, b text); checkpoint; vacuum pg_attribute;
begin; create table up_lost (a int); rollback; alter table up add column c int default 5;
vacuum full pg_attribute; vacuum full pg_index; drop table up; vacuum pg_class; vacuum full pg_type;
vacuum full pg_proc; vacuum full pg_enum; vacuum freeze pg_attribute; create database other; drop database other;
";

/// A seed that can be given to run one case again.
fn seed() -> u64 {
    let given = std::env::var("REDOSTREAM_SEED").ok();
    given.and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        let now = std::time::SystemTime::now();
        let since = now.duration_since(std::time::UNIX_EPOCH).unwrap();
        u64::from(since.subsec_nanos())
    })
}

#[test]
fn random_live() {
    for major in MAJORS {
        run_random(major, seed(), How::Live);
    }
}

#[test]
fn random_crashed() {
    for major in MAJORS {
        run_random(major, seed(), How::Crashed);
    }
}

#[test]
fn follows_14() {
    run(14, &[]);
}

#[test]
fn follows_15() {
    run(15, &[("wal_compression", "lz4")]);
}

#[test]
fn follows_15_zstd() {
    run(
        15,
        &[("wal_compression", "zstd"), ("full_page_writes", "on")],
    );
}

#[test]
fn follows_16() {
    run(16, &[("wal_compression", "pglz")]);
}

#[test]
fn follows_17() {
    run(17, &[]);
}

#[test]
fn follows_18() {
    run(18, &[]);
}
