//! The programs as a user runs them, held against PostgreSQL itself.
//!
//! [`recorded`] needs no server; [`live`] and [`serve`] start real ones of every version that
//! is installed; [`bad_input`] damages what the programs read.

#![allow(
    clippy::unwrap_used,
    reason = "a test may end where it stands, and what it calls here cannot be told apart from it"
)]

#[path = "../session/authority.rs"]
mod authority;
mod bad_input;
mod check;
mod ddl_capture;
mod ddl_forms;
mod ddl_objects;
mod ddl_sessions;
mod ddl_told;
mod describe;
mod encodings;
mod files;
mod json_values;
mod keeping;
mod large_values;
mod live;
mod nested_types;
mod operating;
mod programs;
mod recorded;
mod refused;
mod replica;
mod restart;
mod resume;
mod room;
mod secure;
mod serve;
mod subscribing;
mod timelines;
mod two_phase;
mod undecodable;
mod upstreams;
