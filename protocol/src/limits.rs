//! Every bound of this crate, in one place.

/// Types nested in types (an array of rows of ranges ...) that are followed.
pub const TYPE_NESTING_MAX: usize = 64;
/// Relation versions that a renderer keeps compiled before it starts afresh.
pub const RELATIONS_COMPILED_MAX: usize = 16_384;

/// The longest text of a value: the server fails beyond.
// pg: utils/memutils.h MaxAllocSize [14-18]
pub(crate) const TEXT_BYTES_MAX: usize = 0x3FFF_FFFF;
