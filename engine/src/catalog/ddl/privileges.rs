//! What others may do with an object.

use super::super::CatalogError;
use super::super::view::Row;

/// What others may do with an object, as far as it takes to tell a grant from a revocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Privileges {
    /// Checksum of the list, and of those of columns in whatever order.
    pub(crate) list: u32,
    /// Privileges given, over all roles.
    pub(crate) count: u32,
}

impl Privileges {
    /// Adds those of a column.
    pub(crate) fn add(&mut self, number: i16, column: Privileges) {
        if column != Privileges::default() {
            let mut list = crc32fast::Hasher::new();
            list.update(&number.to_le_bytes());
            list.update(&column.list.to_le_bytes());
            self.list ^= list.finalize();
            self.count += column.count;
        }
    }

    /// The privileges in a row's column of access rights.
    ///
    /// ```text
    /// array header 20 bytes | items: grantee u32, grantor u32, rights u32 (16 on: u64)
    /// ```
    // pg: utils/acl.h AclItem [14-15: 12 bytes, 16-18: 16 bytes]
    pub(crate) fn of(
        row: &Row<'_>,
        column: Option<&'static str>,
        object: &str,
    ) -> Result<Privileges, CatalogError> {
        let Some(column) = column else {
            return Ok(Privileges::default());
        };
        let Some(list) = row.value(column)? else {
            return Ok(Privileges {
                list: 0,
                count: by_default(object, row.major()),
            });
        };
        let items = list.get(20..).unwrap_or_default();
        let item_bytes = if row.major() >= 16 { 16 } else { 12 };
        let rights = items.chunks_exact(item_bytes).map(|item| {
            let bits = item[8..].iter().map(|byte| byte.count_ones());
            bits.sum::<u32>()
        });
        Ok(Privileges {
            list: crc32fast::hash(&list),
            count: rights.sum(),
        })
    }
}

/// Privileges that an object has without a list: its owner's, and some that all have.
// pg: utils/adt/acl.c acldefault [14-18; 17 on: MAINTAIN]
const fn by_default(object: &str, major: u16) -> u32 {
    match object.as_bytes() {
        b"sequence" => 3,
        b"schema" | b"function" | b"type" | b"language" => 2,
        b"foreign data wrapper" | b"server" => 1,
        b"column" => 0,
        _ if major >= 17 => 8,
        _ => 7,
    }
}
