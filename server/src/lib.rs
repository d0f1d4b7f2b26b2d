//! The parts of the server that stand between released blocks and subscribers: sessions over data
//! connections, and the control plane that opens them.

pub mod control;
pub mod session;
