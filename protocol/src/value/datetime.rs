//! Dates and times: days or microseconds since 2000-01-01, printed with `DateStyle` ISO, or as
//! `to_json()` wants them: a `T` between date and time, and minutes in every zone offset.

use super::digits::push_padded;
use super::{TextContext, ValueError, fixed};

type Text = Result<(), ValueError>;

const SECOND_US: i64 = 1_000_000;
const DAY_S: i64 = 86_400;
const DAY_US: i64 = DAY_S * SECOND_US;
/// Seconds from 1970-01-01 to 2000-01-01.
const UNIX_TO_2000_S: i64 = 946_684_800;
/// 2000-01-01 as a Julian day; the server prints none below 0.
// pg: utils/datetime.h POSTGRES_EPOCH_JDATE [14-18]
const JULIAN_2000: i64 = 2_451_545;

/// How a moment is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    /// `2024-01-01 10:00:00+00`
    Iso,
    /// `2024-01-01T10:00:00+00:00`
    Xsd,
}

// pg: utils/adt/date.c date_out [14-18]
pub(crate) fn date_text(value: &[u8], _context: &TextContext, out: &mut Vec<u8>) -> Text {
    let days = i32::from_le_bytes(fixed(value, "date")?);
    match days {
        i32::MIN => out.extend_from_slice(b"-infinity"),
        i32::MAX => out.extend_from_slice(b"infinity"),
        _ => {
            let date = Date::of(days.into(), "date")?;
            date.push(out);
            date.push_era(out);
        }
    }
    Ok(())
}

// pg: utils/adt/date.c time_out [14-18]
pub(crate) fn time_text(value: &[u8], _context: &TextContext, out: &mut Vec<u8>) -> Text {
    push_time_of_day(out, i64::from_le_bytes(fixed(value, "time")?))
}

/// `time with time zone`: the time, then the zone in seconds *west* of Greenwich.
// pg: utils/date.h TimeTzADT, utils/adt/date.c timetz_out [14-18]
pub(crate) fn timetz_text(value: &[u8], _context: &TextContext, out: &mut Vec<u8>) -> Text {
    let bytes: [u8; 12] = fixed(value, "time with time zone")?;
    let mut cursor = crate::cursor::Cursor::new(&bytes);
    push_time_of_day(out, cursor.i64("time")?)?;
    let west_s = cursor.i32("zone")?;
    push_offset(out, -i64::from(west_s), Style::Iso);
    Ok(())
}

// pg: utils/adt/timestamp.c timestamp_out [14-18]
pub(crate) fn timestamp_text(value: &[u8], _context: &TextContext, out: &mut Vec<u8>) -> Text {
    push_timestamp(value, Style::Iso, out)
}

// pg: utils/adt/timestamp.c timestamptz_out [14-18]
pub(crate) fn timestamptz_text(value: &[u8], context: &TextContext, out: &mut Vec<u8>) -> Text {
    push_timestamptz(value, context, Style::Iso, out)
}

/// A timestamp as `to_json()` writes it, without quotes.
// pg: utils/adt/json.c JsonEncodeDateTime [14-18]
pub(crate) fn timestamp_json(value: &[u8], _context: &TextContext, out: &mut Vec<u8>) -> Text {
    push_timestamp(value, Style::Xsd, out)
}

/// A timestamp with time zone as `to_json()` writes it, without quotes.
pub(crate) fn timestamptz_json(value: &[u8], context: &TextContext, out: &mut Vec<u8>) -> Text {
    push_timestamptz(value, context, Style::Xsd, out)
}

/// Appends `2024-01-01T10:00:00.000000Z` for microseconds since 2000-01-01 UTC.
pub(crate) fn push_utc(out: &mut Vec<u8>, time_us: i64) -> Text {
    let seconds = time_us.div_euclid(SECOND_US);
    let date = Date::of(seconds.div_euclid(DAY_S), "commit time")?;
    date.push(out);
    out.push(b'T');
    push_clock(out, seconds.rem_euclid(DAY_S) as u64);
    out.push(b'.');
    push_padded(out, time_us.rem_euclid(SECOND_US) as u64, 6);
    out.push(b'Z');
    Ok(())
}

fn push_timestamp(value: &[u8], style: Style, out: &mut Vec<u8>) -> Text {
    let time_us = i64::from_le_bytes(fixed(value, "timestamp")?);
    if push_infinity(out, time_us) {
        return Ok(());
    }
    let seconds = time_us.div_euclid(SECOND_US);
    push_moment(out, seconds, time_us.rem_euclid(SECOND_US), None, style)
}

