//! A version as node-semver sees it: what it is, how two compare, what comes next.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use semver::{BuildMetadata, Prerelease};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::scan;
pub use super::scan::{MAX_LENGTH, MAX_SAFE_INTEGER};

/// A version without its build metadata, which npm neither compares nor publishes.
///
/// `Ord` is the order of semver.org, total and in agreement with `Eq`. [`Version::npm_cmp`] is node-semver's own
/// comparison; the two differ only in that the latter takes numeric prerelease identifiers for equal where they are the
/// same floating point number.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version(semver::Version);

/// Why a text is not a version, or has no next one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// More than [`MAX_LENGTH`] characters, white space around it included.
    #[error("a version has at most {MAX_LENGTH} characters")]
    TooLong,
    /// Not of the form `MAJOR.MINOR.PATCH[-PRERELEASE][+BUILD]`.
    #[error("`{0}` is not a version (MAJOR.MINOR.PATCH)")]
    Malformed(Box<str>),
    /// Major, minor or patch above [`MAX_SAFE_INTEGER`].
    #[error("`{0}` has a number above {MAX_SAFE_INTEGER}")]
    TooLarge(Box<str>),
    /// The increment, given here, would be refused by npm itself: a number or the length passes its limit.
    #[error("the next version would be `{0}`, which npm does not accept")]
    NoNext(Box<str>),
}

/// What to increment: node-semver's `inc` without identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// 1.2.3 → 2.0.0, 2.0.0-1 → 2.0.0
    Major,
    /// 1.2.3 → 1.3.0, 1.3.0-1 → 1.3.0
    Minor,
    /// 1.2.3 → 1.2.4, 1.2.4-1 → 1.2.4
    Patch,
    /// 1.2.3 → 1.2.4-0 → 1.2.4-1, 1.0.0-beta → 1.0.0-beta.0
    Prerelease,
}

impl Version {
    /// MAJOR.MINOR.PATCH. The numbers are at most [`MAX_SAFE_INTEGER`].
    pub const fn new(major: u64, minor: u64, patch: u64) -> Self {
        debug_assert!(
            major <= MAX_SAFE_INTEGER && minor <= MAX_SAFE_INTEGER && patch <= MAX_SAFE_INTEGER
        );
        Self(semver::Version::new(major, minor, patch))
    }

    /// node-semver's `new SemVer(text)`: white space around it and one leading `v` are accepted, build metadata is dropped.
    pub fn parse(text: &str) -> Result<Self, VersionError> {
        if text.len() > MAX_LENGTH && text.encode_utf16().nth(MAX_LENGTH).is_some() {
            return Err(VersionError::TooLong);
        }
        let text = scan::trim(text);
        let (version, end) = Self::scan(text, usize::from(text.starts_with('v')))
            .ok_or_else(|| VersionError::Malformed(scan::clip(text)))?;
        if scan::build(text.as_bytes(), end) != text.len() {
            return Err(VersionError::Malformed(scan::clip(text)));
        }
        if version.is_safe() {
            Ok(version)
        } else {
            Err(VersionError::TooLarge(scan::clip(text)))
        }
    }

    /// The version at `start` and its end, not yet checked for [`MAX_SAFE_INTEGER`].
    pub(super) fn scan(text: &str, start: usize) -> Option<(Self, usize)> {
        let bytes = text.as_bytes();
        let dot = |at| (scan::byte(bytes, at) == b'.').then_some(at + 1);
        let (major, end) = scan::number(bytes, start)?;
        let (minor, end) = scan::number(bytes, dot(end)?)?;
        let (patch, end) = scan::number(bytes, dot(end)?)?;
        let after = scan::prerelease(bytes, end);
        Some((
            Self::from_parts(major, minor, patch, text.get(end + 1..after).unwrap_or(""))?,
            after,
        ))
    }

    /// `None` if `pre` is not a prerelease by the grammar.
    pub(super) fn from_parts(major: u64, minor: u64, patch: u64, pre: &str) -> Option<Self> {
        let pre = if pre.is_empty() {
            Prerelease::EMPTY
        } else {
            Prerelease::new(pre).ok()?
        };
        Some(Self(semver::Version {
            major,
            minor,
            patch,
            pre,
            build: BuildMetadata::EMPTY,
        }))
    }

    /// Whether the numbers are ones that node-semver accepts.
    pub(super) fn is_safe(&self) -> bool {
        self.0.major <= MAX_SAFE_INTEGER
            && self.0.minor <= MAX_SAFE_INTEGER
            && self.0.patch <= MAX_SAFE_INTEGER
    }

    /// The first number.
    pub const fn major(&self) -> u64 {
        self.0.major
    }

    /// The second number.
    pub const fn minor(&self) -> u64 {
        self.0.minor
    }

