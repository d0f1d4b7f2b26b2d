//! A log that nothing is added to and that ends anywhere: in a record, in a header, in a page's.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use redostream_engine::error::EngineError;
use redostream_protocol::Lsn;
use redostream_testdata::generator::random::Random;

use super::{Laid, Segment};

/// Longer than any decode here takes.
const NEVER: Duration = Duration::from_secs(60);

/// Decodes; fails where it does not come to an end.
fn decode(laid: &Laid, place: &str) -> (Vec<u8>, Result<(), EngineError>) {
    let (done, waiting) = mpsc::channel::<()>();
    let stop = laid.stop.clone();
    thread::scope(|scope| {
        let watch = scope.spawn(move || {
            let ended = waiting.recv_timeout(NEVER) != Err(mpsc::RecvTimeoutError::Timeout);
            if !ended {
                stop.stop();
            }
            ended
        });
        let decoded = laid.decode();
        drop(done);
        assert!(watch.join().unwrap(), "{place}: it does not end");
        decoded
    })
}

/// Cuts the log `bytes` bytes into its last file, and fills the file up with zeros if it is `padded`.
fn cut(laid: &Laid, last: &Segment, bytes: u64, padded: bool) {
    last.file.set_len(bytes).unwrap();
    if padded {
        last.file.set_len(laid.segment_bytes() as u64).unwrap();
    }
}

#[test]
fn a_log_that_is_cut_short_ends_there() {
    let seed = std::env::var("REDOSTREAM_SEED").ok();
    let seed = seed.and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| std::process::id().into());
    println!("REDOSTREAM_SEED={seed}");
    let mut random = Random::new(seed);
    let mut laid = Laid::new(16, "names");
    let wanted = laid.end;
    let last = laid.segments.pop().unwrap();
    let whole = std::fs::read(&last.path).unwrap();
    let read = last.meaning.read.clone();
    let mut shorter = 0;
    for number in 0..32 {
        let bytes = read.start + random.below(read.len());
        let padded = number % 2 == 0;
        laid.decoders = 1 + number / 2 % 2;
        laid.end = if number % 8 < 6 { Lsn::MAX } else { wanted };
        let decoders = laid.decoders;
        let place = format!(
            "{bytes} bytes, padded {padded}, {decoders} decoders, {}",
            laid.end
        );
        cut(&laid, &last, bytes as u64, padded);
        let (events, result) = decode(&laid, &place);
        assert!(laid.truth.starts_with(&events), "{place}: what is not so");
        shorter += usize::from(events.len() < laid.truth.len());
        match &result {
            Ok(()) => assert_eq!(laid.end, Lsn::MAX, "{place}: there must be more"),
            Err(EngineError::EndsEarly { .. }) => assert_eq!(laid.end, wanted, "{place}"),
            // The page in which the record ends may be there, and the record not.
            Err(EngineError::Damaged { .. }) => {
                assert!(padded || laid.end == wanted, "{place}: {result:?}");
            }
            Err(error) => panic!("{place}: {error}"),
        }
        std::fs::write(&last.path, &whole).unwrap();
    }
    assert!(shorter > 0, "nothing was cut off");
}
