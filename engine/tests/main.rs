//! Tests of the engine against real servers, and over what they recorded.
//!
//! A version that is not installed is skipped, aloud; under continuous integration it fails.

#![allow(
    clippy::unwrap_used,
    reason = "a test may end where it stands, and what it calls here cannot be told apart from it"
)]

mod bootstrap;
mod flips;
mod switching;
mod timelines;
