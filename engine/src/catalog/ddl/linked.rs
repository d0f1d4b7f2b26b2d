//! Objects that have no name of their own: casts, transforms, user mappings, default privileges. They
//! are named by what they link.

use redostream_protocol::Oid;
use redostream_protocol::ddl::Property;
use redostream_protocol::schema::Name;

use super::super::CatalogError;
use super::super::layout::oid;
use super::super::view::{Row, View};
use super::names::{role_name, schema_name, type_text};
use super::state::OtherState;

/// An object by its row in `catalog`.
pub(crate) fn describe(
    view: &View<'_>,
    catalog: Oid,
    row: &Row<'_>,
) -> Result<OtherState, CatalogError> {
    let data_type = |column| Ok::<_, CatalogError>(type_text(view, row.oid(column)?, -1)?.0);
    let mut state = OtherState {
        oid: row.oid("oid")?,
        rest: row.checksum(None),
        ..OtherState::default()
    };
    let (object, name) = match catalog {
        oid::CAST => {
            let (source, target) = (data_type("castsource")?, data_type("casttarget")?);
            state.references = vec![row.oid("castsource")?, row.oid("casttarget")?];
            let name = [b"(", source.as_bytes(), b" AS ", target.as_bytes(), b")"].concat();
            state.set("source", Property::Text(source));
            state.set("target", Property::Text(target));
            ("cast", name)
        }
        oid::TRANSFORM => {
            let of = data_type("trftype")?;
            let language = view.row_of(oid::LANGUAGE, "oid", row.oid("trflang")?)?;
            let language = language.map(|row| row.name("lanname")).transpose()?;
            let language = language.unwrap_or_default();
            state.references = vec![row.oid("trftype")?, row.oid("trflang")?];
            let name = [b"FOR ", of.as_bytes(), b" LANGUAGE ", language.as_bytes()].concat();
            state.set("type", Property::Text(of));
            state.set("language", Property::Text(language));
            ("transform", name)
        }
        oid::DEFAULT_ACL => ("default acl", default_privileges(view, row, &mut state)?),
        _ => {
            let user = role_name(view, row.oid("umuser")?)?;
            let server = row.oid("umserver")?;
            state.references = vec![server];
            let server = view.row_of(oid::FOREIGN_SERVER, "oid", server)?;
            let server = server.map(|row| row.name("srvname")).transpose()?;
            state.set("server", server.map_or(Property::Null, Property::Text));
            (
                "user mapping",
                user.map_or(b"public".to_vec(), |user| user.0),
            )
        }
    };
    object.clone_into(&mut state.object);
    state.name = Name(name);
    Ok(state)
}

/// What a role gives others on objects that it will make: in one schema, or wherever.
// pg: catalog/pg_default_acl.h DEFACLOBJ_* [14-18; 18: large objects]
fn default_privileges(
    view: &View<'_>,
    row: &Row<'_>,
    state: &mut OtherState,
) -> Result<Vec<u8>, CatalogError> {
    let role = role_name(view, row.oid("defaclrole")?)?.unwrap_or_default();
    let objects = match row.byte("defaclobjtype")? {
        b'r' => "tables",
        b'S' => "sequences",
        b'f' => "functions",
        b'T' => "types",
        b'n' => "schemas",
        b'L' => "large objects",
        _ => "objects",
    };
    let mut name = [b"for role ", role.as_bytes()].concat();
    state.set("role", Property::Text(role));
    let namespace = row.oid("defaclnamespace")?;
    if namespace.is_valid() {
        let schema = schema_name(view, namespace)?;
        name.extend_from_slice(&[b" in schema ", schema.as_bytes()].concat());
        state.references.push(namespace);
        state.set("in_schema", Property::Text(schema));
    } else {
        state.set("in_schema", Property::Null);
    }
    name.extend_from_slice(&[b" on ", objects.as_bytes()].concat());
    state.set("objects", Property::Text(Name::from(objects)));
    Ok(name)
}
