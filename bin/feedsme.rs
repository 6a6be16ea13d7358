//! feedsme on the command line.

fn main() {}
