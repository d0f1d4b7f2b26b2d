//! Who may come in: encryption, tokens, and how often somebody may guess.
//!
//! Takes: certificate and token files. Gives: the TLS settings of both planes and a judge of bearer
//! tokens. Keeps: who has guessed wrong lately. Never: a token itself, where its hash will do.

mod attempts;
mod command;
mod reload;
mod shared;
mod tls;
mod token;

pub(crate) use command::{Access, run};
pub(crate) use reload::Reload;

pub use attempts::{Attempts, AttemptsOptions};
pub use shared::Shared;
pub use tls::{TlsError, TlsFiles, server_config};
pub use token::{NewToken, TokenEntry, TokenError, Tokens, read_token_file};

use std::sync::Arc;
use std::time::Instant;

use redostream_protocol::wire::{Fault, FaultCode};

use crate::session::Authorise;

/// Judges bearer tokens by `tokens`, and slows down who guesses.
#[must_use]
pub fn authorise_by(tokens: Shared<Tokens>, attempts: Attempts) -> Authorise {
    Arc::new(move |token, peer| {
        let Some(token) = token else {
            let message = "this server wants a token; give one with --token-file or \
                           REDOSTREAM_TOKEN";
            return Err(Fault::new(FaultCode::Unauthorised, message));
        };
        let tokens = tokens.get();
        let found = tokens.find(token);
        let name = found.map(|(name, _)| name);
        if let Err(wait) = attempts.judge(peer, name, Instant::now()) {
            let seconds = wait.as_secs().max(1);
            let message =
                format!("too many wrong tokens came from your address; wait {seconds} seconds");
            return Err(Fault::new(FaultCode::Overloaded, message));
        }
        match found {
            Some((_, grant)) => Ok(grant.clone()),
            None => {
                let message = "the token is not one that this server knows";
                Err(Fault::new(FaultCode::Unauthorised, message))
            }
        }
    })
}
