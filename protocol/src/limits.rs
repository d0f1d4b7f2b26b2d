//! Every bound of this crate, in one place.

/// Types nested in types (an array of rows of ranges ...) that are followed; a chain of domains is
/// one level. What follows them needs about 2 KB of stack a level, of the 2 MB that threads have.
pub const TYPE_NESTING_MAX: usize = 256;
/// Types that one type may consist of, each counted as often as it stands there: a row of two rows
/// of two rows ... doubles with every level.
pub const TYPE_PARTS_MAX: usize = 65_536;
/// Relation versions that a renderer keeps compiled before it starts afresh.
pub const RELATIONS_COMPILED_MAX: usize = 16_384;

/// Values of so many bytes may be written piece by piece instead of with their line.
pub(crate) const LARGE_VALUE_BYTES: usize = 1024 * 1024;
/// Such values are written in pieces of about so many bytes.
pub(crate) const PIECE_BYTES: usize = LARGE_VALUE_BYTES / 8;
/// An event smaller than this has no large value, whatever its compression has done: matches of
/// both methods are less than three hundred times their bytes.
pub(crate) const LARGE_EVENT_BYTES: u32 = 2048;

/// The longest text of a value: the server fails beyond.
// pg: utils/memutils.h MaxAllocSize [14-18]
pub(crate) const TEXT_BYTES_MAX: usize = 0x3FFF_FFFF;
