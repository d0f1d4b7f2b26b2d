//! The types of isn: product numbers with hyphens where their registrants end.
//!
//! All are stored as a u64: the 13 digits of the EAN as a number, times two, plus one if the
//! number was entered with a wrong check digit. `ean13`, `isbn13`, `ismn13` and `issn13` print it
//! whole; `isbn`, `ismn`, `issn` and `upc` in the older, shorter form where it has one.
// pg: contrib/isn/isn.c ean2string [14-18]

use std::sync::LazyLock;

use super::{TextContext, ValueError};
use crate::cursor::Cursor;

/// Ranges of prefixes, and those that decide about the hyphens of ISBNs.
static RANGES_TEXT: &str = include_str!("isn_ranges.txt");

/// The lines of one kind, each in words.
fn ranges_text(kind: &str) -> impl Iterator<Item = std::str::Split<'static, char>> {
    let lines = RANGES_TEXT
        .lines()
        .filter_map(move |line| line.strip_prefix(kind));
    lines.map(|line| line.split(' '))
}

/// The prefixes in use, as first and last.
// pg: contrib/isn/EAN13.h EAN13_range [14-18]
static PREFIXES: LazyLock<Vec<(u16, u16)>> = LazyLock::new(|| {
    let ranges = ranges_text("prefixes ").flatten().filter_map(|range| {
        let (first, last) = range.split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()?))
    });
    ranges.collect()
});

/// ISMNs: the registrants after `979-0`.
const ISMN_RANGES: [(&str, &str); 5] = [
    ("000", "099"),
    ("1000", "3999"),
    ("40000", "69999"),
    ("700000", "899999"),
    ("9000000", "9999999"),
];

/// ISBNs from `first` to `last` (their nine digits after the prefix) have these hyphens.
struct IsbnRange {
    /// 978 or 979.
    prefix: &'static str,
    first: u32,
    last: u32,
    group_digits: usize,
    registrant_digits: usize,
}

static ISBN_RANGES: LazyLock<Vec<IsbnRange>> = LazyLock::new(|| {
    ranges_text("isbn ")
        .flat_map(|mut words| {
            let (prefix, group) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
            words.filter_map(move |range| {
                let (first, last) = range.split_once('-')?;
                Some(IsbnRange {
                    prefix,
                    first: format!("{group}{first:0<0$}", 9 - group.len())
                        .parse()
                        .ok()?,
                    last: format!("{group}{last:9<0$}", 9 - group.len())
                        .parse()
                        .ok()?,
                    group_digits: group.len(),
                    registrant_digits: first.len(),
                })
            })
        })
        .collect()
});

/// What kind of number it is, which is read off its prefix.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Isbn,
    Ismn,
    Issn,
    Upc,
    Other,
}

/// `ean13_out`: all 13 digits.
pub(super) fn ean13_text(
    value: &[u8],
    _context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let (number, _) = hyphenate(value)?;
    out.extend_from_slice(number.as_bytes());
    Ok(())
}

/// `isn_out`: the short form.
pub(super) fn isn_text(
    value: &[u8],
    _context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let (number, kind) = hyphenate(value)?;
    let after_prefix = number.get(4..).unwrap_or_default();
    match kind {
        Kind::Isbn if number.starts_with("978-") => {
            // The check digit is another one; a mark after it stays.
            let (body, check) = after_prefix.split_at(after_prefix.rfind('-').unwrap_or(0) + 1);
            out.extend_from_slice(body.as_bytes());
            out.push(check_digit(body, 10));
            out.extend_from_slice(check.get(1..).unwrap_or_default().as_bytes());
        }
        Kind::Ismn => {
            out.push(b'M');
            out.extend_from_slice(after_prefix.get(1..).unwrap_or_default().as_bytes());
        }
        Kind::Issn => {
            let body = after_prefix.get(..8).unwrap_or_default();
            out.extend_from_slice(body.as_bytes());
            out.push(check_digit(body, 8));
        }
        Kind::Upc => out.extend(number.bytes().filter(u8::is_ascii_digit).skip(1)),
        Kind::Isbn | Kind::Other => out.extend_from_slice(number.as_bytes()),
    }
    Ok(())
}

/// The weighted check digit of the old forms: the digits of `body` weigh `weight` and downward.
fn check_digit(body: &str, weight: u32) -> u8 {
    let digits = body
        .bytes()
        .filter(u8::is_ascii_digit)
        .map(|digit| u32::from(digit - b'0'));
    let sum: u32 = digits
        .zip((2..=weight).rev())
        .map(|(digit, weight)| digit * weight)
        .sum();
    match (11 - sum % 11) % 11 {
        10 => b'X',
        check => b'0' + check as u8,
    }
}

/// The number with its hyphens, and what kind it is.
fn hyphenate(value: &[u8]) -> Result<(String, Kind), ValueError> {
    let mut cursor = Cursor::new(value);
    let stored = cursor.u64("isn")?;
    cursor.finish("isn")?;
    let digits = format!("{:013}", stored >> 1);
    if digits.len() > 13 {
        return Err(ValueError::invalid("isn", "more than 13 digits"));
    }
    let mark = if stored & 1 == 1 { "!" } else { "" };
    let (body, check) = digits.split_at(12);
    let (prefix, rest) = body.split_at(3);
    let known = |number| {
        PREFIXES
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&number))
    };
    if !prefix.parse().is_ok_and(known) {
        return Ok((format!("{body}-{check}{mark}"), Kind::Other));
    }
    let (kind, hyphens) = match prefix {
        "977" => (Kind::Issn, Some((4, 3))),
        "979" if rest.starts_with('0') => (Kind::Ismn, ismn_hyphens(rest)),
        "978" | "979" => (Kind::Isbn, isbn_hyphens(prefix, rest)),
        _ if prefix.starts_with('0') => (Kind::Upc, None),
        _ => (Kind::Other, None),
    };
    let number = match hyphens {
        Some((group, registrant)) => {
            let (group, rest) = rest.split_at(group);
            let (registrant, title) = rest.split_at(registrant);
            format!("{prefix}-{group}-{registrant}-{title}-{check}{mark}")
        }
        None => format!("{prefix}-{rest}-{check}{mark}"),
    };
    Ok((number, kind))
}

/// Digits of group and registrant of the ISBN with these nine digits after its prefix.
fn isbn_hyphens(prefix: &str, rest: &str) -> Option<(usize, usize)> {
    let number: u32 = rest.parse().ok()?;
    let ranges = &*ISBN_RANGES;
    let end = ranges.partition_point(|range| (range.prefix, range.first) <= (prefix, number));
    let range = ranges.get(end.checked_sub(1)?)?;
    (range.prefix == prefix && number <= range.last)
        .then_some((range.group_digits, range.registrant_digits))
}

fn ismn_hyphens(rest: &str) -> Option<(usize, usize)> {
    let after = rest.get(1..)?;
    let within = |(first, last): &&(&str, &str)| {
        after
            .get(..first.len())
            .is_some_and(|digits| (*first..=*last).contains(&digits))
    };
    ISMN_RANGES
        .iter()
        .find(within)
        .map(|(first, _)| (1, first.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_sorted() {
        assert_eq!(PREFIXES.len(), 56);
        let ranges = &*ISBN_RANGES;
        assert_eq!(ranges.len(), 915);
        for pair in ranges.windows(2) {
            assert!((pair[0].prefix, pair[0].last) < (pair[1].prefix, pair[1].first));
        }
    }
}
