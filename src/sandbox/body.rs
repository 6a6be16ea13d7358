//! Reads a publish document of any size from a byte stream without holding its tarballs.
//!
//! A push parser that follows the JSON just far enough to know the path of each string. The value of
//! `_attachments.<file>.data` is measured (see `digest.rs`) and replaced by `""`; everything else is kept and parsed by
//! `serde_json` at the end. The build service also accepts the document as a JSON *string* (contract.md 2.1): that string is
//! unescaped as it arrives and given to a second reader.

use super::digest::{Attachment, Base64Digest};
use serde_json::Value;

/// Where the document is in the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// The body is the document.
    Bare,
    /// The document is the value of `data`: an object, or a string that holds one.
    Wrapped,
}

/// Most bytes kept of one body, attachments aside.
const KEPT_LIMIT: usize = 32 * 1024 * 1024;

/// Reads one body.
pub(super) struct DocumentReader {
    shape: Shape,
    keep: usize,
    kept: Vec<u8>,
    stack: Vec<Frame>,
    string: Option<Text>,
    measured: Vec<(Attachment, Option<Vec<u8>>)>,
    inner: Option<Box<DocumentReader>>,
    too_large: bool,
}

/// A body after its last byte.
#[derive(Debug)]
pub(super) struct Read {
    /// The body with every attachment's `data` emptied, and a string `data` replaced by what it held.
    pub(super) body: Value,
    /// The attachments, in order, with their bytes if they were kept.
    pub(super) attachments: Vec<(Attachment, Option<Vec<u8>>)>,
}

enum Frame {
    Object { key: Vec<u8>, at_key: bool },
    Array,
}

/// The string being read.
struct Text {
    kind: Kind,
    escape: Escape,
    high: Option<u16>,
}

enum Kind {
    Key,
    Plain,
    Attachment(Box<Base64Digest>),
    Document,
}

#[derive(Clone, Copy)]
enum Escape {
    None,
    Backslash,
    Hex { digits: u8, value: u16 },
}

impl DocumentReader {
    /// Attachments of up to `keep` bytes are kept.
    pub(super) fn new(shape: Shape, keep: usize) -> Self {
        Self {
            shape,
            keep,
            kept: Vec::new(),
            stack: Vec::new(),
            string: None,
            measured: Vec::new(),
            inner: None,
            too_large: false,
        }
    }

