//! `seg`: an interval of floats that remembers how many digits it was written with.

use super::pieces::push_number;
use super::{TextContext, ValueError};
use crate::cursor::Cursor;

/// Most significant digits of a bound.
const DIGITS_MAX: usize = 6;

/// `seg_out`: f32 lower, f32 upper, i8 digits of each, u8 certainty of each (`<`, `>`, `~`, or `-`
/// for none at all).
// pg: contrib/seg/segdata.h, contrib/seg/seg.c seg_out, restore [14-18]
pub(super) fn seg_text(
    value: &[u8],
    _context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let mut cursor = Cursor::new(value);
    let lower = f32::from_le_bytes(cursor.array("seg lower")?);
    let upper = f32::from_le_bytes(cursor.array("seg upper")?);
    let [lower_digits, upper_digits, lower_sign, upper_sign] = cursor.array("seg digits")?;
    cursor.finish("seg")?;

    if matches!(lower_sign, b'<' | b'>' | b'~') {
        out.push(lower_sign);
    }
    if lower == upper && lower_sign == upper_sign {
        push_bound(lower, lower_digits, out);
        return Ok(());
    }
    if lower_sign != b'-' {
        push_bound(lower, lower_digits, out);
        out.push(b' ');
    }
    out.extend_from_slice(b"..");
    if upper_sign != b'-' {
        out.push(b' ');
        // The server looks at the wrong bound for `~`. Where that makes it print a NUL, its text
        // ends.
        if matches!(upper_sign, b'<' | b'>') || lower_sign == b'~' {
            if upper_sign == 0 {
                return Ok(());
            }
            out.push(upper_sign);
        }
        push_bound(upper, upper_digits, out);
    }
    Ok(())
}

/// Prints a bound with the digits it was given with: as a plain decimal if its exponent is at
/// most 4 and its digits reach the decimal point.
fn push_bound(bound: f32, digits: u8, out: &mut Vec<u8>) {
    if !bound.is_finite() {
        let text = if bound.is_nan() {
            "NaN"
        } else if bound > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        };
        out.extend_from_slice(text.as_bytes());
        return;
    }
    let digits = match i8::from_le_bytes([digits]) {
        ..=0 => DIGITS_MAX,
        given => usize::from(given.unsigned_abs()).min(DIGITS_MAX),
    };
    let scientific = format!("{:.*e}", digits - 1, f64::from(bound));
    let Some((mantissa, exponent)) = scientific.split_once('e') else {
        return;
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if exponent == 0 {
        out.extend_from_slice(mantissa.as_bytes());
        return;
    }
    let before = usize::try_from(exponent + 1).unwrap_or(0);
    if exponent.abs() > 4 {
        let sign = if exponent < 0 { '-' } else { '+' };
        let size = exponent.abs();
        push_number(out, format_args!("{mantissa}e{sign}{size:02}"));
    } else if exponent > 0 && before >= digits {
        push_number(out, format_args!("{mantissa}e{exponent}"));
    } else {
        // The sign, the digits without their point, and the point where it belongs.
        let (sign, mantissa) = match mantissa.strip_prefix('-') {
            Some(mantissa) => ("-", mantissa),
            None => ("", mantissa),
        };
        let all: String = mantissa.chars().filter(char::is_ascii_digit).collect();
        if exponent > 0 {
            let (whole, fraction) = all.split_at(before.min(all.len()));
            push_number(out, format_args!("{sign}{whole}.{fraction}"));
        } else {
            let zeros = "0".repeat(usize::try_from(-1 - exponent).unwrap_or(0));
            push_number(out, format_args!("{sign}0.{zeros}{all}"));
        }
    }
}
