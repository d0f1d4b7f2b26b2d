//! Which files of a database are catalogs, by the rows of `pg_class` itself.
//!
//! Every version of every row counts, visible or not: a copied page may be older or newer than
//! anything else in the copy, and a file too many does no harm.
//!
//! The same pass finds the multixacts that stand in tuples of any catalog page.
//!
//! ```text
//! page:  0 LSN (two u32), 12 lower u16, 18 page size and version u16, 24 line pointers u32:
//!        offset 15 bits, state 2 bits (1: a tuple), length 15 bits
//! tuple: 0 xmin, 4 xmax, 20 infomask u16, 22 header bytes u8
//! ```
// pg: storage/bufpage.h, storage/itemid.h, access/htup_details.h, catalog/pg_class.h [14-18]

use std::collections::BTreeSet;

use redostream_protocol::cursor::{Cursor, ShortInput};
use redostream_protocol::{Lsn, Oid};

use crate::limits::HEAP_PAGE_BYTES;

/// `pg_class` itself; it is mapped.
pub(crate) const PG_CLASS: Oid = Oid(1259);
/// The tablespace of the catalogs that all databases share.
pub(crate) const GLOBAL_TABLESPACE: Oid = Oid(1664);

/// Catalogs whose content is never looked at, and which can be larger than all others together:
/// large objects and statistics, with the latter's TOAST heaps.
// pg: catalog/pg_largeobject.h, pg_statistic.h, pg_statistic_ext_data.h [14-18]
pub const LEFT_OUT: [Oid; 6] = [
    Oid(2613), // pg_largeobject
    Oid(2995), // pg_largeobject_metadata
    Oid(2619), // pg_statistic
    Oid(2840), // its TOAST heap
    Oid(3429), // pg_statistic_ext_data
    Oid(3430), // its TOAST heap
];

/// Whether replay needs the pages of a relation: a catalog (or what `initdb` made beside them), its
/// TOAST heap, or the transient heap by which one of them is rewritten.
#[must_use]
pub fn is_tracked(oid: Oid, rewrite_of: Oid) -> bool {
    let catalog = catalog_of(oid, rewrite_of);
    catalog.is_valid() && catalog < Oid::FIRST_NORMAL && !LEFT_OUT.contains(&catalog)
}

/// What a relation's files are to count as: the catalog it is, or is about to replace.
pub(crate) const fn catalog_of(oid: Oid, rewrite_of: Oid) -> Oid {
    if rewrite_of.is_valid() {
        rewrite_of
    } else {
        oid
    }
}

const LINE_POINTERS_OFFSET: usize = 24;
const XMAX_INVALID: u16 = 0x0800;
const XMAX_IS_MULTI: u16 = 0x1000;
const HEADER_BYTES_MIN: usize = 23;

/// One version of a row of `pg_class`, as far as it names a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClassRow {
    /// The relation.
    pub(crate) oid: Oid,
    /// Its file number; 0 if the relation map has it, or its own oid.
    pub(crate) file: Oid,
    /// Its tablespace; 0 for the database's own.
    pub(crate) tablespace: Oid,
    /// The relation it is about to replace.
    pub(crate) rewrite_of: Oid,
}

impl ClassRow {
    /// The catalog whose files are the relation's.
    pub(crate) const fn catalog(&self) -> Oid {
        catalog_of(self.oid, self.rewrite_of)
    }
}

/// Reads the rows of tracked relations from whole pages of `pg_class` into `rows`.
pub(crate) fn collect_rows(pages: &[u8], major: u16, rows: &mut BTreeSet<ClassRow>) {
    for page in pages.chunks_exact(HEAP_PAGE_BYTES) {
        for tuple in tuples(page) {
            let data = header_bytes(tuple).and_then(|bytes| tuple.get(bytes..));
            // A torn page may hold anything; what cannot be a row names no file.
            let Some(Ok(Some(row))) = data.map(|data| read_row(data, major)) else {
                continue;
            };
            if is_tracked(row.oid, row.rewrite_of) {
                rows.insert(row);
            }
        }
    }
}

