//! Where the programs under test are.

use std::path::{Path, PathBuf};
use std::process::Command;

/// `redostream-server`, as cargo built it for this test.
pub(crate) fn server() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_redostream-server"))
}

/// `redostream`, which belongs to another package: cargo builds it beside the server, but only
/// if asked.
pub(crate) fn client() -> PathBuf {
    let path = server().with_file_name("redostream");
    if !path.is_file() {
        let mut build = Command::new(env!("CARGO"));
        build.args([
            "build",
            "--package",
            "redostream-client",
            "--bin",
            "redostream",
        ]);
        if path
            .parent()
            .and_then(Path::file_name)
            .is_some_and(|profile| profile == "release")
        {
            build.arg("--release");
        }
        assert!(build.status().unwrap().success(), "cannot build the client");
    }
    path
}

/// Whether a program ended as programs may: with one of its own exit statuses and no panic.
pub(crate) fn ended_well(status: Option<i32>, errors: &str) -> bool {
    status.is_some_and(|status| (0..=5).contains(&status)) && !errors.contains("panicked")
}
