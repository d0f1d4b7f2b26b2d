//! `money`: an amount in the smallest unit of `lc_monetary`'s currency.

use super::digits::push_u64;
use super::{TextContext, ValueError, fixed};

/// How `lc_monetary` writes an amount: what PostgreSQL uses of C's `lconv`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Monetary {
    currency: &'static str,
    decimal_point: u8,
    separator: u8,
    /// Digits behind the decimal point.
    decimals: usize,
}

/// A locale whose way to write money is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("how lc_monetary `{0}` writes money is not known; known are C, POSIX, en_US, en_CA, en_AU")]
pub struct UnknownMonetary(pub String);

impl Monetary {
    /// The C locale: `-$1,000.00`.
    #[must_use]
    pub const fn c() -> Self {
        Monetary {
            currency: "$",
            decimal_point: b'.',
            separator: b',',
            decimals: 2,
        }
    }

    /// The locale with this name; its encoding (`.UTF-8`) is left aside.
    pub fn named(name: &str) -> Result<Self, UnknownMonetary> {
        match name.split(['.', '@']).next() {
            Some("C" | "POSIX" | "en_US" | "en_CA" | "en_AU") => Ok(Self::c()),
            _ => Err(UnknownMonetary(name.to_owned())),
        }
    }
}

// pg: utils/adt/cash.c cash_out [14-18]
pub(crate) fn cash_text(
    value: &[u8],
    context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let amount = i64::from_le_bytes(fixed(value, "money")?);
    let locale = &*context.monetary;
    if amount < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(locale.currency.as_bytes());
    let mut digits = Vec::with_capacity(20);
    push_u64(&mut digits, amount.unsigned_abs());
    let missing = (locale.decimals + 1).saturating_sub(digits.len());
    digits.splice(0..0, std::iter::repeat_n(b'0', missing));
    let whole = digits.len() - locale.decimals;
    for (place, digit) in digits.into_iter().enumerate() {
        if place == whole {
            out.push(locale.decimal_point);
        } else if place > 0 && place < whole && (whole - place).is_multiple_of(3) {
            out.push(locale.separator);
        }
        out.push(digit);
    }
    Ok(())
}
