//! Feed: the bounded, shared log of released transactions.
//!
//! Takes: blocks, in order. Gives: blocks to any number of readers. Keeps: blocks up to a bound in
//! bytes. Never: waits for a reader.

pub mod block;
