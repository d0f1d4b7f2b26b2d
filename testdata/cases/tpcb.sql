-- TPC-B by four clients while another session creates, fills, changes and drops a table.
--- setting full_page_writes = on
--- stage
create table branches (bid int primary key, bbalance int, filler char(88));
create table tellers (tid int primary key, bid int, tbalance int, filler char(84));
create table accounts (aid int primary key, bid int, abalance int, filler char(84));
create table history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));
insert into branches select i, 0, '' from generate_series(1, 1) i;
insert into tellers select i, 1, 0, '' from generate_series(1, 10) i;
insert into accounts select i, 1, 0, '' from generate_series(1, 3000) i;
checkpoint;
--- stage
--- pgbench -c 4 -t 150 -n
\set aid random(1, 3000)
\set tid random(1, 10)
\set delta random(-5000, 5000)
begin;
update accounts set abalance = abalance + :delta where aid = :aid;
select abalance from accounts where aid = :aid;
update tellers set tbalance = tbalance + :delta where tid = :tid;
update branches set bbalance = bbalance + :delta where bid = 1;
insert into history (tid, bid, aid, delta, mtime) values (:tid, 1, :aid, :delta, current_timestamp);
end;
--- pgbench -c 2 -t 80 -n
\set aid random(1, 3000)
\set fate random(1, 5)
begin;
savepoint a;
delete from history where aid = :aid;
insert into history (tid, bid, aid, delta, filler) values (1, 1, :aid, 0, 'first');
savepoint b;
insert into history (tid, bid, aid, delta, filler) values (2, 1, :aid, 0, 'second');
rollback to savepoint b;
\if :fate = 1
rollback;
\else
commit;
\endif
--- session
create table middle (id serial primary key, aid int references accounts, note text default 'made in the middle');
insert into middle (aid) select aid from accounts order by aid limit 200;
alter table middle add column extra int default 42;
update middle set extra = id where id % 3 = 0;
begin;
alter table middle drop column note, add column other timestamptz default '2020-02-02 02:02:02+00';
delete from middle where id % 7 = 0;
commit;
vacuum full middle;
drop table middle;
