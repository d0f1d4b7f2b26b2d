//! The source as a whole: crafted files, forks, and a reader that falls behind and catches up.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use redostream_protocol::{Lsn, TimelineId};

use super::*;

const MIB: u64 = 1024 * 1024;
const PAGE: u64 = 8192;
const SYSTEM: u64 = 7_312_345_678_901_234_567;
const MAGIC: u16 = 0xD110;

fn size() -> SegmentSize {
    SegmentSize::new(MIB).unwrap()
}

/// The byte at `lsn` of timeline `tli`: page headers where they belong, else a mix of the LSN.
fn segment(tli: u32, number: u64) -> Vec<u8> {
    let start = size().start(number).0;
    let mut bytes = vec![0; MIB as usize];
    for (index, word) in bytes.chunks_exact_mut(8).enumerate() {
        let mixed = (start / 8 + index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ u64::from(tli);
        word.copy_from_slice(&(mixed | 1).to_le_bytes());
    }
    for page in 0..MIB / PAGE {
        let at = (page * PAGE) as usize;
        let info: u16 = if page == 0 { 2 } else { 0 };
        bytes[at..at + 2].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[at + 2..at + 4].copy_from_slice(&info.to_le_bytes());
        bytes[at + 4..at + 8].copy_from_slice(&tli.to_le_bytes());
        bytes[at + 8..at + 16].copy_from_slice(&(start + page * PAGE).to_le_bytes());
    }
    bytes[24..32].copy_from_slice(&SYSTEM.to_le_bytes());
    bytes[32..36].copy_from_slice(&(MIB as u32).to_le_bytes());
    bytes[36..40].copy_from_slice(&(PAGE as u32).to_le_bytes());
    bytes
}

fn name(tli: u32, number: u64) -> String {
    size().file_name(TimelineId(tli), number)
}

fn put(directory: &Path, tli: u32, number: u64) -> PathBuf {
    let path = directory.join(name(tli, number));
    fs::write(&path, segment(tli, number)).unwrap();
    path
}

fn options(directories: &[&Path], closed: bool) -> FileSourceOptions {
    FileSourceOptions {
        directories: directories.iter().map(|path| path.to_path_buf()).collect(),
        system_identifier: SYSTEM,
        segment_size: size(),
        page_magic: MAGIC,
        closed,
        restore: None,
    }
}

fn files(directories: &[&Path], closed: bool) -> FileSource {
    FileSource::with_history(
        options(directories, closed),
        TimelineHistory::single(TimelineId(1)),
    )
}

fn lsn(number: u64) -> Lsn {
    size().start(number)
}

fn read_all(source: &dyn Source, from: Lsn, to: Lsn) -> Result<Vec<u8>, SourceError> {
    let mut out = Vec::new();
    let mut buffer = vec![0; 300_000];
    while from.0 + (out.len() as u64) < to.0 {
        let at = from.add(out.len() as u64);
        let wanted = buffer.len().min((to.0 - at.0) as usize);
        let (count, _) = source.read(at, &mut buffer[..wanted])?;
        assert!(count > 0);
        out.extend_from_slice(&buffer[..count]);
    }
    Ok(out)
}

#[test]
fn a_row_of_files_is_read_to_its_end() {
    let directory = tempfile::tempdir().unwrap();
    for number in 3..20 {
        put(directory.path(), 1, number);
    }
    let source = files(&[directory.path()], true);
    let mut at = lsn(3).add(40);
    let mut out = vec![0; 256 * 1024];
    loop {
        let available = source.available(at).unwrap();
        if available.end == at {
            assert!(available.closed);
            break;
        }
        assert!(!available.closed || available.end == lsn(20));
        let (count, origin) = source.read(at, &mut out).unwrap();
        assert_eq!(origin, Origin::File);
        let expected = segment(1, size().number(at));
        let offset = size().offset(at) as usize;
        assert!(out[..count] == expected[offset..offset + count]);
        at = at.add(count as u64);
    }
    assert_eq!(at, lsn(20));
    assert!(matches!(source.read(at, &mut out), Err(SourceError::NotYet(end)) if end == lsn(20)));
}

#[test]
fn a_missing_segment_is_named_and_nothing_before_it_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    for number in [3, 4, 6] {
        put(directory.path(), 1, number);
    }
    let source = files(&[directory.path()], true);
    let available = source.available(lsn(3)).unwrap();
    assert_eq!((available.end, available.closed), (lsn(5), false));
    let error = source.available(lsn(5)).unwrap_err().to_string();
    assert!(error.contains(&name(1, 5)), "{error}");
    assert!(
        error.contains(&directory.path().display().to_string()),
        "{error}"
    );
    assert!(matches!(
        source.available(lsn(2)),
        Err(SourceError::Missing { .. })
    ));

    // While files still come in, a hole is given time; what was removed is not waited for.
    let live = files(&[directory.path()], false);
    assert_eq!(live.available(lsn(5)).unwrap().end, lsn(5));
    assert!(matches!(
        live.available(lsn(2)),
        Err(SourceError::Missing { .. })
    ));
    put(directory.path(), 1, 5);
    assert_eq!(live.available(lsn(5)).unwrap().end, lsn(7));
}

