//! The stand-in neighbours, as a program of their own.

fn main() {}
