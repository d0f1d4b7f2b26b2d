//! Random SQL from a seed: the same seed gives the same SQL.
//!
//! A [`Script`] is a setup, several sessions that run at the same time, and an end. The
//! generator keeps a model of the tables and types it has made, so that most statements
//! succeed; those that fail (two sessions disagree, a value does not fit) are part of the
//! point, since aborted work must leave nothing in the stream.
//!
//! - [`random`] draws, [`kinds`] are the column types, [`values`] their literals;
//! - [`model`] is what is believed to exist;
//! - [`tables`], [`alter`], [`rows`], [`upkeep`] write statements;
//! - [`session`] puts them into transactions.

pub mod alter;
pub mod kinds;
pub mod model;
pub mod random;
pub mod rows;
pub mod session;
pub mod tables;
pub mod upkeep;
pub mod values;

use model::World;
use random::Random;

/// How much is generated.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Sessions that run at the same time.
    pub sessions: usize,
    /// Transactions of each.
    pub transactions: usize,
    /// Tables made in the setup, which all sessions use.
    pub shared_tables: usize,
    /// Types that name other objects (`regclass`, `aclitem`) are drawn too.
    pub object_names: bool,
    /// How many statements change rows, for some 40 that change structures.
    pub rows: usize,
}

impl Default for Size {
    fn default() -> Self {
        Self {
            sessions: 3,
            transactions: 22,
            shared_tables: 5,
            object_names: true,
            rows: 60,
        }
    }
}

/// SQL to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// What it was made from.
    pub seed: u64,
    /// Runs first, alone.
    pub setup: String,
    /// Run at the same time, a psql each.
    pub sessions: Vec<String>,
    /// Runs last, alone: ends what is still prepared.
    pub finish: String,
}

/// Makes the script of a seed for a server version.
pub fn generate(seed: u64, major: u32, size: Size) -> Script {
    generate_named(seed, major, size, "g")
}

/// As [`generate`]; `prefix` begins the names of what the setup makes.
pub fn generate_named(seed: u64, major: u32, size: Size, prefix: &str) -> Script {
    let mut random = Random::new(seed);
    let mut world = World::new(major, prefix);
    world.object_names = size.object_names;
    world.rows = size.rows;
    let setup = session::setup(&mut random, &mut world, size.shared_tables);
    let sessions = (0..size.sessions)
        .map(|number| {
            let mut random = Random::new(seed.wrapping_mul(1009).wrapping_add(number as u64 + 1));
            let mut world = world.for_session(number);
            session::script(&mut random, &mut world, number, size.transactions)
        })
        .collect();
    Script {
        seed,
        setup,
        sessions,
        finish: session::finish(&mut random),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_sql() {
        let size = Size::default();
        for seed in 0..20 {
            assert_eq!(generate(seed, 15, size), generate(seed, 15, size));
        }
        assert_ne!(
            generate(1, 15, size).sessions,
            generate(2, 15, size).sessions
        );
    }

    #[test]
    fn a_session_ends_outside_any_transaction() {
        for seed in 0..50 {
            for session in generate(seed, 18, Size::default()).sessions {
                let end = session
                    .trim_end()
                    .lines()
                    .last()
                    .unwrap_or_default()
                    .to_owned();
                assert_eq!(end, "rollback;", "seed {seed}");
            }
        }
    }
}
