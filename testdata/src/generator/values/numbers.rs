//! Numbers and what is stored like them.

use crate::generator::random::Random;

/// The text of a number of this type; none for other types.
pub(super) fn text(random: &mut Random, values: &str) -> Option<String> {
    Some(match values {
        "int2" => integer(random, i64::from(i16::MIN), i64::from(i16::MAX)),
        "int4" => integer(random, i64::from(i32::MIN), i64::from(i32::MAX)),
        "int4_small" => random.between(-90_000, 90_000).to_string(),
        "int8" => integer(random, i64::MIN, i64::MAX),
        "numeric" => numeric(random),
        "numeric_small" => format!(
            "{}.{:03}",
            random.between(-99_999, 99_999),
            random.below(1000)
        ),
        "float4" => float(random, true),
        "float8" => float(random, false),
        "money" => format!(
            "{}.{:02}",
            random.between(-9_000_000_000, 9_000_000_000),
            random.below(100)
        ),
        "bool" => random.pick(&["true", "false"]).to_owned(),
        "oid" | "xid" => (random.bits() >> (32 + random.below(32))).to_string(),
        "xid8" => random.bits().to_string(),
        _ => return None,
    })
}

fn integer(random: &mut Random, low: i64, high: i64) -> String {
    match random.below(12) {
        0 => low,
        1 => high,
        2 => 0,
        3 => -1,
        4 => random.between(low, high),
        _ => random.between(low.max(-1000), high.min(1000)),
    }
    .to_string()
}

fn numeric(random: &mut Random) -> String {
    let digits = |random: &mut Random, count: usize| -> String {
        (0..count)
            .map(|_| char::from(b'0' + random.below(10) as u8))
            .collect()
    };
    let sign = random.pick(&["", "-"]);
    match random.below(14) {
        0 => "NaN".to_owned(),
        1 => format!("{sign}Infinity"),
        2 => "0".to_owned(),
        3 => format!("0.{}", "0".repeat(random.below(30))),
        4 => format!("{sign}1e{}", random.between(-300, 300)),
        5 => {
            let (before, after) = (1 + random.below(400), random.below(200));
            format!(
                "{sign}{}.{}1",
                digits(random, before),
                digits(random, after)
            )
        }
        6 => format!("{sign}{}0000", 1 + random.below(10_000)),
        7 => format!("{sign}0.000{}", 1 + random.below(99_999)),
        _ => {
            let (before, after) = (1 + random.below(12), random.below(8));
            format!(
                "{sign}{}.{}0",
                digits(random, before),
                digits(random, after)
            )
        }
    }
}

fn float(random: &mut Random, single: bool) -> String {
    match random.below(12) {
        0 => "NaN".to_owned(),
        1 => random.pick(&["Infinity", "-Infinity"]).to_owned(),
        2 => random
            .pick(&[
                "0",
                "-0",
                "1e-44",
                "3.4028234e38",
                "1e15",
                "1e16",
                "1e5",
                "123456",
                "1e-4",
                "1e-5",
            ])
            .to_owned(),
        3..=5 => {
            let bits = random.bits();
            let text = if single {
                format!("{:e}", f32::from_bits((bits >> 32) as u32))
            } else {
                format!("{:e}", f64::from_bits(bits))
            };
            if text.contains("inf") || text.contains("NaN") {
                "1.5".to_owned()
            } else {
                text
            }
        }
        _ => format!(
            "{}",
            random.between(-100_000, 100_000) as f64 / [1.0, 3.0, 7.0, 1000.0][random.below(4)]
        ),
    }
}
