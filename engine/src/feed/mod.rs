//! Feed: the bounded, shared log of released transactions.
//!
//! Takes: blocks, in order. Gives: blocks to any number of readers. Keeps: blocks up to a bound in
//! bytes. Never: waits for a reader.
//!
//! A [`Feed`] numbers blocks as they come; a [`Reader`] goes through them by number. Who is slower
//! than the feed's bound allows finds its next block gone ([`Next::Behind`]) and reads the log
//! itself until it has caught up. The compressed form of a block is made once, by whoever needs it
//! first, and kept beside it.

pub mod block;
mod log;
mod reader;

#[cfg(test)]
mod tests;

pub use log::{Entry, Feed, FeedCounters, Start, WakeupGuard};
pub use reader::{Next, Reader};
