//! Why the command ends, and with what exit status.

use std::io;

use redostream_client::ClientError;
use redostream_client::protocol::render::RenderError;

/// What stopped the command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The server or the way to it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Standard output.
    #[error("standard output: {0}")]
    Output(#[source] io::Error),
    /// An event that cannot be printed.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// The command line or a file it names.
    #[error("{0}")]
    Usage(String),
    /// The stream ended where it should not.
    #[error("{0}")]
    Ended(String),
    /// A place that cannot be served.
    #[error("{0}")]
    NotServable(String),
}

impl Failure {
    pub(crate) const fn usage(text: String) -> Self {
        Failure::Usage(text)
    }

    /// Whether the reader of standard output has gone, which is no failure.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    pub(crate) fn exit_status(&self) -> u8 {
        match self {
            Failure::Client(error) => error.exit_status(),
            Failure::Output(_) | Failure::Ended(_) => 1,
            Failure::Render(_) => 3,
            Failure::Usage(_) => 2,
            Failure::NotServable(_) => 4,
        }
    }
}
