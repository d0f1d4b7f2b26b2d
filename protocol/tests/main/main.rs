//! Tests of this crate against what real servers stored and printed.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot read its cases has failed"
)]

mod encodings;
mod record_values;
mod recorded_values;
