//! Network, geometry, ranges, and the types that name other objects.

use crate::generator::random::Random;

/// The text of one of these types; none for other types.
pub(super) fn text(random: &mut Random, values: &str) -> Option<String> {
    Some(match values {
        "uuid" => format!("{:016x}{:016x}", random.bits(), random.bits()),
        "inet" | "cidr" => network(random, values == "cidr"),
        "macaddr" => mac(random, 6),
        "macaddr8" => mac(random, 8),
        "pg_lsn" => format!(
            "{:X}/{:X}",
            random.bits() >> (32 + random.below(31)),
            random.bits() >> 33
        ),
        "snapshot" => {
            let low = 3 + random.below(1000);
            random
                .pick(&["%:%:", "%:9999:", "%:9999:5000,6000,7000"])
                .replace('%', &low.to_string())
        }
        "tid" => format!("({},{})", random.below(100_000), random.below(300)),
        "int2vector" => {
            let numbers: Vec<String> = (0..random.below(6))
                .map(|_| random.below(30_000).to_string())
                .collect();
            numbers.join(" ")
        }
        name if name.starts_with("reg") => object_name(random, name)?.to_owned(),
        "aclitem" => random
            .pick(&[
                "postgres=r/postgres",
                "=arwdDxt/postgres",
                "postgres=r*w*/postgres",
            ])
            .to_owned(),
        "hstore" | "ltree" | "cube" | "seg" | "isbn13" => extension(random, values),
        name if name.ends_with("multirange") => {
            let of = format!("{}range", name.trim_end_matches("multirange"));
            let ranges: Vec<String> = (0..random.below(4))
                .map(|_| base_range(random, &of))
                .collect();
            format!("{{{}}}", ranges.join(","))
        }
        name if name.ends_with("range") => base_range(random, name),
        name => geometry(random, name)?,
    })
}

/// Types of the extensions that come with PostgreSQL.
fn extension(random: &mut Random, name: &str) -> String {
    let (a, b) = (random.between(-500, 500), random.below(500));
    match name {
        "hstore" => random
            .pick(&["", "a=>%", "\"with space\"=>\"q\\\"%\", b=>NULL", "\"\"=>%"])
            .replace('%', &b.to_string()),
        "ltree" => random
            .pick(&["", "Top", "Top.A_%.c", "a.b.c.d.e.f.n%"])
            .replace('%', &b.to_string()),
        "cube" => match random.below(4) {
            0 => "()".to_owned(),
            1 => format!("({a})"),
            2 => format!("({a}, {b}.5),(0, -1e-7)"),
            _ => format!("({a}, {b}, 1e300)"),
        },
        "seg" => match random.below(5) {
            0 => format!("{a}"),
            1 => format!("~{b}.50"),
            2 => format!("{} .. {}.00", a.min(0), b),
            3 => format!("{b}(+-)0.3"),
            _ => format!("< {b} .."),
        },
        _ => random
            .pick(&["978-0-306-40615-7", "9791090636071", "978-3-16-148410-0"])
            .to_owned(),
    }
}

/// A range over values of a built-in type.
pub(super) fn range(random: &mut Random, major: u32, of: &str) -> String {
    if random.chance(10) {
        return "empty".to_owned();
    }
    let mut bound = || match random.below(5) {
        0 => String::new(),
        _ => format!(
            "\"{}\"",
            super::base_text(random, major, of)
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
        ),
    };
    let (low, high) = (bound(), bound());
    format!(
        "{}{low},{high}{}",
        random.pick(&["[", "("]),
        random.pick(&["]", ")"])
    )
}

