//! Environments: an ordered list of names; versions are born in the first.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The name of an environment, such as `dev`; only ever made by [`Environments`] or read back from the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Env(Arc<str>);

impl From<String> for Env {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

impl From<Env> for String {
    fn from(env: Env) -> Self {
        env.0.as_ref().to_owned()
    }
}

impl Env {
    /// Takes a name that is known to be one of the configured ones.
    pub fn trusted(name: &str) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The configured environments, in the order of promotion; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environments(Vec<Env>);

impl Default for Environments {
    fn default() -> Self {
        Self(["dev", "test", "prod"].map(Env::trusted).to_vec())
    }
}

/// Why a list of environments cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EnvironmentsError {
    /// There must be one in which versions are born.
    #[error(
        "environments must name at least one environment, such as [\"dev\", \"test\", \"prod\"]"
    )]
    Empty,
    /// Names go into URLs and store keys.
    #[error("environment {0:?} must be lower-case letters, digits and dashes")]
    Name(String),
    /// Whoever posts to it means another one.
    #[error(
        "environment {0:?} is what build services call {1:?} (an alias): list {1:?} in its place"
    )]
    Alias(String, &'static str),
    /// The order would be ambiguous.
    #[error("environment {0:?} is listed twice")]
    Twice(String),
}

impl Environments {
    /// Checks the names: lower-case letters, digits and dashes, no alias, each once, at least one.
    pub fn new(names: &[String]) -> Result<Self, EnvironmentsError> {
        if names.is_empty() {
            return Err(EnvironmentsError::Empty);
        }
        for (at, name) in names.iter().enumerate() {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            if name.is_empty() || !name.chars().all(plain) {
                return Err(EnvironmentsError::Name(name.clone()));
            }
            if let Some(meant) = alias(name) {
                return Err(EnvironmentsError::Alias(name.clone(), meant));
            }
            if names[..at].contains(name) {
                return Err(EnvironmentsError::Twice(name.clone()));
            }
        }
        Ok(Self(names.iter().map(|name| Env::trusted(name)).collect()))
    }

    /// Where versions are born.
    pub fn first(&self) -> &Env {
        &self.0[0]
    }

    /// All of them, in the order of promotion.
    pub fn iter(&self) -> impl Iterator<Item = &Env> {
        self.0.iter()
    }

    /// The environment before `env` in the order of promotion; `None` for the first.
    pub fn before(&self, env: &Env) -> Option<&Env> {
        let at = self.0.iter().position(|one| one == env)?;
        at.checked_sub(1).map(|before| &self.0[before])
    }

    /// Finds the environment of that name or of one of the warehouse's aliases for it (design.md 6):
    /// `production` and `latest` for `prod`, `staging` for `test`, `development` for `dev`.
    pub fn find(&self, name: &str) -> Option<&Env> {
        let meant = alias(name).unwrap_or(name);
        self.0.iter().find(|env| env.as_str() == meant)
    }
}

/// What an alias stands for.
fn alias(name: &str) -> Option<&'static str> {
    match name {
        "production" | "latest" => Some("prod"),
        "staging" => Some("test"),
        "development" => Some("dev"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_lead_to_configured_environments_only() {
        let envs = Environments::default();
        assert_eq!(envs.find("latest").map(Env::as_str), Some("prod"));
        assert_eq!(envs.find("staging").map(Env::as_str), Some("test"));
        assert_eq!(envs.find("Dev"), None);
        let two = Environments::new(&["qa".into(), "live".into()]).unwrap();
        assert_eq!(two.find("production"), None);
        assert_eq!(
            two.before(two.find("live").unwrap()).map(Env::as_str),
            Some("qa")
        );
    }

    #[test]
    fn a_bad_list_is_refused_by_name() {
        assert_eq!(Environments::new(&[]), Err(EnvironmentsError::Empty));
        assert_eq!(
            Environments::new(&["a".into(), "a".into()]),
            Err(EnvironmentsError::Twice("a".into()))
        );
        assert_eq!(
            Environments::new(&["A".into()]),
            Err(EnvironmentsError::Name("A".into()))
        );
        for (name, meant) in [
            ("production", "prod"),
            ("latest", "prod"),
            ("staging", "test"),
            ("development", "dev"),
        ] {
            assert_eq!(
                Environments::new(&["qa".into(), name.into()]),
                Err(EnvironmentsError::Alias(name.into(), meant))
            );
        }
    }
}
