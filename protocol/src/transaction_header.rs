//! Reading and writing what stands before a transaction's events: there is one for each, and most
//! transactions are small. The bytes are Postcard's.

use crate::Lsn;
use crate::event::TransactionHeader;
use crate::ids::{DatabaseOid, Oid, TimelineId, Xid};

/// The low seven bits of each byte.
const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
/// The high bit of each byte: set where more bytes follow.
const MORE: u64 = !LOW;

impl TransactionHeader {
    /// Most bytes that [`Self::push_plain`] appends.
    pub const PLAIN_BYTES_MAX: usize = 3 * 5 + 3 * 10 + 2;

    /// Appends the payload of the begin event of a transaction that has neither origin nor global id.
    #[inline]
    pub fn push_plain(
        out: &mut Vec<u8>,
        timeline: TimelineId,
        (commit_lsn, end_lsn): (Lsn, Lsn),
        (xid, database): (Xid, DatabaseOid),
        commit_time_us: i64,
    ) {
        push_number(out, u64::from(timeline.0));
        push_number(out, commit_lsn.0);
        push_number(out, end_lsn.0);
        push_number(out, u64::from(xid.0));
        push_number(out, u64::from(database.0));
        push_number(
            out,
            (commit_time_us << 1 ^ commit_time_us >> 63).cast_unsigned(),
        );
        out.extend_from_slice(&[0, 0]);
    }

    /// Reads the payload of a begin event: all of it, or none.
    #[must_use]
    pub fn read(payload: &[u8]) -> Option<Self> {
        plain(payload).or_else(|| {
            let (header, rest) = postcard::take_from_bytes(payload).ok()?;
            rest.is_empty().then_some(header)
        })
    }
}

/// A header without origin and global id, as nearly all are; none of any other, nor where a number is
/// written in an unusual way: Postcard knows those.
#[inline]
fn plain(payload: &[u8]) -> Option<TransactionHeader> {
    let mut rest = payload;
    let timeline = number::<5>(&mut rest)?;
    let commit_lsn = number::<8>(&mut rest)?;
    let end_lsn = number::<8>(&mut rest)?;
    let xid = number::<5>(&mut rest)?;
    let database = number::<5>(&mut rest)?;
    let time = number::<8>(&mut rest)?;
    if rest != [0, 0] {
        return None;
    }
    Some(TransactionHeader {
        timeline: TimelineId(u32::try_from(timeline).ok()?),
        commit_lsn: Lsn(commit_lsn),
        end_lsn: Lsn(end_lsn),
        xid: Xid(u32::try_from(xid).ok()?),
        database: Oid(u32::try_from(database).ok()?),
        commit_time_us: (time >> 1).cast_signed() ^ -(time & 1).cast_signed(),
        origin: None,
        gid: None,
    })
}

/// A number in Postcard's variable-length form, of at most so many bytes; one of 32 bits has no more
/// than five.
#[inline(always)]
fn number<const BYTES: usize>(from: &mut &[u8]) -> Option<u64> {
    if let Some(word) = from.first_chunk() {
        // Eight bytes at once.
        let word = u64::from_le_bytes(*word);
        let bytes = (!word & MORE).trailing_zeros() as usize / 8 + 1;
        if bytes > BYTES.min(8) {
            return None;
        }
        *from = &from[bytes..];
        return Some(joined(word & LOW & u64::MAX >> (64 - 8 * bytes)));
    }
    let mut value = 0;
    for (at, byte) in from.iter().take(BYTES).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            *from = &from[at + 1..];
            return Some(value);
        }
    }
    None
}

/// Appends a number in that form.
#[inline(always)]
fn push_number(out: &mut Vec<u8>, mut number: u64) {
    if number >> 56 != 0 {
        while number > 0x7f {
            out.push(number as u8 | 0x80);
            number >>= 7;
        }
        return out.push(number as u8);
    }
    // By one store: what is put together of single bytes costs more when it is read back at once.
    let bytes = (u64::BITS - (number | 1).leading_zeros()).div_ceil(7) as usize;
    let more = MORE & !(u64::MAX << (8 * bytes - 8));
    out.extend_from_slice(&(spread(number) | more).to_le_bytes());
    out.truncate(out.len() - (8 - bytes));
}

