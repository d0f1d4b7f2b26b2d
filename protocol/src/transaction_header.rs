//! Reading what stands before a transaction's events: there is one for each, and most transactions
//! are small.

use crate::Lsn;
use crate::event::TransactionHeader;
use crate::ids::{Oid, TimelineId, Xid};

impl TransactionHeader {
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
