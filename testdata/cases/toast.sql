-- Values out of line: compressed or not, unchanged, replaced, deleted, in several columns, in
-- arrays and JSON, and what a transaction remembers of them.
--- stage
create table t (id int primary key, a text, b text, n int);
alter table t alter column b set storage external;
insert into t values (1, repeat('compressible ', 3000), (select string_agg(md5(i::text), '') from generate_series(1, 300) i), 1);
insert into t values (2, (select string_agg(md5((i * 7)::text), '') from generate_series(1, 1200) i), null, 2);
insert into t values (3, repeat('x', 1990), repeat('y', 1990), 3);
insert into t values (4, repeat('inline ', 100), 'short', 4);
-- The large values stay where they are and are not in the log.
update t set n = n + 10;
update t set a = a where id = 1;
-- One is replaced, the other stays.
update t set a = (select string_agg(md5((i * 3)::text), '') from generate_series(1, 500) i) where id = 1;
update t set b = b || 'longer' where id = 1;
alter table t replica identity full;
update t set n = 100 where id in (1, 2);
update t set a = 'short now' where id = 2;
delete from t where id = 1;
alter table t replica identity default;
-- Several rows with chunks in one transaction, and the same row twice.
begin;
insert into t select i, (select string_agg(md5((i * j)::text), '') from generate_series(1, 200) j), repeat(i::text, 3000), i from generate_series(10, 15) i;
update t set n = 1 where id = 10;
update t set n = 2 where id = 10;
update t set a = (select string_agg(md5((j)::text), '') from generate_series(1, 250) j) where id = 11;
delete from t where id = 12;
savepoint s;
insert into t values (20, (select string_agg(md5((j)::text), '') from generate_series(1, 900) j), null, 0);
rollback to s;
insert into t values (20, (select string_agg(md5((j + 1)::text), '') from generate_series(1, 900) j), null, 0);
commit;
create table arrays (id serial primary key, a text[], j jsonb, d bytea);
insert into arrays (a, j, d) select array_agg(md5(i::text)), jsonb_object_agg(i, md5(i::text)), convert_to(string_agg(md5(i::text), ''), 'UTF8') from generate_series(1, 400) i;
update arrays set id = 7;
update arrays set j = j - '5';
-- A key out of line.
create table keyed (k text, v int);
alter table keyed alter column k set not null;
create unique index keyed_k on keyed (md5(k));
alter table keyed replica identity full;
insert into keyed values ((select string_agg(md5(i::text), '') from generate_series(1, 200) i), 1);
update keyed set v = 2;
delete from keyed;
-- Through a rewrite.
alter table t alter column n type bigint;
update t set n = n + 1;
vacuum full t;
update t set n = n + 1;
insert into t values (21, repeat('a', 10000), repeat('b', 10000), 5) on conflict (id) do update set n = 6;
insert into t values (21, repeat('a', 10000), repeat('b', 10000), 5) on conflict (id) do update set a = excluded.a || 'c';
truncate t;