/// A range of a built-in range type, its bounds in order.
fn base_range(random: &mut Random, name: &str) -> String {
    if random.chance(10) {
        return "empty".to_owned();
    }
    let low = random.between(-1000, 1000);
    let high = low + random.between(0, 50);
    let show = |number: i64| match name {
        "daterange" => format!(
            "{:04}-{:02}-15",
            2000 + number / 12,
            1 + number.unsigned_abs() % 12
        ),
        "tsrange" => format!(
            "\"{:04}-{:02}-15 10:00:00.5\"",
            2000 + number / 12,
            1 + number.unsigned_abs() % 12
        ),
        "tstzrange" => format!(
            "\"{:04}-{:02}-15 10:00:00+02\"",
            2000 + number / 12,
            1 + number.unsigned_abs() % 12
        ),
        "numrange" => format!("{number}.50"),
        _ => number.to_string(),
    };
    let (low, high) = (
        if random.chance(15) {
            String::new()
        } else {
            show(low)
        },
        if random.chance(15) {
            String::new()
        } else {
            show(high)
        },
    );
    format!(
        "{}{low},{high}{}",
        random.pick(&["[", "("]),
        random.pick(&["]", ")"])
    )
}

fn network(random: &mut Random, whole: bool) -> String {
    if whole {
        return random
            .pick(&[
                "10.0.0.0/8",
                "192.168.1.0/24",
                "2001:db8::/32",
                "0.0.0.0/0",
                "::1/128",
                "10.1.2.3/32",
            ])
            .to_owned();
    }
    match random.below(4) {
        0 => format!(
            "2001:db8::{:x}:{:x}/{}",
            random.below(65_536),
            random.below(65_536),
            random.below(129)
        ),
        1 => random
            .pick(&[
                "::",
                "::ffff:1.2.3.4",
                "fe80::1",
                "1:2:3:4:5:6:7:8",
                "::1.2.3.4",
            ])
            .to_owned(),
        2 => format!(
            "10.{}.{}.1/{}",
            random.below(256),
            random.below(256),
            random.below(33)
        ),
        _ => format!("{}.1.2.{}", random.below(256), random.below(256)),
    }
}

fn mac(random: &mut Random, bytes: usize) -> String {
    let parts: Vec<String> = (0..bytes)
        .map(|_| format!("{:02x}", random.below(256)))
        .collect();
    parts.join(":")
}

fn geometry(random: &mut Random, name: &str) -> Option<String> {
    let mut point = || {
        let mut number = || match random.below(8) {
            0 => "Infinity".to_owned(),
            1 => "1e-300".to_owned(),
            _ => format!("{}", random.between(-5000, 5000) as f64 / 8.0),
        };
        format!("({},{})", number(), number())
    };
    let (a, b, c) = (point(), point(), point());
    Some(match name {
        "point" => a,
        "line" => random
            .pick(&["{1,-1,0}", "{0.5,2,-3.25}", "{-1,0,7}"])
            .to_owned(),
        "lseg" => format!("[{a},{b}]"),
        "box" => format!("{a},{b}"),
        "path" => random
            .pick(&["[%]", "(%)"])
            .replace('%', &format!("{a},{b},{c}")),
        "polygon" => format!("({a},{b},{c})"),
        "circle" => format!("<{a},{}>", random.below(100)),
        _ => return None,
    })
}

fn object_name(random: &mut Random, kind: &str) -> Option<&'static str> {
    Some(match kind {
        "regclass" => random.pick(&[
            "pg_class",
            "information_schema.tables",
            "-",
            "99999999",
            "pg_type_oid_index",
        ]),
        "regtype" => random.pick(&[
            "integer",
            "text[]",
            "pg_catalog.\"char\"",
            "-",
            "timestamp with time zone",
            "99999999",
        ]),
        "regproc" => random.pick(&[
            "now",
            "pg_catalog.length(text)",
            "-",
            "99999999",
            "boolin",
            "textcat",
        ]),
        "regprocedure" => random.pick(&["abs(integer)", "length(text)", "-", "99999999", "now()"]),
        "regoper" => random.pick(&["0", "99999999", "||/", "|/"]),
        "regoperator" => random.pick(&["+(integer,integer)", "0", "-(NONE,bigint)", "99999999"]),
        "regrole" => random.pick(&["postgres", "pg_monitor", "-", "99999999"]),
        "regnamespace" => random.pick(&["pg_catalog", "public", "-", "99999999"]),
        "regconfig" => random.pick(&["simple", "english", "99999999", "-"]),
        "regdictionary" => random.pick(&["simple", "english_stem", "-", "99999999"]),
        "regcollation" => random.pick(&["\"C\"", "\"POSIX\"", "-", "99999999"]),
        _ => return None,
    })
}
