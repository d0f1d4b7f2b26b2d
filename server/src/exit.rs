//! Exit statuses, and one line for people on standard error.

use std::process::ExitCode;

use redostream_engine::error::EngineError;

/// What a command can end with, besides success.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Source or runtime error, or no connection: 1.
    #[error("{0}")]
    Runtime(String),
    /// Usage or configuration: 2.
    #[error("{0}")]
    Usage(String),
    /// The log is damaged or cannot be decoded: 3.
    #[error("{0}")]
    Log(String),
    /// The position cannot be served: 4.
    #[error("{0}")]
    Position(String),
    /// Not authorised: 5.
    #[error("{0}")]
    #[expect(dead_code, reason = "only connections to other servers give it")]
    Unauthorised(String),
}

impl Failure {
    const fn code(&self) -> u8 {
        match self {
            Failure::Runtime(_) => 1,
            Failure::Usage(_) => 2,
            Failure::Log(_) => 3,
            Failure::Position(_) => 4,
            Failure::Unauthorised(_) => 5,
        }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        if error.is_log_fault() {
            Failure::Log(error.to_string())
        } else {
            Failure::Runtime(error.to_string())
        }
    }
}

/// Prints what went wrong and gives the process's exit status.
pub(crate) fn status(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("redostream-server: {failure}");
            ExitCode::from(failure.code())
        }
    }
}
