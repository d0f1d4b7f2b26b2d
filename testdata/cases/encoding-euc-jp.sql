-- Characters of one, two and three bytes that are not UTF-8's.
--- database euc_jp encoding 'EUC_JP' locale 'C'
--- stage
set client_encoding = 'UTF8';
create table "表" ("名前" text primary key, "値" varchar(20), j jsonb, a text[]);
insert into "表" values ('日本語', 'ｶﾅ', '{"鍵": "値", "b": [1, "丂"]}', '{一,"二 三",NULL}');
insert into "表" values ('丂丄', '～∥￤', null, null), (repeat('長い', 3000), '', '[]', '{}');
update "表" set "値" = '変更' where "名前" = '日本語';
delete from "表" where "名前" = '丂丄';
select pg_logical_emit_message(true, '前', '後');
