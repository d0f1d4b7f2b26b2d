//! Strings, bytes and bits.

use crate::generator::random::Random;

/// The text of a string-like type; none for other types.
pub(super) fn text(random: &mut Random, major: u32, values: &str) -> Option<String> {
    Some(match values {
        "text" => string(random, 60),
        "text_short" => string(random, 5),
        "char" => {
            if major >= 15 && random.chance(20) {
                "\\377".to_owned()
            } else {
                random
                    .pick(&["a", "", "Z", "'", "\\", " ", "\""])
                    .to_owned()
            }
        }
        "bytea" => {
            let count = random.small(40);
            let hex: String = (0..count)
                .map(|_| format!("{:02x}", random.below(256)))
                .collect();
            format!("\\x{hex}")
        }
        "bit7" => bits(random, 7),
        "varbit" => {
            let count = random.small(70);
            bits(random, count)
        }
        _ => return None,
    })
}

/// An expression of a long value, for types that have any: some compress, some do not, some
/// stay in the row, some go out of line.
pub(super) fn long(random: &mut Random, values: &str) -> Option<String> {
    let repeated = 100 + random.below(20_000);
    let pieces = 30 + random.small(1500);
    let salt = random.below(1_000_000);
    let incompressible = format!(
        "(select string_agg(md5(i::text || '{salt}'), '') from generate_series(1, {pieces}) i)"
    );
    let text = if random.chance(50) {
        format!("repeat('long{salt} ', {repeated})")
    } else {
        incompressible
    };
    match values {
        "text" => Some(text),
        "bytea" => Some(format!("convert_to({text}, 'UTF8')")),
        "jsonb" => Some(format!("jsonb_build_object('long', {text}, 'n', {salt})")),
        "json" => Some(format!("json_build_object('long', {text}, 'n', {salt})")),
        "numeric" => Some(format!(
            "('1' || repeat('{salt}', {}))::numeric",
            20 + random.below(400)
        )),
        _ => None,
    }
}

fn string(random: &mut Random, limit: usize) -> String {
    const PIECES: &[&str] = &[
        "a", "b", "Z", "0", "9", " ", "'", "\"", "\\", "\n", "\t", "\r", "ü", "€", "漢", "😀", "[",
        "]", ":", ",", "{", "}", "(", ")", "null", "%", "&", "<", "\u{1}", "--", "$$", "BEGIN",
        "COMMIT 7",
    ];
    let count = random.small(limit);
    let plain = random.chance(50);
    let mut text = String::new();
    while text.chars().count() < count {
        text.push_str(if plain {
            PIECES[random.below(5)]
        } else {
            random.pick(PIECES)
        });
    }
    text.chars().take(count).collect()
}

fn bits(random: &mut Random, count: usize) -> String {
    (0..count)
        .map(|_| if random.chance(50) { '1' } else { '0' })
        .collect()
}
