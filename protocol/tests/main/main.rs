//! Tests of this crate against what real servers stored and printed.

mod record_values;
mod recorded_values;
