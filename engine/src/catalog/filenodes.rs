//! Relation maps: which file holds a catalog whose own `pg_class` row cannot say so.
//!
//! Reads `pg_filenode.map` and the record that replaces it. Which map is in force at an LSN, and
//! what a transaction that rewrites a mapped catalog sees, is the catalog's business.
//!
//! ```text
//! 0       4       8                                 504 (14, 15) or 520 (16 on)
//! | magic | count | (catalog oid, file number) x 62 or 64 | crc-32c | pad to 512 (14, 15) |
//!
//! record: | database | tablespace | bytes of the map | the map, as in the file |
//! ```
// pg: utils/cache/relmapper.c RelMapFile, utils/relmapper.h xl_relmap_update [14-18]

use redostream_protocol::cursor::{Cursor, ShortInput};
use redostream_protocol::{DatabaseOid, Oid};
use serde::{Deserialize, Serialize};

use crate::limits::RELATION_MAP_BYTES;

const MAGIC: u32 = 0x0059_2717;

/// Name of the file, in `global/` and in every database's directory.
pub const FILE_NAME: &str = "pg_filenode.map";

/// What is wrong with a relation map.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RelationMapError {
    /// Too short, or with leftovers.
    #[error(transparent)]
    Short(#[from] ShortInput),
    /// Neither of the two sizes a map can have.
    #[error("a relation map has 512 (PostgreSQL 14, 15) or 524 bytes (16 on), not {0}")]
    Size(usize),
    /// Not a relation map.
    #[error("relation map magic is {0:#x}, not 0x592717")]
    Magic(u32),
    /// More entries than there is room for.
    #[error("relation map says it has {0} entries")]
    Count(u32),
    /// Damaged, or read while it was overwritten.
    #[error("relation map CRC is {stored:#010x}, its content gives {computed:#010x}")]
    Crc {
        /// CRC in the file.
        stored: u32,
        /// CRC of the content.
        computed: u32,
    },
}

/// A relation map: catalogs to file numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelationMap {
    entries: Vec<(Oid, Oid)>,
}

impl RelationMap {
    /// Reads the bytes of `pg_filenode.map`.
    pub fn parse(bytes: &[u8]) -> Result<Self, RelationMapError> {
        let Some((_, capacity)) = RELATION_MAP_BYTES
            .iter()
            .find(|(size, _)| *size == bytes.len())
        else {
            return Err(RelationMapError::Size(bytes.len()));
        };
        let mut cursor = Cursor::new(bytes);
        let magic = cursor.u32("relation map magic")?;
        if magic != MAGIC {
            return Err(RelationMapError::Magic(magic));
        }
        let count = cursor.u32("relation map count")?;
        if count as usize > *capacity {
            return Err(RelationMapError::Count(count));
        }
        let mut entries = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let oid = cursor.u32("mapped catalog")?;
            entries.push((Oid(oid), Oid(cursor.u32("mapped file")?)));
        }
        cursor.take((capacity - count as usize) * 8, "unused map entries")?;
        let covered = bytes.get(..cursor.offset()).unwrap_or_default();
        let computed = crc32c(covered);
        let stored = cursor.u32("relation map CRC")?;
        if stored != computed {
            return Err(RelationMapError::Crc { stored, computed });
        }
        Ok(Self { entries })
    }

    /// A map with these entries.
    #[must_use]
    pub fn from_entries(entries: Vec<(Oid, Oid)>) -> Self {
        Self { entries }
    }

    /// The file number of a catalog, if it is mapped.
    #[must_use]
    pub fn file_of(&self, catalog: Oid) -> Option<Oid> {
        let entry = self.entries.iter().find(|(oid, _)| *oid == catalog)?;
        Some(entry.1)
    }

    /// All (catalog, file number) pairs; indexes are among them.
    #[must_use]
    pub fn entries(&self) -> &[(Oid, Oid)] {
        &self.entries
    }
}

/// The record that replaces a relation map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationMapUpdate {
    /// The database, 0 for the shared map.
    pub database: DatabaseOid,
    /// The tablespace in which the database's directory is.
    pub tablespace: Oid,
    /// The whole new map.
    pub map: RelationMap,
}

impl RelationMapUpdate {
    /// Reads the main data of an `XLOG_RELMAP_UPDATE` record.
    pub fn parse(main: &[u8]) -> Result<Self, RelationMapError> {
        let mut cursor = Cursor::new(main);
        let database = Oid(cursor.u32("relation map database")?);
        let tablespace = Oid(cursor.u32("relation map tablespace")?);
        let bytes = cursor.u32("relation map length")?;
        let map = RelationMap::parse(cursor.take(bytes as usize, "relation map")?)?;
        cursor.finish("relation map record")?;
        Ok(Self {
            database,
            tablespace,
            map,
        })
    }
}

/// CRC-32C as PostgreSQL computes it.
// pg: port/pg_crc32c.h [14-18]
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes);
    u32::try_from(sum).unwrap_or(u32::MAX)
}

#[cfg(test)]
pub(crate) fn craft_map(entries: &[(u32, u32)], bytes: usize) -> Vec<u8> {
    let capacity = if bytes == 512 { 62 } else { 64 };
    let mut out = MAGIC.to_le_bytes().to_vec();
    out.extend_from_slice(&u32::try_from(entries.len()).unwrap().to_le_bytes());
    for (oid, file) in entries {
        out.extend_from_slice(&oid.to_le_bytes());
        out.extend_from_slice(&file.to_le_bytes());
    }
    out.resize(8 + capacity * 8, 0);
    let crc = crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out.resize(bytes, 0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_sizes_are_read() {
        for bytes in [512, 524] {
            let crafted = craft_map(&[(1259, 1259), (1249, 16500)], bytes);
            let map = RelationMap::parse(&crafted).unwrap();
            assert_eq!(map.file_of(Oid(1249)), Some(Oid(16500)));
            assert_eq!(map.file_of(Oid(1)), None);
            assert_eq!(map.entries().len(), 2);

            let mut main = [5_u32.to_le_bytes(), 1663_u32.to_le_bytes()].concat();
            main.extend_from_slice(&u32::try_from(bytes).unwrap().to_le_bytes());
            main.extend_from_slice(&crafted);
            let update = RelationMapUpdate::parse(&main).unwrap();
            assert_eq!((update.database, update.tablespace), (Oid(5), Oid(1663)));
            assert_eq!(update.map, map);
            for cut in 0..main.len() {
                assert!(RelationMapUpdate::parse(&main[..cut]).is_err());
            }
        }
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_noticed(bit in 0_usize..508 * 8) {
            let mut crafted = craft_map(&[(1259, 1259), (1249, 16500)], 512);
            crafted[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(RelationMap::parse(&crafted).is_err());
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = RelationMap::parse(&bytes);
            let _ = RelationMapUpdate::parse(&bytes);
        }
    }
}
