//! `redostream`: the subscriber's command.
//!
//! `cli` reads the command line, `subscribe` follows a stream and gives it to `output`, `inspect`
//! asks the server how things are. Everything that speaks to the server is the library.

mod cli;
mod failure;
mod inspect;
mod output;
mod pretty;
mod progress;
mod subscribe;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command, Subscriptions};
use failure::Failure;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("redostream: {failure}");
            ExitCode::from(failure.exit_status())
        }
    }
}

fn run(cli: &Cli) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Ended(format!("cannot start threads: {error}")))?;
    let result = runtime.block_on(async {
        match &cli.command {
            Command::Subscribe(command) => subscribe::run(command).await,
            Command::Status(command) => inspect::status(command).await,
            Command::Probe(command) => inspect::probe(command).await,
            Command::Describe(command) => inspect::describe(command).await,
            Command::Subscriptions(Subscriptions::List(command)) => inspect::list(command).await,
            Command::Subscriptions(Subscriptions::Drop { name, connection }) => {
                inspect::forget(name, connection).await
            }
        }
    });
    runtime.shutdown_background();
    result
}
