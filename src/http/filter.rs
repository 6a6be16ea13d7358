//! Keeps tarballs out of memory (`design.md` rule 2). A publish document carries its package as base64 in `_attachments`,
//! up to hundreds of megabytes that nobody here reads; all else is a few kilobytes.
//!
//! [`PushFilter`] is pushed the raw body in whatever pieces the network cuts it, and copies everything but the value of
//! `_attachments` at the top level and inside the top-level `data` (the two body shapes of contract.md 1.2). In its place
//! stands `{}`, so that what is kept is the same JSON otherwise, valid or not: judging it is the parser's work. Keys are compared
//! after unescaping; an `_attachments` at any other depth is somebody's data and is kept.

use memchr::memchr2;

/// Why the filter gave up; nothing may be pushed after it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// More than the limit is left without the attachments.
    #[error("the document has more than {limit} bytes without its _attachments")]
    TooLarge {
        /// In bytes, the setting `document_limit`.
        limit: usize,
    },
    /// The brackets inside the value of `_attachments` do not match or nest deeper than [`MAX_DEPTH`].
    #[error("the value of _attachments is not valid JSON")]
    Malformed,
}

/// How deep the value of `_attachments` may nest, as deep as `serde_json` lets the rest.
pub const MAX_DEPTH: u32 = 127;

const ATTACHMENTS: &str = "_attachments";
const DATA: &str = "data";
/// The longest way to write `_attachments` in JSON: six bytes a character.
const LONGEST_KEY: usize = 6 * ATTACHMENTS.len();

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Attachments,
    Data,
    Other,
}

#[derive(Clone, Copy, Debug)]
enum Mode {
    /// Outside of strings, copied.
    Text,
    /// Inside a string that is copied; a `key` is collected to be compared. `escaped`: the last byte was the backslash of an escape.
    String { key: bool, escaped: bool },
    /// After the colon of `_attachments`, before its value.
    Value,
    /// Inside the value of `_attachments`, outside of strings.
    Skip,
    /// Inside a string of the value of `_attachments`.
    SkipString { escaped: bool },
}

/// The filter; see the module.
#[derive(Debug)]
pub struct PushFilter {
    kept: Vec<u8>,
    limit: usize,
    mode: Mode,
    /// Open brackets that are copied.
    depth: u64,
    /// The outermost bracket is an object.
    in_object: bool,
    /// The bracket at depth 2 is the object of the top-level key `data`.
    in_data: bool,
    /// The next string is a key of one of the two watched objects.
    expect_key: bool,
    /// The key being read, raw, as far as it can matter.
    raw_key: Vec<u8>,
    /// The last key of a watched object.
    last_key: Key,
    /// Open brackets of the skipped value: how many, and one bit for each, innermost lowest, set for an object.
    skip_depth: u32,
    skip_kinds: u128,
}

impl PushFilter {
    /// `limit`: the most bytes that are kept.
    pub fn new(limit: usize) -> Self {
        Self {
            kept: Vec::new(),
            limit,
            mode: Mode::Text,
            depth: 0,
            in_object: false,
            in_data: false,
            expect_key: false,
            raw_key: Vec::new(),
            last_key: Key::Other,
            skip_depth: 0,
            skip_kinds: 0,
        }
    }

