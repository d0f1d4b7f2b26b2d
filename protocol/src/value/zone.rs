//! Time zones: the offset from UTC in force at an instant.

/// A time zone as `TimeZone` names it.
#[derive(Clone, Debug)]
pub struct TimeZone {}

/// A name that is no time zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a time zone; give a name such as Europe/Paris or UTC")]
pub struct UnknownTimeZone(pub String);

impl TimeZone {
    /// Coordinated universal time.
    #[must_use]
    pub fn utc() -> Self {
        TimeZone {}
    }
}