#[test]
fn wal_of_another_cluster_is_refused() {
    type Damage = fn(&mut Vec<u8>);
    let cases: [(Damage, &str); 4] = [
        (|bytes| bytes[24] ^= 1, "system identifier"),
        (|bytes| bytes[0] = 0x16, "PostgreSQL 17"),
        (|bytes| bytes[34] = 0, "segments of"),
        (|bytes| bytes[37] = 0x40, "pages of"),
    ];
    for (damage, said) in cases {
        let directory = tempfile::tempdir().unwrap();
        let mut bytes = segment(1, 3);
        damage(&mut bytes);
        fs::write(directory.path().join(name(1, 3)), bytes).unwrap();
        let source = files(&[directory.path()], true);
        let error = read_all(&source, lsn(3), lsn(4)).unwrap_err();
        assert!(matches!(error, SourceError::Wrong { .. }));
        assert!(error.to_string().contains(said), "{error}");
        assert!(error.to_string().contains(&name(1, 3)), "{error}");
    }
}

#[test]
fn a_damaged_or_unwritten_first_page_is_left_to_framing() {
    for damage in [
        |bytes: &mut Vec<u8>| bytes[0] ^= 0xFF,
        |bytes: &mut Vec<u8>| bytes[2] = 0,
        |bytes: &mut Vec<u8>| bytes.fill(0),
        |bytes: &mut Vec<u8>| *bytes = segment(1, 1),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let mut bytes = segment(1, 3);
        damage(&mut bytes);
        fs::write(directory.path().join(name(1, 3)), &bytes).unwrap();
        let source = files(&[directory.path()], true);
        assert_eq!(read_all(&source, lsn(3), lsn(4)).unwrap(), bytes);
    }
}

#[test]
fn a_short_file_gives_what_it_has_and_grows() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = segment(1, 3);
    let path = directory.path().join(name(1, 3));
    fs::write(&path, &bytes[..100_000]).unwrap();
    let live = files(&[directory.path()], false);
    let end = lsn(3).add(100_000);
    assert_eq!(live.available(lsn(3)).unwrap().end, end);
    assert_eq!(read_all(&live, lsn(3), end).unwrap(), bytes[..100_000]);
    let mut out = [0; 10];
    assert!(matches!(
        live.read(end, &mut out),
        Err(SourceError::NotYet(_))
    ));

    OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .write_all_at(&bytes, 0)
        .unwrap();
    assert_eq!(live.available(end).unwrap().end, lsn(4));
    assert_eq!(read_all(&live, lsn(3), lsn(4)).unwrap(), bytes);

    // Cut while it is open.
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(50_000)
        .unwrap();
    assert!(matches!(
        live.read(lsn(3).add(60_000), &mut out),
        Err(SourceError::NotYet(_))
    ));

    // Cut for good, with more behind it.
    put(directory.path(), 1, 4);
    let offline = files(&[directory.path()], true);
    let available = offline.available(lsn(3)).unwrap();
    assert_eq!(
        (available.end, available.closed),
        (lsn(3).add(50_000), false)
    );
    let error = offline.available(available.end).unwrap_err().to_string();
    assert!(
        error.contains(&name(1, 3)) && error.contains("0/30C350"),
        "{error}"
    );
    assert_eq!(offline.available(lsn(4)).unwrap().end, lsn(5));
}

#[test]
fn a_file_too_long_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join(name(1, 3)), vec![0; MIB as usize + 1]).unwrap();
    let source = files(&[directory.path()], true);
    assert!(matches!(
        source.available(lsn(3)),
        Err(SourceError::Wrong { .. })
    ));
}

