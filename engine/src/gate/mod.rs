//! Gate: the one ordered step before decoding.
//!
//! Takes: framed chunks, in log order. Gives: parts of chunks whose rows know their relation.
//! Keeps: who runs, the catalog, the expected next record. Never: looks at a row's data, or lets
//! a task go on a guess.

pub mod transactions;
