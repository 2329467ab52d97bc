//! The `pouch` command.

fn main() {}