#[test]
fn a_recycled_file_is_never_taken_for_what_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let archive = tempfile::tempdir().unwrap();
    put(archive.path(), 1, 3);
    let path = put(directory.path(), 1, 3);
    let source = files(&[directory.path(), archive.path()], false);
    let mut out = [0; 1000];
    source.read(lsn(3), &mut out).unwrap();
    // The server renames the file to a future segment and writes it anew.
    let future = directory.path().join(name(1, 9));
    fs::rename(&path, &future).unwrap();
    OpenOptions::new()
        .write(true)
        .open(&future)
        .unwrap()
        .write_all_at(&segment(1, 9), 0)
        .unwrap();
    assert_eq!(read_all(&source, lsn(3), lsn(4)).unwrap(), segment(1, 3));
    fs::remove_file(archive.path().join(name(1, 3))).unwrap();
    assert!(matches!(
        source.read(lsn(3), &mut out),
        Err(SourceError::Missing { .. })
    ));
}

#[test]
fn two_files_of_one_name_must_agree() {
    type Change = fn(&mut Vec<u8>);
    let cases: [(Change, &str); 7] = [
        (|_| {}, "first"),
        (|bytes| bytes[500_000] ^= 1, "ambiguous"),
        (|bytes| bytes[24] ^= 1, "ambiguous"),
        (|bytes| bytes.truncate(300_000), "first"),
        (|bytes| bytes[700_000..].fill(0), "first"),
        (
            |bytes| {
                bytes[PAGE as usize * 20..].copy_from_slice(&segment(1, 1)[PAGE as usize * 20..])
            },
            "first",
        ),
        (
            |bytes| bytes[PAGE as usize * 20..PAGE as usize * 21].fill(0),
            "ambiguous",
        ),
    ];
    for (index, (change, expected)) in cases.into_iter().enumerate() {
        for swapped in [false, true] {
            let one = tempfile::tempdir().unwrap();
            let two = tempfile::tempdir().unwrap();
            put(one.path(), 1, 3);
            let mut bytes = segment(1, 3);
            change(&mut bytes);
            fs::write(two.path().join(name(1, 3)), bytes).unwrap();
            let directories = if swapped {
                [two.path(), one.path()]
            } else {
                [one.path(), two.path()]
            };
            let source = files(&directories, true);
            match source.available(lsn(3)) {
                Ok(available) => {
                    assert_eq!(expected, "first", "case {index}");
                    assert_eq!(available.end, lsn(4), "case {index}");
                    assert_eq!(read_all(&source, lsn(3), lsn(4)).unwrap(), segment(1, 3));
                }
                Err(SourceError::Ambiguous { .. }) => {
                    assert_eq!(expected, "ambiguous", "case {index}")
                }
                Err(error) => panic!("case {index}: {error}"),
            }
        }
    }
}

/// Timeline 2 leaves 1 in segment 5 at 300,000, timeline 3 leaves 2 in segment 7 at its start.
fn forked(directory: &Path) -> TimelineHistory {
    let first = lsn(5).add(300_000);
    fs::write(
        directory.join("00000002.history"),
        format!("1\t{first}\tpromoted\n"),
    )
    .unwrap();
    fs::write(
        directory.join("00000003.history"),
        format!("1\t{first}\tpromoted\n2\t{}\tpromoted\n", lsn(7)),
    )
    .unwrap();
    for number in 3..5 {
        put(directory, 1, number);
    }
    let mut switched = segment(1, 5);
    switched[300_000..].copy_from_slice(&segment(2, 5)[300_000..]);
    fs::write(directory.join(name(2, 5)), switched).unwrap();
    // The old timeline went on elsewhere.
    fs::write(
        directory.join(format!("{}.partial", name(1, 5))),
        segment(1, 5),
    )
    .unwrap();
    put(directory, 1, 6);
    put(directory, 2, 6);
    put(directory, 2, 7);
    put(directory, 3, 7);
    TimelineHistory::from_switches(
        TimelineId(3),
        &[(TimelineId(1), first), (TimelineId(2), lsn(7))],
    )
}

