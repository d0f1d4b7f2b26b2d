-- A database whose text is not UTF-8: names, values, labels, messages and patterns in LATIN1.
--- database latin encoding 'LATIN1' locale 'C'
--- stage
set client_encoding = 'UTF8';
create schema "schéma";
create type "schéma"."humeur" as enum ('très bien', 'mal');
create table "schéma"."Élève" ("prénom" text primary key, "né" char(5), h "schéma"."humeur", x "char", j jsonb, k json, l xml, t tsvector, a text[], c name);
insert into "schéma"."Élève" values ('Zoë', 'né', 'très bien', 'x', '{"clé": "à"}', '{"clé" : "ü"}', '<a>é</a>', 'été:1', '{é,"ß ö",NULL}', 'ñ');
update "schéma"."Élève" set "prénom" = 'Zoé' where "prénom" = 'Zoë';
insert into "schéma"."Élève" ("prénom") values (repeat('ÿ', 5000)), (E'\x80\xa0\xad\xff');
delete from "schéma"."Élève" where length("prénom") > 100;
select pg_logical_emit_message(true, 'préfixe', 'contenu à la française');
select pg_logical_emit_message(false, 'é', 'ï');
truncate "schéma"."Élève";
