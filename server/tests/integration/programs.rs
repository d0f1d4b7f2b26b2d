//! Where the programs under test are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// `redostream-server`, as cargo built it for this test.
pub(crate) fn server() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_redostream-server"))
}

/// `redostream`, which belongs to another package. Where cargo has not built it beside the server,
/// or has before its sources were last changed, it is built here, once.
pub(crate) fn client() -> PathBuf {
    static CLIENT: OnceLock<PathBuf> = OnceLock::new();
    let found = CLIENT.get_or_init(|| {
        let path = server().with_file_name("redostream");
        if !is_current(&path) {
            build_client(&path);
        }
        path
    });
    found.clone()
}

/// Whether the client is as new as all that it is made of. Cargo lists that beside a program only
/// where it was asked for that program.
fn is_current(program: &Path) -> bool {
    let changed = |path: &Path| path.metadata().and_then(|file| file.modified()).ok();
    let Some(built) = changed(program) else {
        return false;
    };
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut left: Vec<PathBuf> = ["Cargo.lock", "client", "protocol"]
        .map(|name| workspace.join(name))
        .into();
    while let Some(path) = left.pop() {
        match std::fs::read_dir(&path) {
            Ok(entries) => left.extend(entries.map(|entry| entry.unwrap().path())),
            Err(_) if changed(&path).is_some_and(|at| at <= built) => {}
            Err(_) => return false,
        }
    }
    true
}

fn build_client(path: &Path) {
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--package", "redostream-client"]);
    build.args(["--bin", "redostream"]);
    let profile = path.parent().and_then(Path::file_name);
    if profile.is_some_and(|profile| profile == "release") {
        build.arg("--release");
    }
    assert!(build.status().unwrap().success(), "cannot build the client");
}

/// Whether a program ended as programs may: with one of its own exit statuses and no panic.
pub(crate) fn ended_well(status: Option<i32>, errors: &str) -> bool {
    status.is_some_and(|status| (0..=5).contains(&status)) && !errors.contains("panicked")
}
