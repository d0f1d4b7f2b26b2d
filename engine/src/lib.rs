//! WAL bytes in, released transactions out.
//!
//! The folders are the stages in flow order: [`source`], [`framing`], [`gate`] with its
//! [`catalog`], [`decoding`], [`assembly`], [`feed`]. Start reading at [`pipeline`].

pub mod arena;
pub mod assembly;
pub mod catalog;
pub mod decoding;
pub mod error;
pub mod feed;
pub mod framing;
pub mod gate;
pub mod limits;
pub mod pipeline;
pub mod pool;
pub mod source;
