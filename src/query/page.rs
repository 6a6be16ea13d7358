//! Pages: a list that may be long is answered in pieces, each with a cursor to the next.
//!
//! A cursor says after which key to go on, so it stays good while entries come and go. It is opaque: base64 of the list's
//! kind and the key, checked when it comes back.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;

/// Entries of a page unless the client says otherwise.
pub const DEFAULT_LIMIT: usize = 50;

/// The most entries of a page.
pub const MAX_LIMIT: usize = 500;

/// Part of a list.
#[derive(Clone, Debug, Serialize)]
pub struct Page<T> {
    /// The entries, in the list's order.
    pub items: Vec<T>,
    /// The `cursor` of the next page; `null` if this is the last.
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// The same page with other entries.
    pub fn map<U>(self, with: impl FnMut(T) -> U) -> Page<U> {
        Page {
            items: self.items.into_iter().map(with).collect(),
            next: self.next,
        }
    }

    /// Cuts a list that was read one entry beyond the limit; `cursor` makes the cursor after the last entry that stays.
    pub fn cut(mut items: Vec<T>, limit: usize, cursor: impl Fn(&T) -> String) -> Self {
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(cursor);
        Self { items, next }
    }
}

/// A cursor of the list `kind` after `key`.
pub fn cursor(kind: &str, key: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{kind}:{key}"))
}

/// The key in a cursor of the list `kind`; `None` if it is not one of ours.
pub fn key(kind: &str, cursor: &str) -> Option<String> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
    text.strip_prefix(kind)?
        .strip_prefix(':')
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_only_to_its_own_list() {
        let made = cursor("names", "@s/c");
        assert_eq!(key("names", &made).as_deref(), Some("@s/c"));
        assert_eq!(key("changes", &made), None);
        assert_eq!(key("name", &made), None);
        for not in ["", "!", "////", "bmFtZXM", "\u{e9}"] {
            assert_eq!(key("names", not), None, "{not}");
        }
    }

    #[test]
    fn a_list_that_ends_with_the_page_has_no_next() {
        let name = |item: &u32| item.to_string();
        assert_eq!(Page::cut(vec![1, 2], 2, name).next, None);
        let page = Page::cut(vec![1, 2, 3], 2, name);
        assert_eq!((page.items, page.next.as_deref()), (vec![1, 2], Some("2")));
        assert_eq!(Page::<u32>::cut(Vec::new(), 2, name).next, None);
    }
}