fn push_timestamptz(value: &[u8], context: &TextContext, style: Style, out: &mut Vec<u8>) -> Text {
    let time_us = i64::from_le_bytes(fixed(value, "timestamp with time zone")?);
    if push_infinity(out, time_us) {
        return Ok(());
    }
    let seconds = time_us.div_euclid(SECOND_US);
    let east_s = i64::from(context.zone.offset_s(seconds + UNIX_TO_2000_S));
    let micros = time_us.rem_euclid(SECOND_US);
    push_moment(out, seconds + east_s, micros, Some(east_s), style)
}

fn push_infinity(out: &mut Vec<u8>, time_us: i64) -> bool {
    match time_us {
        i64::MIN => out.extend_from_slice(b"-infinity"),
        i64::MAX => out.extend_from_slice(b"infinity"),
        _ => return false,
    }
    true
}

/// Appends a moment given in its own zone.
// pg: utils/adt/datetime.c EncodeDateTime, USE_ISO_DATES and USE_XSD_DATES [14-18]
fn push_moment(
    out: &mut Vec<u8>,
    seconds: i64,
    micros: i64,
    east_s: Option<i64>,
    style: Style,
) -> Text {
    let date = Date::of(seconds.div_euclid(DAY_S), "timestamp")?;
    date.push(out);
    out.push(if style == Style::Xsd { b'T' } else { b' ' });
    push_clock(out, seconds.rem_euclid(DAY_S) as u64);
    push_fraction(out, micros as u64);
    if let Some(east_s) = east_s {
        push_offset(out, east_s, style);
    }
    date.push_era(out);
    Ok(())
}

fn push_time_of_day(out: &mut Vec<u8>, time_us: i64) -> Text {
    if !(0..=DAY_US).contains(&time_us) {
        return Err(ValueError::invalid("time", "not within a day"));
    }
    push_clock(out, (time_us / SECOND_US) as u64);
    push_fraction(out, (time_us % SECOND_US) as u64);
    Ok(())
}

fn push_clock(out: &mut Vec<u8>, seconds: u64) {
    push_padded(out, seconds / 3600, 2);
    out.push(b':');
    push_padded(out, seconds / 60 % 60, 2);
    out.push(b':');
    push_padded(out, seconds % 60, 2);
}

/// Appends microseconds as a fraction without trailing zeros; nothing for 0.
// pg: utils/adt/datetime.c AppendSeconds [14-18]
pub(crate) fn push_fraction(out: &mut Vec<u8>, micros: u64) {
    if micros == 0 {
        return;
    }
    out.push(b'.');
    push_padded(out, micros, 6);
    while out.last() == Some(&b'0') {
        out.pop();
    }
}

// pg: utils/adt/datetime.c EncodeTimezone [14-18]
fn push_offset(out: &mut Vec<u8>, east_s: i64, style: Style) {
    out.push(if east_s >= 0 { b'+' } else { b'-' });
    let seconds = east_s.unsigned_abs();
    push_padded(out, seconds / 3600, 2);
    let minutes = seconds / 60 % 60;
    if !seconds.is_multiple_of(60) {
        out.push(b':');
        push_padded(out, minutes, 2);
        out.push(b':');
        push_padded(out, seconds % 60, 2);
    } else if minutes != 0 || style == Style::Xsd {
        out.push(b':');
        push_padded(out, minutes, 2);
    }
}

/// A day of the proleptic Gregorian calendar; year 0 is 1 BC.
struct Date {
    year: i64,
    month: u64,
    day: u64,
}

impl Date {
    /// The date `days` after 2000-01-01.
    fn of(days: i64, type_name: &'static str) -> Result<Self, ValueError> {
        if days < -JULIAN_2000 {
            return Err(ValueError::invalid(type_name, "before 4714 BC"));
        }
        // Years here begin in March, so that leap days come last; eras are 400 years.
        let since_march_0 = days + 730_425;
        let era = since_march_0.div_euclid(146_097);
        let day_of_era = since_march_0.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let next_year = month_from_march >= 10;
        let month = if next_year {
            month_from_march - 9
        } else {
            month_from_march + 3
        };
        Ok(Date {
            year: era * 400 + year_of_era + i64::from(next_year),
            month: month as u64,
            day: day as u64,
        })
    }

    fn push(&self, out: &mut Vec<u8>) {
        let year = if self.year > 0 {
            self.year
        } else {
            1 - self.year
        };
        push_padded(out, year.unsigned_abs(), 4);
        out.push(b'-');
        push_padded(out, self.month, 2);
        out.push(b'-');
        push_padded(out, self.day, 2);
    }

    fn push_era(&self, out: &mut Vec<u8>) {
        if self.year <= 0 {
            out.extend_from_slice(b" BC");
        }
    }
}
