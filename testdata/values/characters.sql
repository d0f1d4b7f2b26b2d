-- The characters of an encoding as a server reads them, for protocol/src/value/encoding/:
--   psql -XAtq -F "$(printf '\t')" -v encoding=EUC_TW -f testdata/values/characters.sql > euc_tw.txt
--   psql -XAtq -F "$(printf '\t')" -v encoding=EUC_JIS_2004 -f testdata/values/characters.sql > euc_jis_2004.txt
-- A line has the first bytes and, for each last byte from A1 on, the character; a space where there
-- is none. `=` and all bytes stand before what is two characters to Unicode.
set client_encoding = 'UTF8';
create function pg_temp.read(bytes bytea, encoding name) returns text language plpgsql as $$
begin
  return convert_from(bytes, encoding);
exception when character_not_in_repertoire or untranslatable_character then
  return null;
end $$;
create temp table high as select set_byte('\x00', 0, byte) as byte from generate_series(161, 254) byte;
-- In EUC_TW the first plane is also what follows 8EA1: said once, without it.
create temp table leads as
  select byte as lead from high
  union all select '\x8e' where :'encoding' = 'EUC_JIS_2004'
  union all select '\x8f' || byte from high where :'encoding' = 'EUC_JIS_2004'
  union all select '\x8e' || plane.byte || high.byte from high, high plane
    where :'encoding' = 'EUC_TW' and plane.byte > '\xa1';
create temp table characters as
  select lead, byte, pg_temp.read(lead || byte, :'encoding') as character from leads, high;
select encode(lead, 'hex'),
  rtrim(string_agg(case length(character) when 1 then character else ' ' end, '' order by byte), ' ')
  from characters group by lead having count(character) > 0 order by length(lead), lead;
select '=' || encode(lead || byte, 'hex'), character
  from characters where length(character) > 1 order by lead, byte;
