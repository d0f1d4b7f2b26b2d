//! `redostream-server demo`: recorded WAL, served on loopback to a subscription of its own.

use crate::cli::DemoArguments;
use crate::exit::Failure;

/// Runs the command.
pub(crate) fn run(_arguments: &DemoArguments) -> Result<(), Failure> {
    Err(Failure::Runtime("not yet".to_owned()))
}
