//! The pieces of grammar that versions and ranges share, each a function from a position to the position after the match.
//!
//! The limits on repeated characters are node-semver's: its regular expressions count, and a range that drops what it
//! matched (`^x.1.2`) shows whether a number of 258 digits did match.

/// Most characters of a version, counted in UTF-16 code units as JavaScript does.
pub const MAX_LENGTH: usize = 256;
/// The highest number that may stand in a version: JavaScript's `Number.MAX_SAFE_INTEGER`.
pub const MAX_SAFE_INTEGER: u64 = 9_007_199_254_740_991;
/// Most digits of a number in a version or range (the first one plus `\d{0,256}`).
const MAX_NUMBER_DIGITS: usize = MAX_LENGTH + 1;
/// Most characters after the first that is not a digit in a prerelease identifier, and of a build identifier.
pub(super) const MAX_IDENTIFIER: usize = MAX_LENGTH - 6;
/// Decimal digits of [`MAX_SAFE_INTEGER`]; a longer number without leading zeros is above it.
pub(super) const SAFE_DIGITS: usize = 16;

/// White space as JavaScript's `\s` and `trim` see it: with the byte order mark, without U+0085.
pub(super) const fn is_space(c: char) -> bool {
    matches!(
        c,
        '\t'..='\r'
            | ' '
            | '\u{a0}'
            | '\u{1680}'
            | '\u{2000}'..='\u{200a}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{202f}'
            | '\u{205f}'
            | '\u{3000}'
            | '\u{feff}'
    )
}

/// The ASCII part of [`is_space`].
pub(super) const fn is_ascii_space(byte: u8) -> bool {
    matches!(byte, b'\t'..=b'\r' | b' ')
}

/// JavaScript's `String.prototype.trim`.
pub(super) fn trim(text: &str) -> &str {
    match text.as_bytes() {
        [first, .., last] if is_graphic(*first) && is_graphic(*last) => text,
        _ => text.trim_matches(is_space),
    }
}

const fn is_graphic(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~')
}

/// A character of a prerelease or build identifier.
pub(super) const fn is_identifier(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-'
}

/// The byte at `at`, or 0 (which no rule accepts) past the end.
pub(super) fn byte(text: &[u8], at: usize) -> u8 {
    text.get(at).copied().unwrap_or(0)
}

/// A number without leading zeros: its value and its end. A value above [`MAX_SAFE_INTEGER`] may be given as any value above it.
pub(super) fn number(text: &[u8], start: usize) -> Option<(u64, usize)> {
    let first = byte(text, start);
    if !first.is_ascii_digit() {
        return None;
    }
    if first == b'0' {
        return Some((0, start + 1));
    }
    let mut value = 0_u64;
    let mut end = start;
    while byte(text, end).is_ascii_digit() && end - start < MAX_NUMBER_DIGITS {
        value = value
            .wrapping_mul(10)
            .wrapping_add(u64::from(text[end] - b'0'));
        end += 1;
    }
    if end - start > SAFE_DIGITS {
        value = u64::MAX;
    }
    Some((value, end))
}

/// `-` and identifiers between dots: the end of the match, or `start` where there is none.
pub(super) fn prerelease(text: &[u8], start: usize) -> usize {
    if byte(text, start) == b'-' {
        dotted(text, start, prerelease_identifier)
    } else {
        start
    }
}

/// `+` and identifiers between dots: the end of the match, or `start` where there is none.
pub(super) fn build(text: &[u8], start: usize) -> usize {
    if byte(text, start) == b'+' {
        dotted(text, start, build_identifier)
    } else {
        start
    }
}

/// One sign, then identifiers between dots; stops before the first dot that no identifier follows.
fn dotted(text: &[u8], start: usize, identifier: fn(&[u8], usize) -> usize) -> usize {
    let mut end = identifier(text, start + 1);
    if end == start + 1 {
        return start;
    }
    while byte(text, end) == b'.' {
        let next = identifier(text, end + 1);
        if next == end + 1 {
            break;
        }
        end = next;
    }
    end
}

/// Digits, a letter or hyphen, and more of all; else a number without leading zeros.
fn prerelease_identifier(text: &[u8], start: usize) -> usize {
    let mut end = start;
    while byte(text, end).is_ascii_digit() && end - start < MAX_LENGTH {
        end += 1;
    }
    let next = byte(text, end);
    if !next.is_ascii_digit() && is_identifier(next) {
        return identifier_run(text, end + 1);
    }
    number(text, start).map_or(start, |(_, end)| end)
}

fn build_identifier(text: &[u8], start: usize) -> usize {
    identifier_run(text, start)
}

/// At most [`MAX_IDENTIFIER`] identifier characters.
pub(super) fn identifier_run(text: &[u8], start: usize) -> usize {
    let mut end = start;
    while end - start < MAX_IDENTIFIER && is_identifier(byte(text, end)) {
        end += 1;
    }
    end
}

/// A version of a range, of which parts may be missing or `x`, `X`, `*` (`None`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Partial<'a> {
    pub major: Option<u64>,
    pub minor: Option<u64>,
    pub patch: Option<u64>,
    /// Without the hyphen, empty if there is none. Stands only after three parts.
    pub pre: &'a str,
    /// Length of the text in bytes.
    pub len: usize,
}

/// The longest partial version at `start`, without prefix and without build metadata.
pub(super) fn partial(text: &str, start: usize) -> Option<Partial<'_>> {
    let bytes = text.as_bytes();
    let (major, mut end) = component(bytes, start)?;
    let mut found = Partial {
        major,
        minor: None,
        patch: None,
        pre: "",
        len: end - start,
    };
    if let Some((minor, after)) = dot_component(bytes, end) {
        found.minor = minor;
        end = after;
        if let Some((patch, after)) = dot_component(bytes, end) {
            found.patch = patch;
            end = prerelease(bytes, after);
            found.pre = text.get(after + 1..end).unwrap_or("");
        }
    }
    found.len = end - start;
    Some(found)
}

fn dot_component(text: &[u8], start: usize) -> Option<(Option<u64>, usize)> {
    if byte(text, start) == b'.' {
        component(text, start + 1)
    } else {
        None
    }
}

fn component(text: &[u8], start: usize) -> Option<(Option<u64>, usize)> {
    match byte(text, start) {
        b'x' | b'X' | b'*' => Some((None, start + 1)),
        _ => number(text, start).map(|(value, end)| (Some(value), end)),
    }
}

/// The beginning of a text that came from outside, short enough for a message.
pub(super) fn clip(text: &str) -> Box<str> {
    match text.char_indices().nth(64) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}
