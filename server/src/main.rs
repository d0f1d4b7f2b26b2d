//! `redostream-server`: beside a PostgreSQL standby, redo in, change streams out.

fn main() -> std::process::ExitCode {
    redostream_server::run()
}
