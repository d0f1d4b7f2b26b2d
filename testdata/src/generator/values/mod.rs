//! Literals of every type, edges included.

mod documents;
mod numbers;
mod others;
mod strings;
mod times;

use super::kinds::Kind;
use super::model::{OwnKind, World, literal};
use super::random::Random;

/// An expression for a value of this type, null now and then.
pub fn expression(random: &mut Random, world: &World, kind: &Kind) -> String {
    if random.chance(8) {
        return "null".to_owned();
    }
    // Long values come from expressions: as literals they would swell the script.
    if let Kind::Base(base) = kind
        && random.chance(6)
        && let Some(long) = strings::long(random, base.values)
    {
        return long;
    }
    format!(
        "{}::{}",
        literal(&text(random, world, kind)),
        kind.cast(world)
    )
}

/// Bytes of an element of an array or a composite.
const ELEMENT_BYTES_MAX: usize = 64 * 1024;

/// An expression that is never null.
pub fn present(random: &mut Random, world: &World, kind: &Kind) -> String {
    format!(
        "{}::{}",
        literal(&text(random, world, kind)),
        kind.cast(world)
    )
}

/// The text form of a value, as the type's input function takes it.
pub fn text(random: &mut Random, world: &World, kind: &Kind) -> String {
    match kind {
        Kind::Base(base) => base_text(random, world.major, base.values),
        Kind::Array(inner) => array(random, world, inner),
        Kind::Own(index) => match &world.types[*index].kind {
            OwnKind::Enum(labels) => labels[random.below(labels.len())].clone(),
            OwnKind::Domain(inner) => text(random, world, inner),
            OwnKind::Range(base) => others::range(random, world.major, base.values),
            OwnKind::Composite(fields) => {
                let fields: Vec<String> = fields
                    .iter()
                    .map(|field| {
                        if random.chance(15) {
                            String::new()
                        } else {
                            double_quoted(&text(random, world, field)).unwrap_or_default()
                        }
                    })
                    .collect();
                format!("({})", fields.join(","))
            }
        },
    }
}

fn array(random: &mut Random, world: &World, inner: &Kind) -> String {
    let element = |random: &mut Random| {
        if random.chance(15) {
            "NULL".to_owned()
        } else {
            let element = double_quoted(&text(random, world, inner));
            element.unwrap_or_else(|| "NULL".to_owned())
        }
    };
    // Boxes are separated by semicolons.
    let comma = if matches!(inner, Kind::Base(base) if base.values == "box") {
        ";"
    } else {
        ","
    };
    let row = |random: &mut Random, count: usize| {
        let elements: Vec<String> = (0..count).map(|_| element(random)).collect();
        format!("{{{}}}", elements.join(comma))
    };
    match random.below(10) {
        0 => "{}".to_owned(),
        1 => {
            let count = 1 + random.below(3);
            let rows: Vec<String> = (0..=random.below(3)).map(|_| row(random, count)).collect();
            format!("{{{}}}", rows.join(comma))
        }
        2 => {
            let low = random.between(-5, 9);
            format!("[{low}:{}]={}", low + 1, row(random, 2))
        }
        _ => {
            let count = 1 + random.small(6);
            row(random, count)
        }
    }
}

/// An element of an array or a composite, quoted so that any text is safe in it; none where it would
/// be too long: each level of types within types may double the text.
fn double_quoted(text: &str) -> Option<String> {
    let quoted = || format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    (text.len() <= ELEMENT_BYTES_MAX).then(quoted)
}

fn base_text(random: &mut Random, major: u32, values: &str) -> String {
    numbers::text(random, values)
        .or_else(|| strings::text(random, major, values))
        .or_else(|| times::text(random, major, values))
        .or_else(|| documents::text(random, values))
        .or_else(|| others::text(random, values))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::kinds::BASES;
    use super::*;

    #[test]
    fn every_type_has_values() {
        let mut random = Random::new(7);
        for base in BASES {
            let some = (0..50).any(|_| !base_text(&mut random, 18, base.values).is_empty());
            assert!(some, "no values for {}", base.sql);
        }
    }
}
