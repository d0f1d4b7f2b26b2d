//! What a client may acknowledge: what its session has sent, and what it was given before that.

use redostream_protocol::Position;
use redostream_protocol::control::Start;
use redostream_protocol::wire::Ack;

use super::outgoing::Progress;

/// What is to be remembered of `ack` in a session that began at `start` and has sent `sent`; none
/// if the client cannot have what it acknowledges.
///
/// A client that has connected again begins after its last event, or at the LSN before which it has
/// everything if that is further; from then on it may acknowledge its last event at any time, also
/// before this session has sent one.
pub(super) fn admitted(ack: &Ack, start: Start, sent: Progress) -> Option<Ack> {
    let before = start.lsn();
    if ack.released > sent.released.max(sent.position.commit_lsn).max(before) {
        return None;
    }
    match start {
        _ if ack.position <= sent.position => Some(*ack),
        Start::After(last) if ack.position <= last => Some(*ack),
        // Its timeline is only the client's word. All that lies before its commit is as good, and
        // names no timeline.
        Start::At(lsn) if ack.position.commit_lsn < lsn => Some(Ack {
            position: Position::default(),
            released: ack.released.max(ack.position.commit_lsn),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use redostream_protocol::{Lsn, TimelineId};

    use super::*;

    fn at(lsn: u64) -> Position {
        Position::commit(TimelineId(1), Lsn(lsn))
    }

    fn ack(position: Position, released: u64) -> Ack {
        let released = Lsn(released);
        Ack { position, released }
    }

    fn sent(position: Position, released: u64) -> Progress {
        let released = Lsn(released);
        Progress { position, released }
    }

    /// Whatever a client had when its connection broke, it may say so in the session that follows,
    /// before that has sent anything, after a heartbeat and after events.
    #[test]
    fn what_was_had_before_may_be_acknowledged_again() {
        let begin = Position::begin(TimelineId(1), Lsn(50));
        let none = Position::default();
        for (last, released) in [
            (at(50), 0),
            (at(50), 50),
            (at(50), 51),
            (begin, 50),
            (begin, 60),
            (none, 70),
        ] {
            let start = Start::resume(last, Lsn(released)).unwrap();
            for sent in [sent(none, 0), sent(none, 90), sent(at(80), 90)] {
                for ack in [ack(last, 0), ack(last, released), ack(at(40), 0)] {
                    let what = format!("{ack:?} after {start} and {sent:?}");
                    let kept = admitted(&ack, start, sent);
                    let kept = kept.unwrap_or_else(|| panic!("{what} is refused"));
                    // And nothing is kept that was not said.
                    let kept = Start::resume(kept.position, kept.released);
                    let said = Start::resume(ack.position, ack.released);
                    let lsn = |start: Option<Start>| start.map(|start| start.lsn());
                    assert!(lsn(kept) <= lsn(said), "{what}: {kept:?}");
                }
            }
        }
    }

    #[test]
    fn what_was_never_sent_is_refused() {
        let none = Position::default();
        let elsewhere = Position::commit(TimelineId(9), Lsn(40));
        for (start, ack) in [
            (Start::At(Lsn(50)), ack(at(50), 0)),
            (Start::At(Lsn(50)), ack(at(90), 50)),
            (Start::At(Lsn(50)), ack(at(40), 51)),
            (Start::After(at(50)), ack(at(51), 0)),
            (Start::After(at(50)), ack(elsewhere, 0)),
            (Start::After(at(50)), ack(at(50), 51)),
        ] {
            assert_eq!(
                admitted(&ack, start, sent(none, 0)),
                None,
                "{start} {ack:?}"
            );
        }
        let start = Start::At(Lsn(50));
        let sent = sent(at(80), 90);
        assert_eq!(admitted(&ack(at(81), 0), start, sent), None);
        assert_eq!(admitted(&ack(at(80), 91), start, sent), None);
        // A timeline that nobody has seen is not remembered.
        let kept = admitted(&ack(elsewhere, 0), start, sent);
        assert_eq!(kept, Some(ack(none, 40)));
    }
}
