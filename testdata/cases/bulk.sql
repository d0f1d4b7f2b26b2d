-- Many rows at once: COPY and other multi-inserts, one large transaction, updates and deletes
-- of whole tables, rows of a page that is pruned again and again.
--- stage
create table b (id int primary key, v text, n numeric);
copy b from program 'seq -f "%g	row	1.50" 1 4000';
copy b from stdin;
5001	\N	\N
5002	tab\there	NaN
5003	back\\slash	0.000
\.
create table few (a smallint, b boolean);
copy few from program 'for i in $(seq 1 700); do echo "$i	t"; done';
begin; insert into b select i, 'large ' || i, i / 7.0 from generate_series(10000, 16000) i; update b set v = 'changed' where id between 10000 and 11500; delete from b where id > 15000; commit;
begin; copy b from program 'seq -f "%g	undone	0" 20000 22000'; rollback;
create table hot (id int primary key, n int) with (fillfactor = 50);
insert into hot select i, 0 from generate_series(1, 20) i;
do $$ begin for i in 1..60 loop update hot set n = n + 1; end loop; end $$;
update hot set n = n + 1 where id % 2 = 0;
vacuum hot;
delete from few;
insert into few select i, i % 2 = 0 from generate_series(1, 300) i;
-- Several rows with values out of line in one COPY.
create table wide (id serial, t text, u text);
copy wide (t, u) from program 'for i in 1 2 3 4 5; do printf "%05000d\t" $i; head -c 6000 /dev/zero | tr "\0" "$i"; echo; done';
insert into wide (t) select (select string_agg(md5((i * j)::text), '') from generate_series(1, 100) j) from generate_series(1, 8) i;
copy wide (t, u) from program 'for i in 1 2 3; do printf "small\t"; head -c 9000 /dev/zero | tr "\0" "$i"; echo; done';
delete from b where id % 2 = 0;
