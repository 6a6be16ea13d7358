//! Small questions to a JSON value, with the answers that `document` needs for its errors: what kind of thing is it, where
//! did it stand, is it there at all. And the parser's door, which must neither overflow nor fail on half an emoji.

use serde_json::{Map, Value};

use super::document::{ChangeError, error};

/// A value that is there and not null.
pub(super) fn present<'a>(json: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    json.get(key).filter(|value| !value.is_null())
}

/// A string that may be missing or null.
pub(super) fn text<'a>(
    json: &'a Map<String, Value>,
    key: &str,
    field: &str,
    code: &'static str,
) -> Result<Option<&'a str>, ChangeError> {
    match present(json, key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(error(
            code,
            field,
            format!("must be a string, not {}", kind(other)),
        )),
    }
}

/// What JavaScript takes for true, as the Node software tested `__published`.
pub(super) fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}

pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// `at.key`, or `at["key"]` where a dot would mislead.
pub(super) fn path(at: &str, key: &str) -> String {
    let plain = !key.is_empty()
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    match (plain, at) {
        (true, "") => key.to_owned(),
        (true, _) => format!("{at}.{key}"),
        (false, _) => format!("{at}[{:?}]", clip(key, 80)),
    }
}

/// At most `most` characters of what a sender wrote.
pub(super) fn clip(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

pub(super) fn parse_object(bytes: &[u8]) -> Result<Map<String, Value>, ChangeError> {
    // Some editors and shells begin every UTF-8 text with a byte order mark; the Node software skips it too.
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let parsed = serde_json::from_slice(bytes).or_else(|why| match repair_surrogates(bytes) {
        Some(repaired) => serde_json::from_slice(&repaired),
        None => Err(why),
    });
    match parsed {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => {
            let message = format!("the body must be a JSON object, not {}", kind(&other));
            Err(error("invalid_body", "", message))
        }
        Err(why) => {
            let message = format!(
                "the body is not valid JSON: {why} (counted without the value of _attachments)"
            );
            Err(error("invalid_json", "", message))
        }
    }
}

/// JavaScript writes half an emoji (a text cut at a length) as a lone `\ud83d`, which is no text to anybody else: such an
/// escape becomes U+FFFD. `None` if there is none.
fn repair_surrogates(bytes: &[u8]) -> Option<Vec<u8>> {
    let unit = |at: usize| -> Option<u16> {
        let escape = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(escape).ok()?, 16).ok()
    };
    let mut repaired = Vec::new();
    let mut copied = 0;
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'\\', &bytes[at..]) {
        at += found;
        let pair = (unit(at), unit(at + 6));
        at += match pair {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => 12,
            (Some(0xD800..=0xDFFF), _) => {
                repaired.extend_from_slice(&bytes[copied..at]);
                repaired.extend_from_slice(b"\\ufffd");
                copied = at + 6;
                6
            }
            _ => 2,
        };
        if at >= bytes.len() {
            break;
        }
    }
    if copied == 0 {
        return None;
    }
    repaired.extend_from_slice(&bytes[copied..]);
    Some(repaired)
}
