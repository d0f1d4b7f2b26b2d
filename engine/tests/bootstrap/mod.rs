//! What a data directory says, held against what its server says.

mod clusters;

use std::collections::BTreeMap;
use std::fs;

use clusters::{Kept, Position, cluster, each_version, lsn};
use redostream_engine::catalog::bootstrap::control_file::{ClusterState, WalLevel};
use redostream_engine::catalog::bootstrap::data_directory::{DatabaseHome, Usage};
use redostream_engine::catalog::bootstrap::{
    BootstrapError, DataDirectory, DirectoryKind, findings, load,
};
use redostream_engine::catalog::commit_log::XidStatus;
use redostream_protocol::{Oid, Xid};
use redostream_testdata::cluster::{ClusterOptions, Stop};

/// `pg_control` as the server itself reads it.
#[test]
fn control_file_agrees_with_the_server() {
    each_version(|server| {
        let mut cluster = cluster(server, &ClusterOptions::default())?;
        cluster.start()?;
        cluster.sql(
            "postgres",
            "create table t(a int); insert into t values (1); checkpoint;",
        )?;
        let directory = DataDirectory::open(cluster.data())?;
        let control = directory.control();
        let said = |sql: &str| cluster.sql("postgres", sql);
        assert_eq!(
            said("select system_identifier from pg_control_system()")?,
            control.system_identifier.to_string()
        );
        assert_eq!(
            said("select catalog_version_no from pg_control_system()")?,
            control.catalog_version.to_string()
        );
        let checkpoint = &control.checkpoint;
        let expected = format!(
            "{}|{}|{}|{}|{}|{}:{}|{}|{}|{}|{}|{}|{}",
            control.checkpoint_lsn,
            checkpoint.redo,
            checkpoint.timeline,
            checkpoint.previous_timeline,
            if checkpoint.full_page_writes {
                "t"
            } else {
                "f"
            },
            checkpoint.next_xid >> 32,
            checkpoint.next_xid_32(),
            checkpoint.next_oid,
            checkpoint.next_multixact,
            checkpoint.next_multixact_offset,
            checkpoint.oldest_xid,
            checkpoint.oldest_multixact,
            checkpoint.oldest_active_xid,
        );
        let found = said(
            "select checkpoint_lsn, redo_lsn, timeline_id, prev_timeline_id, full_page_writes,
                next_xid, next_oid, next_multixact_id, next_multi_offset, oldest_xid,
                oldest_multi_xid, oldest_active_xid from pg_control_checkpoint()",
        )?;
        assert_eq!(found, expected);
        let time =
            said("select extract(epoch from checkpoint_time)::int8 from pg_control_checkpoint()")?;
        assert_eq!(time, checkpoint.time_s.to_string());
        let recovery = said(
            "select min_recovery_end_lsn, min_recovery_end_timeline, backup_start_lsn,
                backup_end_lsn, end_of_backup_record_required from pg_control_recovery()",
        )?;
        assert_eq!(
            recovery,
            format!(
                "{}|{}|{}|{}|{}",
                control.min_recovery,
                control.min_recovery_timeline,
                control.backup_start,
                control.backup_end,
                if control.backup_end_required {
                    "t"
                } else {
                    "f"
                }
            )
        );
        assert_eq!(control.state, ClusterState::Production);
        assert_eq!(control.wal_level, WalLevel::Logical);
        assert_eq!(checkpoint.wal_level.is_some(), cluster.server.major >= 17);
        assert_eq!(control.segment_bytes, 16 << 20);
        assert!(!control.data_checksums);
        assert!(matches!(directory.usage()?, Usage::Running(_)));
        cluster.stop(Stop::Fast)?;
        assert_eq!(directory.read_control()?.state, ClusterState::ShutDown);
        assert_eq!(directory.usage()?, Usage::Stopped);
        Ok(())
    });
}

