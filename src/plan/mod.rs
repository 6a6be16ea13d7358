//! Planning: what follows from a change, decided by plain functions on data.
//!
//! Nothing here waits, reads a clock or touches the store: what a decision needs is loaded before by `ingest`, and what
//! it writes comes out as a conditional batch ([`crate::store::PackageCommit`]) that is refused if what was loaded is no
//! longer so. That is why every function can simply be called again after a refusal or a crash.
//!
//! * [`base`]: which version of a dependent is rebuilt, or why none is (rules 5, 8).
//! * [`version`]: which version the rebuild gets (rule 9).
//! * [`publish`]: what a publish does to its own package: facts, head, line, edges, superseded rebuilds (rules 1, 3-7, H11).
//! * [`attach`]: which lines a published version goes with (rule 11).
//! * [`rebuild`]: reserving a rebuild and giving a node another one (rules 9, 12).
//! * [`import`]: what an import does to a package that had release lines elsewhere.
//! * [`wave`]: what a wave does with a node next (rules 15-17).
//! * [`promotion`]: what a promotion does with one pair of its line (rules 12, 13, H15).

pub mod applied;
pub mod attach;
pub mod base;
pub mod import;
pub mod promotion;
pub mod publish;
pub mod rebuild;
pub mod version;
pub mod wave;

use std::time::Duration;

use crate::model::edge::EdgeFields;
use crate::model::env::Environments;

/// The settings that decisions depend on (design.md 7).
#[derive(Clone, Debug)]
pub struct Rules {
    /// The environments, in the order of promotion.
    pub environments: Environments,
    /// How a rebuild's version is made from its base (rule 9).
    pub increment: Increment,
    /// What a promotion without a release line does (rule 12).
    pub promote_without_line: WithoutLine,
    /// For how long after its end a repeated promotion is a duplicate (rule 13).
    pub duplicate_window: Duration,
    /// For how long publishes share the wave of the first of them (rule 14, H22); zero: each opens its own.
    pub settle: Duration,
    /// How long after it was sent a parent is waited for (rule 15).
    pub deadline: Duration,
    /// What counts as published (rule 15).
    pub confirm: Confirm,
    /// A wave of more rebuilds waits for an operator's approval (rule 17).
    pub approve_above: Option<u32>,
    /// Whether lost notices of our own rebuilds are made up for (H17).
    pub recover: bool,
    /// How long what is finished is kept; a notice that comes again after half of that is not looked into (H19).
    pub retain: Duration,
    /// Which fields of a manifest make edges (rule 3).
    pub edges: EdgeFields,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            environments: Environments::default(),
            increment: Increment::Prerelease,
            promote_without_line: WithoutLine::Nothing,
            duplicate_window: Duration::from_mins(1),
            settle: Duration::ZERO,
            deadline: Duration::from_mins(30),
            confirm: Confirm::Notice,
            approve_above: None,
            recover: true,
            retain: Duration::from_hours(400 * 24),
            edges: EdgeFields::default(),
        }
    }
}

/// Setting `increment` (rule 9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Increment {
    /// 5.0.0 → 5.0.1-0 → 5.0.1-1.
    #[default]
    Prerelease,
    /// 5.0.0 → 5.0.1 → 5.0.2, where nothing published by hand is in the way.
    Patch,
}

/// Setting `confirm` (rule 15).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confirm {
    /// A version is published when its notice came: it is queued in the build service.
    #[default]
    Notice,
    /// A version is published when its build is said to have succeeded.
    Outcome,
}

/// Setting `promote_without_line` (rule 12).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WithoutLine {
    /// Nothing is sent.
    #[default]
    Nothing,
    /// Each dependent's highest published version that admits the promoted one.
    Highest,
}
