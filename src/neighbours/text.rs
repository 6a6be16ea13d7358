//! What of a neighbour's words operators may see.
//!
//! Why: error pages and error texts are stored, shown in the console and written to logs. They come from another
//! machine, may be a whole HTML page, and like to quote the address that was asked for, credentials included.

/// Longest text shown, in characters.
const LIMIT: usize = 300;

/// One printable line of at most 300 characters, without the user part of any address in it.
pub(super) fn one_line(text: &str) -> String {
    // Anything longer than this cannot change the result, and must not cost anything either.
    let text: String = text.chars().take(LIMIT * 16).collect();
    let text = without_credentials(&text);
    let mut line = String::with_capacity(LIMIT.min(text.len()));
    let mut count = 0;
    let mut gap = false;
    for c in text.chars() {
        if c.is_whitespace() || c.is_control() {
            gap = count > 0;
            continue;
        }
        if count + usize::from(gap) >= LIMIT {
            line.push('…');
            break;
        }
        if gap {
            line.push(' ');
            count += 1;
            gap = false;
        }
        line.push(c);
        count += 1;
    }
    line
}

/// `scheme://user:password@host` becomes `scheme://***@host`, and what follows `Bearer` or `Basic` is hidden.
fn without_credentials(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        safe.push_str(before);
        // Up to the host's end; the last @ counts, a password may hold one.
        let end = after
            .find(|c: char| {
                c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"' | '\'' | '<' | '>')
            })
            .unwrap_or(after.len());
        rest = match after[..end].rfind('@') {
            Some(user) => {
                safe.push_str("***");
                &after[user..]
            }
            None => after,
        };
    }
    safe.push_str(rest);
    for scheme in ["bearer ", "basic "] {
        safe = hide_word_after(&safe, scheme);
    }
    safe
}

/// Hides the word after each `marker` (lower case, matched in any case) if it is long enough to be a credential.
fn hide_word_after(text: &str, marker: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let mut safe = String::with_capacity(text.len());
    let mut from = 0;
    while let Some(at) = lower[from..].find(marker) {
        let start = from + at + marker.len();
        let word = text[start..]
            .find(|c: char| !(c.is_ascii_alphanumeric() || "-._~+/=".contains(c)))
            .unwrap_or(text.len() - start);
        safe.push_str(&text[from..start]);
        safe.push_str(if word >= 8 {
            "***"
        } else {
            &text[start..start + word]
        });
        from = start + word;
    }
    safe.push_str(&text[from..]);
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn credentials_are_hidden() {
        assert_eq!(
            one_line("GET https://u:p@ss@host:1/x?y failed, then http://h/a@b and http://t@h"),
            "GET https://***@host:1/x?y failed, then http://h/a@b and http://***@h"
        );
        assert_eq!(
            one_line("sent Authorization: Bearer npm_0123456789=, and basic checks"),
            "sent Authorization: Bearer ***, and basic checks"
        );
    }

    #[test]
    fn one_short_line() {
        assert_eq!(one_line(" a\r\n\t b\u{0}c "), "a b c");
        let long = one_line(&"ü".repeat(5_000));
        assert_eq!(long.chars().count(), LIMIT + 1);
        assert!(long.ends_with('…'));
    }

    proptest! {
        #[test]
        fn never_panics_and_never_shows_a_password(text in "\\PC{0,40}", password in "[a-z]{6,9}") {
            let shown = one_line(&format!("{text} https://user:{password}QX@host/{text}"));
            let secret = format!("{password}QX");
            prop_assert!(!shown.contains(&secret), "{}", shown);
            prop_assert!(shown.chars().count() <= LIMIT + 1);
        }
    }
}
