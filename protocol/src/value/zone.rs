//! Time zones: the offset from UTC in force at an instant.

use jiff::tz::{TimeZone as Rules, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};

/// The Gregorian calendar, and every rule made in it, repeats after 400 years.
const CYCLE_S: i64 = 146_097 * 86_400;

/// A time zone as `TimeZone` names it. The database of zones is part of the program.
#[derive(Clone, Debug)]
pub struct TimeZone(Kind);

#[derive(Clone, Debug)]
enum Kind {
    /// Seconds east of Greenwich, always.
    Fixed(i32),
    Rules(Rules),
}

/// A name that is no time zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a time zone; give a name such as Europe/Paris or UTC")]
pub struct UnknownTimeZone(pub String);

impl TimeZone {
    /// Coordinated universal time.
    #[must_use]
    pub fn utc() -> Self {
        TimeZone(Kind::Fixed(0))
    }

    /// The zone with this name (`Europe/Paris`, any case) or POSIX rule (`EST5EDT,M3.2.0,M11.1.0`,
    /// `<+03>-3`).
    pub fn named(name: &str) -> Result<Self, UnknownTimeZone> {
        let rules = TimeZoneDatabase::bundled()
            .get(name)
            .or_else(|_| Rules::posix(name))
            .map_err(|_| UnknownTimeZone(name.to_owned()))?;
        Ok(match rules.to_fixed_offset() {
            Ok(offset) => TimeZone(Kind::Fixed(offset.seconds())),
            Err(_) => TimeZone(Kind::Rules(rules)),
        })
    }

    /// Seconds east of Greenwich at `unix_s` seconds since 1970.
    #[must_use]
    pub(crate) fn offset_s(&self, unix_s: i64) -> i32 {
        let rules = match &self.0 {
            Kind::Fixed(seconds) => return *seconds,
            Kind::Rules(rules) => rules,
        };
        // The server knows years that the rules' library does not; there the rules only repeat.
        let latest = Timestamp::MAX.as_second() - CYCLE_S;
        let cycles = (unix_s - latest).max(0) / CYCLE_S
            + i64::from(unix_s > latest && (unix_s - latest) % CYCLE_S != 0);
        let instant =
            Timestamp::from_duration(SignedDuration::from_secs(unix_s - cycles * CYCLE_S));
        instant.map_or(0, |instant| rules.to_offset(instant).seconds())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_found_and_extend_beyond_the_rules() {
        let paris = TimeZone::named("europe/paris").unwrap();
        assert_eq!(paris.offset_s(1_720_000_000), 7200);
        assert_eq!(paris.offset_s(1_720_000_000 + 500 * CYCLE_S), 7200);
        assert_eq!(paris.offset_s(-100_000_000_000), 561);
        assert_eq!(TimeZone::named("<+03>-3").unwrap().offset_s(0), 10_800);
        assert!(TimeZone::named("Atlantis/Capital").is_err());
        for unix_s in [i64::MIN / 1_000_000, i64::MAX / 1_000_000] {
            let _ = paris.offset_s(unix_s);
        }
    }
}
