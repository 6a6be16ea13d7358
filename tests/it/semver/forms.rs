//! One example for every class of text, with node-semver's answer.

use std::cmp::Ordering;

use feedsme::semver::{MAX_LENGTH, Range, Release, Version, VersionError, satisfies};

/// One reading: the normalised text, or `None` where node throws.
#[track_caller]
pub(super) fn reads(text: &str, normalised: Option<&str>) {
    let ours = Range::parse(text).ok().map(|range| range.to_string());
    let shown: String = text.chars().take(80).collect();
    assert_eq!(ours.as_deref(), normalised, "{shown:?}");
}

#[test]
fn forms_that_people_write() {
    for (text, normalised) in [
        ("", ""),
        ("*", ""),
        ("^1.2.3", ">=1.2.3 <2.0.0-0"),
        ("^0.2.3", ">=0.2.3 <0.3.0-0"),
        ("^0.0.3", ">=0.0.3 <0.0.4-0"),
        ("^1.2.3-beta.2", ">=1.2.3-beta.2 <2.0.0-0"),
        ("^0.x", "<1.0.0-0"),
        ("~1.2", ">=1.2.0 <1.3.0-0"),
        ("~> 1.2.3", ">=1.2.3 <1.3.0-0"),
        ("1.2.3 - 2.3", ">=1.2.3 <2.4.0-0"),
        ("1.2 - 2.3.4", ">=1.2.0 <=2.3.4"),
        (">= 1.2.3\t< 2", ">=1.2.3 <2.0.0-0"),
        (">1", ">=2.0.0"),
        ("<=1.2", "<1.3.0-0"),
        ("= v1.2.3", "1.2.3"),
        (
            "1.x || >=2.5.0 || 5.0.0 - 7.2.3",
            ">=1.0.0 <2.0.0-0||>=2.5.0||>=5.0.0 <=7.2.3",
        ),
        ("^1 || *", ""),
        ("<0 || ^1", ">=1.0.0 <2.0.0-0"),
        (">x", "<0.0.0-0"),
        (">=0.0.0", ""),
        ("1.2.3 1.2.3", "1.2.3"),
    ] {
        reads(text, Some(normalised));
    }
    for text in [
        "latest",
        "1.2.3.4",
        "^01.2.3",
        "x.1",
        ">1.2.3 - 2.0.0",
        "==1.2.3",
        "> >1",
        "git+https://h/x.git",
        "1,2",
    ] {
        reads(text, None);
    }
}