    /// The third number.
    pub const fn patch(&self) -> u64 {
        self.0.patch
    }

    /// What follows the hyphen; empty for a release.
    pub fn prerelease(&self) -> &str {
        self.0.pre.as_str()
    }

    /// Whether there is a prerelease.
    pub fn is_prerelease(&self) -> bool {
        !self.0.pre.is_empty()
    }

    /// node-semver's `compare`. As it turns numeric identifiers into floating point numbers, `1.0.0-9007199254740993` and
    /// `1.0.0-9007199254740992.a` are equal here, so this is not a total order; sort by `Ord`.
    pub fn npm_cmp(&self, other: &Self) -> Ordering {
        let main = |version: &Self| (version.0.major, version.0.minor, version.0.patch);
        main(self)
            .cmp(&main(other))
            .then_with(|| compare_prerelease(self.prerelease(), other.prerelease()))
    }

    /// node-semver's `inc` without identifier. [`VersionError::NoNext`] where its answer is not a version by its own rules.
    pub fn inc(&self, release: Release) -> Result<Self, VersionError> {
        let semver::Version {
            major,
            minor,
            patch,
            ..
        } = self.0;
        let pre = self.is_prerelease();
        let next = |major, minor, patch, pre: &str| {
            let text = format!(
                "{major}.{minor}.{patch}{}{pre}",
                if pre.is_empty() { "" } else { "-" }
            );
            Self::parse(&text).map_err(|_| VersionError::NoNext(text.into()))
        };
        match release {
            Release::Major if pre && minor == 0 && patch == 0 => next(major, 0, 0, ""),
            Release::Major => next(major + 1, 0, 0, ""),
            Release::Minor if pre && patch == 0 => next(major, minor, 0, ""),
            Release::Minor => next(major, minor + 1, 0, ""),
            Release::Patch if pre => next(major, minor, patch, ""),
            Release::Patch => next(major, minor, patch + 1, ""),
            Release::Prerelease if pre => next(
                major,
                minor,
                patch,
                &increment_prerelease(self.prerelease()),
            ),
            Release::Prerelease => next(major, minor, patch + 1, "0"),
        }
    }

    /// For X.Y.Z-N with one numeric identifier and Z ≥ 1: X.Y.(Z-1), the version of which this is an increment if we or the
    /// Node software made it (design.md 3, *Does a range admit a version?*).
    pub fn increment_of(&self) -> Option<Self> {
        let patch = self.0.patch.checked_sub(1)?;
        (self.is_prerelease() && is_numeric(self.prerelease()))
            .then(|| Self::new(self.0.major, self.0.minor, patch))
    }
}

/// The last number goes up by one; without one, `0` is appended. Numbers from [`MAX_SAFE_INTEGER`] on are text to node-semver.
fn increment_prerelease(pre: &str) -> String {
    let mut identifiers: Vec<&str> = pre.split('.').collect();
    let last_number = identifiers
        .iter()
        .enumerate()
        .rev()
        .find_map(|(at, text)| Some((at, safe_number(text)?)));
    let Some((at, number)) = last_number else {
        return format!("{pre}.0");
    };
    let next = (number + 1).to_string();
    identifiers[at] = &next;
    identifiers.join(".")
}

fn safe_number(identifier: &str) -> Option<u64> {
    if identifier.len() > scan::SAFE_DIGITS || !is_numeric(identifier) {
        return None;
    }
    identifier
        .parse()
        .ok()
        .filter(|number| *number < MAX_SAFE_INTEGER)
}

fn is_numeric(identifier: &str) -> bool {
    identifier.bytes().all(|byte| byte.is_ascii_digit())
}

fn compare_prerelease(left: &str, right: &str) -> Ordering {
    match (left.is_empty(), right.is_empty()) {
        (true, true) => return Ordering::Equal,
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    let (mut lefts, mut rights) = (left.split('.'), right.split('.'));
    loop {
        match (lefts.next(), rights.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(a), Some(b)) if a == b => {}
            // Different texts end the comparison, even if they are the same floating point number.
            (Some(a), Some(b)) => return compare_identifiers(a, b),
        }
    }
}

fn compare_identifiers(left: &str, right: &str) -> Ordering {
    match (is_numeric(left), is_numeric(right)) {
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (false, false) => left.cmp(right),
        (true, true) if left.len() < scan::SAFE_DIGITS && right.len() < scan::SAFE_DIGITS => {
            left.len().cmp(&right.len()).then_with(|| left.cmp(right))
        }
        (true, true) => {
            let float = |text: &str| text.parse::<f64>().unwrap_or(f64::INFINITY);
            float(left).total_cmp(&float(right))
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        Self::parse(text)
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = Version;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a version (MAJOR.MINOR.PATCH)")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Version, E> {
                Version::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}
