//! The rules of design.md, told to the whole service: the real server and worker on a temporary store, the stand-in
//! neighbours on loopback, and what they were sent as the truth.
//!
//! One file for each part of the page; every test of rule N is called `rule_N_…`, every hazard of the Node software
//! (contract.md 5) `hazard_N_…`.

mod admits;
mod edges;
mod hazards;
mod lines;
mod outcomes;
mod promotions;
mod publishes;
mod reading;
mod recovery;
mod sending;
mod sequence;
pub mod stage;
