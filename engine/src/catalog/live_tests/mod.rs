//! The catalog held against a server: a data directory and the WAL written afterwards, compared
//! with what the server itself says of its catalogs.

mod expressions;
mod follower;
mod lines;
mod random;
mod said;
mod standby;
mod steps;
mod structures;
mod wal;