    /// Takes the next bytes of the body.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.kept.len() > KEPT_LIMIT {
                self.too_large = true;
                return;
            }
            bytes = match self.string.take() {
                Some(text) => self.in_string(text, bytes),
                None => self.between_strings(bytes),
            };
        }
    }

    fn between_strings<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        for (at, &byte) in bytes.iter().enumerate() {
            self.kept.push(byte);
            match byte {
                b'{' => self.stack.push(Frame::Object {
                    key: Vec::new(),
                    at_key: true,
                }),
                b'[' => self.stack.push(Frame::Array),
                b'}' | b']' => drop(self.stack.pop()),
                b',' | b':' => {
                    if let Some(Frame::Object { at_key, .. }) = self.stack.last_mut() {
                        *at_key = byte == b',';
                    }
                }
                b'"' => {
                    self.string = Some(Text {
                        kind: self.kind_here(),
                        escape: Escape::None,
                        high: None,
                    });
                    return &bytes[at + 1..];
                }
                _ => {}
            }
        }
        &[]
    }

    /// What the string that begins now is.
    fn kind_here(&mut self) -> Kind {
        if let Some(Frame::Object { key, at_key: true }) = self.stack.last_mut() {
            key.clear();
            return Kind::Key;
        }
        let wrapped = self.shape == Shape::Wrapped;
        if wrapped && self.stack.len() == 1 && self.key_is(0, "data") {
            self.inner = Some(Box::new(Self::new(Shape::Bare, self.keep)));
            return Kind::Document;
        }
        let base = usize::from(wrapped);
        let in_attachment = self.stack.len() == base + 3
            && self.key_is(base, "_attachments")
            && matches!(self.stack[base + 1], Frame::Object { .. })
            && self.key_is(base + 2, "data");
        if in_attachment && (!wrapped || self.key_is(0, "data")) {
            return Kind::Attachment(Box::new(Base64Digest::new(self.keep)));
        }
        Kind::Plain
    }

    fn key_is(&self, depth: usize, name: &str) -> bool {
        matches!(&self.stack[depth], Frame::Object { key, .. } if unescaped(key) == name)
    }

    fn in_string<'a>(&mut self, mut text: Text, bytes: &'a [u8]) -> &'a [u8] {
        match text.escape {
            Escape::None => {
                let run = memchr::memchr2(b'"', b'\\', bytes).unwrap_or(bytes.len());
                if run > 0 {
                    self.literal(&mut text, &bytes[..run]);
                }
                let Some(&stop) = bytes.get(run) else {
                    self.string = Some(text);
                    return &[];
                };
                if stop == b'"' {
                    self.end_of_string(text);
                } else {
                    text.escape = Escape::Backslash;
                    self.string = Some(text);
                }
                &bytes[run + 1..]
            }
            Escape::Backslash => {
                text.escape = Escape::None;
                match bytes[0] {
                    b'u' => {
                        text.escape = Escape::Hex {
                            digits: 0,
                            value: 0,
                        };
                    }
                    b'n' => self.escaped(&mut text, "\n"),
                    b'r' => self.escaped(&mut text, "\r"),
                    b't' => self.escaped(&mut text, "\t"),
                    b'b' => self.escaped(&mut text, "\u{8}"),
                    b'f' => self.escaped(&mut text, "\u{c}"),
                    b'"' => self.escaped(&mut text, "\""),
                    b'\\' => self.escaped(&mut text, "\\"),
                    b'/' => self.escaped(&mut text, "/"),
                    // Not JSON: left in the kept text for serde_json to refuse.
                    other => {
                        self.kept.extend_from_slice(&[b'\\', other]);
                    }
                }
                self.string = Some(text);
                &bytes[1..]
            }
            Escape::Hex { digits, value } => {
                let digit = (bytes[0] as char).to_digit(16).unwrap_or(0);
                let value = value << 4 | u16::try_from(digit).unwrap_or(0);
                text.escape = Escape::Hex {
                    digits: digits + 1,
                    value,
                };
                if digits == 3 {
                    text.escape = Escape::None;
                    self.code_unit(&mut text, value);
                }
                self.string = Some(text);
                &bytes[1..]
            }
        }
    }

    fn code_unit(&mut self, text: &mut Text, unit: u16) {
        let units = match (text.high.take(), unit) {
            (None, 0xD800..=0xDBFF) => {
                text.high = Some(unit);
                return;
            }
            (None, _) => vec![unit],
            (Some(high), _) => vec![high, unit],
        };
        self.escaped(text, &String::from_utf16_lossy(&units));
    }

    /// One character that was written as an escape. Kept text gets it back in the shortest escaped form.
    fn escaped(&mut self, text: &mut Text, character: &str) {
        let quoted = Value::from(character).to_string();
        match &mut text.kind {
            Kind::Key => {
                self.remember_key(&quoted.as_bytes()[1..quoted.len() - 1]);
                self.kept
                    .extend_from_slice(&quoted.as_bytes()[1..quoted.len() - 1]);
            }
            Kind::Plain => self
                .kept
                .extend_from_slice(&quoted.as_bytes()[1..quoted.len() - 1]),
            Kind::Attachment(_) | Kind::Document => self.literal(text, character.as_bytes()),
        }
    }

    fn literal(&mut self, text: &mut Text, bytes: &[u8]) {
        match &mut text.kind {
            Kind::Key => {
                self.remember_key(bytes);
                self.kept.extend_from_slice(bytes);
            }
            Kind::Plain => self.kept.extend_from_slice(bytes),
            Kind::Attachment(digest) => digest.feed(bytes),
            Kind::Document => {
                if let Some(inner) = &mut self.inner {
                    inner.feed(bytes);
                }
            }
        }
    }

    fn remember_key(&mut self, bytes: &[u8]) {
        if let Some(Frame::Object { key, .. }) = self.stack.last_mut() {
            key.extend_from_slice(bytes);
        }
    }

    fn end_of_string(&mut self, text: Text) {
        self.kept.push(b'"');
        if let Kind::Attachment(digest) = text.kind {
            let base = usize::from(self.shape == Shape::Wrapped);
            let name = match &self.stack[base + 1] {
                Frame::Object { key, .. } => unescaped(key),
                Frame::Array => String::new(),
            };
            self.measured.push(digest.finish(name));
        }
    }

    /// Parses what was kept. The error says what is wrong with the JSON.
    pub(super) fn finish(self) -> Result<Read, String> {
        if self.too_large {
            return Err("document too large".into());
        }
        let mut body: Value = serde_json::from_slice(&self.kept).map_err(|e| e.to_string())?;
        let mut attachments = self.measured;
        if let Some(inner) = self.inner {
            let read = inner.finish()?;
            attachments.extend(read.attachments);
            body["data"] = read.body;
        }
        let described = match self.shape {
            Shape::Bare => &body["_attachments"],
            Shape::Wrapped => &body["data"]["_attachments"],
        };
        for (attachment, _) in &mut attachments {
            let entry = &described[attachment.name.as_str()];
            attachment.content_type = entry["content_type"].as_str().map(str::to_owned);
            attachment.declared_length = entry["length"].as_u64();
        }
        Ok(Read { body, attachments })
    }
}

fn unescaped(key: &[u8]) -> String {
    let text = String::from_utf8_lossy(key);
    if text.contains('\\') {
        serde_json::from_str(&format!("\"{text}\"")).unwrap_or_default()
    } else {
        text.into_owned()
    }
}

