//! Dates, times and intervals.

use crate::generator::random::Random;

/// The text of a date or time type; none for other types.
pub(super) fn text(random: &mut Random, major: u32, values: &str) -> Option<String> {
    Some(match values {
        "date" => match random.below(12) {
            0 => random.pick(&["infinity", "-infinity"]).to_owned(),
            1 => "4713-01-01 BC".to_owned(),
            2 => "5874897-12-31".to_owned(),
            _ => date(random),
        },
        "time" => match random.below(10) {
            0 => random
                .pick(&["24:00:00", "00:00:00", "23:59:59.999999"])
                .to_owned(),
            _ => time(random),
        },
        "timetz" => format!("{}{}", time(random), zone(random)),
        "timestamp" => timestamp(random),
        "timestamptz" => {
            let timestamp = timestamp(random);
            if timestamp.contains("infinity") || timestamp.ends_with("BC") {
                timestamp
            } else {
                format!("{timestamp}{}", zone(random))
            }
        }
        "interval" => interval(random, major),
        _ => return None,
    })
}

fn date(random: &mut Random) -> String {
    let bc = if random.chance(6) { " BC" } else { "" };
    let year = if random.chance(15) {
        random.between(1, 20_000)
    } else {
        random.between(1990, 2030)
    };
    let year = if bc.is_empty() { year } else { year.min(4000) };
    format!(
        "{year:04}-{:02}-{:02}{bc}",
        1 + random.below(12),
        1 + random.below(28)
    )
}

fn time(random: &mut Random) -> String {
    let fraction = match random.below(4) {
        0 => String::new(),
        1 => format!(".{:06}", random.below(1_000_000)),
        2 => format!(".{}", random.below(10)),
        _ => format!(".{:03}", random.below(1000)),
    };
    format!(
        "{:02}:{:02}:{:02}{fraction}",
        random.below(24),
        random.below(60),
        random.below(60)
    )
}

fn timestamp(random: &mut Random) -> String {
    match random.below(14) {
        0 => random.pick(&["infinity", "-infinity"]).to_owned(),
        1 => "294276-12-31 23:59:59.999999".to_owned(),
        2 => "4713-01-01 00:00:00 BC".to_owned(),
        _ => {
            let date = date(random);
            match date.strip_suffix(" BC") {
                Some(day) => format!("{day} {} BC", time(random)),
                None => format!("{date} {}", time(random)),
            }
        }
    }
}

fn zone(random: &mut Random) -> &'static str {
    random.pick(&["+00", "-08", "+05:30", "+12:45", "-03:30:15", "+15:59"])
}

fn interval(random: &mut Random, major: u32) -> String {
    match random.below(14) {
        0 if major >= 17 => random.pick(&["infinity", "-infinity"]).to_owned(),
        0 | 1 => random
            .pick(&[
                "0",
                "1 year",
                "-1 day",
                "178000000 years",
                "-178000000 years",
                "1 mon -1 day",
            ])
            .to_owned(),
        _ => {
            let mut part = |unit: &str, limit: i64| {
                if random.chance(50) {
                    format!("{} {unit} ", random.between(-limit, limit))
                } else {
                    String::new()
                }
            };
            let parts = [part("years", 99), part("months", 40), part("days", 400)].concat();
            format!("{parts}{}{}", random.pick(&["", "-"]), time(random))
        }
    }
}
