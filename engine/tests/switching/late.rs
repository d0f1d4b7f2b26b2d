//! A source that now and then has not yet what it has said it has: as where bytes have left the
//! buffer before they were read, and their file is not there yet. Nothing more is logged meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use redostream_engine::pipeline::Counters;
use redostream_engine::source::{Available, FileSource, Origin, Source, SourceError};
use redostream_protocol::{Lsn, TimelineId};
use redostream_testdata::server::Server;

use super::{CHUNK_BYTES, Log, Released};

/// Of so many reads one finds nothing.
const REFUSED: u32 = 5;
/// And the first ones of the last chunk: there it would be seen only when more is logged.
const LAST_REFUSED: u32 = 3;

struct Late {
    files: Arc<FileSource>,
    end: Lsn,
    reads: AtomicU32,
    last_reads: AtomicU32,
    /// Whether who asks next what there is hears that there is nothing.
    gone: AtomicBool,
    /// Who waits for more than there is ends with an error.
    until: Instant,
}

/// One in [`REFUSED`], in no order: where a turn of reading takes as many reads, it would be the same
/// one of each turn that is refused, and the pipeline would not get on.
fn is_refused(read: u32) -> bool {
    let mixed = u64::from(read).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 32).is_multiple_of(u64::from(REFUSED))
}

impl Source for Late {
    fn available(&self, from: Lsn) -> Result<Available, SourceError> {
        if Instant::now() > self.until {
            return Err(SourceError::Missing {
                lsn: from,
                segment: String::new(),
                searched: "a log of which all is there".to_owned(),
            });
        }
        let gone = self.gone.swap(false, Ordering::Relaxed);
        Ok(Available {
            end: if gone { from } else { self.end },
            closed: false,
            trusted: true,
        })
    }

    fn read(&self, from: Lsn, out: &mut [u8]) -> Result<(usize, Origin), SourceError> {
        let refused = is_refused(self.reads.fetch_add(1, Ordering::Relaxed));
        let is_last = from.add(CHUNK_BYTES as u64) >= self.end;
        if refused || is_last && self.last_reads.fetch_add(1, Ordering::Relaxed) < LAST_REFUSED {
            self.gone.store(true, Ordering::Relaxed);
            return Err(SourceError::NotYet(from));
        }
        self.files.read(from, out)
    }

    fn wait(&self, _: Lsn, timeout: Duration) {
        std::thread::sleep(timeout.min(Duration::from_millis(1)));
    }

    fn timeline_at(&self, lsn: Lsn) -> TimelineId {
        self.files.timeline_at(lsn)
    }

    fn segment_bytes(&self) -> u64 {
        self.files.segment_bytes()
    }

    fn locate(&self, lsn: Lsn) -> String {
        self.files.locate(lsn)
    }
}

#[test]
fn what_is_not_there_yet_is_asked_for_again() {
    let Some(server) = Server::for_test(15) else {
        return;
    };
    let log = Log::of(server, 1);
    let (mut expected, mut released) = (Released::default(), Released::default());
    let files = log.files(true, None);
    log.decode(&*files, &Counters::default(), &mut expected);
    let late = Late {
        files,
        end: log.end,
        reads: AtomicU32::new(0),
        last_reads: AtomicU32::new(0),
        gone: AtomicBool::new(false),
        until: Instant::now() + Duration::from_secs(60),
    };
    log.decode(&late, &Counters::default(), &mut released);
    assert!(released.told() == expected.told());
    assert!(late.reads.into_inner() > 4 * REFUSED);
    assert!(late.last_reads.into_inner() > LAST_REFUSED);
}