#[test]
fn a_fork_is_followed_and_its_segment_read_from_the_new_timeline() {
    let directory = tempfile::tempdir().unwrap();
    let history = forked(directory.path());
    let choice = TimelineChoice::Newest {
        of: TimelineId(1),
        at: lsn(3).add(40),
    };
    let source = FileSource::open(options(&[directory.path()], true), choice).unwrap();
    assert_eq!(*source.history(), history);
    let mut expected = segment(1, 3);
    expected.extend(segment(1, 4));
    expected.extend(&segment(1, 5)[..300_000]);
    expected.extend(&segment(2, 5)[300_000..]);
    expected.extend(segment(2, 6));
    expected.extend(segment(3, 7));
    assert!(read_all(&source, lsn(3), lsn(8)).unwrap() == expected);
    let available = source.available(lsn(7)).unwrap();
    assert_eq!((available.end, available.closed), (lsn(8), true));
    assert_eq!(source.timeline_at(lsn(6)), TimelineId(2));
}

#[test]
fn an_old_partial_gives_what_was_before_the_switch() {
    let directory = tempfile::tempdir().unwrap();
    let history = forked(directory.path());
    let new = directory.path().join(name(2, 5));
    let kept = fs::read(&new).unwrap();
    fs::remove_file(&new).unwrap();
    let source = FileSource::with_history(options(&[directory.path()], false), history);
    let switch = lsn(5).add(300_000);
    assert_eq!(source.available(lsn(4)).unwrap().end, switch);
    assert!(read_all(&source, lsn(5), switch).unwrap() == kept[..300_000]);
    let mut out = [0; 10];
    assert!(matches!(
        source.read(switch, &mut out),
        Err(SourceError::NotYet(_))
    ));
    fs::write(&new, &kept).unwrap();
    assert_eq!(source.available(switch).unwrap().end, lsn(8));
    assert!(read_all(&source, lsn(5), lsn(6)).unwrap() == kept);
}

#[test]
fn a_timeline_is_chosen_among_descendants_only() {
    let directory = tempfile::tempdir().unwrap();
    let history = forked(directory.path());
    // Left timeline 1 before the place that is known to be ours.
    fs::write(
        directory.path().join("00000004.history"),
        "1\t0/200000\tother\n",
    )
    .unwrap();
    let open = |choice| FileSource::open(options(&[directory.path()], true), choice);
    let (of, at) = (TimelineId(1), lsn(4));
    let newest = open(TimelineChoice::Newest { of, at }).unwrap();
    assert_eq!(*newest.history(), history);
    let exactly = |number| TimelineChoice::Exactly {
        timeline: TimelineId(number),
        of,
        at,
    };
    assert_eq!(
        open(exactly(2)).unwrap().history().timeline(),
        TimelineId(2)
    );
    assert_eq!(
        open(exactly(1)).unwrap().history().timeline(),
        TimelineId(1)
    );
    assert!(matches!(open(exactly(4)), Err(SourceError::Wrong { .. })));
    assert!(matches!(open(exactly(5)), Err(SourceError::Missing { .. })));

    let live = files(&[directory.path()], false);
    assert_eq!(live.newer_timeline(lsn(4)).unwrap(), Some(history));
    assert_eq!(live.newer_timeline(lsn(6)).unwrap(), None);
    fs::write(directory.path().join("00000005.history"), "nonsense").unwrap();
    assert!(matches!(
        live.newer_timeline(lsn(4)),
        Err(SourceError::Wrong { .. })
    ));
}

struct Copying(PathBuf);

impl Restore for Copying {
    fn fetch(&self, name: &str, to: &Path) -> std::io::Result<bool> {
        let from = self.0.join(name);
        if !from.exists() {
            return Ok(false);
        }
        fs::copy(from, to).map(|_| true)
    }
}

#[test]
fn a_restore_command_gives_what_the_directories_lack() {
    let archive = tempfile::tempdir().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let own = tempfile::tempdir().unwrap();
    let history = forked(archive.path());
    for number in 8..40 {
        put(archive.path(), 3, number);
    }
    let mut options = options(&[directory.path()], false);
    options.restore = Some((
        Arc::new(Copying(archive.path().to_path_buf())),
        own.path().to_path_buf(),
    ));
    let (of, at) = (TimelineId(1), lsn(4));
    let source = FileSource::open(options, TimelineChoice::Newest { of, at }).unwrap();
    assert_eq!(*source.history(), history);
    for number in 3..40 {
        assert_eq!(source.available(lsn(number)).unwrap().end, lsn(number + 1));
        read_all(&source, lsn(number), lsn(number + 1)).unwrap();
    }
    assert_eq!(source.available(lsn(40)).unwrap().end, lsn(40));
    let kept = fs::read_dir(own.path()).unwrap().count();
    assert!(kept <= crate::limits::RESTORED_SEGMENTS_MAX + 2, "{kept}");
}

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
