//! `redostream-server`: beside a PostgreSQL standby, redo in, change streams out.

mod cli;
mod decode;
mod exit;
mod print;
mod size;
#[allow(
    dead_code,
    unused_imports,
    reason = "for the serve command, which is not there yet"
)]
mod upstream;

use clap::Parser;

fn main() -> std::process::ExitCode {
    let cli = cli::Cli::parse();
    cli::start_log(&cli.log);
    match cli.command {
        cli::Command::Decode(arguments) => exit::status(decode::run(&arguments)),
    }
}
