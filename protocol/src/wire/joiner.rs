//! Joins the connections of a session: frames by number in, frames in order out.

use std::collections::VecDeque;

/// Frames that contradict the order of their session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The number was given out before.
    #[error("frame {0} arrived twice")]
    Twice(u64),
    /// More has arrived ahead of the next frame than was granted.
    #[error("frame {sequence} arrived while {waiting_for} is missing and {held_bytes} bytes wait")]
    TooFarAhead {
        /// The frame that came.
        sequence: u64,
        /// The frame that is waited for.
        waiting_for: u64,
        /// Bytes held.
        held_bytes: u64,
    },
}

/// Puts numbered items back into order. Bounded by items and by bytes.
#[derive(Debug)]
pub struct Joiner<T> {
    next: u64,
    slots: VecDeque<Option<(T, u64)>>,
    held_bytes: u64,
    bytes_max: u64,
    items_max: usize,
}

impl<T> Joiner<T> {
    /// A joiner that waits for number 1 and holds at most so much ahead of the next number.
    #[must_use]
    pub fn new(bytes_max: u64, items_max: usize) -> Self {
        Self {
            next: 1,
            slots: VecDeque::new(),
            held_bytes: 0,
            bytes_max,
            items_max,
        }
    }

    /// The number that is waited for.
    #[must_use]
    pub const fn waiting_for(&self) -> u64 {
        self.next
    }

    /// Bytes held.
    #[must_use]
    pub const fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// Takes the item with this number, which holds `bytes`.
    pub fn push(&mut self, sequence: u64, item: T, bytes: u64) -> Result<(), JoinError> {
        let ahead = sequence
            .checked_sub(self.next)
            .ok_or(JoinError::Twice(sequence))?;
        let held_bytes = self.held_bytes.saturating_add(bytes);
        let slot = match usize::try_from(ahead) {
            // The one that is waited for always finds room: it leaves at once.
            Ok(0) => 0,
            Ok(slot) if slot < self.items_max && held_bytes <= self.bytes_max => slot,
            _ => {
                return Err(JoinError::TooFarAhead {
                    sequence,
                    waiting_for: self.next,
                    held_bytes: self.held_bytes,
                });
            }
        };
        while self.slots.len() <= slot {
            self.slots.push_back(None);
        }
        match self.slots.get_mut(slot) {
            Some(place @ None) => *place = Some((item, bytes)),
            _ => return Err(JoinError::Twice(sequence)),
        }
        self.held_bytes = held_bytes;
        Ok(())
    }

    /// The next item in order, with its bytes.
    pub fn pop(&mut self) -> Option<(T, u64)> {
        self.slots.front()?.as_ref()?;
        let (item, bytes) = self.slots.pop_front()??;
        self.next += 1;
        self.held_bytes -= bytes;
        Some((item, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bounds_hold() {
        let mut joiner = Joiner::new(100, 10);
        joiner.push(2, "b", 60).unwrap();
        assert_eq!(joiner.pop(), None);
        assert!(matches!(
            joiner.push(3, "c", 60),
            Err(JoinError::TooFarAhead { .. })
        ));
        assert!(joiner.push(20, "z", 0).is_err());
        assert_eq!(joiner.push(2, "b", 1), Err(JoinError::Twice(2)));
        joiner.push(1, "a", 1000).unwrap();
        assert_eq!(joiner.pop(), Some(("a", 1000)));
        assert_eq!(joiner.pop(), Some(("b", 60)));
        assert_eq!(joiner.push(1, "a", 1), Err(JoinError::Twice(1)));
        assert_eq!(joiner.held_bytes(), 0);
    }

    proptest! {
        #[test]
        fn any_order_comes_out_in_order(order in Just((1..=40u64).collect::<Vec<_>>()).prop_shuffle()) {
            let mut joiner = Joiner::new(1000, 100);
            let mut out = Vec::new();
            for number in order {
                joiner.push(number, number, 1).unwrap();
                while let Some((item, _)) = joiner.pop() {
                    out.push(item);
                }
            }
            prop_assert_eq!(out, (1..=40).collect::<Vec<_>>());
        }
    }
}
