//! What the forms of a range mean: each becomes comparators, by mode, and alternatives become one normalised list.

use std::collections::HashSet;

use super::range::{Alternatives, Comparator, Operator};
use super::scan::{MAX_LENGTH, Partial};
use super::version::Version;

/// Above this number of comparators in one alternative, equal ones are found by hash.
const FEW: usize = 16;

/// node-semver's two readings of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Default options.
    Plain,
    /// `{includePrerelease: true}`: bounds that the reader did not write begin at `-0`.
    WithPrerelease,
}

/// The sign before a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    Caret,
    Tilde,
    /// `Equal` stands for no sign and for `=`.
    Compare(Operator),
}

/// What stood between sign and version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prefix {
    None,
    V,
    /// More than one `v`, or `=`: accepted only where the version is rewritten anyway.
    Other,
}

/// Alternatives that decide more than themselves, in ascending order of what they outweigh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum SoFar {
    Ordinary,
    /// One admits nothing: it goes, unless it is all there is.
    SomeNothing,
    /// One admits everything: it is the range.
    Anything,
}

/// Collects the comparators of one mode, alternative by alternative.
#[derive(Debug)]
pub(super) struct Builder {
    mode: Mode,
    comparators: Vec<Comparator>,
    /// Where the current alternative begins.
    start: usize,
    /// The current alternative can admit nothing (`<0.0.0-0`), whatever else it says.
    nothing: bool,
    /// What the alternatives that ended before say about the whole range.
    so_far: SoFar,
    failed: bool,
}

impl Builder {
    pub(super) const fn new(mode: Mode) -> Self {
        Self {
            mode,
            comparators: Vec::new(),
            start: 0,
            nothing: false,
            so_far: SoFar::Ordinary,
            failed: false,
        }
    }

    pub(super) const fn mode(&self) -> Mode {
        self.mode
    }

    pub(super) const fn failed(&self) -> bool {
        self.failed
    }

    /// The range is refused in this mode.
    pub(super) fn fail(&mut self) {
        self.failed = true;
    }

    /// Forgets the current alternative and sets `failed` to what it was before it.
    pub(super) fn restart_alternative(&mut self, failed: bool) {
        self.comparators.truncate(self.start);
        self.nothing = false;
        self.failed = failed;
    }

    /// Ends the current alternative: equal comparators become one, and one that decides the whole range is only noted.
    pub(super) fn end_alternative(&mut self) {
        if self.nothing {
            self.comparators.truncate(self.start);
            self.so_far = self.so_far.max(SoFar::SomeNothing);
        } else if self.comparators.len() == self.start {
            self.so_far = SoFar::Anything;
        } else {
            self.remove_equal();
            if let Some(comparator) = self.comparators.last_mut() {
                comparator.last = true;
            }
        }
        if self.so_far == SoFar::Anything {
            self.comparators.clear();
        }
        self.nothing = false;
        self.start = self.comparators.len();
    }

    fn remove_equal(&mut self) {
        let count = self.comparators.len() - self.start;
        if count > FEW {
            let mut seen = HashSet::with_capacity(count);
            for comparator in self.comparators.split_off(self.start) {
                if seen.insert(comparator.clone()) {
                    self.comparators.push(comparator);
                }
            }
            return;
        }
        let mut at = self.start + 1;
        while at < self.comparators.len() {
            if self.comparators[self.start..at].contains(&self.comparators[at]) {
                self.comparators.remove(at);
            } else {
                at += 1;
            }
        }
    }

    /// `None` if the range is refused.
    pub(super) fn finish(mut self) -> Option<Alternatives> {
        if self.failed {
            return None;
        }
        if self.so_far == SoFar::SomeNothing && self.comparators.is_empty() {
            let version = Version::from_parts(0, 0, 0, "0")?;
            self.comparators.push(Comparator {
                operator: Operator::Less,
                last: true,
                version,
            });
        }
        Some(Alternatives(self.comparators))
    }

    /// A sign and a version: `^1.2`, `~> v1`, `<=1.x`, `1.2.3-beta`.
    pub(super) fn simple(&mut self, sign: Sign, prefix: Prefix, version: &Partial<'_>) {
        match sign {
            Sign::Caret | Sign::Tilde => self.caret_or_tilde(sign, version),
            Sign::Compare(operator) => self.compare(operator, prefix, version),
        }
    }

    fn caret_or_tilde(&mut self, sign: Sign, version: &Partial<'_>) {
        let caret = sign == Sign::Caret;
        let Some(major) = version.major else {
            return;
        };
        let Some(minor) = version.minor else {
            self.from(major, 0, 0);
            return self.below(above(major), 0, 0);
        };
        match version.patch {
            None => self.from(major, minor, 0),
            Some(patch) => self.push(Operator::GreaterOrEqual, [major, minor, patch], version.pre),
        }
        match version.patch {
            _ if caret && major != 0 => self.below(above(major), 0, 0),
            Some(patch) if caret && minor == 0 => self.below(0, 0, above(patch)),
            _ => self.below(major, above(minor), 0),
        }
    }

