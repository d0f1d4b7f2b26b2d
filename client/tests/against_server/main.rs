//! The library and the command against a server made of the protocol's own pieces.
#![allow(clippy::unwrap_used, reason = "tests")]

mod command;
mod events;
mod library;
mod server;
