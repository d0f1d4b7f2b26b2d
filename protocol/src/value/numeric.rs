//! `numeric`: digits to the base 10000 behind a header of two or four bytes.
//!
//! ```text
//! short  | 1 0 sign(1) scale(6) weight sign(1) weight(6) | digits, i16 each
//! long   | sign(2) scale(14) | weight i16 | digits
//! special| 1 1 NaN 0xC000, Infinity 0xD000, -Infinity 0xF000
//! ```

use super::digits::{push_padded, push_u64};
use super::{TextContext, ValueError};
use crate::cursor::Cursor;

const BASE_DIGITS: i32 = 4;
const BASE: u16 = 10_000;

// pg: utils/adt/numeric.c NumericChoice, numeric_out, get_str_from_var [14-18]
pub(crate) fn numeric_text(
    value: &[u8],
    _context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let mut cursor = Cursor::new(value);
    let header = cursor.u16("numeric header")?;
    let (negative, scale, weight) = match header & 0xC000 {
        0xC000 => {
            let special: &[u8] = match header {
                0xC000 => b"NaN",
                0xD000 => b"Infinity",
                0xF000 => b"-Infinity",
                _ => return Err(ValueError::invalid("numeric", "unknown special value")),
            };
            cursor.finish("numeric")?;
            out.extend_from_slice(special);
            return Ok(());
        }
        0x8000 => {
            let below_zero = if header & 0x0040 != 0 { -64 } else { 0 };
            let weight = i32::from(header & 0x003F) + below_zero;
            (header & 0x2000 != 0, (header & 0x1F80) >> 7, weight)
        }
        sign => {
            let weight = i32::from(cursor.u16("numeric weight")? as i16);
            (sign == 0x4000, header & 0x3FFF, weight)
        }
    };
    let digits = Digits::new(cursor.rest())?;
    if negative {
        out.push(b'-');
    }
    push_whole(out, &digits, weight);
    if scale > 0 {
        push_fraction(out, &digits, weight, usize::from(scale));
    }
    Ok(())
}

/// The digits to the base 10000, zero wherever none is stored.
struct Digits<'a>(&'a [[u8; 2]]);

impl<'a> Digits<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, ValueError> {
        let (digits, rest) = bytes.as_chunks();
        if !rest.is_empty() {
            return Err(ValueError::invalid("numeric", "half a digit"));
        }
        if digits
            .iter()
            .any(|digit| u16::from_le_bytes(*digit) >= BASE)
        {
            return Err(ValueError::invalid("numeric", "digit beyond 9999"));
        }
        Ok(Digits(digits))
    }

    fn at(&self, place: i32) -> u64 {
        usize::try_from(place)
            .ok()
            .and_then(|place| self.0.get(place))
            .map_or(0, |digit| u64::from(u16::from_le_bytes(*digit)))
    }
}

fn push_whole(out: &mut Vec<u8>, digits: &Digits<'_>, weight: i32) {
    if weight < 0 {
        out.push(b'0');
        return;
    }
    push_u64(out, digits.at(0));
    for place in 1..=weight {
        push_padded(out, digits.at(place), BASE_DIGITS as usize);
    }
}

fn push_fraction(out: &mut Vec<u8>, digits: &Digits<'_>, weight: i32, scale: usize) {
    out.push(b'.');
    let end = out.len() + scale;
    let mut place = weight + 1;
    while out.len() < end {
        push_padded(out, digits.at(place), BASE_DIGITS as usize);
        place += 1;
    }
    out.truncate(end);
}
