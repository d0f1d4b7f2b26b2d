-- The values that record.sql records, by family: edge cases first, then seeded random ones.
-- The same numbers in every version; random() is not.
create sequence chances;
create function chance() returns float8 language sql volatile as
  $$ select ('x' || substr(md5(nextval('chances')::text), 1, 8))::bit(32)::bigint / 4294967296.0 $$;

create function add(type_name text, variadic literals text[]) returns void language sql as
  $$ insert into input(type, expression) select type_name, quote_literal(l) from unnest(literals) l $$;
create function add_expression(type_name text, variadic expressions text[]) returns void language sql as
  $$ insert into input(type, expression) select type_name, '(' || e || ')' from unnest(expressions) e $$;
create function number(scale int) returns text language sql volatile as
  $$ select ((chance() - 0.5) * 10 ^ (floor(chance() * scale) - scale / 2))::float8::text $$;
create function word(letters text, most int) returns text language sql volatile as
  $$ select coalesce(string_agg(substr(letters, 1 + floor(chance() * length(letters))::int, 1), ''), '')
     from generate_series(1, floor(chance() * (most + 1))::int) $$;

-- json, jsonb
select add('json', variadic array['{"a" : 1,  "a":2}', ' [1 , 2]', '"x"', 'null']);
select add('jsonb', variadic array['null', 'true', 'false', '0', '-0', '-1.50', '1e300', '1e-20', '12345678901234567890.5',
  '""', '"a"', '"\u0001\u001f\b\f\n\r\t\"\\\/é\u00e9€😀"', '"\u007f"',
  '[]', '{}', '[[]]', '[{}]', '{"a":[]}', '[[[[[[]]]]]]', '[null]', '[1]', '["a",1]', '["ab",1.5,null,"c"]',
  '{"b":1,"a":2,"ccc":3,"":4}', '{"a":{"b":{"c":[1,{"d":[]}]}}}', '{"key":"value","n":null,"t":true,"f":false}',
  '{"a":1,"bb":2.5,"ccc":[1,2,{"x":"y"}],"d":{"e":"f"}}', '{"é":"ü","\"q\"":"\\"}', '[1,"a",[2,"b",[3,"c"]],{"z":[4]}]',
  '[1e1000]', '{"a":1e-400}', '[0.00000000000000000000001, 100000000000000000000000000000]']);
select add_expression('jsonb', variadic array['(select jsonb_agg(i) from generate_series(1, 100) i)',
  '(select jsonb_agg(repeat(''x'', i % 7)) from generate_series(1, 200) i)',
  '(select jsonb_object_agg(''k'' || i, i * 1.5) from generate_series(1, 150) i)',
  '(select jsonb_object_agg(repeat(''k'', i), case when i % 3 = 0 then ''[]'' when i % 3 = 1 then ''{"a":[1,"b"]}'' else ''"s"'' end::jsonb) from generate_series(1, 70) i)',
  '(repeat(''['', 300) || repeat('']'', 300))::jsonb', '(repeat(''{"a":'', 200) || ''1'' || repeat(''}'', 200))::jsonb',
  'to_jsonb(''NaN''::float8)', 'to_jsonb(''Infinity''::float8)', 'to_jsonb(123.4500::numeric)', 'jsonb_build_array(1, 2.50, ''x'', null, true)']);
insert into input(type, expression)
select 'jsonb', '(' || string_agg(case floor(chance() * 3)
    when 0 then format('jsonb_build_array(%L::text, %s, null)', word(E'ab"\\\n\té', 6), number(20))
    when 1 then format('jsonb_build_object(%L::text, %s, %L::text, ''[%s, true]''::jsonb)', word('xyz', 4), number(12), word('uvw', 5), number(6))
    else format('to_jsonb(%L::text)', word('abcdefé ', 9)) end, ' || ') || ')'
from generate_series(1, 400) i group by i / 5;

