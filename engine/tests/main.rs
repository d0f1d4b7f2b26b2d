//! Tests of the engine against real servers.
//!
//! A version that is not installed is skipped, aloud; under continuous integration it fails.

mod bootstrap;
mod flips;