/// Relation maps, and the files that are taken for catalogs, as the server names them.
#[test]
fn catalog_files_agree_with_the_server() {
    each_version(|server| {
        let mut cluster = cluster(server, &ClusterOptions::default())?;
        cluster.start()?;
        let place = cluster.root().join("space");
        fs::create_dir(&place)?;
        clusters::give(&place)?;
        cluster.sql(
            "postgres",
            &format!("create tablespace far location '{}'", place.display()),
        )?;
        cluster.sql("postgres", "create database distant tablespace far")?;
        cluster.sql("postgres", "create table mine(a int primary key, b text)")?;
        cluster.sql(
            "postgres",
            "vacuum full pg_class, pg_attribute, pg_index, pg_proc, pg_database",
        )?;
        cluster.sql("distant", "vacuum full pg_type")?;
        cluster.sql("postgres", "select lo_create(0); analyze;")?;
        cluster.sql("postgres", "checkpoint")?;

        let names = "select oid, dattablespace, datname from pg_database";
        let mut expected = BTreeMap::new();
        for line in cluster.sql("postgres", names)?.lines() {
            let fields: Vec<_> = line.split('|').collect();
            let home = DatabaseHome {
                database: Oid(fields[0].parse()?),
                tablespace: Oid(fields[1].parse()?),
            };
            if fields[2] == "template0" {
                continue;
            }
            let files = cluster.sql(
                fields[2],
                "select oid, pg_relation_filenode(oid), reltablespace = 1664, relkind in ('r', 't'),
                    pg_relation_size(oid), relfilenode = 0 from pg_class
                 where oid < 16384 and relkind in ('r', 't', 'i')
                    and oid not in (2613, 2995, 2619, 2840, 3429, 3430)",
            )?;
            expected.insert(home, files);
        }
        let directory = DataDirectory::open(cluster.data())?;
        let now = cluster.flushed_lsn()?;
        let mut kept = Kept::default();
        let bootstrap = load(&directory, Some(&Position(lsn(&now))), &mut kept)?;
        assert_eq!(bootstrap.kind, DirectoryKind::Live);
        assert_eq!(bootstrap.rule.at_least, lsn(&now));
        assert_eq!(bootstrap.databases.len(), 4);
        let mut loaded = 0;
        for (home, files) in expected {
            let own_map = directory.relation_map(home)?.expect("a map");
            for line in files.lines() {
                let fields: Vec<_> = line.split('|').collect();
                let (oid, file) = (Oid(fields[0].parse()?), Oid(fields[1].parse()?));
                let shared = fields[2] == "t";
                let place = if shared { clusters::GLOBAL } else { home };
                let map = if shared {
                    directory.relation_map(clusters::GLOBAL)?.expect("a map")
                } else {
                    own_map.clone()
                };
                let mapped = (fields[5] == "t").then_some(file);
                assert_eq!(map.file_of(oid), mapped, "{oid} in {home:?}");
                let bytes: u64 = fields[4].parse()?;
                let found = kept.bytes_of(place, file);
                if fields[3] == "t" {
                    assert_eq!(found, Some(bytes), "{oid} in {home:?}");
                    loaded += 1;
                } else {
                    assert_eq!(found, None, "index {oid} in {home:?}");
                }
            }
        }
        assert!(loaded > 250, "{loaded}");
        assert!(kept.files.keys().all(|(_, file)| !kept.left_out(*file)));
        Ok(())
    });
}