-- jsonpath
select add('jsonpath', variadic array['$', 'strict $', 'lax $', '$.a', '$.a.b.c', '$."a b"', '$."q\"\\\n"', '$.*', '$[*]', '$.a[*].b', '$[0]', '$[0,1 to 3,last]',
  '$[last - 1]', '$[$.a + 1 to last]', '$.**', '$.**{2}', '$.**{2 to 5}', '$.**{last}', '$.**{2 to last}', '$.**{last to 3}', '$.**{0 to last}', '$.**{0}', '$.a.**.b', '$.**{0 to 4294967294}',
  '$x', '$"x y"', '$x.a', '1', '-1', '+1', '1.50', '(1).type()', '(1.5).abs()', '1e10', '-(1)', '"s"', '"\u00e9\n"', 'true', 'false', 'null',
  '1 + 2', '1 + 2 * 3', '(1 + 2) * 3', '1 - (2 - 3)', '1 - 2 - 3', '1 * 2 / 3 % 4', '-1 + 2', '-(1 + 2)', '+(-$.a)', '- $.a', '-$.a.b', '(-$.a).b', '(- $.a).abs()', '-$.a.abs() * 3', '($.a + 1).type()', '($ + 1)[0].a', '(-1).abs()', '-1.abs()', '(1 + $.a) > 3', '1 == 2', '$.a == 1 && $.b != 2', '$.a < 1 || $.b >= 2 && $.c <= 3', '($.a < 1 || $.b > 2) && $.c == 3', '!($.a == 1)', '!($.a == 1 && $.b == 2)', '($.a == 1) is unknown', '!(($.a == 1) is unknown)', 'exists($.a)', '!exists($.a)', 'exists($.a ? (@ > 1))',
  '$ ? (@.a == 1)', '$.a[*] ? (@ > 1 && @ < 10)', '$ ? (@.a ? (@ > 1) == 2)', '$ ? (exists(@.b))', '$ ? (!exists(@.b) || @.c == "x").d', '$.a ? ((@.b == 1) is unknown)', '$ ? (@ starts with "a")', '$ ? (@ starts with $x)', '($.a starts with "b") is unknown', '$ ? (@ like_regex "^a.*")', '$ ? (@ like_regex "a" flag "i")', '$ ? (@ like_regex "a" flag "ismxq")', '$ ? (@ like_regex "a\"\\d" flag "xsim")', '$ ? (@ like_regex "a" flag "q")', '$ ? (@ like_regex "a" flag "m" || @ == 1)', '$ ? (!(@ like_regex "a"))', '$ ? ((@.x + 1) like_regex "a")',
  '$.type()', '$.size()', '$.abs().floor().ceiling().double()', '$.keyvalue().key', '$.datetime()', '$.datetime("HH24:MI")', '$.a.datetime("x").type()', '$.a[0].b[1 to 2].c ? (@ > 0).d', '$[$.x, $.y to $.z + 1, last - 1]', '($.a * 2)[0 to last]', '$[0 to 1][2]', '$ ? (@.a > $x && @.b < $"y z")', '$.a ? (@ == null || @ == true || @ == "x")', '(((1)))', '(1 == 1)', '(1 == 1) == (2 == 2)', '1 - -1', '1 - +1', '$.a + -$.b', '2 * -3', '-(2 * 3)', '(-2) * 3', '+ + 1',
  '$.bigint()', '$.boolean()', '$.date()', '$.decimal()', '$.decimal(10)', '$.decimal(10,2)', '$.decimal(10,-2)', '$.decimal(+10,+2)', '$.integer()', '$.number()', '$.string()', '$.time()', '$.time(3)', '$.time_tz()', '$.time_tz(6)', '$.timestamp()', '$.timestamp(0)', '$.timestamp_tz()', '$.timestamp_tz(2).string()', '$.a.decimal(5,2).abs() + 1', '0x1F', '0b11 + 0o17', '1_000', '$.a.string().size()',
  '$."$varname"', '$."@"', '$."last"', '$.last', '$.true', '$.is.unknown', '$."1a"', '$.a1', '$.é', '$.""', '""', '$""']);

