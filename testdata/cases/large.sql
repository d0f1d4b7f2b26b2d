-- Records longer than a chunk of any size: a message, and rows whose old tuple is logged whole.
--- stage
create table t (id int primary key, v text, w bytea);
alter table t alter v set storage external, alter w set storage external;
insert into t values (1, repeat('one large value ', 200000), '\x01'), (2, 'small', null);
insert into t values (3, repeat('x', 1500000), decode(repeat('0f', 1300000), 'hex'));
select pg_logical_emit_message(true, 'large', repeat('message ', 400000));
select pg_logical_emit_message(false, 'large, not transactional', repeat('m', 1048576));
alter table t replica identity full;
update t set w = '\x02' where id = 1;
delete from t where id = 3;
begin;
savepoint s;
delete from t where id = 1;
rollback to s;
update t set v = 'short' where id = 1;
commit;
insert into t values (4, 'end', null);
