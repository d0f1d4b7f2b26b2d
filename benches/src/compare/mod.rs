//! The side-by-side comparison with PostgreSQL's own tools; the program is `compare`.

pub mod figures;
pub mod measure;
pub mod plot;
pub mod program;
pub mod report;
pub mod workload;
