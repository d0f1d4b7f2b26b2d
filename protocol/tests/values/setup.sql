-- Types for the recorded cases, and the function that records one.
create extension pageinspect schema public;
create extension hstore schema public;
create extension citext schema public;
create type public.mood as enum ('sad', 'ok', 'very "happy", really', '');
create type public.pair as (a integer, b text);
create type public.deep as (p public.pair, m public.mood, l integer[], r int4range, n numeric);
create domain public.positive as integer check (value > 0);
create domain public.words as text[];
create domain public.named as public.pair;
create type public.textrange as range (subtype = text, collation = "C");
create type public.arrayrange as range (subtype = integer[]);
create type public.pairrange as range (subtype = public.pair);
create type public.grown as (a integer, b text);
create table public.grown_old (v public.grown);
insert into public.grown_old values (row(1, 'x'));
alter type public.grown add attribute c numeric;
alter type public.grown drop attribute a;
create table public.squeezed (a text, b integer);
alter table public.squeezed alter a set storage main;
insert into public.squeezed values (repeat('squeezed ', 1000), 7);

create function public.record(type text, expression text, zone text) returns json
language plpgsql set search_path = public as $$
declare
  result json;
begin
  perform pg_catalog.set_config('TimeZone', zone, true);
  execute pg_catalog.format('create temp table one (v %s)', type);
  begin
    execute 'alter table one alter v set storage plain';
  exception when others then null;
  end;
  execute pg_catalog.format('insert into one values ((%s)::%s)', expression, type);
  execute 'select pg_catalog.json_build_object(''type'', (select atttypid::bigint from pg_catalog.pg_attribute
      where attrelid = ''one''::regclass and attnum = 1), ''zone'', $1,
      ''stored'', (select encode(t_attrs[1], ''hex'') from
        public.heap_page_item_attrs(public.get_raw_page(''one'', 0), ''one''::regclass)),
      ''text'', format(''%s'', v), ''json'', to_json(v)::text) from one'
    into result using zone;
  drop table one;
  return result;
exception when others then
  -- A value that this version does not have.
  raise notice 'left out: % of %: %', expression, type, sqlerrm;
  return null;
end $$;

-- Everything of a type that its text depends on.
create view public.described as
select t.oid::bigint, n.nspname as schema, t.typname as name,
  format_type(t.oid, null) as formatted, t.typlen as length, t.typalign::text as align,
  t.typtype::text as kind, p.prosrc as symbol, coalesce(p.probin::text, '') as library,
  t.typdelim::text as delimiter,
  case when t.typsubscript = 'pg_catalog.array_subscript_handler'::regproc and t.typlen = -1
    and p.prosrc = 'array_out' then t.typelem::bigint end as element,
  nullif(t.typbasetype, 0)::bigint as base,
  (select rngsubtype::bigint from pg_range where rngtypid = t.oid) as subtype,
  (select rngtypid::bigint from pg_range where rngmultitypid = t.oid) as range,
  (select json_agg(json_build_object('oid', oid::bigint, 'label', enumlabel)) from pg_enum where enumtypid = t.oid) as labels,
  (select json_agg(json_build_object('name', attname, 'type', atttypid::bigint, 'dropped', attisdropped,
     'length', attlen, 'align', attalign) order by attnum)
   from pg_attribute where attrelid = t.typrelid and attnum > 0) as fields
from pg_type t join pg_namespace n on n.oid = t.typnamespace join pg_proc p on p.oid = t.typoutput
where t.typtype in ('b', 'e', 'd', 'r', 'm', 'c');
