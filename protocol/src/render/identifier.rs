//! Identifiers in SQL text: quoted only if they must be, by the key words of the server's version.

/// Key words that are not free to be names, in every version.
// pg: parser/kwlist.h, all but UNRESERVED_KEYWORD [14-18]
#[rustfmt::skip]
const KEYWORDS: &[&str] = &[
    "all", "analyse", "analyze", "and", "any", "array", "as", "asc", "asymmetric",
    "authorization", "between", "bigint", "binary", "bit", "boolean", "both", "case", "cast",
    "char", "character", "check", "coalesce", "collate", "collation", "column", "concurrently",
    "constraint", "create", "cross", "current_catalog", "current_date", "current_role",
    "current_schema", "current_time", "current_timestamp", "current_user", "dec", "decimal",
    "default", "deferrable", "desc", "distinct", "do", "else", "end", "except", "exists",
    "extract", "false", "fetch", "float", "for", "foreign", "freeze", "from", "full", "grant",
    "greatest", "group", "grouping", "having", "ilike", "in", "initially", "inner", "inout",
    "int", "integer", "intersect", "interval", "into", "is", "isnull", "join", "lateral",
    "leading", "least", "left", "like", "limit", "localtime", "localtimestamp", "national",
    "natural", "nchar", "none", "normalize", "not", "notnull", "null", "nullif", "numeric",
    "offset", "on", "only", "or", "order", "out", "outer", "overlaps", "overlay", "placing",
    "position", "precision", "primary", "real", "references", "returning", "right", "row",
    "select", "session_user", "setof", "similar", "smallint", "some", "substring", "symmetric",
    "table", "tablesample", "then", "time", "timestamp", "to", "trailing", "treat", "trim",
    "true", "union", "unique", "user", "using", "values", "varchar", "variadic", "verbose",
    "when", "where", "window", "with", "xmlattributes", "xmlconcat", "xmlelement", "xmlexists",
    "xmlforest", "xmlnamespaces", "xmlparse", "xmlpi", "xmlroot", "xmlserialize", "xmltable",
];

/// Those that a version added, sorted by word.
// pg: parser/kwlist.h [16], [17-18]
const KEYWORDS_ADDED: &[(&str, u16)] = &[
    ("json", 17),
    ("json_array", 16),
    ("json_arrayagg", 16),
    ("json_exists", 17),
    ("json_object", 16),
    ("json_objectagg", 16),
    ("json_query", 17),
    ("json_scalar", 17),
    ("json_serialize", 17),
    ("json_table", 17),
    ("json_value", 17),
    ("merge_action", 17),
    ("system_user", 16),
];

fn is_keyword(name: &[u8], major: u16) -> bool {
    let order = |word: &str| word.as_bytes().cmp(name);
    KEYWORDS.binary_search_by(|word| order(word)).is_ok()
        || KEYWORDS_ADDED
            .binary_search_by(|(word, _)| order(word))
            .is_ok_and(|at| KEYWORDS_ADDED[at].1 <= major)
}

/// Appends a name, in quotes if a scanner would not read it as the same name without.
// pg: utils/adt/ruleutils.c quote_identifier [14-18]
pub fn push_identifier(out: &mut Vec<u8>, name: &[u8], major: u16) {
    let safe_start = name
        .first()
        .is_some_and(|byte| byte.is_ascii_lowercase() || *byte == b'_');
    let safe = safe_start
        && name
            .iter()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'_')
        && !is_keyword(name, major);
    if safe {
        out.extend_from_slice(name);
        return;
    }
    out.push(b'"');
    for byte in name {
        if *byte == b'"' {
            out.push(b'"');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quoted(name: &str, major: u16) -> String {
        let mut out = Vec::new();
        push_identifier(&mut out, name.as_bytes(), major);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn names_are_quoted_where_the_version_needs_it() {
        for (name, major, expected) in [
            ("a", 15, "a"),
            ("_a1", 15, "_a1"),
            ("1a", 15, "\"1a\""),
            ("A", 15, "\"A\""),
            ("a b", 15, "\"a b\""),
            ("a\"b", 15, "\"a\"\"b\""),
            ("é", 15, "\"é\""),
            ("", 15, "\"\""),
            ("user", 15, "\"user\""),
            ("int", 15, "\"int\""),
            ("abort", 15, "abort"),
            ("json", 16, "json"),
            ("json", 17, "\"json\""),
            ("system_user", 15, "system_user"),
            ("system_user", 16, "\"system_user\""),
        ] {
            assert_eq!(quoted(name, major), expected, "{name} in {major}");
        }
    }

    #[test]
    fn lists_are_sorted() {
        assert!(KEYWORDS.is_sorted());
        assert!(KEYWORDS_ADDED.is_sorted());
    }
}
