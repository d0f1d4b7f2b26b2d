-- INSERT ON CONFLICT: done, nothing, updated, several unique indexes, values out of line, and
-- two sessions that race for the same keys, so that some insertions are withdrawn.
--- stage
create table o (id int primary key, u int unique, v text, n int default 0);
insert into o values (1, 1, 'first') on conflict do nothing;
insert into o values (1, 2, 'second') on conflict do nothing;
insert into o values (2, 1, 'other index') on conflict do nothing;
insert into o values (1, 1, 'third') on conflict (id) do update set v = excluded.v, n = o.n + 1;
insert into o values (2, 2, repeat('large ', 4000)) on conflict (id) do update set n = 9;
insert into o values (2, 2, repeat('larger ', 4000)) on conflict (id) do update set v = excluded.v;
insert into o select i, i + 100, 'bulk ' || i from generate_series(1, 40) i on conflict do nothing;
insert into o select i, i + 100, 'bulk ' || i from generate_series(30, 60) i on conflict (id) do update set v = excluded.v where o.id % 2 = 0;
begin; savepoint s; insert into o values (99, 99, 'gone') on conflict do nothing; rollback to s; insert into o values (99, 99, 'kept') on conflict do nothing; commit;
begin; insert into o values (98, 98, 'never') on conflict do nothing; rollback;
create table ex (r int4range, exclude using gist (r with &&));
insert into ex values ('[1,5)') on conflict do nothing;
insert into ex values ('[3,8)') on conflict do nothing;
insert into ex values ('[5,8)') on conflict do nothing;
--- stage
--- pgbench -c 6 -t 120 -n
\set k random(1000, 1030)
\set u random(1, 100000)
insert into o values (:k, null, repeat('race ', :k)) on conflict (id) do update set n = o.n + 1;
insert into o values (2000 + :u % 50, :u + 5000, 'x') on conflict do nothing;
delete from o where id = :k;
--- stage
delete from o where id > 1000;
