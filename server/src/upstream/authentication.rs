//! Authentication: trust, cleartext (only where nobody listens), MD5, SCRAM-SHA-256 with and
//! without channel binding.

use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use postgres_protocol::message::backend::{AuthenticationSaslBody, Message};
use postgres_protocol::message::frontend;

use super::connection::{Connection, Incoming, broken};
use super::conninfo::{self, Conninfo, Host, Secret};
use super::error::{ServerError, UpstreamError};
use super::passfile;

/// What the connection runs over.
pub(super) enum Channel {
    /// A socket of this machine.
    Local,
    /// TCP in the clear.
    Open,
    /// TLS; the hash of the server's certificate, if SCRAM can be bound to it.
    Tls { end_point: Option<Vec<u8>> },
}

/// Answers the server's questions until it lets us in.
pub(super) async fn authenticate(
    connection: &mut Connection,
    info: &Conninfo,
    host: &Host,
    database: &str,
    channel: Channel,
) -> Result<(), UpstreamError> {
    let mut asked = Asked {
        info,
        host,
        database,
        channel,
        scram: Scram::None,
        bound: false,
    };
    loop {
        let message = match connection.next_message().await? {
            Incoming::Message(message) => message,
            Incoming::CopyBoth => return Err(asked.problem("the server copies unasked")),
        };
        match message {
            Message::AuthenticationOk => return asked.finished(),
            Message::ErrorResponse(body) => {
                let answer = ServerError::read(body.fields()).map_err(broken)?;
                return Err(connection.refused_connection(answer));
            }
            other => asked.answer(connection, other).await?,
        }
    }
}

enum Scram {
    None,
    Running(ScramSha256),
    /// The server has proved that it knows the password too.
    Proved,
}

struct Asked<'a> {
    info: &'a Conninfo,
    host: &'a Host,
    database: &'a str,
    channel: Channel,
    scram: Scram,
    bound: bool,
}

impl Asked<'_> {
    fn problem(&self, problem: impl Into<String>) -> UpstreamError {
        UpstreamError::Authentication {
            host: self.host.to_string(),
            problem: problem.into(),
        }
    }

    fn password(&self) -> Result<Secret, UpstreamError> {
        passfile::password_for(self.info, self.host, self.database).ok_or_else(|| {
            UpstreamError::NoPassword {
                host: self.host.to_string(),
                user: self.info.user.clone(),
            }
        })
    }

    fn finished(&self) -> Result<(), UpstreamError> {
        if matches!(self.scram, Scram::Running(_)) {
            return Err(self.problem("the server did not prove that it knows the password"));
        }
        if self.info.channel_binding == conninfo::ChannelBinding::Require && !self.bound {
            return Err(
                self.problem("channel_binding=require, but the server authenticates without it")
            );
        }
        Ok(())
    }

    async fn answer(
        &mut self,
        connection: &mut Connection,
        question: Message,
    ) -> Result<(), UpstreamError> {
        let output = connection.output();
        match question {
            Message::AuthenticationCleartextPassword => {
                if matches!(self.channel, Channel::Open) {
                    return Err(self.problem(
                        "the server wants the password in the clear; \
                         use sslmode=require, or scram-sha-256 in pg_hba.conf",
                    ));
                }
                let password = self.password()?;
                frontend::password_message(password.reveal().as_bytes(), output).map_err(broken)?;
            }
            Message::AuthenticationMd5Password(body) => {
                let password = self.password()?;
                let user = self.info.user.as_bytes();
                let hash = md5_hash(user, password.reveal().as_bytes(), body.salt());
                frontend::password_message(hash.as_bytes(), output).map_err(broken)?;
            }
            Message::AuthenticationSasl(body) => {
                let (mechanism, scram) = self.begin_scram(&body)?;
                frontend::sasl_initial_response(mechanism, scram.message(), output)
                    .map_err(broken)?;
                self.bound = mechanism == SCRAM_SHA_256_PLUS;
                self.scram = Scram::Running(scram);
            }
            Message::AuthenticationSaslContinue(body) => {
                let Scram::Running(scram) = &mut self.scram else {
                    return Err(self.problem("SCRAM goes on without having begun"));
                };
                scram.update(body.data()).map_err(broken)?;
                frontend::sasl_response(scram.message(), output).map_err(broken)?;
            }
            Message::AuthenticationSaslFinal(body) => {
                let Scram::Running(scram) = &mut self.scram else {
                    return Err(self.problem("SCRAM ends without having begun"));
                };
                scram.finish(body.data()).map_err(|error| {
                    self.problem(format!("the server's proof is wrong: {error}"))
                })?;
                self.scram = Scram::Proved;
            }
            _ => {
                return Err(self.problem(
                    "the server wants a method that is not offered here \
                     (trust, cert, password, md5 and scram-sha-256 are)",
                ));
            }
        }
        connection.flush().await
    }

    fn begin_scram(
        &self,
        body: &AuthenticationSaslBody,
    ) -> Result<(&'static str, ScramSha256), UpstreamError> {
        let (mut plain, mut plus) = (false, false);
        let mut mechanisms = body.mechanisms();
        while let Some(mechanism) = mechanisms.next().map_err(broken)? {
            plain |= mechanism == SCRAM_SHA_256;
            plus |= mechanism == SCRAM_SHA_256_PLUS;
        }
        let allowed = self.info.channel_binding != conninfo::ChannelBinding::Disable;
        let end_point = match &self.channel {
            Channel::Tls { end_point } if allowed => end_point.clone(),
            _ => None,
        };
        let (mechanism, binding) = match end_point {
            Some(hash) if plus => (
                SCRAM_SHA_256_PLUS,
                ChannelBinding::tls_server_end_point(hash),
            ),
            // We could have bound it and the server did not offer to: both ends will notice if
            // somebody in between took the offer away.
            Some(_) if plain => (SCRAM_SHA_256, ChannelBinding::unrequested()),
            None if plain => (SCRAM_SHA_256, ChannelBinding::unsupported()),
            _ => return Err(self.problem("the server offers no SCRAM mechanism that is known")),
        };
        let password = self.password()?;
        Ok((
            mechanism,
            ScramSha256::new(password.reveal().as_bytes(), binding),
        ))
    }
}
