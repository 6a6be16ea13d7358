//! What holds for all versions and ranges.

use feedsme::semver::{Range, Release, Version, satisfies};
use proptest::prelude::*;

/// Versions close enough together that equal ones and near misses come up.
fn any_version() -> impl Strategy<Value = Version> {
    let number = prop_oneof![8 => 0..4_u64, 1 => 9_007_199_254_740_988..=9_007_199_254_740_991_u64];
    let pre = prop_oneof![
        3 => Just(String::new()),
        3 => "-(0|1|10|9|a|b|0a|-|A)(\\.(0|1|2|a|x)){0,2}",
        1 => "-900719925474099[0-9](\\.a)?",
    ];
    ([number.clone(), number.clone(), number], pre).prop_map(|([major, minor, patch], pre)| {
        Version::parse(&format!("{major}.{minor}.{patch}{pre}")).unwrap()
    })
}

proptest! {
    #[test]
    fn versions_round_trip(version in any_version()) {
        let text = version.to_string();
        prop_assert_eq!(&Version::parse(&text).unwrap(), &version);
        prop_assert_eq!(&Version::parse(&format!(" v{text}+b ")).unwrap(), &version);
        prop_assert_eq!(&serde_json::from_str::<Version>(&serde_json::to_string(&version).unwrap()).unwrap(), &version);
    }

    #[test]
    fn the_order_is_total(a in any_version(), b in any_version(), c in any_version()) {
        prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
        prop_assert_eq!(a.npm_cmp(&b), b.npm_cmp(&a).reverse());
        prop_assert_eq!(a == b, a.cmp(&b).is_eq());
        if a <= b && b <= c {
            prop_assert!(a <= c);
        }
        // npm's comparison is this order, made coarser.
        prop_assert!(a.npm_cmp(&b).is_eq() || a.npm_cmp(&b) == a.cmp(&b));
    }

    #[test]
    fn increments_rise(version in any_version()) {
        for release in [Release::Major, Release::Minor, Release::Patch, Release::Prerelease] {
            if let Ok(next) = version.inc(release) {
                prop_assert!(next > version);
                prop_assert!(release == Release::Prerelease || !next.is_prerelease());
            }
        }
        if !version.is_prerelease() && let Ok(next) = version.inc(Release::Prerelease) {
            prop_assert_eq!(next.increment_of(), Some(version));
        }
    }

    #[test]
    fn bounds_decide_as_the_order_does(version in any_version(), bound in any_version()) {
        let admits = |operator: &str| {
            Range::parse(&format!("{operator}{bound}")).unwrap().satisfies_including_prerelease(&version)
        };
        let order = version.npm_cmp(&bound);
        prop_assert_eq!(admits(""), order.is_eq());
        prop_assert_eq!(admits(">"), order.is_gt());
        prop_assert_eq!(admits(">="), order.is_ge());
        prop_assert_eq!(admits("<"), order.is_lt());
        prop_assert_eq!(admits("<="), order.is_le());
    }

    /// A normalised range is its own normal form and admits the same versions.
    #[test]
    fn normalising_again_changes_nothing(range in "[\\^~<>=]{0,2}[0-3x](\\.[0-3x](\\.[0-3](-(0|a))?)?)?( (\\|\\| )?[\\^~][0-3](\\.[0-3])?){0,2}", version in any_version()) {
        if let Ok(range) = Range::parse(&range) {
            let again = Range::parse(&range.to_string()).unwrap();
            prop_assert_eq!(again.to_string(), range.to_string());
            prop_assert_eq!(again.satisfies(&version), range.satisfies(&version));
        }
    }

    #[test]
    fn any_text_is_answered(range in "[0-3.xX*v=<>~^|+ a\u{3000}é-]{0,24}", version in any_version()) {
        // The readings agree: a range that is read says the same by way of texts.
        let ours = Range::parse(&range).is_ok_and(|range| range.satisfies(&version));
        prop_assert_eq!(satisfies(&version.to_string(), &range, false), ours);
    }
}
