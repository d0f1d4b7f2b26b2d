-- What sessions that create and drop at the same time leave behind: objects that name a schema, a
-- type or a function that is gone. Nothing of it may stop the others.
--- stage
create schema doomed;
create schema typed;
create schema moved;
create type lost_type as enum ('three', 'four');
create function wanderer() returns int language sql as 'select 1';
create table t (id int primary key, v text);
create table u (id int primary key);
--- stage
begin;
insert into t values (1, 'before');
create function doomed.f() returns int language sql as 'select 1';
create type typed.e as enum ('one', 'two');
create type pair as (a int, b typed.e);
create domain typed.d as typed.e;
create table orphan (id int primary key, a typed.e, b pair, c typed.d, d typed.e[]);
create table loser (id int primary key, a lost_type);
alter table u add column a lost_type;
alter function wanderer() set schema moved;
insert into t values (2, 'after');
insert into orphan values (1, 'one', (1, 'two'), 'two', '{one,two}');
select pg_sleep(0.6);
insert into t values (3, 'later');
insert into orphan values (2, 'two', (2, 'one'), 'one', '{}');
commit;
--- session
select pg_sleep(0.3);
drop type lost_type;
drop schema doomed;
drop schema moved;
drop schema typed;
--- stage
insert into t values (4, 'gone');
insert into orphan values (3, 'one', (1, 'two'), 'two', '{two}');
update orphan set a = 'two' where id = 3;
alter table orphan replica identity full;
delete from orphan where id = 1;
alter table orphan add column e int default 5;
insert into orphan values (4, 'one', (1, 'two'), 'two', '{two}', 6);
truncate loser, u;
alter table u drop column a;
insert into u values (1);
drop table loser;
alter table orphan drop column a;
insert into orphan values (5, (1, 'two'), 'two', '{two}', 7);
insert into t values (5, 'the end');