/// A row, if the relation has rows of its own (`r`) or is a TOAST heap (`t`).
// pg: catalog/pg_class.h FormData_pg_class [14-18]
fn read_row(data: &[u8], major: u16) -> Result<Option<ClassRow>, ShortInput> {
    let mut cursor = Cursor::new(data);
    let oid = Oid(cursor.u32("oid")?);
    // relname, then relnamespace, reltype, reloftype, relowner, relam
    cursor.take(64 + 5 * 4, "relname to relam")?;
    let file = Oid(cursor.u32("relfilenode")?);
    let tablespace = Oid(cursor.u32("reltablespace")?);
    // relpages, reltuples, relallvisible, relallfrozen (18), reltoastrelid
    let counters = if major >= 18 { 5 } else { 4 };
    cursor.take(counters * 4, "relpages to reltoastrelid")?;
    // relhasindex, relisshared, relpersistence
    cursor.take(3, "relhasindex to relpersistence")?;
    let kind = cursor.u8("relkind")?;
    // relnatts, relchecks, then eight of one byte up to relispartition
    cursor.take(2 + 2 + 8, "relnatts to relispartition")?;
    let rewrite_of = Oid(cursor.u32("relrewrite")?);
    let row = ClassRow {
        oid,
        file,
        tablespace,
        rewrite_of,
    };
    Ok(matches!(kind, b'r' | b't').then_some(row))
}

/// Adds the multixacts that stand as `xmax` in tuples of these pages.
pub(crate) fn collect_multixacts(pages: &[u8], found: &mut BTreeSet<u32>) {
    for page in pages.chunks_exact(HEAP_PAGE_BYTES) {
        for tuple in tuples(page) {
            let multixact = u16_at(tuple, 20)
                .filter(|infomask| infomask & (XMAX_IS_MULTI | XMAX_INVALID) == XMAX_IS_MULTI)
                .and_then(|_| u32_at(tuple, 4));
            found.extend(multixact);
        }
    }
}

/// The highest LSN of these pages, and the number of its page.
pub(crate) fn highest_lsn(pages: &[u8]) -> Option<(Lsn, usize)> {
    let lsns = pages.chunks_exact(HEAP_PAGE_BYTES).map(|page| {
        let half = |at| u64::from(u32_at(page, at).unwrap_or(0));
        Lsn(half(0) << 32 | half(4))
    });
    lsns.zip(0..).max()
}

/// The tuples that the line pointers of a page lead to.
fn tuples(page: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lower = usize::from(u16_at(page, 12).unwrap_or(0)).min(HEAP_PAGE_BYTES);
    let pointers = page.get(LINE_POINTERS_OFFSET..lower).unwrap_or_default();
    pointers.chunks_exact(4).filter_map(move |bytes| {
        let pointer = u32_at(bytes, 0)?;
        let offset = (pointer & 0x7FFF) as usize;
        let length = (pointer >> 17) as usize;
        let is_tuple = pointer >> 15 & 3 == 1;
        page.get(offset..offset + length)
            .filter(|tuple| is_tuple && tuple.len() >= HEADER_BYTES_MIN)
    })
}

