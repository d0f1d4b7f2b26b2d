//! Copying directories of a server that may be running.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use anyhow::{Context, Result};

/// Copies a directory with owners and modes. `keep` is asked with each path relative to
/// `from`. A file that vanishes meanwhile is left out, as a backup of a running server must.
///
/// # Errors
/// When something cannot be read or written.
pub fn copy_tree(from: &Path, to: &Path, keep: &dyn Fn(&Path) -> bool) -> Result<()> {
    copy_below(from, to, Path::new(""), keep)
}

fn copy_below(from: &Path, to: &Path, below: &Path, keep: &dyn Fn(&Path) -> bool) -> Result<()> {
    let target = to.join(below);
    fs::create_dir_all(&target).with_context(|| format!("cannot create {}", target.display()))?;
    let source = from.join(below);
    let entries = match fs::read_dir(&source) {
        Ok(entries) => entries,
        Err(gone) if gone.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot list {}", source.display()));
        }
    };
    for entry in entries {
        let entry = entry?;
        let path = below.join(entry.file_name());
        if !keep(&path) {
            continue;
        }
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_below(from, to, &path, keep)?;
        } else if kind.is_symlink() {
            let link = fs::read_link(entry.path())?;
            symlink(link, to.join(&path))?;
        } else if kind.is_file() {
            copy_file(&entry.path(), &to.join(&path))?;
        }
    }
    copy_owner(&source, &target)
}

fn copy_file(from: &Path, to: &Path) -> Result<()> {
    match fs::copy(from, to) {
        Ok(_) => copy_owner(from, to),
        Err(gone) if gone.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error)
            .with_context(|| format!("cannot copy {} to {}", from.display(), to.display())),
    }
}

fn copy_owner(from: &Path, to: &Path) -> Result<()> {
    let Ok(metadata) = fs::metadata(from) else {
        return Ok(());
    };
    fs::set_permissions(to, fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
    let now = fs::metadata(to)?;
    if (now.uid(), now.gid()) != (metadata.uid(), metadata.gid()) {
        chown(to, Some(metadata.uid()), Some(metadata.gid()))
            .with_context(|| format!("cannot give {} its owner", to.display()))?;
    }
    Ok(())
}

/// Copies the WAL segments (and timeline histories) of a `pg_wal` directory.
///
/// # Errors
/// When something cannot be read or written.
pub fn copy_wal(pg_wal: &Path, to: &Path) -> Result<()> {
    copy_tree(pg_wal, to, &|path| {
        path.file_name()
            .is_some_and(|name| is_wal_file(&name.to_string_lossy()))
    })
}

/// Whether a name is that of a segment or of a timeline history.
pub fn is_wal_file(name: &str) -> bool {
    let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    (name.len() == 24 && hex(name))
        || name
            .strip_suffix(".history")
            .is_some_and(|stem| stem.len() == 8 && hex(stem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_wal_files_by_name() {
        assert!(is_wal_file("000000010000000000000001"));
        assert!(is_wal_file("00000002.history"));
        assert!(!is_wal_file("000000010000000000000001.partial"));
        assert!(!is_wal_file("archive_status"));
    }

    #[test]
    fn copies_what_is_kept() {
        let from = tempfile::tempdir().unwrap();
        let to = tempfile::tempdir().unwrap();
        fs::create_dir(from.path().join("a")).unwrap();
        fs::write(from.path().join("a/yes"), "1").unwrap();
        fs::write(from.path().join("a/no"), "2").unwrap();
        copy_tree(from.path(), to.path(), &|path| !path.ends_with("no")).unwrap();
        assert_eq!(fs::read(to.path().join("a/yes")).unwrap(), b"1");
        assert!(!to.path().join("a/no").exists());
    }
}
