//! Recorded WAL of every supported version with what the server itself decoded from it, the
//! code that records it, and the harness that starts real servers for tests.
//!
//! PostgreSQL is the judge: whatever Redostream prints in `test_decoding` format is held
//! against what the server prints for the same WAL, byte for byte.
//!
//! - [`server`] finds the programs of PostgreSQL 14 to 18, [`account`] starts them as a user
//!   that PostgreSQL accepts;
//! - [`cluster`] is one running server with its own directory and socket, [`session`] one
//!   `psql` that stays open, [`standby`] a hot standby made from a running primary;
//! - [`slot`] asks the server what it decodes, [`decoder`] asks Redostream, [`compare`] says
//!   where the two differ;
//! - [`scenario`] ties them together: base, SQL, expected output, WAL;
//! - [`generator`] makes random SQL from a seed, [`batch`] runs many seeds on one cluster;
//! - [`statements`] are statements with what is told of them, [`structures`] what a server says of
//!   the structure of its tables;
//! - [`link`] is a bad network between two programs;
//! - [`recorded`] reads what `recorded/` holds and needs no server, [`recorder`] writes it from
//!   the cases that [`case_file`] reads, [`next_oid`] lets a case use OIDs twice.

pub mod account;
pub mod batch;
pub mod case_file;
pub mod cluster;
pub mod compare;
pub mod decoder;
pub mod files;
pub mod generator;
pub mod link;
pub mod next_oid;
pub mod recorded;
pub mod recorder;
pub mod scenario;
pub mod server;
pub mod session;
pub mod slot;
pub mod standby;
pub mod statements;
pub mod structures;
