//! node-semver's own way from one alternative of a range to comparators: a chain of text replacements.
//!
//! For the texts that nobody writes on purpose, the order of these replacements *is* the rule: `1.2.3*` is 1.2.3,
//! `~> =1` is a tilde range, `1 - =2.0.0` is refused although `1 - =2.0` is not. So each step is here under its own name,
//! in node-semver's order, as one pass over the text.

use std::fmt::Write as _;

use super::expand::{Builder, Mode, Prefix, Sign};
use super::parse::sign;
use super::scan::{self, MAX_LENGTH, Partial, byte, is_identifier, partial};
use super::version::Version;

/// Adds what `part` (the text between two `||`) says to the builder, or makes it fail.
pub(super) fn alternative(part: &str, builder: &mut Builder) {
    let comparators = collapse_space(part).and_then(|text| {
        let text = replace_hyphen(&strip_build(&text), builder.mode());
        let text = trim_after_sign(&trim_after_sign(&trim_comparators(&text), b'~'), b'^');
        text.split(' ')
            .try_for_each(|token| self::token(token, builder))
    });
    if comparators.is_none() {
        builder.fail();
    }
}

/// Runs of white space become one blank, none at the ends. `None` where other characters outside ASCII remain: nothing matches them.
fn collapse_space(part: &str) -> Option<String> {
    let mut text = String::with_capacity(part.len());
    for word in part.split(scan::is_space).filter(|word| !word.is_empty()) {
        if !word.is_ascii() {
            return None;
        }
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(word);
    }
    Some(text)
}

/// Removes build metadata, of whatever length; the blanks around it stay.
fn strip_build(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut result = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'+' && is_identifier(byte(bytes, at + 1)) {
            at += 2;
            while is_identifier(byte(bytes, at))
                || (byte(bytes, at) == b'.' && is_identifier(byte(bytes, at + 1)))
            {
                at += 1;
            }
        } else {
            result.push(char::from(bytes[at]));
            at += 1;
        }
    }
    result
}

/// `FROM - TO` becomes two comparators, if it is all there is. At most one blank may stand at either end and before the hyphen.
fn replace_hyphen(text: &str, mode: Mode) -> String {
    let Some((from_text, from, to_text, to)) = hyphen(text) else {
        return text.to_owned();
    };
    let zero = if mode == Mode::WithPrerelease {
        "-0"
    } else {
        ""
    };
    let from = match (from.major, from.minor, from.patch) {
        (None, _, _) => String::new(),
        (Some(major), None, _) => format!(">={major}.0.0{zero}"),
        (Some(major), Some(minor), None) => format!(">={major}.{minor}.0{zero}"),
        _ if from.pre.is_empty() => format!(">={from_text}{zero}"),
        _ => format!(">={from_text}"),
    };
    let to = match (to.major, to.minor, to.patch) {
        (None, _, _) => String::new(),
        (Some(major), None, _) => format!("<{}.0.0-0", major.saturating_add(1)),
        (Some(major), Some(minor), None) => format!("<{major}.{}.0-0", minor.saturating_add(1)),
        (Some(major), Some(minor), Some(patch)) if !to.pre.is_empty() => {
            format!("<={major}.{minor}.{patch}-{}", to.pre)
        }
        (Some(major), Some(minor), Some(patch)) if mode == Mode::WithPrerelease => {
            format!("<{major}.{minor}.{}-0", patch.saturating_add(1))
        }
        _ => format!("<={to_text}"),
    };
    format!("{from} {to}").trim().to_owned()
}

/// Both sides, each as text with its prefix and as version.
fn hyphen(text: &str) -> Option<(&str, Partial<'_>, &str, Partial<'_>)> {
    let bytes = text.as_bytes();
    let start = usize::from(byte(bytes, 0) == b' ');
    let from = partial(text, skip_prefix(bytes, start))?;
    let end = skip_prefix(bytes, start) + from.len;
    let to_start = text[end..].starts_with(" - ").then_some(end + 3)?;
    let to = partial(text, skip_prefix(bytes, to_start))?;
    let to_end = skip_prefix(bytes, to_start) + to.len;
    matches!(&text[to_end..], "" | " ")
        .then(|| (&text[start..end], from, &text[to_start..to_end], to))
}

const fn is_prefix(byte: u8) -> bool {
    matches!(byte, b'v' | b'=' | b' ')
}

fn skip_prefix(text: &[u8], mut at: usize) -> usize {
    while is_prefix(byte(text, at)) {
        at += 1;
    }
    at
}

/// Removes the blank between an operator and its version: `> 1` becomes `>1`.
///
/// What counts is where node-semver's expression begins and ends a match. It begins at `<`, `>` or a run of `v`, `=` and blanks
/// before a version, takes that version in the loose form if it can, and goes on after it.
fn trim_comparators(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut result = String::with_capacity(text.len());
    let mut loose = Loose {
        text: bytes,
        runs: [(0, 0); 2],
    };
    let (mut at, mut copied) = (0, 0);
    while at < bytes.len() {
        let start = at;
        if matches!(bytes[at], b'<' | b'>') {
            at += 1;
        } else if !is_prefix(bytes[at]) && !is_version_start(bytes[at]) {
            at += 1;
            continue;
        }
        at = skip_prefix(bytes, at);
        if !is_version_start(byte(bytes, at)) {
            continue;
        }
        if let Some(blank) = blank_after_operator(bytes, start) {
            result.push_str(&text[copied..blank]);
            copied = blank + 1;
        }
        at = loose
            .full_version(at)
            .unwrap_or_else(|| version_end(text, at));
    }
    result.push_str(&text[copied..]);
    result
}

