//! Which function prints a type: documents, text search, geometry, networks, and the types of
//! PostgreSQL's contrib modules and of pgvector.

use super::{
    TextFn, geometric, hstore, isn, jsonb, jsonpath, ltree, network, seg, system, text_search,
    vector, xml,
};

/// The text function for an output function, by its C symbol (`pg_proc.prosrc`) and its library
/// (`pg_proc.probin`, empty for PostgreSQL's own).
pub(crate) fn lookup(symbol: &str, library: &str) -> Option<TextFn> {
    let function: TextFn = match (module(library), symbol) {
        ("", _) => return built_in(symbol),
        ("hstore", "hstore_out") => hstore::hstore_text,
        ("ltree", "ltree_out") => ltree::ltree_text,
        ("ltree", "lquery_out") => ltree::lquery_text,
        ("ltree", "ltxtq_out") => ltree::ltxtquery_text,
        ("cube", "cube_out") => geometric::cube_text,
        ("seg", "seg_out") => seg::seg_text,
        ("isn", "ean13_out") => isn::ean13_text,
        ("isn", "isn_out") => isn::isn_text,
        ("_int", "bqarr_out") => system::query_int_text,
        ("vector", "vector_out") => vector::vector_text,
        ("vector", "halfvec_out") => vector::halfvec_text,
        ("vector", "sparsevec_out") => vector::sparsevec_text,
        _ => return None,
    };
    Some(function)
}

/// The function that gives a value as JSON, for types that have a cast of their own to `json`,
/// which `to_json()` then takes.
pub(crate) fn json(symbol: &str, library: &str) -> Option<TextFn> {
    match (module(library), symbol) {
        ("hstore", "hstore_out") => Some(hstore::hstore_json),
        _ => None,
    }
}

/// The library without what CREATE FUNCTION may have been given: directory and suffix.
fn module(library: &str) -> &str {
    let file = library.rsplit('/').next().unwrap_or(library);
    file.strip_suffix(".so").unwrap_or(file)
}

fn built_in(symbol: &str) -> Option<TextFn> {
    let function: TextFn = match symbol {
        "json_out" => jsonb::json_text,
        "jsonb_out" => jsonb::jsonb_text,
        "jsonpath_out" => jsonpath::jsonpath_text,
        "tsvectorout" => text_search::tsvector_text,
        "tsqueryout" => text_search::tsquery_text,
        "xml_out" => xml::xml_text,
        "point_out" => geometric::point_text,
        "lseg_out" => geometric::lseg_text,
        "path_out" => geometric::path_text,
        "box_out" => geometric::box_text,
        "poly_out" => geometric::polygon_text,
        "line_out" => geometric::line_text,
        "circle_out" => geometric::circle_text,
        "inet_out" => network::inet_text,
        "cidr_out" => network::cidr_text,
        "macaddr_out" => network::macaddr_text,
        "macaddr8_out" => network::macaddr8_text,
        "pg_lsn_out" => system::lsn_text,
        "tidout" => system::tid_text,
        "pg_snapshot_out" => system::snapshot_text,
        "pg_ndistinct_out" => system::ndistinct_text,
        "pg_dependencies_out" => system::dependencies_text,
        "pg_mcv_list_out" => system::mcv_list_text,
        "pg_node_tree_out" => system::node_tree_text,
        _ => return None,
    };
    Some(function)
}

#[cfg(test)]
mod recorded;
