//! Buffer and files together: a reader that falls behind and catches up.

use super::*;

/// A small generator; the seed is printed where it is used.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

struct Log {
    directory: tempfile::TempDir,
    buffer: Arc<RedoBuffer>,
    upstream: Arc<Upstream>,
    metrics: Arc<SourceMetrics>,
    source: SwitchingSource,
    current: (u64, Vec<u8>, Option<File>),
    head: Lsn,
}

impl Log {
    fn new(buffer_bytes: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let buffer = Arc::new(RedoBuffer::bounded(buffer_bytes));
        let upstream = Arc::new(Upstream::new(TimelineHistory::single(TimelineId(1))));
        let metrics = Arc::new(SourceMetrics::default());
        let source = SwitchingSource::new(
            Arc::clone(&buffer),
            Arc::clone(&upstream),
            Some(Arc::new(files(&[directory.path()], false))),
            true,
            MIB,
            Arc::clone(&metrics),
        );
        Self {
            directory,
            buffer,
            upstream,
            metrics,
            source,
            current: (0, Vec::new(), None),
            head: lsn(1),
        }
    }

    /// Writes as a server does: the file first, then what it reports and sends.
    fn write(&mut self, bytes: u64) {
        let number = size().number(self.head);
        if self.current.0 != number {
            let path = self.directory.path().join(name(1, number));
            fs::write(&path, vec![0; MIB as usize]).unwrap();
            let file = OpenOptions::new().write(true).open(&path).unwrap();
            self.current = (number, segment(1, number), Some(file));
        }
        let offset = size().offset(self.head);
        let bytes = bytes.min(MIB - offset);
        let piece = &self.current.1[offset as usize..(offset + bytes) as usize];
        let file = self.current.2.as_ref().unwrap();
        file.write_all_at(piece, offset).unwrap();
        self.buffer
            .push(self.head, Bytes::copy_from_slice(piece))
            .unwrap();
        self.head = self.head.add(bytes);
        self.upstream.report(self.head);
    }
}

#[test]
fn a_reader_that_falls_behind_sees_no_gap_and_no_repeat() {
    let seed = 0x5EED_0001;
    println!("seed {seed:#x}");
    let mut random = Random(seed);
    let mut log = Log::new(256 * 1024);
    let mut at = lsn(1);
    let mut expected = (1, segment(1, 1));
    let mut out = vec![0; 256 * 1024];
    let switches =
        |log: &Log| log.metrics.switches_to(Origin::Buffer) + log.metrics.switches_to(Origin::File);
    let mut given = 0;
    while switches(&log) < 1000 {
        // The writer runs ahead, by little or by more than the buffer holds.
        let ahead = [100, 10_000, 300_000, 800_000][random.below(4) as usize];
        let until = log.head.add(random.below(ahead) + 1);
        while log.head < until {
            let piece = [50, 3000, 40_000, 131_072][random.below(4) as usize];
            log.write(random.below(piece) + 1);
        }
        // The reader follows, or stalls.
        for _ in 0..random.below(8) {
            let available = log.source.available(at).unwrap();
            assert!(
                available.end <= log.head && available.trusted,
                "seed {seed:#x}"
            );
            if available.end <= at {
                break;
            }
            let wanted = random.below(256 * 1024) as usize + 1;
            let (count, _) = log.source.read(at, &mut out[..wanted]).unwrap();
            assert!(count > 0 && at.add(count as u64) <= log.head);
            for byte in &out[..count] {
                let number = size().number(at);
                if number != expected.0 {
                    expected = (number, segment(1, number));
                    let old = log.directory.path().join(name(1, number - 1));
                    fs::remove_file(old).unwrap();
                }
                assert_eq!(
                    *byte,
                    expected.1[size().offset(at) as usize],
                    "{at}, seed {seed:#x}"
                );
                at = at.add(1);
            }
            given += count as u64;
        }
    }
    let counted = log.metrics.bytes_from(Origin::Buffer) + log.metrics.bytes_from(Origin::File);
    assert_eq!(counted, given);
    assert_eq!(at.bytes_since(lsn(1)), given);
}

