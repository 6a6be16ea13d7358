//! The failures of protocol.md, each as a test that has its name: with a death between any two steps of the store, with
//! steps whose outcome is unknown, and with every order of two planners' calls.
//!
//! The steps of the service run without HTTP ([`world`]) over a real SQLite store that is made to die ([`crashing`]) or
//! to wait ([`watched`]). What comes out is compared, as text ([`picture`]), with what comes out when nothing fails.

mod crashing;
mod outside;
mod picture;
mod survive;
mod watched;
mod world;

mod h07_redo;
