-- Subtransactions: nested, released, rolled back, more than fit into a backend's cache, and
-- interleaved with another session's.
--- stage
create table s (id int primary key, v text);
begin; insert into s values (1, 'plain'); savepoint a; insert into s values (2, 'kept'); release a; commit;
begin; insert into s values (3, 'outer'); savepoint a; insert into s values (4, 'gone'); rollback to a; insert into s values (5, 'after'); commit;
begin; savepoint a; insert into s values (6, 'a'); savepoint b; insert into s values (7, 'b'); savepoint c; insert into s values (8, 'c'); rollback to b; insert into s values (9, 'b again'); release a; insert into s values (10, 'top'); commit;
begin; savepoint a; insert into s values (11, 'all gone'); savepoint b; insert into s values (12, 'all gone'); rollback;
-- Only in a subtransaction, the top has written nothing.
begin; savepoint a; insert into s values (13, 'only here'); release a; commit;
-- The same name again and again.
begin; savepoint x; insert into s values (14, 'x1'); savepoint x; insert into s values (15, 'x2'); rollback to x; release x; insert into s values (16, 'x3'); rollback to x; commit;
-- An error undoes the whole.
begin; insert into s values (17, 'undone'); insert into s values (1, 'duplicate'); commit;
do $$
begin
  for i in 1..150 loop
    begin
      insert into s values (1000 + i, 'round ' || i);
      if i % 3 = 0 then raise exception 'undone'; end if;
    exception when raise_exception then null;
    end;
  end loop;
end $$;
-- Schema changes that are rolled back.
begin;
insert into s values (30, 'before the change');
savepoint a;
alter table s add column extra int default 7;
insert into s values (31, 'with extra', 8);
create table t (a int); insert into t values (1);
rollback to a;
insert into s values (32, 'without extra');
savepoint b;
alter table s add column other text default 'x';
update s set other = 'y' where id = 30;
release b;
insert into s values (33, 'with other', 'z');
commit;
--- stage
begin;
insert into s values (100, 'one'); select pg_sleep(0.1);
savepoint a; insert into s values (101, 'one a'); select pg_sleep(0.1); rollback to a;
insert into s values (102, 'one b'); select pg_sleep(0.2);
commit;
--- session
begin;
insert into s values (200, 'two'); select pg_sleep(0.05);
savepoint a; insert into s values (201, 'two a'); select pg_sleep(0.1); release a;
insert into s values (202, 'two b');
commit;
--- session
begin;
select pg_sleep(0.08); savepoint a; insert into s values (300, 'three'); select pg_sleep(0.3); rollback;
--- stage
update s set v = upper(v) where id < 20;
delete from s where id > 1100;
select txid_current();
begin; savepoint a; select 1; release a; commit;
