-- Crashes in the middle of transactions: open ones leave no abort record, prepared ones live on,
-- and records are cut off where nobody had waited for them.
--- setting full_page_writes = on
--- setting lock_timeout = 5s
--- stage
create table t (id int primary key, v text);
insert into t select i, 'before' from generate_series(1, 50) i;
create table big (id int, v text);
alter table big alter v set storage external;
create table other (id int primary key);
--- open
begin;
insert into t values (100, 'open at the crash');
savepoint a;
insert into t values (101, 'sub');
create table lost (a int);
insert into lost values (1);
savepoint b;
insert into big values (1, repeat('never joined ', 2000));
release b;
rollback to a;
insert into t values (102, 'sub, second try');
--- open
begin;
do $$ begin for i in 1..90 loop begin insert into t values (1000 + i, 'deep'); exception when others then null; end; end loop; end $$;
savepoint s;
update t set v = 'held' where id = 2;
select pg_logical_emit_message(true, 'p', 'never seen');
--- stage
begin; insert into t values (110, 'prepared, committed after the crash'); savepoint p; insert into big values (2, repeat('kept ', 3000)); release p; prepare transaction 'first';
begin; savepoint q; insert into t values (111, 'prepared, rolled back after the crash'); create type gone as enum ('a'); release q; prepare transaction 'second';
begin; insert into t values (112, 'prepared, committed after two crashes'); alter table other add column w int default 5; insert into other values (1, 2); prepare transaction 'third';
--- stage
select pg_switch_wal();
checkpoint;
insert into t values (200, 'committed');
update t set v = 'committed too' where id = 1;
--- open
begin;
insert into t select i, repeat('cut off', 50) from generate_series(3000, 3400) i;
select pg_sleep(0.5);
--- crash
--- stage
insert into t values (300, 'after');
commit prepared 'first';
create table lost (b text, a int);
insert into lost values ('another of the name', 1);
update t set v = 'after' where id < 10;
--- open
begin;
insert into t values (310, 'open at the second crash');
alter table lost add column c int default 3;
insert into lost values ('never', 2, 3);
--- stage
rollback prepared 'second';
insert into t values (311, 'committed between');
--- crash
--- crash
--- stage
commit prepared 'third';
insert into other values (3, 6);
alter table t add column w int default 1;
insert into t values (400, 'end');
