//! Which version of a dependent is rebuilt, or why none is (rules 5 and 8).
//!
//! The edge of the dependent's highest version answers nearly always. Only if that range does not admit the new version
//! are the older ranges needed, so they are asked for in a second step ([`Base::NeedsRanges`]).

use crate::model::decision::Reason;
use crate::model::edge::EdgeRange;
use crate::model::package::Cause;
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

/// What several parents of a wave come to together (H23).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The base: the highest of those that the parents choose by themselves.
    pub base: Version,
    /// The range by which it lets the first of them in.
    pub range: String,
    /// [`Reason::Admitted`] or [`Reason::OlderAdmitted`].
    pub reason: Reason,
    /// The parents that it lets in, in the order given.
    pub causes: Vec<Cause>,
    /// The others, and why.
    pub out: Vec<(Cause, Reason)>,
}

/// Decides between the answers of several parents: a parent whose own base is lower is not let in by the higher one, or
/// that would have been its base too. If no parent reaches the dependent: why each of them does not.
pub fn across(
    answers: impl IntoIterator<Item = (Cause, Base)>,
) -> Result<Chosen, Vec<(Cause, Reason)>> {
    let mut chosen: Option<Chosen> = None;
    let mut out = Vec::new();
    let mut lower = Vec::new();
    for (cause, answer) in answers {
        match answer {
            Base::Skip(reason) => out.push((cause, reason)),
            Base::NeedsRanges => out.push((cause, Reason::OutOfRange)),
            Base::Rebuild {
                base,
                range,
                reason,
            } => match &mut chosen {
                Some(one) if one.base == base => one.causes.push(cause),
                Some(one) if one.base > base => lower.push(cause),
                _ => {
                    let before = chosen.replace(Chosen {
                        base,
                        range,
                        reason,
                        causes: vec![cause],
                        out: Vec::new(),
                    });
                    lower.extend(before.into_iter().flat_map(|one| one.causes));
                }
            },
        }
    }
    match chosen {
        None => Err(out),
        Some(mut chosen) => {
            let reason = Reason::OutOfRangeForBase {
                base: chosen.base.clone(),
            };
            out.extend(lower.into_iter().map(|cause| (cause, reason.clone())));
            chosen.out = out;
            Ok(chosen)
        }
    }
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
    fn h23_the_highest_base_decides_and_the_others_are_out_of_range_for_it() {
        let cause = |name: &str| Cause {
            parent: crate::model::name::PackageName::parse(name).unwrap(),
            version: v("1.0.0"),
            origin: None,
        };
        let base = |base: &str, reason| Base::Rebuild {
            base: v(base),
            range: "^1.0.0".into(),
            reason,
        };
        let answers = [
            (cause("a"), base("5.0.0", Reason::OlderAdmitted)),
            (cause("b"), base("6.0.0", Reason::Admitted)),
            (cause("c"), Base::Skip(Reason::OutOfRange)),
            (cause("d"), base("6.0.0", Reason::Admitted)),
        ];
        let chosen = across(answers).unwrap();
        assert_eq!(chosen.base, v("6.0.0"));
        assert_eq!(chosen.reason, Reason::Admitted);
        assert_eq!(chosen.causes, [cause("b"), cause("d")]);
        let lower = Reason::OutOfRangeForBase { base: v("6.0.0") };
        assert_eq!(
            chosen.out,
            [(cause("c"), Reason::OutOfRange), (cause("a"), lower)]
        );
        let none = across([(cause("c"), Base::Skip(Reason::OutOfRange))]);
        assert_eq!(none, Err(vec![(cause("c"), Reason::OutOfRange)]));
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
