-- OIDs and file numbers given out a second time, after what had them first is gone.
--- next-oid 30000
--- stage
create table a (id int primary key, v text);
create type mood as enum ('sad', 'glad');
create table b (x mood, y numeric(8, 2), z text);
alter table b replica identity full;
insert into a select i, 'first ' || i from generate_series(1, 20) i;
insert into b values ('sad', 1.5, repeat('long ', 2000)), ('glad', null, null);
update b set y = 2 where x = 'sad';
truncate a;
insert into a values (1, 'in a second file');
drop table a, b;
drop type mood;
checkpoint;
--- next-oid 30000
--- stage
create table c (w text, v date, u int[], id bigint primary key);
create type colour as enum ('red');
create table a (x colour, y int default 7);
insert into c values ('second', '2024-02-29', '{1,2}', 1);
insert into a values ('red');
begin;
truncate c;
insert into c values ('in a file of its own', null, null, 2);
alter table a add column z text default 'missing';
insert into a values ('red', 1, repeat('other ', 3000));
rollback;
checkpoint;
insert into c values ('third', null, '{}', 3);
delete from c where id = 1;
begin;
drop table a;
create table a (only_one int);
insert into a values (1);
commit;
drop table c;
checkpoint;
--- next-oid 30000
--- stage
begin;
create table d (a int, b int);
savepoint s;
insert into d values (1, 2);
rollback to s;
create table e (c text);
insert into e values ('behind a rollback');
insert into d values (3, 4);
commit;
vacuum full pg_class;
vacuum full d;
insert into d values (5, 6);
select pg_switch_wal();