fn header_bytes(tuple: &[u8]) -> Option<usize> {
    tuple.get(22).copied().map(usize::from)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?;
    Some(u16::from_le_bytes(bytes.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// A page with these tuples (user data after a 24-byte header), for tests.
#[cfg(test)]
pub(crate) fn craft_page(lsn: Lsn, tuples: &[(u32, u16, Vec<u8>)]) -> Vec<u8> {
    let mut page = vec![0_u8; HEAP_PAGE_BYTES];
    let mut upper = HEAP_PAGE_BYTES;
    for (n, (xmax, infomask, data)) in tuples.iter().enumerate() {
        let length = 24 + data.len();
        upper = (upper - length) / 8 * 8;
        page[upper + 4..upper + 8].copy_from_slice(&xmax.to_le_bytes());
        page[upper + 20..upper + 22].copy_from_slice(&infomask.to_le_bytes());
        page[upper + 22] = 24;
        page[upper + 24..upper + length].copy_from_slice(data);
        let pointer = u32::try_from(upper | 1 << 15 | length << 17).unwrap();
        page[24 + n * 4..28 + n * 4].copy_from_slice(&pointer.to_le_bytes());
    }
    let lower = u16::try_from(24 + tuples.len() * 4).unwrap();
    page[12..14].copy_from_slice(&lower.to_le_bytes());
    page[0..4].copy_from_slice(&u32::to_le_bytes((lsn.0 >> 32) as u32));
    page[4..8].copy_from_slice(&u32::to_le_bytes(lsn.0 as u32));
    page
}

/// The fixed part of a row of `pg_class`, for tests.
#[cfg(test)]
pub(crate) fn craft_row(row: ClassRow, kind: u8, major: u16) -> Vec<u8> {
    let shift = if major >= 18 { 4 } else { 0 };
    let mut data = vec![0_u8; 140 + shift];
    for (at, oid) in [
        (0, row.oid),
        (88, row.file),
        (92, row.tablespace),
        (128 + shift, row.rewrite_of),
    ] {
        data[at..at + 4].copy_from_slice(&oid.0.to_le_bytes());
    }
    data[115 + shift] = kind;
    data
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(oid: u32, file: u32, rewrite_of: u32) -> ClassRow {
        ClassRow {
            oid: Oid(oid),
            file: Oid(file),
            tablespace: Oid(0),
            rewrite_of: Oid(rewrite_of),
        }
    }

    #[test]
    fn rows_of_catalogs_are_found() {
        for major in [14, 17, 18] {
            let kept = [
                row(1259, 0, 0),
                row(2610, 17_000, 0),
                row(16_500, 16_500, 2610),
            ];
            let others = [
                row(2613, 2613, 0),
                row(16_400, 16_400, 0),
                row(16_501, 5, 2619),
            ];
            let mut tuples: Vec<_> = kept
                .iter()
                .chain(&others)
                .map(|row| (0, 0, craft_row(*row, b'r', major)))
                .collect();
            tuples.push((0, 0, craft_row(row(2703, 2703, 0), b'i', major)));
            tuples.push((0, 0, craft_row(row(2830, 2830, 0), b't', major)));
            tuples.push((0, 0, vec![1, 2, 3]));
            let pages = [
                craft_page(Lsn(5), &tuples),
                vec![0; HEAP_PAGE_BYTES],
                vec![9; 100],
            ];
            let mut rows = BTreeSet::new();
            collect_rows(&pages.concat(), major, &mut rows);
            let expected = kept.into_iter().chain([row(2830, 2830, 0)]);
            assert_eq!(rows, expected.collect());
        }
    }

    #[test]
    fn multixacts_and_lsns_are_found() {
        let tuples = [
            (7, XMAX_IS_MULTI, vec![]),
            (8, XMAX_IS_MULTI | XMAX_INVALID, vec![]),
            (9, 0, vec![]),
        ];
        let page = craft_page(Lsn(0x2_0000_0007), &tuples);
        let mut found = BTreeSet::new();
        collect_multixacts(&page, &mut found);
        assert_eq!(found, BTreeSet::from([7]));
        let pages = [craft_page(Lsn(9), &[]), page, vec![0; HEAP_PAGE_BYTES]].concat();
        assert_eq!(highest_lsn(&pages), Some((Lsn(0x2_0000_0007), 1)));
        assert_eq!(highest_lsn(&[]), None);
    }

    proptest! {
        #[test]
        fn flipped_bits_never_panic(flips in proptest::collection::vec(0_usize..HEAP_PAGE_BYTES * 8, 1..40)) {
            let tuple = (1, XMAX_IS_MULTI, craft_row(row(1259, 0, 0), b'r', 16));
            let mut page = craft_page(Lsn(5), &[tuple.clone(), tuple]);
            for bit in flips {
                page[bit / 8] ^= 1 << (bit % 8);
            }
            collect_rows(&page, 16, &mut BTreeSet::new());
            collect_multixacts(&page, &mut BTreeSet::new());
            let _ = highest_lsn(&page);
        }

        #[test]
        fn garbage_never_panics(page in proptest::collection::vec(any::<u8>(), HEAP_PAGE_BYTES)) {
            collect_rows(&page, 18, &mut BTreeSet::new());
            collect_multixacts(&page, &mut BTreeSet::new());
        }
    }
}
