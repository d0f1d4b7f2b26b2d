-- A small bank at work: TPC-B by eight clients, and in the middle a table is created, filled
-- and changed while they go on. Replayed by `redostream-server demo`.
--- versions 15
--- setting full_page_writes = on
--- setting wal_compression = lz4
--- stage
--- pgbench -i -s 1 -I dtGp -q
--- stage
--- pgbench -c 8 -j 2 -t 500 -n
--- stage
create type payment_state as enum ('open', 'paid', 'refused');
create table payments (
  id bigint generated always as identity primary key,
  account integer not null references pgbench_accounts (aid),
  amount numeric(12, 2) not null check (amount > 0),
  state payment_state not null default 'open',
  note text,
  created_at timestamptz not null default now()
);
create index on payments (account);
--- stage
--- pgbench -c 5 -j 1 -t 500 -n
--- pgbench -c 3 -j 1 -t 400 -n
\set aid random(1, 100000)
\set cents random(1, 100000)
\set fate random(1, 10)
begin;
insert into payments (account, amount, note) values (:aid, :cents / 100.0, 'order ' || :aid);
savepoint s;
update payments set state = 'paid' where id = (select max(id) from payments where account = :aid);
update pgbench_accounts set abalance = abalance - :cents where aid = :aid;
\if :fate <= 2
rollback to savepoint s;
update payments set state = 'refused' where id = (select max(id) from payments where account = :aid);
\endif
\if :fate = 10
rollback;
\else
commit;
\endif
--- session
select pg_sleep(0.7);
alter table payments add column currency text not null default 'EUR';
select pg_sleep(0.4);
begin;
alter table payments rename column note to purpose;
update payments set purpose = purpose || ' (checked)' where id % 10 = 0;
commit;
--- stage
delete from payments where state = 'refused';
begin;
insert into payments (account, amount, purpose) select i, i, repeat('a long story ', 400) || i from generate_series(1, 20) i;
truncate pgbench_history;
commit;
drop table payments;
