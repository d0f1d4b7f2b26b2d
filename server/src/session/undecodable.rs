//! What a session does where rows of a table that it wants cannot be decoded: it stops there, or
//! goes on without them and says so once of each table.

use std::collections::HashSet;
use std::sync::Arc;

use redostream_protocol::event::Event;
use redostream_protocol::wire::{Fault, FaultCode, Notice};
use redostream_protocol::{DatabaseOid, Oid, Position};

use super::filter::known_relation;
use super::provider::StreamProvider;

/// What becomes of a subscriber whose table cannot be decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum OnUndecodable {
    /// It ends there, with an error that names the table.
    #[default]
    Stop,
    /// The table's rows are left out, and a notice says so.
    Skip,
}

/// The code of the notice.
const CODE: &str = "undecodable_table";

/// A session's tables that cannot be decoded.
pub(super) struct Undecodable {
    provider: Arc<dyn StreamProvider>,
    rule: OnUndecodable,
    /// Tables of which it was told.
    told: HashSet<(DatabaseOid, Oid)>,
    /// What is to be told next.
    notices: Vec<Notice>,
    /// Why the session ends.
    fault: Option<Fault>,
}

impl Undecodable {
    pub(super) fn new(provider: Arc<dyn StreamProvider>, rule: OnUndecodable) -> Self {
        Self {
            provider,
            rule,
            told: HashSet::new(),
            notices: Vec::new(),
            fault: None,
        }
    }

    /// Takes an event that the session wants; whether the session goes on.
    pub(super) fn take(&mut self, event: &Event<'_>, position: Position) -> Result<bool, Fault> {
        let relation = known_relation(&*self.provider, event.header.relation)?;
        let table = format!("{}.{}", relation.schema.lossy(), relation.name.lossy());
        let reason = String::from_utf8_lossy(event.payload);
        let lsn = event.header.record_lsn;
        match self.rule {
            OnUndecodable::Stop => {
                let message = format!(
                    "rows of {table} at {lsn} (position {position}) cannot be decoded: {reason}; \
                     leave the table out with --exclude-table {table}, or serve with \
                     --on-undecodable skip"
                );
                self.fault = Some(Fault::new(FaultCode::Undecodable, message).at(lsn));
                Ok(false)
            }
            OnUndecodable::Skip => {
                if self.told.insert((relation.database.oid, relation.oid)) {
                    self.notices.push(Notice {
                        lsn,
                        code: CODE.to_owned(),
                        detail: format!(
                            "rows of {table} cannot be decoded and are left out from here on: \
                             {reason}"
                        ),
                    });
                }
                Ok(true)
            }
        }
    }

    /// What is to be told.
    pub(super) fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// Why the session ends, once everything before has been sent.
    pub(super) fn take_fault(&mut self) -> Option<Fault> {
        self.fault.take()
    }
}
