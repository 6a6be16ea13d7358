//! Which version of a dependent is rebuilt, or why none is (rules 5 and 8).
//!
//! The edge of the dependent's highest version answers nearly always. Only if that range does not admit the new version
//! are the older ranges needed, so they are asked for in a second step ([`Base::NeedsRanges`]).

use crate::model::decision::Reason;
use crate::model::edge::EdgeRange;
use crate::semver::Version;
use crate::store::Dependent;

/// The answer about one dependent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// Rebuild this published version, which declares this range.
    Rebuild {
        /// The base.
        base: Version,
        /// Its range.
        range: String,
        /// [`Reason::Admitted`] or [`Reason::OlderAdmitted`].
        reason: Reason,
    },
    /// Nothing is rebuilt.
    Skip(Reason),
    /// The highest version's range does not admit: call [`among`] with every range of the pair.
    NeedsRanges,
}

/// Looks at the dependent's highest version: is `version` (with its origin, if we made it) let in by its range?
pub fn of_top(edge: &Dependent, version: &Version, origin: Option<&Version>) -> Base {
    let Some(range) = &edge.range else {
        return Base::Skip(Reason::NoLongerDepends);
    };
    if EdgeRange::of(range).admits(version, origin) {
        return Base::Rebuild {
            base: edge.top.clone(),
            range: range.clone(),
            reason: Reason::Admitted,
        };
    }
    Base::NeedsRanges
}

/// Looks at all ranges of the pair, each with the highest version that declares it: the highest version whose range
/// admits is the base.
pub fn among(
    edge: &Dependent,
    ranges: &[(String, Version)],
    version: &Version,
    origin: Option<&Version>,
) -> Base {
    let highest = ranges
        .iter()
        .filter(|(range, declared_by)| {
            *declared_by < edge.top && EdgeRange::of(range).admits(version, origin)
        })
        .max_by(|one, other| one.1.cmp(&other.1));
    if let Some((range, base)) = highest {
        return Base::Rebuild {
            base: base.clone(),
            range: range.clone(),
            reason: Reason::OlderAdmitted,
        };
    }
    let nothing = edge
        .range
        .as_deref()
        .is_some_and(|range| matches!(EdgeRange::of(range), EdgeRange::Nothing(_)));
    Base::Skip(if nothing {
        Reason::AdmitsNothing
    } else {
        Reason::OutOfRange
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    fn edge(top: &str, range: Option<&str>) -> Dependent {
        Dependent {
            dependent: crate::model::name::PackageName::parse("child").unwrap(),
            top: v(top),
            range: range.map(String::from),
        }
    }

    #[test]
    fn rule_8_the_highest_version_that_admits_is_the_base() {
        let child = edge("6.0.0", Some("^6.0.0"));
        let ranges = [
            ("^6.0.0".into(), v("6.0.0")),
            ("^5.0.0".into(), v("5.0.1-0")),
            ("~5.2.0".into(), v("5.9.0")),
        ];
        assert_eq!(of_top(&child, &v("5.3.0"), None), Base::NeedsRanges);
        assert_eq!(
            among(&child, &ranges, &v("5.3.0"), None),
            Base::Rebuild {
                base: v("5.0.1-0"),
                range: "^5.0.0".into(),
                reason: Reason::OlderAdmitted
            }
        );
        assert_eq!(
            of_top(&child, &v("6.0.1"), None),
            Base::Rebuild {
                base: v("6.0.0"),
                range: "^6.0.0".into(),
                reason: Reason::Admitted
            }
        );
        assert_eq!(
            among(&child, &ranges, &v("7.0.0"), None),
            Base::Skip(Reason::OutOfRange)
        );
    }

    #[test]
    fn rule_5_a_dropped_dependency_is_skipped_even_if_an_older_range_admits() {
        assert_eq!(
            of_top(&edge("6.0.0", None), &v("5.3.0"), None),
            Base::Skip(Reason::NoLongerDepends)
        );
    }

    #[test]
    fn rule_4_a_git_address_admits_nothing_and_says_so() {
        let child = edge("1.0.0", Some("git+https://example.com/root.git"));
        assert_eq!(of_top(&child, &v("1.0.0"), None), Base::NeedsRanges);
        assert_eq!(
            among(&child, &[], &v("1.0.0"), None),
            Base::Skip(Reason::AdmitsNothing)
        );
    }

    #[test]
    fn a_version_we_made_passes_where_its_origin_does() {
        let child = edge("1.0.0", Some("^5.0.0"));
        assert!(matches!(
            of_top(&child, &v("5.0.1-0"), Some(&v("5.0.0"))),
            Base::Rebuild { .. }
        ));
        assert_eq!(of_top(&child, &v("5.0.1-0"), None), Base::NeedsRanges);
        let exact = edge("1.0.0", Some("5.0.0"));
        assert_eq!(
            of_top(&exact, &v("5.0.1-0"), Some(&v("5.0.0"))),
            Base::NeedsRanges
        );
    }
}