/// `pg_xact` and `pg_multixact`, as the server reads them.
#[test]
fn commit_log_and_multixacts_agree_with_the_server() {
    each_version(|server| {
        let mut cluster = cluster(server, &ClusterOptions::default())?;
        cluster.start()?;
        cluster.sql(
            "postgres",
            "create table t(a int primary key, b int); insert into t values (1, 1);
            create table log(x xid8, said text);",
        )?;
        cluster.sql(
            "postgres",
            "do $$ begin for n in 1..40000 loop
                begin insert into t values (n + 1, n);
                    if n % 50 = 0 then raise exception 'no'; end if;
                exception when others then null; end;
            end loop; end $$;",
        )?;
        // A lock on the tuple, then an update that leaves the key alone: a multixact.
        let mut locker = cluster.session("postgres")?;
        let mut writer = cluster.session("postgres")?;
        locker.run("begin; select a from t where a = 1 for key share;")?;
        writer.run("begin;")?;
        let updater = writer.run("select pg_current_xact_id()::xid::text;")?;
        writer.run("update t set b = 2 where a = 1;")?;
        let multixact = cluster.sql("postgres", "select xmax from t where a = 1")?;
        writer.run("commit;")?;
        locker.run("rollback;")?;
        let next = cluster.sql("postgres", "select pg_current_xact_id()::xid::text")?;
        cluster.sql("postgres", "checkpoint")?;
        let said = cluster.sql(
            "postgres",
            &format!("select x, pg_xact_status(x::text::xid8) from generate_series(700, {next}) x"),
        )?;
        cluster.stop(Stop::Fast)?;
        let directory = DataDirectory::open(cluster.data())?;
        let mut kept = Kept::default();
        let bootstrap = load(&directory, None, &mut kept)?;
        assert_eq!(bootstrap.kind, DirectoryKind::ShutDown);
        assert_eq!(
            kept.multixacts.updater(multixact.parse()?),
            Some(Xid(updater.parse()?))
        );
        let mut aborted = 0;
        for line in said.lines() {
            let (xid, status) = line.split_once('|').expect("two fields");
            let xid = Xid(xid.parse()?);
            if status.is_empty() {
                // Older than anything that initdb left unfrozen.
                continue;
            }
            let known = match kept.commit_log.get(xid) {
                XidStatus::Committed => "committed",
                XidStatus::Aborted => "aborted",
                other => panic!("{xid} is {other:?}, the server says {status}"),
            };
            aborted += usize::from(known == "aborted");
            assert_eq!(known, status, "{xid}");
        }
        assert!(aborted > 700, "{aborted}");
        assert!(kept.commit_log.memory_bytes() < 20_000);
        Ok(())
    });
}

