//! Which function of ours prints what an output function of PostgreSQL prints.

use super::{TextFn, other_families};
use super::{
    bits, boolean, bytea, datetime, float, integer, interval, money, names, numeric, text, uuid,
};
use crate::schema::OutputFunction;

/// The function for a base type; none if it is code we do not know.
// pg: catalog/pg_proc.dat prosrc [14-18]
pub(crate) fn lookup(function: &OutputFunction) -> Option<TextFn> {
    built_in(function).or_else(|| other_families::lookup(&function.symbol, &function.library))
}

fn built_in(function: &OutputFunction) -> Option<TextFn> {
    if !function.library.is_empty() {
        return None;
    }
    Some(match function.symbol.as_str() {
        "boolout" => boolean::bool_text,
        "int2out" => integer::int2_text,
        "int4out" => integer::int4_text,
        "int8out" => integer::int8_text,
        "oidout" | "xidout" | "cidout" => integer::oid_text,
        "xid8out" => integer::xid8_text,
        "int2vectorout" => integer::int2vector_text,
        "oidvectorout" => integer::oidvector_text,
        "float4out" => float::float4_text,
        "float8out" => float::float8_text,
        "numeric_out" => numeric::numeric_text,
        "cash_out" => money::cash_text,
        "textout" | "varcharout" | "bpcharout" | "unknownout" | "cstring_out" => text::text_text,
        "nameout" => text::name_text,
        "charout" => text::char_text,
        "byteaout" => bytea::bytea_text,
        "bit_out" | "varbit_out" => bits::bit_text,
        "date_out" => datetime::date_text,
        "time_out" => datetime::time_text,
        "timetz_out" => datetime::timetz_text,
        "timestamp_out" => datetime::timestamp_text,
        "timestamptz_out" => datetime::timestamptz_text,
        "interval_out" => interval::interval_text,
        "uuid_out" => uuid::uuid_text,
        symbol => return names::lookup(symbol),
    })
}
