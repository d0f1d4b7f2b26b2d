-- SQL_ASCII says nothing of its bytes: whatever came in comes out.
--- database sql_ascii encoding 'SQL_ASCII' locale 'C'
--- stage
create table t (id int primary key, v text, a text[], j json);
insert into t values (1, 'UTF-8: é', '{é}', '{"é": 1}');
insert into t values (2, E'LATIN1: \xe9', array[E'\xe9 x'], null);
insert into t values (3, E'\xff\xfe\x80', null, '"plain"');
update t set v = v || E'\xc3' where id = 1;
delete from t where id = 2;
