//! Names as the server prints them with an empty `search_path`.

use redostream_protocol::Oid;
use redostream_protocol::ddl::{Property, TableName};
use redostream_protocol::render::identifier::push_identifier;
use redostream_protocol::schema::Name;

use super::super::CatalogError;
use super::super::layout::oid;
use super::super::type_desc::{PG_CATALOG, format_type_of};
use super::super::view::{Row, View};
use super::table::attributes;

/// Types whose text differs when modifiers are asked for and there are none: with a modifier of
/// one, their SQL names would say too much.
// pg: utils/adt/format_type.c format_type_extended [14-18]
const BIT: Oid = Oid(1560);
const BPCHAR: Oid = Oid(1042);

/// Functions that print type modifiers.
// pg: catalog/pg_proc.dat *typmodout [14-18]
mod modifier_out {
    pub(super) const INTERVAL: u32 = 2904;
    pub(super) const TIMESTAMP: u32 = 2906;
    pub(super) const TIMESTAMPTZ: u32 = 2908;
    pub(super) const TIME: u32 = 2910;
    pub(super) const TIMETZ: u32 = 2912;
    pub(super) const BPCHAR: u32 = 2914;
    pub(super) const VARCHAR: u32 = 2916;
    pub(super) const NUMERIC: u32 = 2918;
    pub(super) const BIT: u32 = 2920;
    pub(super) const VARBIT: u32 = 2921;
}

/// Appends an identifier, quoted if needed.
pub(crate) fn quoted(view: &View<'_>, out: &mut Vec<u8>, name: &Name) {
    push_identifier(out, name.as_bytes(), view.store.format.major);
}

/// Identifiers in a row, with commas.
pub(crate) fn quoted_list<'n>(
    view: &View<'_>,
    out: &mut Vec<u8>,
    names: impl IntoIterator<Item = &'n Name>,
) {
    for (number, name) in names.into_iter().enumerate() {
        if number > 0 {
            out.extend_from_slice(b", ");
        }
        quoted(view, out, name);
    }
}

/// A role's name; none for one that is not there.
pub(crate) fn role_name(view: &View<'_>, oid: Oid) -> Result<Option<Name>, CatalogError> {
    let role = view.row_of(oid::AUTHID, "oid", oid)?;
    role.map(|row| row.name("rolname")).transpose()
}

/// The name of a table's column, by its number.
pub(crate) fn column_name(
    view: &View<'_>,
    table: Oid,
    number: i32,
) -> Result<Property, CatalogError> {
    for row in attributes(view, table)? {
        if i32::from(row.i16("attnum")?) == number {
            return Ok(Property::Text(row.name("attname")?));
        }
    }
    Ok(Property::Null)
}

/// A schema's name; empty for one that is not there.
pub(crate) fn schema_name(view: &View<'_>, oid: Oid) -> Result<Name, CatalogError> {
    view.schema_name(oid)
}

/// `schema.name`, or the name alone in `pg_catalog` and where the schema is gone.
pub(crate) fn qualified(
    view: &View<'_>,
    out: &mut Vec<u8>,
    namespace: Oid,
    name: &Name,
) -> Result<(), CatalogError> {
    if namespace != PG_CATALOG {
        let schema = schema_name(view, namespace)?;
        if !schema.as_bytes().is_empty() {
            quoted(view, out, &schema);
            out.push(b'.');
        }
    }
    quoted(view, out, name);
    Ok(())
}

/// The name of a relation; none if it cannot be seen.
pub(crate) fn table_name(view: &View<'_>, oid: Oid) -> Result<Option<TableName>, CatalogError> {
    let Some(class) = view.row_of(oid::CLASS, "oid", oid)? else {
        return Ok(None);
    };
    Ok(Some(TableName {
        schema: schema_name(view, class.oid("relnamespace")?)?,
        table: class.name("relname")?,
    }))
}

/// A relation's name in SQL.
pub(crate) fn relation_text(view: &View<'_>, oid: Oid) -> Result<Option<Vec<u8>>, CatalogError> {
    let Some(class) = view.row_of(oid::CLASS, "oid", oid)? else {
        return Ok(None);
    };
    let mut out = Vec::new();
    let namespace = class.oid("relnamespace")?;
    qualified(view, &mut out, namespace, &class.name("relname")?)?;
    Ok(Some(out))
}

/// A collation's name in SQL, which is quoted always.
// pg: utils/adt/ruleutils.c generate_collation_name [14-18]
pub(crate) fn collation_text(view: &View<'_>, oid: Oid) -> Result<Option<Name>, CatalogError> {
    let Some(row) = view.row_of(oid::COLLATION, "oid", oid)? else {
        return Ok(None);
    };
    let mut out = Vec::new();
    let namespace = row.oid("collnamespace")?;
    qualified(view, &mut out, namespace, &row.name("collname")?)?;
    Ok(Some(Name(out)))
}

