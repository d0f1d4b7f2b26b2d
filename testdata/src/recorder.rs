//! Recorded cases (to be filled).
