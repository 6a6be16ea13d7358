//! Long and senseless texts: the work for them is linear, and what is said about them is short.

use feedsme::semver::{Range, Version};

use super::forms::reads;

/// 64 KiB of anything is read in one pass. A reader that looked at the rest again for every character would need billions
/// of steps here, minutes in a debug build.
#[test]
fn hostile_texts() {
    const SIZE: usize = 1 << 16;
    let fill = |piece: &str| piece.repeat(SIZE / piece.len());
    for (text, normalised) in [
        (fill("= "), None),
        (fill("||"), Some("")),
        (fill("||") + "nonsense", None),
        (fill("9"), None),
        (fill("0"), None),
        (fill(&("0".repeat(256) + ".")), None),
        (fill("1."), None),
        (fill("*"), None),
        (fill("* "), Some("")),
        (fill("~ "), None),
        (fill("^"), None),
        (fill("v"), None),
        (fill("v") + "1", Some(">=1.0.0 <2.0.0-0")),
        (fill("<"), None),
        (fill("+a"), Some("")),
        (fill("1 +a "), Some(">=1.0.0 <2.0.0-0")),
        (fill("1.2.3 "), Some("1.2.3")),
        (fill("1 - "), None),
        (fill("<0||") + "x<", None),
        (fill("<0 ||") + "<0", Some("<0.0.0-0")),
        (fill("\u{3000}"), Some("")),
        (
            "^1.2.x-".to_owned() + &fill("a.") + "a",
            Some(">=1.2.0 <2.0.0-0"),
        ),
        ("1.2.3-".to_owned() + &fill("a.") + "a", None),
        ("1.2.3-".to_owned() + &fill("1"), None),
        (fill("💥"), None),
    ] {
        reads(&text, normalised);
        assert!(Version::parse(&text).is_err());
    }
}

/// Thousands of different comparators and alternatives are kept, equal comparators once.
#[test]
fn long_lists() {
    let list = |sign: &str, separator: &str| {
        let numbers = (0..8192).chain(0..8192);
        let parts: Vec<String> = numbers
            .map(|number| format!("{sign}1.{number}.1"))
            .collect();
        Range::parse(&parts.join(separator)).unwrap()
    };
    let and = list(">", " ");
    assert_eq!(and.to_string().split(' ').count(), 8192);
    assert!(and.satisfies(&Version::new(1, 8192, 0)) && !and.satisfies(&Version::new(1, 8191, 1)));
    let or = list("", "||");
    assert_eq!(or.to_string().split("||").count(), 2 * 8192);
    assert!(or.satisfies(&Version::new(1, 8191, 1)) && !or.satisfies(&Version::new(1, 8192, 1)));
}

#[test]
fn errors_are_short_and_name_the_part() {
    let error = Range::parse("^1.0.0 || latest || ^2").unwrap_err();
    assert_eq!(error.to_string(), "`latest` is not an npm version range");
    assert!(
        Range::parse(&"💥".repeat(10_000))
            .unwrap_err()
            .to_string()
            .chars()
            .count()
            < 120
    );
    assert_eq!(
        Version::parse("next").unwrap_err().to_string(),
        "`next` is not a version (MAJOR.MINOR.PATCH)"
    );
    assert!(
        Version::parse("1.99999999999999999999.0")
            .unwrap_err()
            .to_string()
            .contains("above 9007199254740991")
    );
}