const fn is_version_start(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'x' | b'X' | b'*')
}

fn blank_after_operator(text: &[u8], start: usize) -> Option<usize> {
    let mut at = start + usize::from(byte(text, start) == b' ');
    at += usize::from(matches!(byte(text, at), b'<' | b'>'));
    at += usize::from(byte(text, at) == b'=');
    (byte(text, at) == b' ').then_some(at)
}

/// The end of a partial version; build metadata is gone by now.
fn version_end(text: &str, start: usize) -> usize {
    start + partial(text, start).map_or(1, |version| version.len)
}

/// Finds the end of a version in the loose form: leading zeros, the hyphen of the prerelease optional.
struct Loose<'a> {
    text: &'a [u8],
    /// The last two rows of digits. A match that fails in its second number is tried again from its first, one digit further
    /// on: without this, rows of zeros would be read once for each of their digits.
    runs: [(usize, usize); 2],
}

impl Loose<'_> {
    fn full_version(&mut self, start: usize) -> Option<usize> {
        let mut at = start;
        for component in 0..3 {
            let end = self.digits(at);
            if end == at {
                return None;
            }
            at = end;
            if component < 2 {
                if byte(self.text, at) != b'.' {
                    return None;
                }
                at += 1;
            }
        }
        Some(self.prerelease(at))
    }

    /// The end of at most 256 digits.
    fn digits(&mut self, start: usize) -> usize {
        if !byte(self.text, start).is_ascii_digit() {
            return start;
        }
        let known = self
            .runs
            .iter()
            .find(|(first, end)| (*first..*end).contains(&start))
            .map(|(_, end)| *end);
        let end = known.unwrap_or_else(|| {
            let run = self.text[start..]
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count();
            self.runs = [(start, start + run), self.runs[0]];
            start + run
        });
        end.min(start + MAX_LENGTH)
    }

    fn prerelease(&mut self, start: usize) -> usize {
        let hyphen = usize::from(byte(self.text, start) == b'-');
        let mut end = self.identifier(start + hyphen);
        if end == start + hyphen {
            // A hyphen alone is an identifier too.
            end = self.identifier(start);
        }
        while end > start && byte(self.text, end) == b'.' {
            let next = self.identifier(end + 1);
            if next == end + 1 {
                break;
            }
            end = next;
        }
        end
    }

    fn identifier(&mut self, start: usize) -> usize {
        let digits = self.digits(start);
        let next = byte(self.text, digits);
        if !next.is_ascii_digit() && is_identifier(next) {
            scan::identifier_run(self.text, digits + 1)
        } else {
            digits
        }
    }
}

/// Removes the blank after `~`, `~>` or `^`; `~>` becomes `~` on the way.
fn trim_after_sign(text: &str, sign: u8) -> String {
    let bytes = text.as_bytes();
    let mut result = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        result.push(char::from(bytes[at]));
        if bytes[at] == sign {
            let blank = at + 1 + usize::from(sign == b'~' && byte(bytes, at + 1) == b'>');
            at = if byte(bytes, blank) == b' ' {
                blank
            } else {
                at
            };
        }
        at += 1;
    }
    result
}

/// One word of the rewritten text. `None` if it is not a comparator.
fn token(text: &str, builder: &mut Builder) -> Option<()> {
    if text.is_empty() {
        return Some(());
    }
    let bytes = text.as_bytes();
    let (sign, after) = sign(bytes, 0);
    let start = skip_prefix(bytes, after);
    if let Some(version) = partial(text, start)
        && start + version.len == text.len()
    {
        builder.simple(sign, prefix(&text[after..start]), &version);
        return Some(());
    }
    starred(text, builder)
}

fn prefix(text: &str) -> Prefix {
    match text {
        "" => Prefix::None,
        "v" => Prefix::V,
        _ => Prefix::Other,
    }
}

/// The first star is removed, with an operator before it; what remains must be a full version.
fn starred(text: &str, builder: &mut Builder) -> Option<()> {
    let star = text.find('*')?;
    let before = &text[..star];
    let before = before.strip_suffix('=').unwrap_or(before);
    let before = before.strip_suffix(['<', '>']).unwrap_or(before);
    let mut rest = String::with_capacity(text.len());
    write!(rest, "{before}{}", &text[star + 1..]).ok()?;

    let (Sign::Compare(operator), after) = sign(rest.as_bytes(), 0) else {
        return None;
    };
    let start = after + usize::from(byte(rest.as_bytes(), after) == b'v');
    let (version, end) = Version::scan(&rest, start)?;
    if scan::build(rest.as_bytes(), end) != rest.len()
        || rest.len() - after > MAX_LENGTH
        || !version.is_safe()
    {
        return None;
    }
    if rest != everything(builder.mode()) {
        builder.comparator(operator, version);
    }
    Some(())
}

/// The comparator that means any version.
const fn everything(mode: Mode) -> &'static str {
    match mode {
        Mode::Plain => ">=0.0.0",
        Mode::WithPrerelease => ">=0.0.0-0",
    }
}
