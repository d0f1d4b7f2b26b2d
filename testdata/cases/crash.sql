-- A crash in the middle of transactions, which then leave no abort record.
--- setting full_page_writes = on
--- stage
create table t (id int primary key, v text);
insert into t select i, 'before' from generate_series(1, 50) i;
begin; insert into t values (100, 'open at the crash'); savepoint a; insert into t values (101, 'sub'); create table lost (a int); insert into lost values (1);
\! sleep 0.1
select pg_switch_wal();
checkpoint;
insert into t values (102, 'still open');
--- session
select pg_sleep(0.3);
insert into t values (200, 'committed');
update t set v = 'committed too' where id = 1;
--- crash
--- stage
insert into t values (300, 'after');
create table lost (b text, a int);
insert into lost values ('another of the name', 1);
update t set v = 'after' where id < 10;
--- crash
--- crash
--- stage
alter table t add column w int default 1;
insert into t values (400, 'end');
