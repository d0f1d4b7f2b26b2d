//! Records cases on real servers.
//!
//! ```text
//! cargo run -p redostream-testdata --bin record -- --version 15 --case types
//! cargo run -p redostream-testdata --bin record             # everything, every version
//! ```

use anyhow::Result;
use clap::Parser;
use redostream_testdata::recorder::{ensure_base, read_case, record, written_cases};
use redostream_testdata::server::{MAJORS, Server};

/// Records cases of testdata/cases on real servers into testdata/recorded.
#[derive(Debug, Parser)]
struct Arguments {
    /// Major versions; all by default.
    #[arg(long)]
    version: Vec<u32>,
    /// Cases by name; all by default.
    #[arg(long)]
    case: Vec<String>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let versions = if arguments.version.is_empty() {
        MAJORS.to_vec()
    } else {
        arguments.version
    };
    let names = if arguments.case.is_empty() {
        written_cases()?
    } else {
        arguments.case
    };
    for version in versions {
        let server = Server::find(version)?;
        ensure_base(&server)?;
        for name in &names {
            if read_case(name)?.fits(version) {
                let bytes = record(&server, name)?;
                println!("{version} {name}: {bytes} bytes");
            }
        }
    }
    Ok(())
}
