//! A parsed range, and the question whether it admits a version.

use std::fmt;
use std::str::FromStr;

use super::expand::{Builder, Mode};
use super::parse;
use super::version::Version;

/// A range: alternatives between `||`, of which each is a list of comparators that must all hold.
///
/// It keeps what node-semver makes of the text with default options and with `includePrerelease`, which is not only a
/// different question but a different reading (`^1.2` begins at 1.2.0 in the one and at 1.2.0-0 in the other).
#[derive(Clone, PartialEq, Eq)]
pub struct Range {
    plain: Alternatives,
    /// `None` where node-semver refuses the text with `includePrerelease` alone (`1 - 2.0.9007199254740991`).
    with_prerelease: Option<Alternatives>,
}

/// Not a range by npm's rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{part}` is not an npm version range")]
pub struct RangeError {
    /// The alternative that was refused, without the `||` around it, cut to a length that fits a message.
    pub part: Box<str>,
}

/// node-semver's `satisfies(version, range, { includePrerelease })`: false also where either text is invalid.
pub fn satisfies(version: &str, range: &str, include_prerelease: bool) -> bool {
    let Ok(version) = Version::parse(version) else {
        return false;
    };
    let mode = if include_prerelease {
        Mode::WithPrerelease
    } else {
        Mode::Plain
    };
    let mut builders = [Builder::new(mode)];
    parse::range(range, &mut builders);
    let [builder] = builders;
    builder
        .finish()
        .is_some_and(|alternatives| alternatives.admit(&version, mode))
}

impl Range {
    /// node-semver's `new Range(text)` with default options.
    pub fn parse(text: &str) -> Result<Self, RangeError> {
        let mut builders = [
            Builder::new(Mode::Plain),
            Builder::new(Mode::WithPrerelease),
        ];
        let refused = parse::range(text, &mut builders);
        let [plain, with_prerelease] = builders;
        match plain.finish() {
            Some(plain) => Ok(Self {
                plain,
                with_prerelease: with_prerelease.finish(),
            }),
            None => Err(RangeError {
                part: super::scan::clip(super::scan::trim(refused.unwrap_or(text))),
            }),
        }
    }

    /// node-semver's `satisfies` with default options: a prerelease passes only where the range names one of the same
    /// MAJOR.MINOR.PATCH.
    pub fn satisfies(&self, version: &Version) -> bool {
        self.plain.admit(version, Mode::Plain)
    }

    /// node-semver's `satisfies` with `{includePrerelease: true}`.
    pub fn satisfies_including_prerelease(&self, version: &Version) -> bool {
        self.with_prerelease
            .as_ref()
            .is_some_and(|sets| sets.admit(version, Mode::WithPrerelease))
    }

    /// Whether the range admits a version (design.md 3, *Does a range admit a version?*). `origin` is the version published
    /// by hand that `version` descends from; `None` if `version` was published by hand itself.
    pub fn admits(&self, version: &Version, origin: Option<&Version>) -> bool {
        self.satisfies(version)
            || origin.is_some_and(|origin| {
                self.satisfies(origin) && self.satisfies_including_prerelease(version)
            })
    }
}

/// The normalised text, as node-semver's `new Range(text).range`: `^1.2` is `>=1.2.0 <2.0.0-0`, and any version is the empty text.
impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for comparator in &self.plain.0 {
            write!(
                f,
                "{separator}{}{}",
                comparator.operator.text(),
                comparator.version
            )?;
            separator = if comparator.last { "||" } else { " " };
        }
        Ok(())
    }
}

impl fmt::Debug for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Range({self})")
    }
}

impl FromStr for Range {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        Self::parse(text)
    }
}

/// All comparators of all alternatives, one after the other; `last` ends an alternative. Empty: any version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Alternatives(pub(super) Vec<Comparator>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Comparator {
    pub operator: Operator,
    pub last: bool,
    pub version: Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Operator {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Operator {
    const fn text(self) -> &'static str {
        match self {
            Self::Equal => "",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

impl Comparator {
    fn holds(&self, version: &Version) -> bool {
        let order = version.npm_cmp(&self.version);
        match self.operator {
            Operator::Equal => order.is_eq(),
            Operator::Less => order.is_lt(),
            Operator::LessOrEqual => order.is_le(),
            Operator::Greater => order.is_gt(),
            Operator::GreaterOrEqual => order.is_ge(),
        }
    }

    /// Whether this comparator opens its alternative to prereleases of the same numbers.
    fn names_prerelease_of(&self, version: &Version) -> bool {
        self.version.is_prerelease()
            && self.version.major() == version.major()
            && self.version.minor() == version.minor()
            && self.version.patch() == version.patch()
    }
}

impl Alternatives {
    pub(super) fn admit(&self, version: &Version, mode: Mode) -> bool {
        let open = mode == Mode::WithPrerelease || !version.is_prerelease();
        if self.0.is_empty() {
            return open;
        }
        let (mut holds, mut allowed) = (true, open);
        for comparator in &self.0 {
            holds = holds && comparator.holds(version);
            allowed = allowed || comparator.names_prerelease_of(version);
            if comparator.last {
                if holds && allowed {
                    return true;
                }
                (holds, allowed) = (true, open);
            }
        }
        false
    }
}
