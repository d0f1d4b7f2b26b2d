//! What a server says of the structure of its tables, in one query.

/// What stands for a text for which the server would have to wait: its functions look at a table
/// that another transaction has locked.
pub const LOCKED: &str = "(locked)";

/// Lines `what table.part~text`, one for each thing that a structure says.
pub const STRUCTURES: &str = r#"
with r as (select c.*, quote_ident(n.nspname) || '.' || quote_ident(c.relname) as t,
  exists (select from pg_locks l where l.relation = c.oid and l.mode = 'AccessExclusiveLock' and l.granted
    and l.database = (select oid from pg_database where datname = current_database())
    and l.pid is distinct from pg_backend_pid()) as locked
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where c.oid >= 16384 and c.relkind in ('r', 'p', 'v', 'm', 'f') and c.relrewrite = 0),
lines as (
select 'answer~yes' as line
union all select 'table ' || t || '~' || relkind::text || relpersistence::text || relreplident::text from r
union all select 'key ' || t || '~' || case when locked then '(locked)' else pg_get_partkeydef(oid) end from r where relkind = 'p'
union all select 'bound ' || t || '~' || case when locked then '(locked)' else pg_get_expr(relpartbound, oid) end from r where relispartition
union all select 'parents ' || t || '~' || string_agg(quote_ident(n.nspname) || '.' || quote_ident(p.relname), ',' order by i.inhseqno)
  from r join pg_inherits i on i.inhrelid = r.oid join pg_class p on p.oid = i.inhparent
  join pg_namespace n on n.oid = p.relnamespace group by t
union all select 'options ' || t || '~' || (select string_agg(o, ',' order by o collate "C") from unnest(reloptions) o)
  from r where reloptions is not null
union all select 'column ' || t || '.' || quote_ident(attname) || '~' || format_type(atttypid, atttypmod) || ' ' ||
  attnotnull || ' ' || attidentity::text || attgenerated::text || ' ' ||
  coalesce((select quote_ident(n.nspname) || '.' || quote_ident(l.collname) from pg_collation l join pg_namespace n on n.oid = l.collnamespace
    join pg_type y on y.oid = a.atttypid where l.oid = a.attcollation and y.typcollation <> l.oid), '')
  from r join pg_attribute a on a.attrelid = r.oid where attnum > 0 and not attisdropped
union all select 'default ' || t || '.' || quote_ident(attname) || '~' || case when locked then '(locked)' else pg_get_expr(adbin, adrelid) end
  from r join pg_attrdef d on adrelid = r.oid join pg_attribute a on attrelid = adrelid and attnum = adnum
union all select 'sequence ' || t || '.' || quote_ident(attname) || '~' || s.relname
  from r join pg_depend d on refobjid = r.oid and refclassid = 'pg_class'::regclass and classid = 'pg_class'::regclass
  and deptype in ('a', 'i') join pg_class s on s.oid = objid and s.relkind = 'S'
  join pg_attribute a on attrelid = r.oid and attnum = refobjsubid
union all select 'constraint ' || t || '.' || quote_ident(conname) || '~' || case when locked and contype in ('c', 'x') then '(locked)'
  else pg_get_constraintdef(c.oid) end
  from r join pg_constraint c on conrelid = r.oid where contype in ('p', 'u', 'f', 'c', 'x', 'n')
  and not (contype = 'f' and exists (select from pg_constraint p where p.oid = c.conparentid and p.conrelid = c.conrelid))
union all select 'index ' || t || '.' || quote_ident(i.relname) || '~' || case when locked then '(locked)' else pg_get_indexdef(x.indexrelid) end
  from r join pg_index x on indrelid = r.oid join pg_class i on i.oid = indexrelid
  where indislive and (indisvalid or i.relkind = 'I'))
select replace(line, chr(10), '\n') from lines where line is not null order by line collate "C";"#;
