//! Bootstrap: a data directory to the state from which catalog replay starts.
//!
//! Takes: a data directory. Gives: catalog pages, relation maps, commit log, multixacts, and the
//! rule by which replay knows when all of it can be trusted. Keeps: nothing. Never: writes a file,
//! reads WAL, or decides what a catalog tuple means.

pub mod control_file;
pub mod error;
