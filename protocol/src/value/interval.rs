//! `interval`: microseconds, days and months, each with its own sign.

use super::datetime::push_fraction;
use super::digits::{push_i64, push_padded};
use super::{TextContext, ValueError, fixed};
use crate::cursor::Cursor;

const HOUR_US: u64 = 3_600_000_000;
const MINUTE_US: u64 = 60_000_000;
const SECOND_US: u64 = 1_000_000;

// pg: utils/timestamp.h Interval; utils/adt/datetime.c EncodeInterval, INTSTYLE_POSTGRES [14-18]
pub(crate) fn interval_text(
    value: &[u8],
    context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let bytes: [u8; 16] = fixed(value, "interval")?;
    let mut cursor = Cursor::new(&bytes);
    let time_us = cursor.i64("interval time")?;
    let days = cursor.i32("interval days")?;
    let months = cursor.i32("interval months")?;
    // pg: utils/timestamp.h INTERVAL_NOBEGIN, INTERVAL_NOEND [17-18]
    if context.major >= 17 {
        match (time_us, days, months) {
            (i64::MIN, i32::MIN, i32::MIN) => {
                out.extend_from_slice(b"-infinity");
                return Ok(());
            }
            (i64::MAX, i32::MAX, i32::MAX) => {
                out.extend_from_slice(b"infinity");
                return Ok(());
            }
            _ => {}
        }
    }
    let mut parts = Parts::default();
    parts.push(out, months / 12, "year");
    parts.push(out, months % 12, "mon");
    parts.push(out, days, "day");
    if !parts.any || time_us != 0 {
        parts.push_time(out, time_us);
    }
    Ok(())
}

/// What of the parts already printed decides how the next one looks.
#[derive(Default)]
struct Parts {
    any: bool,
    last_negative: bool,
}

impl Parts {
    fn push(&mut self, out: &mut Vec<u8>, number: i32, unit: &str) {
        if number == 0 {
            return;
        }
        if self.any {
            out.push(b' ');
        }
        if self.last_negative && number > 0 {
            out.push(b'+');
        }
        push_i64(out, number.into());
        out.push(b' ');
        out.extend_from_slice(unit.as_bytes());
        if number != 1 {
            out.push(b's');
        }
        self.any = true;
        self.last_negative = number < 0;
    }

    fn push_time(&self, out: &mut Vec<u8>, time_us: i64) {
        if self.any {
            out.push(b' ');
        }
        if time_us < 0 {
            out.push(b'-');
        } else if self.last_negative {
            out.push(b'+');
        }
        let time_us = time_us.unsigned_abs();
        push_padded(out, time_us / HOUR_US, 2);
        out.push(b':');
        push_padded(out, time_us / MINUTE_US % 60, 2);
        out.push(b':');
        push_padded(out, time_us / SECOND_US % 60, 2);
        push_fraction(out, time_us % SECOND_US);
    }
}