/// What the warehouse keeps of a publish: the raw text up to the first `_attachments"` (contract.md 2.2).
#[derive(Default)]
pub(super) struct RawPrefix {
    text: Vec<u8>,
    found: bool,
}

const NEEDLE: &[u8] = b"_attachments\"";

impl RawPrefix {
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        if self.found || self.text.len() > KEPT_LIMIT {
            return;
        }
        let from = self.text.len().saturating_sub(NEEDLE.len() - 1);
        self.text.extend_from_slice(bytes);
        if let Some(at) = memchr::memmem::find(&self.text[from..], NEEDLE) {
            self.text.truncate(from + at);
            self.found = true;
        }
    }

    /// The metadata: the prefix closed with `_attachments":{}}`. None if that is not JSON (`npm-parse`).
    pub(super) fn metadata(mut self) -> Option<Value> {
        if !self.found {
            return None;
        }
        self.text.extend_from_slice(b"_attachments\":{}}");
        serde_json::from_slice(&self.text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(shape: Shape, body: &str, cut: usize) -> Read {
        let mut reader = DocumentReader::new(shape, 1000);
        for piece in body.as_bytes().chunks(cut) {
            reader.feed(piece);
        }
        reader.finish().unwrap()
    }

    fn document() -> Value {
        json!({
            "name": "@s/c", "readme": "say \"_attachments\": \\ \u{1F600} \u{7}\n", "list": ["data", {"data": "x"}],
            "_attachments": {"@s/c-1.0.0.tgz": {"content_type": "application/octet-stream", "data": "QUJD/+8=", "length": 5}},
            "dist-tags": {"latest": "1.0.0"}, "data": "plain", "n": 1.5e3
        })
    }

    fn emptied() -> Value {
        let mut value = document();
        value["_attachments"]["@s/c-1.0.0.tgz"]["data"] = json!("");
        value
    }

    #[test]
    fn attachments_are_measured_and_all_else_is_kept_at_any_cut() {
        let bare = document().to_string();
        let wrapped = json!({"promote": false, "data": document()}).to_string();
        let text = json!({"data": bare, "promote": true}).to_string();
        for cut in [1, 2, 3, 5, 64, 10_000] {
            let (b, w, t) = (
                read(Shape::Bare, &bare, cut),
                read(Shape::Wrapped, &wrapped, cut),
                read(Shape::Wrapped, &text, cut),
            );
            assert_eq!(b.body, emptied());
            assert_eq!(w.body, json!({"promote": false, "data": emptied()}));
            assert_eq!(t.body, json!({"data": emptied(), "promote": true}));
            for read in [b, w, t] {
                let (attachment, bytes) = &read.attachments[0];
                assert_eq!(attachment.name, "@s/c-1.0.0.tgz");
                assert_eq!(bytes.as_deref(), Some(b"ABC\xff\xef".as_slice()));
                assert_eq!((attachment.bytes, attachment.declared_length), (5, Some(5)));
            }
        }
    }

    #[test]
    fn escapes_anywhere_mean_the_same() {
        let body = r#"{"\u005fattachments":{"a\u002etgz":{"d\u0061ta":"QUJD\/+8\u003d"}},"x":"\ud83d\ude00\b"}"#;
        let read = read(Shape::Bare, body, 4);
        assert_eq!(
            read.body["x"],
            serde_json::from_str::<Value>(body).unwrap()["x"]
        );
        assert_eq!(read.attachments[0].0.name, "a.tgz");
        assert_eq!(read.attachments[0].0.bytes, 5);
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for body in ["", "{", "{\"a\":\"\\x\"}", "[1,]", "{\"data\":\"{\"}"] {
            let mut reader = DocumentReader::new(Shape::Wrapped, 10);
            reader.feed(body.as_bytes());
            assert!(reader.finish().is_err(), "{body}");
        }
    }

    #[test]
    fn the_prefix_ends_at_the_first_attachments_key_of_the_raw_text() {
        for cut in [1, 4, 1000] {
            let metadata = |body: &Value| {
                let mut prefix = RawPrefix::default();
                for piece in body.to_string().as_bytes().chunks(cut) {
                    prefix.feed(piece);
                }
                prefix.metadata()
            };
            let kept = metadata(&document()).unwrap();
            assert_eq!(kept["name"], "@s/c");
            assert_eq!(kept["_attachments"], json!({}));
            assert_eq!(kept.get("dist-tags"), None);
            assert_eq!(
                metadata(&json!({"_attachments": {}, "name": "c"})).unwrap(),
                json!({"_attachments": {}})
            );
            assert_eq!(metadata(&json!({"x": {"_attachments": {}}})), None);
            assert_eq!(metadata(&json!({"name": "c"})), None);
        }
    }
}
