//! Records.
fn main() {}
