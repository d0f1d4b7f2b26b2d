-- Rewrites, of tables and of the catalogs themselves: nothing of them is a row change, and
-- every row after them must still find its table.
--- setting full_page_writes = on
--- setting wal_log_hints = on
--- stage
create table r (id int primary key, v text, n int);
insert into r select i, 'row ' || i, i from generate_series(1, 300) i;
alter table r alter column n type bigint;
update r set n = n + 1 where id <= 3;
alter table r alter column v type varchar(50);
alter table r add column d double precision default random();
update r set d = 1.5 where id <= 3;
vacuum full r;
update r set n = n + 1 where id <= 3;
cluster r using r_pkey;
delete from r where id = 4;
alter table r set unlogged;
insert into r values (1001, 'not logged', 1, 1);
alter table r set logged;
insert into r values (1002, 'logged', 1, 1);
begin; update r set n = 0 where id = 1; alter table r alter column n type numeric; update r set n = 1.5 where id = 1; commit;
begin; alter table r alter column n type text; update r set n = 'text' where id = 1; rollback;
update r set n = 2.5 where id = 1;
vacuum full pg_class; update r set n = 3.5 where id = 1;
vacuum full pg_attribute; update r set n = 4.5 where id = 1;
vacuum full pg_type; vacuum full pg_index; vacuum full pg_namespace; vacuum full pg_constraint;
update r set n = 5.5 where id = 1;
vacuum full pg_database; vacuum full pg_authid;
create table after_vacuum (a int primary key, r int references r); insert into after_vacuum values (1, 1);
reindex table r; reindex table pg_class; reindex index pg_class_oid_index;
insert into after_vacuum values (2, 2);
create materialized view m as select id, v from r where id < 10;
create unique index on m (id);
refresh materialized view m;
update r set v = 'changed' where id < 5;
refresh materialized view concurrently m;
create table copied as select * from r limit 5;
select id, v into selected from r limit 3;
begin; create table fresh (a int); copy fresh from program 'seq 1 10'; commit;
begin; create table fresh2 (a int); insert into fresh2 select generate_series(1, 10); alter table fresh2 alter column a type text; insert into fresh2 values ('eleven'); commit;
vacuum (freeze) r; vacuum (freeze) pg_class; vacuum (freeze) pg_attribute;
update r set v = 'frozen' where id = 2;
drop table copied; drop materialized view m;
create table pg_class_like (like r including all); insert into pg_class_like select * from r where id < 3;
checkpoint;
update r set v = 'after the checkpoint' where id < 5;