-- tsvector, tsquery
select add('tsvector', variadic array['', 'a', 'a b c', '''it''''s'' ''a b'' ''\\\\''', 'a:1', 'a:1A b:2B,3C c:4D,5', 'a:1,2,3,4A,16383', 'ab:1 a:2 abc:3', 'é:1 ''ü ö'':2B', '''a\\b'':1', '"x"', '''''''''', 'a:16384', repeat('x', 2046) || ':1', ''':'' '','':1']);
select add_expression('tsvector', variadic array['to_tsvector(''english'', ''The quick brown foxes jumped over the lazy dogs and the dogs slept'')', 'array_to_tsvector(array[''b'', ''a'', ''a c''])', 'setweight(to_tsvector(''simple'', ''one two three two''), ''A'') || to_tsvector(''simple'', ''two four'')', 'strip(to_tsvector(''simple'', ''x y''))', '(select to_tsvector(''simple'', string_agg(''w'' || i % 97, '' '')) from generate_series(1, 600) i)', 'ts_delete(to_tsvector(''simple'', ''a b c d e''), ''c'')', 'ts_filter(''a:1A b:2B c:3''::tsvector, ''{a,b}'')']);
insert into input(type, expression)
select 'tsvector', quote_literal(string_agg(quote_literal(nullif(word(E'abc''\\ é', 5), '')) || case when chance() < 0.6 then ':' || 1 + floor(chance() * 16383)::int || substr('ABCD ', 1 + floor(chance() * 5)::int, 1) else '' end, ' '))
from generate_series(1, 600) i group by i / 6;
select add('tsquery', variadic array['', 'a', 'a & b', 'a | b', '!a', 'a & b | c', 'a | b & c', '(a | b) & c', 'a & (b | c)', '!(a & b)', '!a & b', '!!a', '!(!a | b)', 'a <-> b', 'a <2> b', 'a <0> b', 'a <16384> b', '(a <-> b) <-> c', 'a <-> (b <-> c)', 'a <-> b <-> c', '(a <-> b) & c', 'a <-> (b & c)', '(a | b) <-> c', '!(a <-> b)', '!a <-> b', 'a <-> !b', 'a:*', 'a:A', 'a:ABCD', 'a:*ABCD', 'a:dcb*', '''it''''s'' & ''\\\\''', '''a b''', '''é'':*B', '(a & b) & (c & d)', '(a | b) | (c | d)', 'a & (b & (c & (d | e)))', 'a <-> (b <3> (c | d))', '((a <-> b) <-> (c <-> d)) <-> e', '!(a | b <-> c)']);
select add_expression('tsquery', variadic array['plainto_tsquery(''english'', ''the quick brown fox'')', 'phraseto_tsquery(''english'', ''the quick and the brown fox'')', 'websearch_to_tsquery(''english'', ''"fat rat" or cat -dog'')', '''a''::tsquery && ''b | c''::tsquery', '!!''a & b''::tsquery', 'tsquery_phrase(''a''::tsquery, ''b & c''::tsquery, 7)', 'ts_rewrite(''a & b''::tsquery, ''a''::tsquery, ''x | y''::tsquery)', '(repeat(''!'', 20) || ''a'')::tsquery', '(repeat(''('', 20) || ''a'' || repeat('' | b)'', 20))::tsquery', '(select string_agg(''x'' || i, case i % 3 when 0 then '' & '' when 1 then '' | '' else '' <-> '' end) from generate_series(1, 120) i)::tsquery']);
insert into input(type, expression)
select 'tsquery', quote_literal(format('%s%s %s (%s%s %s %s%s) %s %s', a, p1, o1, b, p2, o2, c, p3, o3, d)) from (
  select (array['a', '!b', '''c''''d''', '(x & !y)', '(x <-> y)', '(x | y)'])[1 + floor(chance() * 6)::int] a, (array['b', '!c', '''\\\\''', '(u <5> v)'])[1 + floor(chance() * 4)::int] b,
    (array['e', '!(f | g)', '(h <-> i)'])[1 + floor(chance() * 3)::int] c, (array['z', '!z', '(z & y)'])[1 + floor(chance() * 3)::int] d,
    '' p1, '' p2, '' p3, (array['&', '|', '<->', '<7>'])[1 + floor(chance() * 4)::int] o1, (array['&', '|', '<->', '<7>'])[1 + floor(chance() * 4)::int] o2, (array['&', '|', '<->', '<7>'])[1 + floor(chance() * 4)::int] o3
  from generate_series(1, 150)) x;

-- geometry, cube
select add('point', variadic array['(1,2)', '(-0,0)', '(0.1,1e300)', '(Infinity,-Infinity)', '(NaN,5e-324)', '(1e15,1e14)', '(123456789012345680,0.0001)', '(0.00001,-1.7976931348623157e308)', '(5.684341886080802e-14,9007199254740993)', '(1e22,1e23)', '(2.2250738585072014e-308,4.9e-324)', '(3.5763e-07,123456.789012345)']);
insert into input(type, expression) select 'point', format('point(%s,%s)', number(40), number(600)) from generate_series(1, 150);
insert into input(type, expression) select 'point', format('point(2::float8 ^ %s, 10::float8 ^ %s)', i, i / 4) from generate_series(-1070, 1020, 19) i;
select add('lseg', variadic array['[(1,2),(3,4)]', '((0,-0),(1.5,1e-10))']);
select add('box', variadic array['(1,2),(3,4)', '(3,4),(1,2)', '(NaN,1),(2,Infinity)']);
select add('path', variadic array['[(1,2)]', '((1,2))', '[(1,2),(3,4),(5,6)]', '((1,2),(3.25,4),(5,-6))']);
select add('polygon', variadic array['((1,2))', '((0,0),(1,1),(2,0))', '((0.5,1e20),(1,-1))']);
select add('line', variadic array['{1,2,3}', '{-0.5,1e10,0}', '[(0,0),(1,1)]', '{0,-1,1}', '[(1,2),(1,5)]']);
select add('circle', variadic array['<(1,2),3>', '<(0,0),0>', '<(-1.5,1e-7),1e100>', '<(1,2),Infinity>']);
select add('cube', variadic array['1', '()', '(1,2,3)', '(1,2),(3,4)', '(1,2),(1,2)', '(0),(-0)', '0.1,1e300', '(NaN,1),(NaN,2)', '(Infinity),(-Infinity)', '(1,2,3,4,5,6,7,8,9,10),(0,0,0,0,0,0,0,0,0,1e-5)']);
select add_expression('cube', variadic array['cube(array[1.5, -2])', 'cube(''{}''::float8[])', 'cube(array[0.0],array[-0.0])', 'cube_enlarge(''(1,2)'', 1, 3)', 'cube_subset(''(1,3,5),(6,7,8)'', array[3,2,1,1])']);

-- networks
select add('inet', variadic array['0.0.0.0', '255.255.255.255', '192.168.1.5', '192.168.1.5/24', '10.1.2.3/0', '1.2.3.4/31', '1.2.3.4/32', '::', '::1', '::2', '::ffff', '::1.2.3.4', '::ffff:1.2.3.4', '::ffff:0:0', '::fffe:1.2.3.4', '::1:0:0', '::1:2:3', '::1:1.2.3.4', '1::', '1::1', '1:0:0:2::3', '1:0:0:2:0:0:0:3', '0:0:1:0:0:1:0:0', '1:2:3:4:5:6:7:8', '1:0:2:0:3:0:4:0', '1:2:3:4:5:6:7::', 'fe80::1/64', 'fe80::1/128', '::/0', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/127', '0:0:0:0:0:0:1:0', '0:1:2:3:4:5:6:7', '2001:db8::ff00:42:8329', '::ffff:1.2.3.4/96', '0:0:0:0:0:0:ffff:0', '0:0:0:0:0:0:0:8000', '::5:ffff:0:0']);
select add('cidr', variadic array['10.0.0.0/8', '192.168.1.0/24', '1.2.3.4', '1.2.3.4/32', '0.0.0.0/0', '::/0', '2001:db8::/32', '::1', '::ffff:1.2.3.4/128', '::ffff:1.2.3.0/120']);
insert into input(type, expression)
select 'inet', quote_literal(string_agg(case when chance() < 0.6 then '0' else to_hex(floor(chance() * 65536)::int) end, ':') || '/' || floor(chance() * 129)::int)
from generate_series(0, 799) i group by i / 8;
select add('macaddr', variadic array['08:00:2b:01:02:03', '000000000000', 'ff:FF:0a:A0:09:90']);
select add('macaddr8', variadic array['08:00:2b:01:02:03:04:05', '08:00:2b:01:02:03', 'ffffffffffffffff']);

-- xml
select add('xml', variadic array['<a/>', 'text', '', '<?xml version="1.0"?><a/>', '<?xml version="1.0"?>' || E'\n<a/>', '<?xml version="1.0"?>' || E'\n\n<a/>', '<?xml version="1.0" encoding="UTF-8"?><a/>', '<?xml version=''1.0'' standalone=''yes''?><a/>', '<?xml version="1.0" standalone="no"?>' || E'\n<a/>', '<?xml version="1.1"?><a/>', '<?xml version="1.1" encoding=''utf-8'' standalone="yes" ?><a>é</a>', '<?xml  version = "1.0"  encoding = "UTF-8"  standalone = "yes"  ?>' || E'\r\n<a/>', E'\n<a/>', E'\n\n<a/>', ' <a/>', '<?xml-stylesheet href="x"?><a/>', '<!-- c --><a>&lt;</a>', 'a<b/>c', '<?xml version="1.0"?><!DOCTYPE a><a/>', '<?xml version="1.0" encoding="utf-8"?>' || E'\ntext é']);

-- system types
select add('pg_lsn', variadic array['0/0', '16/B374D848', 'FFFFFFFF/FFFFFFFF', '1/A']);
select add('tid', variadic array['(0,1)', '(4294967295,65535)', '(65536,7)', '(123456,0)']);
select add('pg_snapshot', variadic array['1:1:', '10:20:10,14,15', '1:9223372036854775807:3', '562949953421311:562949953421400:562949953421312']);
select add('txid_snapshot', variadic array['12:13:', '12:20:13,15,18']);
select add('refcursor', variadic array['', 'c1']);
create table correlated as select i % 10 a, i % 5 b, i % 100 c, i d from generate_series(1, 1000) i;
create statistics correlated_statistics (ndistinct, dependencies, mcv) on a, b, c from correlated;
analyze correlated;
insert into input(type, expression)
select t, format('(select %s from pg_statistic_ext_data)', c)
from (values ('pg_ndistinct', 'stxdndistinct'), ('pg_dependencies', 'stxddependencies')) x(t, c);
create table with_default(a int default 1 + 2);
select add_expression('pg_node_tree', variadic array['select adbin from pg_attrdef where adrelid = ''with_default''::regclass']);

-- citext, hstore
select add('citext', variadic array['Abc', '']);
select add('hstore', variadic array['', 'a=>1', 'a=>NULL', '"a b"=>"c\"d\\e"', '""=>""', 'bb=>1, a=>2, ccc=>NULL', 'é=>ü', '"=>"=>","', 'a=>"NULL"']);
select add_expression('hstore', variadic array['(select hstore(array_agg(''k'' || i), array_agg(case when i % 4 <> 0 then repeat(''v'', i % 9) end)) from generate_series(1, 150) i)', 'hstore(''{}''::text[])', '''a=>1,b=>2''::hstore - ''a''::text', '''a=>1''::hstore || ''b=>NULL''', 'hstore(row(1, ''x'', null))', 'hstore(''k'', repeat(''v'', 3000))', 'delete(''a=>1, b=>2, c=>3''::hstore, array[''a'', ''b'', ''c''])']);
insert into input(type, expression)
select 'hstore', '(' || string_agg(format('hstore(%L::text, %s)', word(E'abc"\\ é', 4), case when chance() < 0.3 then 'null' else quote_literal(word(E'xyz"\\ =>,', 6)) end), ' || ') || ')'
from generate_series(1, 400) i group by i / 5;

-- ltree
select add('ltree', variadic array['', 'Top', 'Top.Science.Astronomy', 'a.b.c.d.e.f.g.h', 'a1_B.abcdefg.abcdefgh', 'é.ü', repeat('x', 250) || '.y', 'a-b.c']);
select add_expression('ltree', variadic array['subpath(''a.bcdefghi.d''::ltree, 1)', '''a.b''::ltree || ''c''', 'subltree(''a.b.c.d'', 1, 3)', 'lca(''a.b.c'', ''a.b.d'')', '(select text2ltree(string_agg(''n'' || i, ''.'')) from generate_series(1, 200) i)']);
select add('lquery', variadic array['a', '*', '*{1}', '*{1,}', '*{,3}', '*{2,5}', '*{0}', '*{0,}', 'a.*.b', 'a|b|c', '!a', '!a|b', 'a@', 'a*', 'a%', 'a@*', 'a%@*|b@', 'a{1}', 'a{2,4}', 'a{,4}', 'a{3,}', 'a{,}', 'a{0}', 'a|b{1,2}', '!a|b@*{2}', 'Top.*{0,2}.sport*@.!football|tennis{1,}.Russ*|Spain', 'foo%.bar_baz%*', 'é|ü@.*{65534}', 'abcdefgh|ijklmno.abcdefghi']);
select add('ltxtquery', variadic array['a', 'a & b', 'a | b', '!a', '!(a & b)', '!!a', 'a & (b | c)', '(a | b) & c', 'a | b & c', 'a | (b | c)', '(a | b) | c', 'a@ & b* & c%', 'a%@*', 'Europe & Russia*@ & !Transportation', '!(a | b) & c', 'a & !(b & !(c | d))', 'é | ü@']);
select add_expression('ltxtquery', variadic array['(repeat(''!'', 20) || ''a'')::ltxtquery', '(select string_agg(''w'' || i, case when i % 3 = 0 then '' | '' else '' & '' end) from generate_series(1, 100) i)::ltxtquery', 'repeat(''x'', 300)::ltxtquery']);
insert into input(type, expression) select 'ltxtquery', quote_literal(format('%s %s (%s %s %s)', x[1 + i % 4], case when i % 2 = 0 then '&' else '|' end, x[1 + i / 4 % 4], case when i / 16 % 2 = 0 then '&' else '|' end, x[1 + i / 32 % 4]))
from generate_series(0, 127) i, (select array['a', '!b@', '(c | d)', '!(e & f*)'] x) y;

-- intarray
select add('query_int', variadic array['1', '-2147483648', '1&2', '1|2', '!1', '!(1&2)', '!!1', '1&(2|3)', '(1|2)&3', '1|2&3', '1|(2|3)', '(1|2)|3', '!(1|2)&3', '1&!(2&!(3|4))', '2147483647 & 0']);
insert into input(type, expression) select 'query_int', quote_literal(format('%s %s (%s %s %s)', x[1 + i % 4], case when i % 2 = 0 then '&' else '|' end, x[1 + i / 4 % 4], case when i / 16 % 2 = 0 then '&' else '|' end, x[1 + i / 32 % 4]))
from generate_series(0, 127) i, (select array['1', '!2', '(3 | 4)', '!(-5 & 6)'] x) y;

-- seg
select add('seg', variadic array['0', '-0', '1', '1.0', '1.00', '-1.5', '12', '120', '1200', '12000', '120000', '1e5', '1e4', '1e-4', '1e-5', '1.50e-3', '0.001', '0.00012', '-0.00012', '123456', '1234567', '12345.6', '-12345.6', '99999.5', '0.5', '9.99', '1e30', '-1e-30', '1 .. 2', '1 ..', '.. 2', '..', '-', '1.5 .. 2.50', '-2 .. -1', '<1', '>1', '~1', '<1 .. 2', '1 .. >2', '>1 .. <2', '~1 .. ~2', '1 .. ~2', '<1 ..', '.. >3', '~1 .. 1', '<1 .. <1', '5(+-)0.3', '1(+-)2', '7.0(+-)0.25', '1e10 .. 1e20', '0.1 .. 0.10', '1.0 .. 1.0', '100000.5', '1000000.5', '2.5e2', '1e1', '10', '10.', '100.0', '0e0', '1e38', '~1 .. 2', '~1 .. >2']);
insert into input(type, expression) select 'seg', quote_literal(round((chance() * 10 ^ (i % 11 - 4))::numeric, i % 7)) from generate_series(1, 150) i;
insert into input(type, expression) select 'seg', quote_literal(number(20) || ' .. 1e30') from generate_series(1, 60) i;

-- isn
create function add_isn(code text) returns void language sql as
  $$ insert into input(type, expression) select t, format('(%L::ean13%s)', code, case when t = 'ean13' then '' else '::' || t end) from unnest(array['ean13', 'isbn', 'isbn13', 'ismn', 'ismn13', 'issn', 'issn13', 'upc']) t $$;
select add_isn(code) from unnest(array['9780393040029!', '9770000000003!', '9771144875007!', '9790345246805!', '0220356483481!', '9791090636071!', '9786000000004!', '0000000000000!', '4000000000000!', '1400000000000!', '9999999999994!', '9780000000000!', '9789999999991!', '9790999999996!', '9799999999990!', '9799700000000!', '9796000000000!']) code;
select add('isbn', variadic array['0-393-04002-X', '978-0-393-04002-9', '0393040029!', '9780393040028!', '99921-58-10-7', '9971502100', '0-943396-04-2', '97910-90636-07-1!', '080442957X', '1-84356-028-3']);
select add('isbn13', variadic array['978-0-393-04002-9', '0393040029!', '9791090636071!']);
select add('issn', variadic array['1436-4522', '1144-875X', '14364522!', '1436-4521!', '9771436452008!', '977-1436-452-08-8!']);
select add('issn13', variadic array['1436-4522', '9771436452008!']);
select add('ismn', variadic array['M-2306-7118-7', 'M230671187', '979-0-060-11561-5', '9790060115615', 'M230671188!']);
select add('ismn13', variadic array['M-2306-7118-7', '9790060115615']);
select add('upc', variadic array['220356483481', '220356483482!', '0220356483481', '012345678905!']);
select add('ean13', variadic array['0220356483481', '4006381333931', '4006381333932!', '978-0-393-04002-9', '1400000000007!', '9770000000003!']);
select add_isn(lpad((978 * 10 ^ 9 + floor(chance() * 10 ^ 9))::bigint::text, 12, '0') || '0!') from generate_series(1, 250);
select add_isn(lpad((979 * 10 ^ 9 + floor(chance() * 10 ^ 9))::bigint::text, 12, '0') || '0!') from generate_series(1, 40);
select add_isn(lpad((i * 10 ^ 9 + floor(chance() * 10 ^ 9))::bigint::text, 12, '0') || '0!') from generate_series(0, 999, 3) i;
