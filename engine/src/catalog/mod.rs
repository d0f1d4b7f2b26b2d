//! catalog.

pub mod bootstrap;
pub mod commit_log;
pub mod filenodes;
pub mod multixact;
pub mod relation;
pub mod slru;
