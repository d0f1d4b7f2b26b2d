//! `real` and `double precision`: the shortest digits that read back as the same number.
//!
//! PostgreSQL leaves out one digit less than possible where the shortest digits would name the
//! exact middle between two numbers, since not every reader rounds that to even.

use std::io::Write;

use super::digits::{push_padded, push_u64};
use super::{TextContext, ValueError, fixed};

/// What differs between the two types.
struct Format {
    /// Stored bits of the significand.
    fraction_bits: u32,
    /// Exponent of the lowest bit of the smallest numbers.
    exponent_min: i32,
    /// The first decimal exponent that is printed as one.
    exponent_shown: i32,
    /// Digits that always suffice.
    digits_max: usize,
}

const SINGLE: Format = Format {
    fraction_bits: 23,
    exponent_min: -149,
    exponent_shown: 6,
    digits_max: 9,
};

const DOUBLE: Format = Format {
    fraction_bits: 52,
    exponent_min: -1074,
    exponent_shown: 15,
    digits_max: 17,
};

// pg: utils/adt/float.c float4out; common/f2s.c [14-18]
pub(crate) fn float4_text(
    value: &[u8],
    _context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let number = f32::from_le_bytes(fixed(value, "real")?);
    if push_special(out, number.is_finite(), number.into()) {
        return Ok(());
    }
    let magnitude = number.abs();
    let bits = u64::from(magnitude.to_bits());
    let shortest = Decimal::parse(zmij::Buffer::new().format_finite(magnitude));
    let decimal = shortest.off_the_middle(&SINGLE, bits, magnitude.into(), |text| {
        text.parse() == Ok(magnitude)
    });
    decimal.push(out, &SINGLE);
    Ok(())
}

// pg: utils/adt/float.c float8out; common/d2s.c [14-18]
pub(crate) fn float8_text(
    value: &[u8],
    _context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let number = f64::from_le_bytes(fixed(value, "double precision")?);
    push_float8(out, number);
    Ok(())
}

/// Appends a double as `float8out` prints it; other types hold doubles too.
pub(crate) fn push_float8(out: &mut Vec<u8>, number: f64) {
    if push_special(out, number.is_finite(), number) {
        return;
    }
    let magnitude = number.abs();
    let shortest = Decimal::parse(zmij::Buffer::new().format_finite(magnitude));
    let decimal = shortest.off_the_middle(&DOUBLE, magnitude.to_bits(), magnitude, |text| {
        text.parse() == Ok(magnitude)
    });
    decimal.push(out, &DOUBLE);
}

/// Appends the sign; and the rest of the numbers that have no digits to look for.
fn push_special(out: &mut Vec<u8>, finite: bool, number: f64) -> bool {
    if number.is_nan() {
        out.extend_from_slice(b"NaN");
        return true;
    }
    if number.is_sign_negative() {
        out.push(b'-');
    }
    if !finite {
        out.extend_from_slice(b"Infinity");
    } else if number == 0.0 {
        out.push(b'0');
    }
    !finite || number == 0.0
}

/// `digits * 10^exponent`, digits not ending in 0.
#[derive(Clone, Copy, Debug)]
struct Decimal {
    digits: u64,
    exponent: i32,
}

