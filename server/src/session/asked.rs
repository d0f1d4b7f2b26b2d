//! A request to open a session, read and checked.

use redostream_protocol::control::{From as Place, Start, Until, v1};
use redostream_protocol::wire::limits::STREAMS_MAX;
use redostream_protocol::wire::{Fault, FaultCode};

use super::Grant;
use super::columns::ColumnLists;
use super::filter::{Kinds, Rule};
use super::limits::{INSTANCE_BYTES_MAX, NAME_BYTES_MAX};
use super::provider::StreamProvider;

/// A request, read.
pub(super) struct Asked {
    pub(super) place: Option<Place>,
    /// What a client that goes on has acknowledged, as it says.
    pub(super) acknowledged: Option<Start>,
    pub(super) until: Option<Until>,
    pub(super) rule: Rule,
    pub(super) kinds: Kinds,
    pub(super) columns: ColumnLists,
}

impl Asked {
    pub(super) fn parse(
        request: &v1::OpenSessionRequest,
        grant: &Grant,
        provider: &dyn StreamProvider,
    ) -> Result<Self, Fault> {
        let bad = |message: String| Fault::new(FaultCode::BadRequest, message);
        if request.streams > u32::from(STREAMS_MAX) {
            let streams = request.streams;
            return Err(bad(format!(
                "{streams} connections asked for, at most {STREAMS_MAX}"
            )));
        }
        let name_fits =
            request.name.len() <= NAME_BYTES_MAX && !request.name.chars().any(char::is_control);
        if !name_fits || request.instance.len() > INSTANCE_BYTES_MAX {
            return Err(bad(format!(
                "a name has at most {NAME_BYTES_MAX} printable bytes"
            )));
        }
        check_cluster(provider, request.system_identifier)?;
        let place = Some(&request.from).filter(|text| !text.is_empty());
        let place = place.map(|text| text.parse::<Place>()).transpose();
        let until = Some(&request.until).filter(|text| !text.is_empty());
        let until = until.map(|text| text.parse::<Until>()).transpose();
        let acknowledged = Some(&request.acknowledged).filter(|text| !text.is_empty());
        let acknowledged = acknowledged.map(|text| match text.parse::<Place>() {
            Ok(Place::Position(position)) => Ok(Start::After(position)),
            Ok(Place::Lsn(lsn)) => Ok(Start::At(lsn)),
            _ => Err(bad(format!("`{text}` cannot have been acknowledged"))),
        });
        let asked = Self {
            place: place.map_err(|error| bad(error.to_string()))?,
            acknowledged: acknowledged.transpose()?.filter(|_| request.goes_on),
            until: until.map_err(|error| bad(error.to_string()))?,
            rule: Rule::parse(&request.databases, &request.tables, &request.exclude_tables)?,
            kinds: Kinds::parse(&request.kinds)?,
            columns: ColumnLists::parse(&request.columns)?,
        };
        grant.rule.check_granted(&asked.rule, &asked.columns)?;
        if !request.allow_missing {
            asked.rule.check_exists(provider)?;
            let databases = &asked.rule.databases;
            asked.columns.check_exists(databases, provider)?;
        }
        Ok(asked)
    }
}

/// Refuses places of another cluster; 0 is one that is not known.
pub(crate) fn check_cluster(provider: &dyn StreamProvider, theirs: u64) -> Result<(), Fault> {
    let ours = provider.system_identifier();
    if theirs == 0 || theirs == ours {
        return Ok(());
    }
    let message = format!("the position belongs to cluster {theirs}, this server is beside {ours}");
    Err(Fault::new(FaultCode::OtherCluster, message).cluster(ours))
}