    /// Takes the next piece of the body, cut anywhere.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), FilterError> {
        while !bytes.is_empty() {
            let used = match self.mode {
                Mode::Text => self.text(bytes)?,
                Mode::String { key, escaped } => self.string(bytes, key, escaped)?,
                Mode::Value => self.value(bytes)?,
                Mode::Skip => self.skip(bytes)?,
                Mode::SkipString { escaped } => self.skip_string(bytes, escaped),
            };
            bytes = &bytes[used..];
        }
        Ok(())
    }

    /// How many bytes are held now.
    pub fn held(&self) -> usize {
        self.kept.capacity() + self.raw_key.capacity()
    }

    /// What was kept: the JSON text with `{}` for every value of `_attachments`. A body that ended too early ends too early here.
    pub fn finish(self) -> Vec<u8> {
        self.kept
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), FilterError> {
        if bytes.len() > self.limit - self.kept.len() {
            return Err(FilterError::TooLarge { limit: self.limit });
        }
        self.kept.extend_from_slice(bytes);
        Ok(())
    }

    fn watched(&self) -> bool {
        match self.depth {
            1 => self.in_object,
            2 => self.in_data,
            _ => false,
        }
    }

    fn text(&mut self, bytes: &[u8]) -> Result<usize, FilterError> {
        for (at, &byte) in bytes.iter().enumerate() {
            match byte {
                b'"' => {
                    let key = self.expect_key;
                    self.expect_key = false;
                    self.raw_key.clear();
                    self.mode = Mode::String {
                        key,
                        escaped: false,
                    };
                }
                b'{' | b'[' => {
                    self.depth += 1;
                    match self.depth {
                        1 => self.in_object = byte == b'{',
                        2 => {
                            self.in_data =
                                self.in_object && self.last_key == Key::Data && byte == b'{';
                        }
                        _ => {}
                    }
                    self.last_key = Key::Other;
                    self.expect_key = self.watched();
                    continue;
                }
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    self.expect_key = false;
                    continue;
                }
                b',' => {
                    self.last_key = Key::Other;
                    self.expect_key = self.watched();
                    continue;
                }
                b':' if self.last_key == Key::Attachments && self.watched() => {
                    self.last_key = Key::Other;
                    self.mode = Mode::Value;
                }
                _ => continue,
            }
            self.keep(&bytes[..=at])?;
            return Ok(at + 1);
        }
        self.keep(bytes)?;
        Ok(bytes.len())
    }

    fn string(&mut self, bytes: &[u8], key: bool, escaped: bool) -> Result<usize, FilterError> {
        let (used, mode) = string_end(bytes, escaped);
        if key && self.raw_key.len() <= LONGEST_KEY {
            let wanted = used.min(LONGEST_KEY + 2 - self.raw_key.len());
            self.raw_key.extend_from_slice(&bytes[..wanted]);
        }
        self.keep(&bytes[..used])?;
        match mode {
            StringMode::Open { escaped } => self.mode = Mode::String { key, escaped },
            StringMode::Closed => {
                self.mode = Mode::Text;
                if key {
                    self.last_key = self.compare_key();
                }
            }
        }
        Ok(used)
    }

    /// `raw_key` ends with the closing quote, unless it is too long to matter.
    fn compare_key(&self) -> Key {
        let Some((b'"', raw)) = self.raw_key.split_last() else {
            return Key::Other;
        };
        if !raw.contains(&b'\\') {
            return key_of(raw);
        }
        let mut quoted = Vec::with_capacity(raw.len() + 2);
        quoted.push(b'"');
        quoted.extend_from_slice(&self.raw_key);
        serde_json::from_slice::<String>(&quoted).map_or(Key::Other, |key| key_of(key.as_bytes()))
    }

    fn value(&mut self, bytes: &[u8]) -> Result<usize, FilterError> {
        let space = bytes
            .iter()
            .take_while(|byte| b" \t\r\n".contains(byte))
            .count();
        let Some(&first) = bytes.get(space) else {
            self.keep(bytes)?;
            return Ok(space);
        };
        match first {
            b'{' | b'[' | b'"' => {
                self.keep(&bytes[..space])?;
                self.keep(b"{}")?;
                self.mode = Mode::Skip;
                self.skip_depth = 0;
                Ok(space)
            }
            // null, a number or a mistake: short, or too large and refused
            _ => {
                self.mode = Mode::Text;
                self.keep(&bytes[..space])?;
                Ok(space)
            }
        }
    }

    fn skip(&mut self, bytes: &[u8]) -> Result<usize, FilterError> {
        for (at, &byte) in bytes.iter().enumerate() {
            match byte {
                b'"' => {
                    self.mode = Mode::SkipString { escaped: false };
                    return Ok(at + 1);
                }
                b'{' | b'[' => {
                    if self.skip_depth == MAX_DEPTH {
                        return Err(FilterError::Malformed);
                    }
                    self.skip_depth += 1;
                    self.skip_kinds = self.skip_kinds << 1 | u128::from(byte == b'{');
                }
                b'}' | b']' => {
                    if (self.skip_kinds & 1 == 1) != (byte == b'}') {
                        return Err(FilterError::Malformed);
                    }
                    self.skip_kinds >>= 1;
                    self.skip_depth -= 1;
                    if self.skip_depth == 0 {
                        self.mode = Mode::Text;
                        return Ok(at + 1);
                    }
                }
                _ => {}
            }
        }
        Ok(bytes.len())
    }

    fn skip_string(&mut self, bytes: &[u8], escaped: bool) -> usize {
        let (used, mode) = string_end(bytes, escaped);
        self.mode = match mode {
            StringMode::Open { escaped } => Mode::SkipString { escaped },
            StringMode::Closed if self.skip_depth == 0 => Mode::Text,
            StringMode::Closed => Mode::Skip,
        };
        used
    }
}

fn key_of(key: &[u8]) -> Key {
    if key == ATTACHMENTS.as_bytes() {
        Key::Attachments
    } else if key == DATA.as_bytes() {
        Key::Data
    } else {
        Key::Other
    }
}

enum StringMode {
    Open { escaped: bool },
    Closed,
}

/// Inside a string: how many of `bytes` belong to it, the closing quote included, and what it is after them.
fn string_end(bytes: &[u8], escaped: bool) -> (usize, StringMode) {
    let mut at = usize::from(escaped && !bytes.is_empty());
    while let Some(found) = memchr2(b'"', b'\\', &bytes[at..]) {
        at += found;
        if bytes[at] == b'"' {
            return (at + 1, StringMode::Closed);
        }
        if at + 1 == bytes.len() {
            return (at + 1, StringMode::Open { escaped: true });
        }
        at += 2;
    }
    (bytes.len(), StringMode::Open { escaped: false })
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
