//! Files as they are found: whole, missing, short, foreign, recycled, twice.

use super::*;

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
