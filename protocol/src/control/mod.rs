//! The control plane: gRPC messages and services, compiled from `proto/control.proto`, and how a
//! [`Fault`](crate::wire::Fault) travels in a gRPC status.

pub mod start;
pub mod status;

/// The messages, client and server of package `redostream.v1`.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
pub mod v1 {
    tonic::include_proto!("redostream.v1");
}

pub use start::{From, ParsePlaceError, Start, Until};
pub use status::{fault_of, status_of};

/// The compiled descriptors, for the reflection service.
pub const FILE_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/control_descriptor.bin"));