    fn compare(&mut self, operator: Operator, prefix: Prefix, version: &Partial<'_>) {
        let (major, minor) = match (version.major, version.minor, version.patch) {
            // A number after an x.
            (None, Some(_), _) | (_, None, Some(_)) => return self.fail(),
            (None, None, None) => {
                self.nothing |= matches!(operator, Operator::Less | Operator::Greater);
                return;
            }
            (Some(major), Some(minor), Some(patch)) => {
                return self.exact(operator, prefix, [major, minor, patch], version.pre);
            }
            (Some(major), minor, None) => (major, minor),
        };
        let first = (major, minor.unwrap_or(0));
        let after = minor.map_or((above(major), 0), |minor| (major, above(minor)));
        match operator {
            Operator::Equal => {
                self.from(first.0, first.1, 0);
                self.below(after.0, after.1, 0);
            }
            Operator::Greater => self.from(after.0, after.1, 0),
            Operator::GreaterOrEqual => self.from(first.0, first.1, 0),
            Operator::Less => self.below(first.0, first.1, 0),
            Operator::LessOrEqual => self.below(after.0, after.1, 0),
        }
    }

    /// `FROM - TO`.
    pub(super) fn hyphen(&mut self, prefix: Prefix, from: &Partial<'_>, to: &Partial<'_>) {
        match (from.major, from.minor, from.patch) {
            (None, _, _) => {}
            (Some(major), None, _) => self.from(major, 0, 0),
            (Some(major), Some(minor), None) => self.from(major, minor, 0),
            (Some(major), Some(minor), Some(patch)) => {
                let pre = if from.pre.is_empty() {
                    self.lowest()
                } else {
                    from.pre
                };
                self.exact(Operator::GreaterOrEqual, prefix, [major, minor, patch], pre);
            }
        }
        match (to.major, to.minor, to.patch) {
            (None, _, _) => {}
            (Some(major), None, _) => self.below(above(major), 0, 0),
            (Some(major), Some(minor), None) => self.below(major, above(minor), 0),
            (Some(major), Some(minor), Some(patch))
                if to.pre.is_empty() && self.mode == Mode::WithPrerelease =>
            {
                self.below(major, minor, above(patch));
            }
            (Some(major), Some(minor), Some(patch)) => {
                self.push(Operator::LessOrEqual, [major, minor, patch], to.pre);
            }
        }
    }

    /// A version that node-semver takes from the text as it stands, prefix included.
    fn exact(&mut self, operator: Operator, prefix: Prefix, numbers: [u64; 3], pre: &str) {
        match prefix {
            Prefix::None => self.push(operator, numbers, pre),
            Prefix::V => self.store(operator, numbers, pre, 1),
            Prefix::Other => self.fail(),
        }
    }

    /// The prerelease of a lower bound that the reader did not write out.
    const fn lowest(&self) -> &'static str {
        match self.mode {
            Mode::Plain => "",
            Mode::WithPrerelease => "0",
        }
    }

    fn from(&mut self, major: u64, minor: u64, patch: u64) {
        self.push(
            Operator::GreaterOrEqual,
            [major, minor, patch],
            self.lowest(),
        );
    }

    fn below(&mut self, major: u64, minor: u64, patch: u64) {
        self.push(Operator::Less, [major, minor, patch], "0");
    }

    /// A comparator, unless it is the one that everything passes: `>=0.0.0`, with prereleases `>=0.0.0-0`.
    fn push(&mut self, operator: Operator, numbers: [u64; 3], pre: &str) {
        if operator != Operator::GreaterOrEqual || numbers != [0; 3] || pre != self.lowest() {
            self.store(operator, numbers, pre, 0);
        }
    }

    fn store(
        &mut self,
        operator: Operator,
        [major, minor, patch]: [u64; 3],
        pre: &str,
        prefix: usize,
    ) {
        match Version::from_parts(major, minor, patch, pre) {
            Some(version) if version.is_safe() && fits(&version, prefix) => {
                self.comparator(operator, version);
            }
            _ => self.fail(),
        }
    }

    /// A comparator as it is.
    pub(super) fn comparator(&mut self, operator: Operator, version: Version) {
        if operator == Operator::Less && is_lowest(&version) {
            self.nothing = true;
        }
        if !self.nothing && self.so_far != SoFar::Anything {
            self.comparators.push(Comparator {
                operator,
                last: false,
                version,
            });
        }
    }
}

/// `<0.0.0-0` admits nothing.
fn is_lowest(version: &Version) -> bool {
    version.major() == 0
        && version.minor() == 0
        && version.patch() == 0
        && version.prerelease() == "0"
}

/// The next number. Numbers out of range come as any value that is, and stay so.
const fn above(number: u64) -> u64 {
    number.saturating_add(1)
}

/// Whether node-semver accepts the length of the version; the text may have a prefix.
fn fits(version: &Version, prefix: usize) -> bool {
    let pre = version.prerelease().len();
    // Three numbers of at most 16 digits, two dots, a hyphen.
    pre + prefix + 51 <= MAX_LENGTH || version.to_string().len() + prefix <= MAX_LENGTH
}
