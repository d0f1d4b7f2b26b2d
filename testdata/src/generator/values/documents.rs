//! JSON, XML and text search.

use crate::generator::random::Random;

/// The text of a document type; none for other types.
pub(super) fn text(random: &mut Random, values: &str) -> Option<String> {
    Some(match values {
        "json" => {
            let space = random.pick(&["", " ", "\n  "]);
            format!("{space}{}{space}", json(random, 3))
        }
        "jsonb" => json(random, 4),
        "jsonpath" => random
            .pick(&[
                "$",
                "$.a[*] ? (@ > 3)",
                "strict $.\"a b\".c[0 to last]",
                "lax $.** ? (exists (@.x) && !(@.y == null))",
                "$.a like_regex \"^x.*\\\\d\" flag \"i\"",
                "($.a + -1.50) * 2 % 3",
                "$.t.datetime(\"YYYY\") starts with \"20\"",
                "$v[1, 3 to 5].type()",
            ])
            .to_owned(),
        "xml" => random
            .pick(&[
                "<a/>",
                "<a b=\"c\">text &amp; more</a>",
                "plain",
                "<?xml version=\"1.0\"?><r>ü</r>",
                "<x/><y/>",
                "",
            ])
            .to_owned(),
        "tsvector" => random
            .pick(&[
                "",
                "a:1 fat:2A,4B cat:3C",
                "'with space' 'it''s':7",
                "x:16383 y:1,2,3,4,5,6",
                "'\\\\back'",
            ])
            .to_owned(),
        "tsquery" => random
            .pick(&[
                "fat & (rat | !cat)",
                "a <-> b <3> c",
                "'sp ace':*AB",
                "!(a & b) | c",
                "super:* & !!x",
            ])
            .to_owned(),
        _ => return None,
    })
}

fn json(random: &mut Random, depth: usize) -> String {
    const STRINGS: &[&str] = &[
        "\"\"",
        "\"a\"",
        "\"ü€😀\"",
        "\"q\\\"\\\\ \\n\\t\"",
        "\"\\u00e9\\u0041\"",
        "\"2020-01-01\"",
    ];
    const NUMBERS: &[&str] = &[
        "0",
        "-1",
        "1.50",
        "1e3",
        "123456789012345678901234567890",
        "-0.0001",
        "1E-7",
    ];
    match random.below(if depth == 0 { 4 } else { 7 }) {
        0 => random.pick(&["null", "true", "false"]).to_owned(),
        1 => random.pick(STRINGS).to_owned(),
        2 | 3 => random.pick(NUMBERS).to_owned(),
        4 => {
            let items: Vec<String> = (0..random.below(4))
                .map(|_| json(random, depth - 1))
                .collect();
            format!("[{}]", items.join(", "))
        }
        _ => {
            let keys = ["\"a\"", "\"bb\"", "\"a b\"", "\"\"", "\"Ü\"", "\"ccc\""];
            let items: Vec<String> = (0..random.below(5))
                .map(|_| format!("{}: {}", random.pick(&keys), json(random, depth - 1)))
                .collect();
            format!("{{{}}}", items.join(", "))
        }
    }
}