#[test]
fn nothing_is_given_that_was_not_reported() {
    let directory = tempfile::tempdir().unwrap();
    put(directory.path(), 1, 1);
    let upstream = Arc::new(Upstream::new(TimelineHistory::single(TimelineId(1))));
    let buffer = Arc::new(RedoBuffer::new(0));
    let source = SwitchingSource::new(
        Arc::clone(&buffer),
        Arc::clone(&upstream),
        Some(Arc::new(files(&[directory.path()], false))),
        true,
        MIB,
        Arc::default(),
    );
    let mut out = vec![0; 100_000];
    assert_eq!(source.available(lsn(1)).unwrap().end, lsn(1));
    assert!(matches!(
        source.read(lsn(1), &mut out),
        Err(SourceError::NotYet(_))
    ));
    upstream.report(lsn(1).add(5000));
    assert_eq!(source.available(lsn(1)).unwrap().end, lsn(1).add(5000));
    assert_eq!(source.read(lsn(1), &mut out).unwrap(), (5000, Origin::File));

    // At a fork, what was reported beyond it counts no more.
    upstream.report(lsn(1).add(50_000));
    let forked =
        TimelineHistory::from_switches(TimelineId(2), &[(TimelineId(1), lsn(1).add(20_000))]);
    upstream.follow(lsn(1).add(20_000), forked);
    assert_eq!(upstream.forks_after(0), (1, Some(lsn(1).add(20_000))));
    assert_eq!(upstream.forks_after(1), (1, None));
    assert_eq!(source.available(lsn(1)).unwrap().end, lsn(1).add(20_000));
    assert_eq!(source.timeline_at(lsn(1).add(20_000)), TimelineId(2));

    let began = Instant::now();
    source.wait(lsn(1).add(20_000), Duration::from_millis(60));
    assert!(began.elapsed() >= Duration::from_millis(60));
}

#[test]
fn a_reader_in_another_thread_follows_a_writer() {
    let mut log = Log::new(1024 * 1024);
    let end = lsn(40);
    std::thread::scope(|scope| {
        let source = SwitchingSource::new(
            Arc::clone(&log.buffer),
            Arc::clone(&log.upstream),
            Some(Arc::new(files(&[log.directory.path()], false))),
            true,
            MIB,
            Arc::clone(&log.metrics),
        );
        scope.spawn(move || {
            let mut at = lsn(1);
            let mut out = vec![0; 256 * 1024];
            while at < end {
                if source.available(at).unwrap().end <= at {
                    source.wait(at, Duration::from_secs(5));
                    continue;
                }
                let (count, _) = match source.read(at, &mut out) {
                    Err(SourceError::NotYet(_)) => continue,
                    other => other.unwrap(),
                };
                let mut piece = &out[..count];
                while !piece.is_empty() {
                    let offset = size().offset(at) as usize;
                    let count = piece.len().min(MIB as usize - offset);
                    let expected = segment(1, size().number(at));
                    assert!(piece[..count] == expected[offset..offset + count]);
                    at = at.add(count as u64);
                    piece = &piece[count..];
                }
            }
        });
        while log.head < end {
            log.write(77_777);
        }
    });
}

/// A commit that ends with its page is told of at once when the next one comes: the reader waits behind
/// the next page's header, of which nothing is there yet, and a push wakes it.
#[test]
fn behind_a_full_page_the_buffer_is_waited_for() {
    let mut log = Log::new(1 << 20);
    let before = log.head;
    assert!(!log.source.is_next_in_buffer(before), "nothing came yet");
    log.write(8192);
    let head = log.head;
    for behind in [0, 24, 40] {
        assert!(log.source.is_next_in_buffer(head.add(behind)), "{behind}");
    }
    assert!(!log.source.is_next_in_buffer(head.add(48)), "a gap");
    assert!(log.source.is_next_in_buffer(before));
    assert!(
        !log.source.is_next_in_buffer(Lsn(before.0 - 1)),
        "it is gone"
    );
}
