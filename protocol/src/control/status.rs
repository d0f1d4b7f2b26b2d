//! Faults in gRPC statuses: the standard `google.rpc.Status` with one `ErrorDetail` in it.

use prost::Message;

use super::v1::ErrorDetail;
use crate::wire::{Fault, FaultCode};

/// `google.rpc.Status`, as every gRPC tool reads it.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

const DETAIL_URL: &str = "type.googleapis.com/redostream.v1.ErrorDetail";

const fn grpc_code(code: FaultCode) -> tonic::Code {
    match code {
        FaultCode::NotReady | FaultCode::Stopping => tonic::Code::Unavailable,
        FaultCode::PositionTooOld => tonic::Code::OutOfRange,
        FaultCode::Diverged | FaultCode::OtherCluster => tonic::Code::FailedPrecondition,
        FaultCode::Unauthorised => tonic::Code::Unauthenticated,
        FaultCode::NameInUse => tonic::Code::AlreadyExists,
        FaultCode::NotFound => tonic::Code::NotFound,
        FaultCode::BadRequest => tonic::Code::InvalidArgument,
        FaultCode::LogDamaged | FaultCode::Undecodable | FaultCode::SourceLost => {
            tonic::Code::DataLoss
        }
        FaultCode::Overloaded => tonic::Code::ResourceExhausted,
        FaultCode::PeerTimeout => tonic::Code::DeadlineExceeded,
        FaultCode::Internal => tonic::Code::Internal,
    }
}

/// The gRPC status that carries `fault`.
#[must_use]
pub fn status_of(fault: &Fault) -> tonic::Status {
    let code = grpc_code(fault.code);
    let detail = ErrorDetail {
        code: fault.code as u32,
        message: fault.message.clone(),
        oldest: fault.oldest.map(|p| p.to_string()).unwrap_or_default(),
        lsn: fault.lsn.map(|lsn| lsn.to_string()).unwrap_or_default(),
        system_identifier: fault.system_identifier.unwrap_or_default(),
    };
    let status = RpcStatus {
        code: code as i32,
        message: fault.message.clone(),
        details: vec![Any {
            type_url: DETAIL_URL.to_owned(),
            value: detail.encode_to_vec(),
        }],
    };
    tonic::Status::with_details(code, &fault.message, status.encode_to_vec().into())
}

/// The fault that `status` carries, if it carries one.
#[must_use]
pub fn fault_of(status: &tonic::Status) -> Option<Fault> {
    let status = RpcStatus::decode(status.details()).ok()?;
    let any = status
        .details
        .into_iter()
        .find(|any| any.type_url == DETAIL_URL)?;
    let detail = ErrorDetail::decode(&*any.value).ok()?;
    Some(Fault {
        code: FaultCode::from_u16(u16::try_from(detail.code).ok()?)?,
        message: detail.message,
        oldest: detail.oldest.parse().ok(),
        lsn: detail.lsn.parse().ok(),
        system_identifier: Some(detail.system_identifier).filter(|id| *id != 0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Lsn, Position, TimelineId};

    #[test]
    fn faults_survive_the_trip() {
        let fault = Fault::new(FaultCode::Diverged, "forked")
            .at(Lsn(77))
            .oldest(Some(Position::begin(TimelineId(2), Lsn(5))));
        assert_eq!(fault_of(&status_of(&fault)), Some(fault));
        assert_eq!(fault_of(&tonic::Status::internal("x")), None);
    }
}
