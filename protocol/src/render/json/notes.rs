//! Lines that are no events: structures, and things to know.

use super::UTF8;
use crate::ids::Lsn;
use crate::render::object::push_object;
use crate::render::push_table_json;
use crate::schema::Relation;

/// Appends the line that shows a relation as events name it; it has no position.
pub fn push_relation_line(out: &mut Vec<u8>, relation: &Relation) {
    let encoding = relation.database.encoding;
    push_object(out, encoding, |object| {
        object.string("kind", "relation");
        object.text("database", relation.database.name.as_bytes());
        object.text("schema", relation.schema.as_bytes());
        object.text("table", relation.name.as_bytes());
        object.number("oid", relation.oid.0.into());
        object.string(
            "replica_identity",
            replica_identity(relation.replica_identity),
        );
        object.list("columns", &relation.columns, |column, encoding, out| {
            push_object(out, encoding, |object| {
                object.text("name", column.name.as_bytes());
                object.text("type", column.data_type.formatted.as_bytes());
                object.bool("nullable", !column.not_null);
                object.bool("key", column.key);
            });
        });
        match &relation.structure {
            None => object.null("structure"),
            Some(structure) => object.value("structure", |encoding, out| {
                push_table_json(out, encoding, structure);
            }),
        }
    });
    out.push(b'\n');
}

// pg: catalog/pg_class.h REPLICA_IDENTITY_DEFAULT and others [14-18]
const fn replica_identity(letter: u8) -> &'static str {
    match letter {
        b'n' => "nothing",
        b'f' => "full",
        b'i' => "index",
        _ => "default",
    }
}

/// Appends the line of a notice: something that a reader should know and that is no event.
pub fn push_notice_line(out: &mut Vec<u8>, code: &str, lsn: Lsn, detail: &str) {
    push_object(out, UTF8, |object| {
        object.string("kind", "notice");
        object.string("code", code);
        object.string("lsn", &lsn.to_string());
        object.string("detail", detail);
    });
    out.push(b'\n');
}
