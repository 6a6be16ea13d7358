//! The build service's reply: one JSON object a line, read while it comes.
//!
//! Why: its status is 200 before it knows anything; only the lines and a proper end say whether the build was
//! accepted (design.md 4, contract.md 2.1). The original took the first line for the answer and waited for ever
//! when none came (contract.md 5, hazards 9 and 24). Pure: pieces in, judgement out; memory is one line.

use memchr::memchr;
use serde::Deserialize;

/// Longest line accepted, in bytes.
pub(super) const LINE_LIMIT: usize = 1 << 20;

/// Why a reply is not an acceptance. Always worth a retry.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// A line whose `event` or `type` is `error`, with its `message`.
    Error(String),
    /// A line above [`LINE_LIMIT`].
    LineTooLong,
    /// The reply ended in the middle of a line.
    Cut,
    /// The reply ended without a single JSON object.
    Nothing,
}

impl Refused {
    pub(super) fn message(&self) -> String {
        match self {
            Self::Error(message) if message.is_empty() => "reported an error".to_owned(),
            Self::Error(message) => format!("reported an error: {message}"),
            Self::LineTooLong => "answered with a line of more than 1 MiB".to_owned(),
            Self::Cut => "the reply was cut in the middle of a line".to_owned(),
            Self::Nothing => "the reply held no progress line".to_owned(),
        }
    }
}

/// A reply as far as it was read.
#[derive(Debug, Default)]
pub(super) struct Reply {
    line: Vec<u8>,
    objects: u64,
    lines: u64,
}

impl Reply {
    /// Takes the next piece. An error line ends the reading at once: the service may never end such a reply.
    pub(super) fn push(&mut self, mut piece: &[u8]) -> Result<(), Refused> {
        while let Some(end) = memchr(b'\n', piece) {
            self.keep(&piece[..end])?;
            piece = &piece[end + 1..];
            self.lines += 1;
            let line = std::mem::take(&mut self.line);
            self.objects += u64::from(judge(&line)?);
            self.line = line;
            self.line.clear();
        }
        self.keep(piece)
    }

    /// How many lines have come to their end.
    pub(super) fn lines(&self) -> u64 {
        self.lines
    }

    /// The reply ended properly. Its last line needs no line feed, but it must be whole.
    pub(super) fn end(mut self) -> Result<(), Refused> {
        let rest = std::mem::take(&mut self.line);
        if !rest.trim_ascii().is_empty() {
            if !judge(&rest)? {
                return Err(Refused::Cut);
            }
            self.objects += 1;
        }
        if self.objects == 0 {
            return Err(Refused::Nothing);
        }
        Ok(())
    }

    fn keep(&mut self, piece: &[u8]) -> Result<(), Refused> {
        if self.line.len() + piece.len() > LINE_LIMIT {
            return Err(Refused::LineTooLong);
        }
        self.line.extend_from_slice(piece);
        Ok(())
    }
}

/// Whether the line is a JSON object; an error object is refused.
fn judge(line: &[u8]) -> Result<bool, Refused> {
    use serde_json::Value;

    #[derive(Deserialize)]
    struct Line {
        event: Option<Value>,
        #[serde(rename = "type")]
        kind: Option<Value>,
        message: Option<Value>,
    }

    // serde would also read a struct from an array.
    if line.trim_ascii_start().first() != Some(&b'{') {
        return Ok(false);
    }
    let Ok(line) = serde_json::from_slice::<Line>(line) else {
        return Ok(false);
    };
    let is_error = |value: &Option<Value>| value.as_ref().and_then(Value::as_str) == Some("error");
    if !is_error(&line.event) && !is_error(&line.kind) {
        return Ok(true);
    }
    Err(Refused::Error(match line.message {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text,
        Some(other) => other.to_string(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(reply: &str, cut: usize) -> Result<(), Refused> {
        let mut reading = Reply::default();
        for piece in reply.as_bytes().chunks(cut.max(1)) {
            reading.push(piece)?;
        }
        reading.end()
    }

    const GOOD: &str = concat!(
        "{\"event\":\"task\",\"message\":\"start\",\"progress\":0}\n",
        "{\"message\":\"Queuing en-US build for child\",\"progress\":50}\n",
        "not json\n\n",
        "{\"event\":\"task\",\"message\":\"Successfully queued build\",\"progress\":100}\n",
    );

    #[test]
    fn accepted_with_one_object_and_a_proper_end() {
        assert_eq!(read(GOOD, 1000), Ok(()));
        assert_eq!(read(GOOD.trim_end(), 1000), Ok(()), "no last line feed");
        assert_eq!(read("{}\r\n", 1), Ok(()));
        assert_eq!(
            read(
                "{\"event\":\"task\",\"message\":\"ignored\",\"progress\":-1,\"id\":\"generic\"}\n",
                7
            ),
            Ok(())
        );
    }

    #[test]
    fn refused() {
        for nothing in ["", "\n\n", "<html>\n", "[]\n\"ok\"\nnull\n"] {
            assert_eq!(read(nothing, 3), Err(Refused::Nothing), "{nothing:?}");
        }
        let error = |text: &str| Err(Refused::Error(text.to_owned()));
        assert_eq!(
            read("{}\n{\"event\":\"error\",\"message\":\"no spec\"}\n{}\n", 5),
            error("no spec")
        );
        assert_eq!(
            read("{}\n{\"type\":\"error\",\"message\":{\"code\":1}}", 5),
            error("{\"code\":1}")
        );
        assert_eq!(read("{\"event\":\"error\"}", 99), error(""));
        assert_eq!(read("{}\n{\"event\":\"ta", 4), Err(Refused::Cut));
        assert_eq!(
            read(&"x".repeat(LINE_LIMIT + 1), 9_999),
            Err(Refused::LineTooLong)
        );
    }

    #[test]
    fn a_long_line_is_not_an_error() {
        let line = format!("{{\"message\":\"{}\"}}\n", "x".repeat(LINE_LIMIT - 20));
        assert_eq!(read(&line, 65_536), Ok(()));
    }

    proptest! {
        #[test]
        fn where_it_is_cut_does_not_matter(
            lines in prop::collection::vec(prop_oneof![
                Just("{}"), Just("{\"event\":\"task\"}"), Just("{\"event\":\"error\",\"message\":\"m\"}"),
                Just("x"), Just(""), Just("[1]"), Just("{\"type\":\"error\"}"), Just("{\"a\":"),
            ], 0..6),
            ended in any::<bool>(),
            cut in 1usize..40,
        ) {
            let mut reply = lines.join("\n");
            if ended { reply.push('\n'); }
            prop_assert_eq!(read(&reply, cut), read(&reply, 10_000));
        }
    }
}
