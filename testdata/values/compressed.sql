-- Records values as a server compresses them: method (0 pglz, 1 lz4), raw size, the compressed
-- bytes in hexadecimal, and the text. Needs a server built with LZ4:
--
--   psql -X -q -f compressed.sql DATABASE > ../../protocol/tests/values/compressed.tsv
\set ON_ERROR_STOP on
set client_min_messages = error;
create extension pageinspect;
create table texts(id int, v text);
insert into texts values
  (1, repeat('a', 3000)),
  (2, repeat('ab', 1500)),
  (3, repeat('abcdefghijklmnopq', 150)),
  (4, (select string_agg(md5(i::text), '') from generate_series(1, 40) i) || repeat('x', 900)),
  (5, (select string_agg('row ' || i || ' of the table; ', '') from generate_series(1, 200) i)),
  (6, (select string_agg(repeat(chr(97 + i % 26), i), '') from generate_series(1, 90) i)),
  (7, (select string_agg(left(md5((i % 7)::text), 3 + i % 29), '-') from generate_series(1, 250) i)),
  (8, (select string_agg(md5((i % 13)::text), '') from generate_series(1, 190) i)),
  (9, repeat('é€😀', 300)),
  (10, (select string_agg(md5(i::text), '') from generate_series(1, 120) i) || (select string_agg(md5(i::text), '') from generate_series(1, 120) i));
create table pglz(v text compression pglz);
create table lz4(v text compression lz4);
alter table pglz alter v set storage main;
alter table lz4 alter v set storage main;
create function stored(method text, value text) returns bytea language plpgsql as $$
declare
  bytes bytea;
begin
  execute format('truncate %I', method);
  execute format('insert into %I values ($1)', method) using value || '';
  select t_attrs[1] into bytes from heap_page_item_attrs(get_raw_page(method, 0), method::regclass, false);
  if get_byte(bytes, 0) & 3 <> 2 then
    raise 'not compressed: %', left(value, 80);
  end if;
  return substr(bytes, 5);
end $$;
-- The first word holds the raw size in its lower 30 bits and the method above.
copy (
  select word >> 30, word & 1073741823, encode(substr(s, 5), 'hex'), v
  from texts, unnest(array['pglz', 'lz4']) method, stored(method, v) s,
    lateral (select get_byte(s, 0) + get_byte(s, 1) * 256 + get_byte(s, 2) * 65536
      + get_byte(s, 3)::int8 * 16777216 as word) w
  order by method, id
) to stdout;
