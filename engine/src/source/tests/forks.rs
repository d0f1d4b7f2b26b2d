//! Timelines in crafted files: forks, partial segments, what a restore command gives.

use super::*;

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