/// A directory in each of the states it can be left in.
#[test]
fn every_kind_of_directory_is_known() {
    each_version(|server| {
        let options = ClusterOptions::default().with("max_prepared_transactions", "5");
        let mut cluster = cluster(server, &options)?;
        cluster.start()?;
        cluster.sql("postgres", "create table t(a int)")?;
        cluster.sql("postgres", "begin; savepoint s; insert into t values (1); release s; insert into t values (2); prepare transaction 'pay 7';")?;
        let prepared = cluster.sql("postgres", "select transaction from pg_prepared_xacts")?;
        let prepared = Xid(prepared.parse()?);

        let backup = cluster.base_backup(&options)?;
        let directory = DataDirectory::open(backup.data())?;
        let label = directory.backup_label().expect("a label").clone();
        let bootstrap = load(&directory, None, &mut Kept::default())?;
        assert_eq!(bootstrap.rule.backup_end, Some(label.start));
        assert_eq!((bootstrap.redo, bootstrap.timeline.0), (label.start, 1));
        assert_eq!(bootstrap.prepared.len(), 1);
        assert_eq!(bootstrap.prepared[0].xid, prepared);
        assert_eq!(bootstrap.prepared[0].gid, b"pay 7");
        assert_eq!(bootstrap.prepared[0].subxacts.len(), 1);

        let running = DataDirectory::open(cluster.data())?;
        let error = load(&running, None, &mut Kept::default()).unwrap_err();
        assert!(matches!(error, BootstrapError::Running { .. }), "{error}");
        let found = findings(cluster.data(), false);
        assert!(
            found.iter().any(|finding| finding.id == "running"),
            "{found:#?}"
        );
        assert!(
            found.iter().any(|finding| finding.id == "prepared"),
            "{found:#?}"
        );

        let mut standby = cluster.standby(&options)?;
        cluster.sql(
            "postgres",
            "insert into t values (3); checkpoint; vacuum full pg_class;",
        )?;
        let now = cluster.flushed_lsn()?;
        standby.wait_for_replay(&now)?;
        let directory = DataDirectory::open(standby.data())?;
        assert_eq!(directory.control().state, ClusterState::ArchiveRecovery);
        let bootstrap = load(&directory, Some(&Position(lsn(&now))), &mut Kept::default())?;
        assert_eq!(bootstrap.kind, DirectoryKind::Live);
        assert!(bootstrap.rule.at_least >= lsn(&now));
        let newest = bootstrap.newest_page.expect("pages");
        assert!(newest.lsn <= bootstrap.rule.at_least);

        let of_standby = standby.base_backup(&options)?;
        let directory = DataDirectory::open(of_standby.data())?;
        let bootstrap = load(&directory, None, &mut Kept::default())?;
        assert_eq!(bootstrap.rule.backup_end, None);
        assert!(bootstrap.newest_page.expect("pages").lsn <= bootstrap.rule.at_least);

        standby.stop(Stop::Fast)?;
        let directory = DataDirectory::open(standby.data())?;
        let bootstrap = load(&directory, None, &mut Kept::default())?;
        assert_eq!(bootstrap.kind, DirectoryKind::ShutDownStandby);
        assert!(bootstrap.newest_page.expect("pages").lsn <= bootstrap.rule.at_least);

        cluster.stop(Stop::Immediate)?;
        let directory = DataDirectory::open(cluster.data())?;
        assert!(!matches!(directory.usage()?, Usage::Running(_)));
        let bootstrap = load(&directory, None, &mut Kept::default())?;
        assert_eq!(bootstrap.kind, DirectoryKind::Crashed);
        assert!(bootstrap.rule.end_of_wal);
        assert!(
            findings(cluster.data(), false)
                .iter()
                .any(|finding| finding.id == "not-shut-down")
        );

        cluster.start()?;
        cluster.stop(Stop::Fast)?;
        let directory = DataDirectory::open(cluster.data())?;
        let bootstrap = load(&directory, None, &mut Kept::default())?;
        assert_eq!(bootstrap.kind, DirectoryKind::ShutDown);
        let mut readiness = bootstrap.readiness();
        readiness.reached(bootstrap.checkpoint_lsn)?;
        assert_eq!(readiness.ready_at(), None);
        let waiting = readiness.waits_for().expect("waits");
        assert_eq!(
            waiting,
            format!("the end of prepared transaction 'pay 7' ({prepared})")
        );
        Ok(())
    });
}

/// Copying while the server rewrites catalogs and makes databases: what is read is always whole.
#[test]
fn loading_beside_a_busy_server() {
    each_version(|server| {
        let mut cluster = cluster(server, &ClusterOptions::default())?;
        cluster.start()?;
        let mut busy = cluster.session("postgres")?;
        for n in 0..15 {
            busy.send(&format!(
                "create table t{n}(a int primary key, b text); vacuum full pg_class; \
                 vacuum full pg_database; drop table t{n}; create database d{n}; \
                 vacuum full pg_attrdef; drop database d{n};"
            ))?;
        }
        let directory = DataDirectory::open(cluster.data())?;
        for _ in 0..5 {
            let mut kept = Kept::default();
            let upstream = || {
                let flushed = cluster.flushed_lsn().map_err(|error| error.to_string())?;
                flushed.parse().map_err(|_| flushed)
            };
            let bootstrap = load(&directory, Some(&clusters::Asked(&upstream)), &mut kept)?;
            assert!(bootstrap.newest_page.expect("pages").lsn <= bootstrap.rule.at_least);
            assert!(kept.files.len() > 150, "{}", kept.files.len());
        }
        busy.run("select 1;")?;
        Ok(())
    });
}
