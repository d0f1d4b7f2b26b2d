-- Logical messages, transactional and not, sequences and large objects.
--- stage
create table t (a int);
select pg_logical_emit_message(false, 'now', 'not transactional');
select pg_logical_emit_message(true, 'alone', 'transactional, alone');
begin; select pg_logical_emit_message(true, 'first', 'before the row'); insert into t values (1); select pg_logical_emit_message(true, 'then', 'after the row'); commit;
begin; insert into t values (2); select pg_logical_emit_message(false, 'inside', 'at once'); select pg_logical_emit_message(true, 'rolled', 'back'); rollback;
begin; select pg_logical_emit_message(true, 'a', '1'); savepoint s; select pg_logical_emit_message(true, 'b', '2'); rollback to s; select pg_logical_emit_message(true, 'c', '3'); commit;
begin; savepoint s; select pg_logical_emit_message(true, 'sub', 'x'); insert into t values (3); release s; commit;
select pg_logical_emit_message(true, '', '');
select pg_logical_emit_message(true, 'ü with space', E'line\nanother "quoted" ''line''');
select pg_logical_emit_message(true, 'bytes', '\x64617461'::bytea);
select pg_logical_emit_message(true, 'long', repeat('long ', 3000));
begin; select pg_logical_emit_message(true, 'prepared', 'p'); insert into t values (4); prepare transaction 'm'; commit prepared 'm';
create sequence s; select nextval('s') from generate_series(1, 70); select setval('s', 500); alter sequence s restart;
begin; select nextval('s'); rollback;
begin; create sequence s2; select nextval('s2'); commit;
select lo_create(4711); select lo_put(4711, 0, 'content'); select lo_put(4711, 3, 'changed'); select lo_unlink(4711);
insert into t values (5);
--- stage
begin; insert into t values (10); select pg_sleep(0.1); select pg_logical_emit_message(true, 'one', 'late'); commit;
--- session
select pg_sleep(0.05); select pg_logical_emit_message(false, 'two', 'in between'); begin; select pg_logical_emit_message(true, 'two', 'before'); insert into t values (20); commit;
--- stage
select pg_replication_origin_create('elsewhere');
select pg_replication_origin_session_setup('elsewhere');
begin; select pg_replication_origin_xact_setup('0/AABBCC', '2013-01-01 00:00:00+00'); insert into t values (30); commit;
select pg_replication_origin_session_reset();
insert into t values (31);
