-- Sessions that see different catalogs at the same time: one changes the schema in an open
-- transaction while others write, rename types and schemas, lock rows.
--- stage
create schema s;
create type s.mood as enum ('sad', 'ok');
create table s.t (id int primary key, m s.mood, v text);
create table x (id int primary key, a int);
create table y (id int primary key references x, b int);
insert into s.t select i, 'ok', 'row' from generate_series(1, 50) i;
insert into x select i, i from generate_series(1, 20) i;
--- stage
begin;
alter table x add column made int default 1;
insert into x values (100, 1, 2);
select pg_sleep(0.25);
alter table x rename to x2;
insert into x2 values (101, 1, 2);
rollback;
insert into x values (102, 1);
--- session
select pg_sleep(0.05);
begin;
update s.t set v = 'before the rename' where id = 1;
select pg_sleep(0.15);
update s.t set v = 'after the rename' where id = 2;
commit;
update s2.t set v = 'new name' where id = 3;
--- session
select pg_sleep(0.1);
alter schema s rename to s2;
alter type s2.mood rename value 'ok' to 'fine';
alter type s2.mood add value 'great';
select pg_sleep(0.1);
update s2.t set m = 'great' where id = 5;
alter type s2.mood rename to feeling;
update s2.t set m = 'sad' where id = 6;
--- stage
begin; select * from x where id < 5 for key share; select pg_sleep(0.2); insert into y select id, 1 from x where id < 5; commit;
--- session
select pg_sleep(0.05); begin; select * from x where id < 8 for key share; select pg_sleep(0.2); update y set b = 2; commit;
--- session
select pg_sleep(0.1); update x set a = a + 1 where id < 8;
--- session
begin; update x set a = 0 where id = 20; select pg_sleep(0.1); delete from x where id = 19; commit;
--- session
begin isolation level repeatable read; select count(*) from x; select pg_sleep(0.3); update x set a = -1 where id = 20; commit;
--- stage
--- pgbench -c 4 -t 40 -n
\set id random(1, 50)
begin;
update s2.t set v = 'client :client_id' where id = :id;
create temp table mine (a int) on commit drop;
insert into mine values (1);
commit;
--- session
create table z (a int); insert into z values (1); alter table z add column b text default 'd'; insert into z values (2); drop table z;
create table z (b text, a int); insert into z values ('other', 1); drop table z;
vacuum full pg_class;
create table z (c int); insert into z values (3);
alter table s2.t add column w int default 11;
