//! Waves as a user sees them: what is sent, in which order, how often, and what is left at the end (rules 14-18).
//!
//! The steps of the service run without HTTP over a real store ([`crate::failures`]); [`told`] reads what came of them.

mod circles;
mod dry;
mod h06_late;
mod h10_places;
mod h14_promotions;
mod h16_start;
mod h22_settle;
mod h24_ends;
mod holds;
mod promotions;
mod random_graphs;
mod shapes;
mod simulation;
mod told;
