-- Records values as a server stores and prints them: for every row of inputs.sql its output
-- function, its library, its bytes without varlena header in hexadecimal, and its text, in COPY's
-- text format. Run in a fresh database of an encoding UTF8, as superuser, from this folder:
--
--   psql -X -q -f record.sql DATABASE > ../../protocol/tests/values/15.tsv
--
-- For another version keep only the lines that 15 does not have; versions.sh does all of that.
\set ON_ERROR_STOP on
set client_min_messages = error;
create extension pageinspect;
create extension citext;
create extension cube;
create extension hstore;
create extension intarray;
create extension isn;
create extension ltree;
create extension seg;

-- expression: SQL of that type. An input that this version refuses is left out.
create table input(id int generated always as identity, type text, expression text, expected text);

create function record_input(type_name text, expression text)
returns table(symbol text, library text, stored text, printed text) language plpgsql as $$
declare
  attribute pg_attribute;
  bytes bytea;
begin
  drop table if exists recorded;
  begin
    execute format('create table recorded as select %s::%s as v', expression, type_name);
  exception when others then
    if sqlstate not like '22%' and sqlstate not in ('42601', '0A000', '54000', '42804', '42846') then
      raise;
    end if;
    return;
  end;
  select * into attribute from pg_attribute a
    where a.attrelid = 'recorded'::regclass and a.attname = 'v';
  if attribute.attlen = -1 then
    alter table recorded alter v set storage plain;
    execute format('truncate recorded');
    execute format('insert into recorded select %s::%s', expression, type_name);
  end if;
  -- A detoasted varlena comes without its header.
  select t_attrs[1] into bytes
    from heap_page_item_attrs(get_raw_page('recorded', 0), 'recorded', true) where lp = 1;
  stored := encode(bytes, 'hex');
  select p.prosrc, coalesce(p.probin, '') into symbol, library
    from pg_type t join pg_proc p on p.oid = t.typoutput where t.oid = attribute.atttypid;
  select format('select %s(v::%s)::text from recorded', p.oid::regproc, p.proargtypes[0]::regtype)
    into expression
    from pg_type t join pg_proc p on p.oid = t.typoutput where t.oid = attribute.atttypid;
  execute expression into printed;
  return next;
end $$;

\o /dev/null
\i inputs.sql
\o

copy (
  select r.symbol, r.library, r.stored, r.printed
  from (select distinct on (type, expression) * from input) i,
    lateral record_input(i.type, i.expression) r
  order by i.id
) to stdout;
