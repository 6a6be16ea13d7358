//! From the text of a range to comparators.
//!
//! The forms that people write are recognised here in one pass without intermediate texts. Whatever is not (build
//! metadata, doubled signs, stray stars, …) goes to `rewrite`, which decides it as node-semver does: by replacing text.
//! Both give the same answer wherever this one gives any; a test compares them.

use super::expand::{Builder, Prefix, Sign};
use super::range::Operator;
use super::rewrite;
use super::scan::{self, Partial, byte, is_ascii_space};

/// Reads `text` into every builder. Returns the first alternative that the first builder refused; stops there if all did.
pub(super) fn range<'a>(text: &'a str, builders: &mut [Builder]) -> Option<&'a str> {
    let mut refused = None;
    for part in text.split("||") {
        if !recognise(part, builders) {
            for builder in builders.iter_mut().filter(|builder| !builder.failed()) {
                rewrite::alternative(part, builder);
            }
        }
        for builder in builders.iter_mut() {
            builder.end_alternative();
        }
        if refused.is_none() && builders.first().is_some_and(Builder::failed) {
            refused = Some(part);
        }
        if builders.iter().all(Builder::failed) {
            break;
        }
    }
    refused
}

/// False, with the builders as before, if the alternative is not of a form known here.
pub(super) fn recognise(part: &str, builders: &mut [Builder]) -> bool {
    let mut failed = [false; 2];
    for (failed, builder) in failed.iter_mut().zip(&*builders) {
        *failed = builder.failed();
    }
    if read(part, builders).is_some() {
        return true;
    }
    for (failed, builder) in failed.iter().zip(builders) {
        builder.restart_alternative(*failed);
    }
    false
}

fn read(part: &str, builders: &mut [Builder]) -> Option<()> {
    let text = part.as_bytes();
    let mut at = skip_space(text, 0);
    let mut first = true;
    while at < text.len() {
        let (sign, after) = sign(text, at);
        let signed = after > at;
        let start = if signed {
            skip_space(text, after)
        } else {
            after
        };
        let (prefix, version, end) = version(part, start)?;
        at = skip_space(text, end);
        if at == end && at < text.len() {
            return None;
        }
        if first && !signed && byte(text, at) == b'-' && is_ascii_space(byte(text, at + 1)) {
            let (_, to, end) = self::version(part, skip_space(text, at + 1))?;
            if skip_space(text, end) < text.len() {
                return None;
            }
            for builder in builders.iter_mut() {
                builder.hyphen(prefix, &version, &to);
            }
            return Some(());
        }
        for builder in builders.iter_mut() {
            builder.simple(sign, prefix, &version);
        }
        first = false;
    }
    Some(())
}

/// The sign at `at`, possibly empty, and its end.
pub(super) fn sign(text: &[u8], at: usize) -> (Sign, usize) {
    match (byte(text, at), byte(text, at + 1)) {
        (b'^', _) => (Sign::Caret, at + 1),
        (b'~', b'>') => (Sign::Tilde, at + 2),
        (b'~', _) => (Sign::Tilde, at + 1),
        (b'>', b'=') => (Sign::Compare(Operator::GreaterOrEqual), at + 2),
        (b'>', _) => (Sign::Compare(Operator::Greater), at + 1),
        (b'<', b'=') => (Sign::Compare(Operator::LessOrEqual), at + 2),
        (b'<', _) => (Sign::Compare(Operator::Less), at + 1),
        (b'=', _) => (Sign::Compare(Operator::Equal), at + 1),
        _ => (Sign::Compare(Operator::Equal), at),
    }
}

/// A version with at most one `v` before it, and its end.
fn version(part: &str, at: usize) -> Option<(Prefix, Partial<'_>, usize)> {
    let (prefix, start) = if byte(part.as_bytes(), at) == b'v' {
        (Prefix::V, at + 1)
    } else {
        (Prefix::None, at)
    };
    let version = scan::partial(part, start)?;
    let end = start + version.len;
    Some((prefix, version, end))
}

/// White space outside ASCII is left to `rewrite`.
fn skip_space(text: &[u8], mut at: usize) -> usize {
    while is_ascii_space(byte(text, at)) {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::expand::Mode;
    use super::*;

    /// Alternatives of the forms known here, and some that only look like them.
    fn alternative() -> impl Strategy<Value = String> {
        let version = "v?(0|[1-4]|x|9007199254740991)(\\.([0-4]|x|\\*)(\\.([0-4]|X)(-(0|a|av|0a)(\\.[0-2])?)?)?)?";
        let signed =
            ("(\\^|~|~>|>|<|>=|<=|=|)( |\t)?", version).prop_map(|(sign, version)| sign + &version);
        let list = ("( |\n)?", proptest::collection::vec(signed, 0..4))
            .prop_map(|(space, list)| space.clone() + &list.join(" ") + &space);
        let hyphen = ("( |\t)?", version, " +- +", version, " ?")
            .prop_map(|(a, b, c, d, e)| [a, b, c, d, e].concat());
        prop_oneof![3 => list, 1 => hyphen]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1024))]
        #[test]
        fn recognising_and_rewriting_agree(part in alternative()) {
            for mode in [Mode::Plain, Mode::WithPrerelease] {
                let mut recognised = [Builder::new(mode)];
                if !recognise(&part, &mut recognised) {
                    continue;
                }
                let mut rewritten = Builder::new(mode);
                rewrite::alternative(&part, &mut rewritten);
                rewritten.end_alternative();
                let [mut recognised] = recognised;
                recognised.end_alternative();
                prop_assert_eq!(recognised.finish(), rewritten.finish());
            }
        }
    }

    #[test]
    fn usual_forms_are_recognised() {
        for part in [
            "",
            " ",
            "*",
            "1.2.3",
            " v1.2 ",
            "^ 1.x",
            "~> 1",
            ">=1.2.3-beta.1 < 2",
            "1 - v2.x",
            "=1.2.3",
        ] {
            assert!(
                recognise(part, &mut [Builder::new(Mode::Plain)]),
                "{part:?}"
            );
        }
        for part in [
            "latest",
            "1.2.3+b",
            "==1",
            "1 -2",
            "1 - 2 3",
            "^^1",
            "1.2.3*",
            "\u{3000}1",
        ] {
            assert!(
                !recognise(part, &mut [Builder::new(Mode::Plain)]),
                "{part:?}"
            );
        }
    }
}