/// A type's name with its modifiers, and whether modifiers are missing in it.
pub(crate) fn type_text(
    view: &View<'_>,
    oid: Oid,
    modifier: i32,
) -> Result<(Name, bool), CatalogError> {
    let bare = format_type_of(view, oid, 0)?;
    let Some(row) = view.row_of(oid::TYPE, "oid", oid)? else {
        return Ok((bare, false));
    };
    let (element, brackets) = match bare.0.strip_suffix(b"[]") {
        Some(_) => match view.row_of(oid::TYPE, "oid", row.oid("typelem")?)? {
            Some(element) => (element, true),
            None => return Ok((bare, false)),
        },
        None => (row, false),
    };
    let element_oid = element.oid("oid")?;
    let (mut text, unknown) = if modifier < 0 {
        let text = match element_oid {
            BPCHAR => Name::from("bpchar"),
            BIT => Name::from("\"bit\""),
            _ => format_type_of(view, element_oid, 0)?,
        };
        (text, false)
    } else {
        with_modifier(view, &element, element_oid, modifier)?
    };
    if brackets {
        text.0.extend_from_slice(b"[]");
    }
    Ok((text, unknown))
}

fn with_modifier(
    view: &View<'_>,
    row: &Row<'_>,
    oid: Oid,
    modifier: i32,
) -> Result<(Name, bool), CatalogError> {
    let name = format_type_of(view, oid, 0)?;
    let output = row.oid("typmodout")?;
    let text = name.lossy();
    // The words behind the modifier are part of what prints it.
    let stem = text
        .strip_suffix(" without time zone")
        .or_else(|| text.strip_suffix(" with time zone"))
        .unwrap_or(&text)
        .as_bytes()
        .to_vec();
    let printed = match output.0 {
        0 => format!("({modifier})"),
        modifier_out::BPCHAR | modifier_out::VARCHAR => match modifier {
            5.. => format!("({})", modifier - 4),
            _ => String::new(),
        },
        modifier_out::BIT | modifier_out::VARBIT => format!("({modifier})"),
        modifier_out::NUMERIC => numeric(modifier, view.store.format.major),
        modifier_out::TIME | modifier_out::TIMESTAMP => {
            format!("({modifier}) without time zone")
        }
        modifier_out::TIMETZ | modifier_out::TIMESTAMPTZ => format!("({modifier}) with time zone"),
        modifier_out::INTERVAL => interval(modifier),
        _ => return Ok((name, true)),
    };
    let mut text = stem;
    text.extend_from_slice(printed.as_bytes());
    Ok((Name(text), false))
}

// pg: utils/adt/numeric.c numerictypmodout [14: 16 bits of scale, 15-18: 11 bits, signed]
fn numeric(modifier: i32, major: u16) -> String {
    if modifier < 4 {
        return String::new();
    }
    let packed = modifier - 4;
    let precision = (packed >> 16) & 0xFFFF;
    let scale = if major < 15 {
        packed & 0xFFFF
    } else {
        ((packed & 0x7FF) ^ 1024) - 1024
    };
    format!("({precision},{scale})")
}

// pg: utils/adt/timestamp.c intervaltypmodout; utils/timestamp.h INTERVAL_MASK [14-18]
fn interval(modifier: i32) -> String {
    const MONTH: i32 = 1 << 1;
    const YEAR: i32 = 1 << 2;
    const DAY: i32 = 1 << 3;
    const HOUR: i32 = 1 << 10;
    const MINUTE: i32 = 1 << 11;
    const SECOND: i32 = 1 << 12;
    const FULL_PRECISION: i32 = 0xFFFF;
    let fields = (modifier >> 16) & 0x7FFF;
    let precision = modifier & 0xFFFF;
    let units = [
        (YEAR, "year"),
        (MONTH, "month"),
        (DAY, "day"),
        (HOUR, "hour"),
        (MINUTE, "minute"),
        (SECOND, "second"),
    ];
    let mut given = units.iter().filter(|(bit, _)| fields & bit != 0);
    let words = match (fields, given.next(), given.next_back()) {
        (0x7FFF, ..) | (_, None, _) => String::new(),
        (_, Some((_, only)), None) => format!(" {only}"),
        (_, Some((_, first)), Some((_, last))) => format!(" {first} to {last}"),
    };
    if precision == FULL_PRECISION {
        words
    } else {
        format!("{words}({precision})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modifiers_of_numbers_and_intervals() {
        let packed = |precision: i32, scale: i32| ((precision << 16) | (scale & 0x7FF)) + 4;
        assert_eq!(numeric(packed(10, 2), 14), "(10,2)");
        assert_eq!(numeric(packed(10, -2), 15), "(10,-2)");
        assert_eq!(interval(0x7FFF << 16 | 0xFFFF), "");
        assert_eq!(interval(0x7FFF << 16 | 3), "(3)");
        assert_eq!(
            interval((1 << 3 | 1 << 10 | 1 << 11 | 1 << 12) << 16 | 2),
            " day to second(2)"
        );
        assert_eq!(interval((1 << 2) << 16 | 0xFFFF), " year");
    }
}