/// What follows from node-semver's order of replacements and from nothing else.
#[test]
fn texts_that_only_the_rewriting_explains() {
    // A star goes, with an operator before it, from a text that is no x-range.
    reads("1.2.3*", Some("1.2.3"));
    reads("*1.2.3", Some("1.2.3"));
    reads("1.2.3<=*", Some("1.2.3"));
    reads(">=0.0.0*", Some(""));
    reads("1.2.3+*a", Some("1.2.3"));
    reads("^1.2.3*", None);
    reads("1.2.3**", None);
    // Build metadata goes first and leaves its blanks, of which the later steps take one.
    reads("1.2.3+a.b-1 +c", Some("1.2.3"));
    reads("> +a 1.2.3", None);
    reads("> +a1.2.3", None);
    reads(">=+a 1.2.3", Some(">=1.2.3"));
    reads("1 +a - 2", None);
    reads("1 - +a 2.0.0", Some(">=1.0.0 <=2.0.0"));
    reads("+a +b 1 - 2", Some(">=1.0.0 <3.0.0-0"));
    // Prefixes pass where the version is written anew, and only there.
    reads("==1.x", Some(">=1.0.0 <2.0.0-0"));
    reads("^=v1.2.3", Some(">=1.2.3 <2.0.0-0"));
    reads("vv1.2.3", None);
    reads("1 - =2.0", Some(">=1.0.0 <2.1.0-0"));
    reads("1 - =2.0.0", None);
    reads("1 - =2.0.0-a", Some(">=1.0.0 <=2.0.0-a"));
    reads(">=v0.0.0", Some(">=0.0.0"));
    // A prerelease that ends in v does not begin the next prefix, a star's rest does.
    reads("1.2.3-av = 2.0.0", Some("1.2.3-av 2.0.0"));
    reads("1.2.3-a*v = 2.0.0", None);
    // Carets and tildes drop what stands behind an x, but it must match: numbers to 257 digits.
    reads("^x.1.2-a", Some(""));
    reads("~1.x.2", Some(">=1.0.0 <2.0.0-0"));
    reads("1.x.2", None);
    reads(&format!("^x.{}", "1".repeat(257)), Some(""));
    reads(&format!("^x.{}", "1".repeat(258)), None);
    // JavaScript's white space, not Unicode's.
    reads("\u{feff}^\u{3000}1", Some(">=1.0.0 <2.0.0-0"));
    reads("^1\u{85}", None);
    reads("^1 é", None);
    // Limits of numbers and lengths.
    reads("<9007199254740991.0.0", Some("<9007199254740991.0.0"));
    reads("^9007199254740991.0.0", None);
    reads("<=9007199254740991", None);
    let pre = "a".repeat(MAX_LENGTH - "1.2.3-".len());
    reads(&format!("1.2.3-{pre}"), Some(&format!("1.2.3-{pre}")));
    reads(&format!("v1.2.3-{pre}"), None);
    reads(
        &format!("~v1.2.3-{pre}"),
        Some(&format!(">=1.2.3-{pre} <1.3.0-0")),
    );
    reads("a|||b", None);
    reads("1.2.3|||", None);
}

#[test]
fn prereleases_by_mode() {
    let version = |text: &str| Version::parse(text).unwrap();
    for (range, text, plain, including) in [
        ("^5.0.0", "5.0.1-0", false, true),
        ("^5.0.1-0", "5.0.1-1", true, true),
        ("^5.0.1-0", "5.0.2-0", false, true),
        ("5.0.0", "5.0.1-0", false, false),
        ("*", "1.0.0-0", false, true),
        ("<2", "2.0.0-0", false, false),
        // The upper end of a hyphen range takes its own prereleases and none of the next patch.
        ("1 - 2.0.0", "2.0.0-0", false, true),
        ("1 - 2.0.0", "2.0.1-0", false, false),
        // Where the option changes the reading, not only the question.
        ("^1.2", "1.2.0-0", false, true),
        ("~1.2.0", "1.2.0-0", false, false),
        ("1 - 2.0.9007199254740991", "1.5.0", true, false),
    ] {
        let parsed = Range::parse(range).unwrap();
        assert_eq!(parsed.satisfies(&version(text)), plain, "{range} {text}");
        assert_eq!(
            parsed.satisfies_including_prerelease(&version(text)),
            including,
            "{range} {text}"
        );
        assert_eq!(satisfies(text, range, false), plain);
        assert_eq!(satisfies(text, range, true), including);
    }
    // Refused by default, read with the option.
    assert!(Range::parse("1 - =2.0.0").is_err());
    assert!(!satisfies("1.5.0", "1 - =2.0.0", false) && satisfies("1.5.0", "1 - =2.0.0", true));
}

#[test]
fn a_version_that_we_made_passes_with_its_origin() {
    let version = |text: &str| Version::parse(text).unwrap();
    let admits = |range: &str, text: &str, origin: Option<&str>| {
        Range::parse(range)
            .unwrap()
            .admits(&version(text), origin.map(version).as_ref())
    };
    assert!(admits("^5.0.0", "5.0.1-0", Some("5.0.0")));
    assert!(admits("^5.0.0", "5.0.1-1", Some("5.0.0")));
    assert!(
        !admits("5.0.0", "5.0.1-0", Some("5.0.0")),
        "an exact range stays exact"
    );
    assert!(
        !admits("^5.0.1", "5.0.1-0", Some("5.0.0")),
        "the origin is outside"
    );
    assert!(!admits("^1.0.0", "1.1.0-beta.0", None), "published by hand");
    assert!(admits("^1.0.0", "1.1.0", None));

    assert_eq!(version("5.0.1-0").increment_of(), Some(version("5.0.0")));
    assert_eq!(version("5.0.10-12").increment_of(), Some(version("5.0.9")));
    for text in [
        "5.0.1",
        "5.0.0-0",
        "5.0.1-beta",
        "5.0.1-beta.0",
        "5.0.1-0.0",
    ] {
        assert_eq!(version(text).increment_of(), None, "{text}");
    }
}

