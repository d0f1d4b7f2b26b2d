-- Values whose text is that of other catalog rows (regclass and its like, access rights), inside
-- arrays and row types, so large that they are compressed in the row or TOASTed: they come together
-- only at the commit, and are named as their row saw the catalogs.
--- stage
create type named as (t text, r regrole, c regclass[]);
create table target (id int);
create table far (id int primary key, c regclass[], a aclitem[], n named, p regprocedure[], pad text);
alter table far alter c set storage external, alter a set storage external, alter n set storage external, alter p set storage external;
create table near (id int primary key, c regclass[], a aclitem[], n named);
alter table near alter c set storage main, alter a set storage main, alter n set storage main;
insert into far select 1, array_fill('target'::regclass, array[900]), array_fill('=r/postgres'::aclitem, array[300]), row(repeat('long', 800), 'postgres', array['pg_class', 'target'])::named, array_fill('lower(text)'::regprocedure, array[700]), repeat('x', 3000);
insert into near select 1, array_fill('target'::regclass, array[900]), array_fill('=r/postgres'::aclitem, array[300]), row(repeat('long', 800), 'postgres', array['pg_class', 'target'])::named;
-- Renamed between the rows of one transaction: each row has the name it saw.
begin; insert into far (id, c) values (2, array_fill('target'::regclass, array[900])); alter table target rename to renamed; insert into far (id, c) values (3, array_fill('renamed'::regclass, array[900])); insert into near (id, c) values (3, array_fill('renamed'::regclass, array[900])); savepoint s; alter table renamed rename to undone; insert into far (id, c) values (4, array_fill('undone'::regclass, array[900])); rollback to s; insert into far (id, c) values (5, array_fill('renamed'::regclass, array[900])); commit;
-- Renamed by others while the transaction is open.
begin; insert into far (id, c) values (6, array_fill('renamed'::regclass, array[900])); commit;
alter table renamed rename to target;
insert into far (id, c, pad) values (7, array_fill('target'::regclass, array[900]), 'small');
update far set pad = 'only this' where id = 7;
update far set c = array_fill('pg_class'::regclass, array[800]) where id = 7;
insert into far (id, c) values (7, null) on conflict (id) do update set c = array_fill('near'::regclass, array[900]);
insert into far (id, c) values (8, array_fill('near'::regclass, array[900])) on conflict do nothing;
alter table far replica identity full;
update far set pad = 'with the old row' where id = 8;
delete from far where id < 4;
delete from near;
-- An object that is gone is a number.
drop table target;
begin; insert into far (id, c) select 9, c from far where id = 7; commit;
insert into far (id, c) select 10, array_fill(99999999::regclass, array[900]);
