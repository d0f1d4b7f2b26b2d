-- Two-phase transactions: committed and rolled back, with subtransactions, schema changes,
-- values out of line, open across others' work and across a crash.
--- stage
create table p (id int primary key, v text);
begin; insert into p values (1, 'prepared'); prepare transaction 'one';
insert into p values (2, 'between');
commit prepared 'one';
begin; insert into p values (3, 'never'); savepoint a; insert into p values (4, 'never'); prepare transaction 'two';
rollback prepared 'two';
begin; savepoint a; insert into p values (5, 'sub'); release a; savepoint b; insert into p values (6, 'gone'); rollback to b; insert into p values (7, repeat('large ', 5000)); prepare transaction 'three';
begin; create table made (a int primary key, b text); insert into made values (1, 'inside'); alter table made add column c int default 3; insert into made values (2, 'b', 4); prepare transaction 'four';
update p set v = 'after' where id = 2;
commit prepared 'three';
commit prepared 'four';
insert into made values (3, 'after', 5);
begin; alter table p add column w int default 9; update p set w = id; prepare transaction 'it''s five';
commit prepared 'it''s five';
update p set v = 'end' where id = 1;
begin; select txid_current(); prepare transaction 'empty'; commit prepared 'empty';
begin; insert into p values (50, 'over the crash'); savepoint a; insert into p values (51, 'sub'); prepare transaction 'crash';
begin; insert into p values (60, 'never'); prepare transaction 'crash no';
checkpoint;
begin; insert into p values (70, 'after the checkpoint'); prepare transaction 'crash late';
insert into made values (4, 'last', 6);
--- crash
--- stage
insert into made values (5, 'up again', 7);
commit prepared 'crash';
rollback prepared 'crash no';
commit prepared 'crash late';
insert into made values (6, 'the end', 8);
