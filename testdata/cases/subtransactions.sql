-- Subtransactions that have written nothing themselves, rolled back with what their children had
-- released to them. The assignment record of the 64th subtransaction names them again, though they
-- are gone: what they did to the schema must not come back with it.
--- stage
create table s (id int primary key, v text);
begin;
insert into s values (1, 'before');
savepoint a; savepoint b; savepoint c;
alter table s add column extra int default 7;
insert into s values (2, 'with extra', 8);
create table t (a int); insert into t values (1);
release c; release b;
rollback to a;
insert into s values (3, 'without');
savepoint d;
do $$
begin
  begin
    begin
      alter table s add column other text default 'x';
      insert into s values (4, 'with other', 'y');
    end;
    raise exception 'undone';
  exception when raise_exception then null;
  end;
  for i in 1..70 loop
    begin
      insert into s values (1000 + i, 'round ' || i);
      if i % 3 = 0 then raise exception 'undone'; end if;
    exception when raise_exception then null;
    end;
  end loop;
end $$;
insert into s values (5, 'still without');
update s set v = upper(v) where id = 1001;
create table t (b text); insert into t values ('another');
release d;
alter table s add column kept int default 9;
insert into s values (6, 'with kept', 10);
commit;
insert into s values (7, 'after', 11);
insert into t values ('after');
--- stage
-- The same, prepared, and with the outermost of all rolled back at the end.
begin;
savepoint a; savepoint b;
alter table s drop column kept;
insert into s values (8, 'without kept');
release b; rollback to a;
do $$
begin
  for i in 1..70 loop
    begin
      update s set v = v || '.' where id = 7;
      if i % 2 = 0 then raise exception 'undone'; end if;
    exception when raise_exception then null;
    end;
  end loop;
end $$;
insert into s values (9, 'with kept', 12);
prepare transaction 'many';
insert into t values ('between');
commit prepared 'many';
begin;
savepoint a; savepoint b;
alter table s add column last text default 'z';
insert into s values (10, 'never', 1, 'z');
release b; rollback to a; release a;
do $$ begin for i in 1..70 loop begin insert into t values (i); end; end loop; end $$;
insert into s values (11, 'never', 13);
rollback;
insert into s values (12, 'the end', 14);
