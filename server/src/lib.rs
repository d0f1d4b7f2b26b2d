//! The Redostream server: beside a PostgreSQL standby, redo in, change streams out.
//!
//! [`session`] and [`control`] stand between released blocks and subscribers; the rest is the
//! process: commands, the replication client, restart points.

pub mod access;
mod check;
mod cli;
mod config;
pub mod control;
mod ddl_capture;
mod decode;
mod demo;
mod exit;
mod live;
mod metrics;
mod print;
mod restart_point;
mod serve;
pub mod session;
mod size;
mod start;
mod upkeep;
mod upstream;

/// Runs the command line; gives the process's exit status.
#[must_use]
pub fn run() -> std::process::ExitCode {
    let cli = match config::parse(std::env::args_os().collect()) {
        Ok(cli) => cli,
        Err(failure) => return exit::status(Err(failure)),
    };
    cli::start_log(&cli.log);
    exit::status(match &cli.command {
        cli::Command::Demo(arguments) => demo::run(arguments),
        cli::Command::Serve(arguments) => serve::run(arguments),
        cli::Command::Check(arguments) => check::run(arguments),
        cli::Command::Decommission(arguments) => serve::decommission(arguments),
        cli::Command::Token(arguments) => access::run(arguments),
        cli::Command::Decode(arguments) => decode::run(arguments),
        cli::Command::DdlCapture(arguments) => ddl_capture::run(arguments),
    })
}