#[test]
fn versions_are_strict() {
    for (text, read) in [
        ("v1.2.3", Some("1.2.3")),
        (" \u{feff}1.2.3+build.01\n", Some("1.2.3")),
        ("1.2.3-0a.-.x+-", Some("1.2.3-0a.-.x")),
        ("9007199254740991.0.0", Some("9007199254740991.0.0")),
        ("9007199254740992.0.0", None),
        ("=1.2.3", None),
        ("v 1.2.3", None),
        ("1.2", None),
        ("01.2.3", None),
        ("1.2.3-01", None),
        ("1.2.3-é", None),
        ("\u{85}1.2.3", None),
        ("", None),
    ] {
        assert_eq!(
            Version::parse(text)
                .ok()
                .map(|version| version.to_string())
                .as_deref(),
            read,
            "{text:?}"
        );
    }
    // The length counts UTF-16 units, and before trimming.
    assert!(Version::parse(&format!("1.2.3{}", "\u{3000}".repeat(MAX_LENGTH - 5))).is_ok());
    assert_eq!(
        Version::parse(&format!("1.2.3{}", " ".repeat(MAX_LENGTH - 4))),
        Err(VersionError::TooLong)
    );
    let text = serde_json::to_string(&Version::parse("v1.2.3-a+b").unwrap()).unwrap();
    assert_eq!(text, "\"1.2.3-a\"");
    assert!(
        serde_json::from_str::<Version>("\"1.2\"")
            .unwrap_err()
            .to_string()
            .contains("`1.2` is not a version")
    );
    assert!(serde_json::from_str::<Version>("12").is_err());
}

/// Numbers from 2^53 - 1 on are text to `inc` and floating point numbers to `compare`.
#[test]
fn huge_prerelease_numbers() {
    let version = |text: &str| Version::parse(text).unwrap();
    let next = |text: &str| version(text).inc(Release::Prerelease).unwrap().to_string();
    assert_eq!(next("1.2.3-9007199254740990"), "1.2.3-9007199254740991");
    assert_eq!(next("1.2.3-9007199254740991"), "1.2.3-9007199254740991.0");
    assert_eq!(next("1.2.3-1.9007199254740991"), "1.2.3-2.9007199254740991");

    let (even, odd) = (
        version("1.2.3-9007199254740992.b"),
        version("1.2.3-9007199254740993.a"),
    );
    assert_eq!(even.npm_cmp(&odd), Ordering::Equal);
    assert_eq!(
        even.cmp(&odd),
        Ordering::Less,
        "a total order cannot say equal"
    );
    assert!(satisfies(
        "1.2.3-9007199254740993",
        "1.2.3-9007199254740992",
        false
    ));
}

#[test]
fn no_next_version() {
    let longest = Version::parse(&format!("1.2.3-{}", "a".repeat(MAX_LENGTH - 6))).unwrap();
    assert!(
        matches!(longest.inc(Release::Prerelease), Err(VersionError::NoNext(text)) if text.len() == MAX_LENGTH + 2)
    );
    let highest = Version::parse("1.2.9007199254740991").unwrap();
    assert_eq!(
        highest.inc(Release::Prerelease),
        Err(VersionError::NoNext("1.2.9007199254740992-0".into()))
    );
    assert_eq!(highest.inc(Release::Minor).unwrap(), Version::new(1, 3, 0));
}