impl Decimal {
    /// Reads a positive number such as `1.5e-7`, of at most 17 significant digits.
    fn parse(text: &str) -> Self {
        let (significand, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let mut decimal = Decimal {
            digits: 0,
            exponent: exponent.parse().unwrap_or_default(),
        };
        let mut behind_point = false;
        // Zeros before the point count only once a digit follows them.
        for byte in significand.bytes() {
            if byte == b'.' {
                behind_point = true;
                continue;
            }
            decimal.digits = decimal
                .digits
                .wrapping_mul(10)
                .wrapping_add(u64::from(byte & 0x0F));
            decimal.exponent -= i32::from(behind_point);
        }
        while decimal.digits != 0 && decimal.digits.is_multiple_of(10) {
            decimal.digits /= 10;
            decimal.exponent += 1;
        }
        decimal
    }

    /// This, or the shortest digits that name no middle, if this is the exact middle between the
    /// number with these bits and one of its neighbours.
    // pg: common/ryu_common.h STRICTLY_SHORTEST [14-18]
    fn off_the_middle(
        self,
        format: &Format,
        bits: u64,
        magnitude: f64,
        reads_back: impl Fn(&str) -> bool,
    ) -> Self {
        if !self.is_middle(format, bits) {
            return self;
        }
        let mut text = Vec::new();
        for digits in decimal_length(self.digits) as usize + 1..=format.digits_max {
            text.clear();
            // Writing to a vector cannot fail.
            let _ = write!(text, "{:.*e}", digits - 1, magnitude);
            let rounded = Decimal::parse(std::str::from_utf8(&text).unwrap_or_default());
            let unit_exponent = exponent_of(magnitude, &text) - (digits as i32 - 1);
            for candidate in rounded.and_neighbours(unit_exponent) {
                text.clear();
                let _ = write!(text, "{}e{}", candidate.digits, candidate.exponent);
                let reads = std::str::from_utf8(&text).is_ok_and(&reads_back);
                if reads && !candidate.is_middle(format, bits) {
                    return candidate;
                }
            }
        }
        self
    }

    /// The number itself, and one unit of its last digit to either side.
    fn and_neighbours(self, unit_exponent: i32) -> [Self; 3] {
        let zeros = u32::try_from(self.exponent - unit_exponent).unwrap_or_default();
        let digits = self.digits * 10_u64.pow(zeros.min(2));
        [0, 1, -1].map(|step| Decimal {
            digits: digits.wrapping_add_signed(step),
            exponent: self.exponent - zeros.min(2) as i32,
        })
    }

    /// Whether this is exactly half-way between the number and the next one up or down.
    fn is_middle(self, format: &Format, bits: u64) -> bool {
        let fraction = bits & ((1 << format.fraction_bits) - 1);
        let biased = (bits >> format.fraction_bits) as i32;
        let hidden = 1_u64 << format.fraction_bits;
        let (significand, exponent) = match biased {
            0 => (fraction, format.exponent_min),
            _ => (fraction | hidden, format.exponent_min + biased - 1),
        };
        let lower = match fraction {
            // Below a power of two, numbers lie twice as close.
            0 if biased > 1 => (significand.wrapping_mul(4).wrapping_sub(1), exponent - 2),
            _ => (significand.wrapping_mul(2).wrapping_sub(1), exponent - 1),
        };
        let upper = (significand * 2 + 1, exponent - 1);
        self.equals(lower) || self.equals(upper)
    }

    /// Whether this is `odd * 2^exponent`.
    fn equals(self, (odd, exponent): (u64, i32)) -> bool {
        let twos = self.digits.trailing_zeros();
        let rest = u128::from(self.digits >> twos);
        let (Some(fives), same_twos) = (
            5_u128.checked_pow(self.exponent.unsigned_abs()),
            twos as i32 + self.exponent == exponent,
        ) else {
            return false;
        };
        same_twos
            && if self.exponent >= 0 {
                rest.checked_mul(fives) == Some(odd.into())
            } else {
                fives.checked_mul(odd.into()) == Some(rest)
            }
    }

    // pg: common/d2s.c to_chars, to_chars_df [14-18]
    fn push(self, out: &mut Vec<u8>, format: &Format) {
        let length = decimal_length(self.digits);
        let shown = self.exponent + length - 1;
        if shown < -4 || shown >= format.exponent_shown {
            let start = out.len();
            push_u64(out, self.digits);
            if length > 1 {
                out.insert(start + 1, b'.');
            }
            out.extend_from_slice(if shown < 0 { b"e-" } else { b"e+" });
            push_padded(out, shown.unsigned_abs().into(), 2);
        } else if self.exponent >= 0 {
            push_u64(out, self.digits);
            out.extend(std::iter::repeat_n(b'0', self.exponent as usize));
        } else if shown >= 0 {
            let start = out.len();
            push_u64(out, self.digits);
            out.insert(start + shown as usize + 1, b'.');
        } else {
            out.extend_from_slice(b"0.");
            out.extend(std::iter::repeat_n(b'0', (-shown - 1) as usize));
            push_u64(out, self.digits);
        }
    }
}

fn decimal_length(digits: u64) -> i32 {
    digits.checked_ilog10().unwrap_or_default() as i32 + 1
}

/// The exponent of a text that `{:e}` wrote.
fn exponent_of(magnitude: f64, text: &[u8]) -> i32 {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.split_once('e'))
        .and_then(|(_, exponent)| exponent.parse().ok())
        .unwrap_or_else(|| magnitude.log10() as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn double(number: f64) -> String {
        let mut out = Vec::new();
        push_float8(&mut out, number);
        String::from_utf8(out).unwrap()
    }

    fn single(number: f32) -> String {
        let mut out = Vec::new();
        float4_text(&number.to_le_bytes(), &TextContext::new(15, 6), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// As psql 15 printed them.
    #[test]
    fn digits_are_the_servers() {
        for (number, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (0.1, "0.1"),
            (1e14, "100000000000000"),
            (1e15, "1e+15"),
            (123456789012345680.0, "1.2345678901234568e+17"),
            (0.0001, "0.0001"),
            (0.00001234, "1.234e-05"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (2f64.powi(-44), "5.684341886080802e-14"),
            (9007199254740992.0, "9.007199254740992e+15"),
            (140_737_488_355_328.0 + 0.125, "140737488355328.12"),
            // The shortest digits would name the middle between two numbers.
            (52990648348713376.0, "5.2990648348713376e+16"),
            (
                f64::from_bits(0x4445_25CB_5EA2_97C2),
                "7.802099999999999e+20",
            ),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(double(number), text);
        }
        for (number, text) in [
            (1e5, "100000"),
            (1e6, "1e+06"),
            (16777216.0, "1.6777216e+07"),
            (1.1, "1.1"),
            (1e-45, "1e-45"),
            (f32::MAX, "3.4028235e+38"),
        ] {
            assert_eq!(single(number), text);
        }
    }
}