/// A number of 56 bits, seven of them in each byte.
#[inline(always)]
const fn spread(number: u64) -> u64 {
    let by_28 = number & 0x0fff_ffff | (number & 0x0fff_ffff << 28) << 4;
    let by_14 = by_28 & 0x3fff_0000_3fff | (by_28 & 0x3fff_0000_3fff << 14) << 2;
    by_14 & 0x007f_007f_007f_007f | (by_14 & 0x007f_007f_007f_007f << 7) << 1
}

/// Undoes [`spread`].
#[inline(always)]
const fn joined(bytes: u64) -> u64 {
    let by_14 = bytes & 0x007f_007f_007f_007f | (bytes & 0x7f00_7f00_7f00_7f00) >> 1;
    let by_28 = by_14 & 0x3fff_0000_3fff | (by_14 & 0x3fff_0000_3fff << 16) >> 2;
    by_28 & 0x0fff_ffff | by_28 >> 32 << 28
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Origin;
    use proptest::prelude::*;

    fn any_number() -> impl Strategy<Value = u64> {
        (any::<u64>(), 0..64u32).prop_map(|(number, shift)| number >> shift)
    }

    fn postcards(payload: &[u8]) -> Option<TransactionHeader> {
        let read = postcard::take_from_bytes::<TransactionHeader>(payload);
        read.ok()
            .filter(|(_, rest)| rest.is_empty())
            .map(|(header, _)| header)
    }

    #[test]
    fn longer_than_they_need_be() {
        for (number, zeros) in (0..6).flat_map(|number| (1..10).map(move |zeros| (number, zeros))) {
            let mut payload = Vec::new();
            for at in 0..6 {
                if at == number {
                    payload.extend(vec![0x80; zeros]);
                }
                payload.push(0);
            }
            payload.extend([0, 0]);
            let read = TransactionHeader::read(&payload);
            assert_eq!(read, postcards(&payload), "{number} has {zeros} bytes more");
        }
    }

    proptest! {
        #[test]
        fn reads_what_postcard_reads(
            numbers in proptest::array::uniform6(any_number()),
            gid in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..4)),
            origin in proptest::option::of(any_number()),
            flip in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
            more in proptest::collection::vec(any::<u8>(), 0..2),
        ) {
            let header = TransactionHeader {
                timeline: TimelineId(numbers[0] as u32),
                commit_lsn: Lsn(numbers[1]),
                end_lsn: Lsn(numbers[2]),
                xid: Xid(numbers[3] as u32),
                database: Oid(numbers[4] as u32),
                commit_time_us: numbers[5].cast_signed(),
                origin: origin.map(|lsn| Origin {
                    id: 7,
                    name: None,
                    lsn: Lsn(lsn),
                    commit_time_us: -1,
                }),
                gid,
            };
            let mut payload = postcard::to_allocvec(&header).unwrap();
            if header.origin.is_none() && header.gid.is_none() {
                let mut plain = b"before".to_vec();
                let lsns = (header.commit_lsn, header.end_lsn);
                let names = (header.xid, header.database);
                let (timeline, time) = (header.timeline, header.commit_time_us);
                TransactionHeader::push_plain(&mut plain, timeline, lsns, names, time);
                prop_assert_eq!(&plain[6..], &payload[..]);
                prop_assert!(payload.len() <= TransactionHeader::PLAIN_BYTES_MAX);
            }
            prop_assert_eq!(TransactionHeader::read(&payload), Some(header));
            if let Some((at, byte)) = flip {
                let at = at.index(payload.len());
                payload[at] = byte;
            }
            payload.extend(more);
            prop_assert_eq!(TransactionHeader::read(&payload), postcards(&payload));
        }
    }
}
