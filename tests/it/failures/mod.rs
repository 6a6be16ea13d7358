//! The failures of protocol.md, each as a test that has its name: with a death between any two steps of the store, with
//! steps whose outcome is unknown, and with every order of two planners' calls.
//!
//! The steps of the service run without HTTP ([`world`]) over a real SQLite store that is made to die ([`crashing`]) or
//! to wait ([`watched`]). What comes out is compared, as text ([`picture`]), with what comes out when nothing fails.

pub mod crashing;
pub mod outside;
pub mod picture;
pub mod survive;
pub mod watched;
pub mod world;

mod h03_accept;
mod h04_known;
mod h05_skew;
mod h07_redo;
mod h11_supersede;
mod h12_foreign;
mod h13_promotions;
mod h15_downgrade;
mod h18_tarball;
mod h19_head;
mod h19_order;
mod h20_stamps;
mod h21_wide;
mod h24_terminal;
mod import;
pub mod random;
