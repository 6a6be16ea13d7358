//! A request body, from the wire to the bytes that are worth parsing. actix hands over raw pieces that are neither
//! limited nor decoded; [`BodyReader`] is pushed them one by one, undoes the `Content-Encoding`, counts before and after it,
//! and lets [`PushFilter`] drop the attachments. It never holds more than what the filter keeps and one decoder window
//! (`design.md` section 6: 413 above the body limit, 415 for an unknown encoding, gzip accepted; contract.md 1.2).

use std::io::{self, Write};

use flate2::write::{MultiGzDecoder, ZlibDecoder};

use super::filter::{FilterError, PushFilter};

/// Pieces worth pushing at once, in bytes. A piece of zeros of this size decodes to 4 MB at most: an async caller that cuts
/// encoded bodies so, and yields between, holds its thread for milliseconds only.
pub const SLICE: usize = 4096;

/// Why a body is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// 413: more than the setting `body_limit`, as sent or decoded.
    #[error("the body has more than {limit} bytes")]
    TooLarge {
        /// In bytes.
        limit: u64,
    },
    /// 413: more than the setting `document_limit` without the attachments.
    #[error("the document has more than {limit} bytes without its _attachments")]
    DocumentTooLarge {
        /// In bytes.
        limit: usize,
    },
    /// 415: none of identity, gzip, deflate.
    #[error("the content encoding {0:?} is not supported: send gzip, deflate or none")]
    Unsupported(String),
    /// 400: the body does not decode, or ends too early.
    #[error("the body is not valid {encoding}: {detail}")]
    Corrupt {
        /// `gzip` or `deflate`.
        encoding: &'static str,
        /// The decoder's words.
        detail: String,
    },
    /// 400: brackets that do not match inside `_attachments`.
    #[error("the value of _attachments is not valid JSON, or nests deeper than 127 levels")]
    InvalidAttachments,
}

impl BodyError {
    /// The HTTP status: 400, 413 or 415.
    pub fn status(&self) -> u16 {
        match self {
            Self::TooLarge { .. } | Self::DocumentTooLarge { .. } => 413,
            Self::Unsupported(_) => 415,
            Self::Corrupt { .. } | Self::InvalidAttachments => 400,
        }
    }

    /// The `code` of the error reply.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "body_too_large",
            Self::DocumentTooLarge { .. } => "document_too_large",
            Self::Unsupported(_) => "unsupported_encoding",
            Self::Corrupt { .. } => "invalid_encoding",
            Self::InvalidAttachments => "invalid_json",
        }
    }
}

/// Where decoded bytes go: counted, then filtered. The decoders know only `io::Error`, so the real one waits in `error`.
#[derive(Debug)]
struct Sink {
    filter: PushFilter,
    decoded: u64,
    limit: u64,
    error: Option<BodyError>,
}

impl Sink {
    fn push(&mut self, bytes: &[u8]) -> Result<(), BodyError> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        let result = self.count(bytes);
        if let Err(error) = &result {
            self.error = Some(error.clone());
        }
        result
    }

    fn count(&mut self, bytes: &[u8]) -> Result<(), BodyError> {
        self.decoded += bytes.len() as u64;
        if self.decoded > self.limit {
            return Err(BodyError::TooLarge { limit: self.limit });
        }
        self.filter.push(bytes).map_err(|error| match error {
            FilterError::TooLarge { limit } => BodyError::DocumentTooLarge { limit },
            FilterError::Malformed => BodyError::InvalidAttachments,
        })
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(bytes)
            .map(|()| bytes.len())
            .map_err(io::Error::other)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
enum Decoder {
    Identity(Sink),
    Gzip(Box<MultiGzDecoder<Sink>>),
    Deflate(Box<ZlibDecoder<Sink>>),
}

/// Reads one request body; see the module. After an error it is to be dropped.
#[derive(Debug)]
pub struct BodyReader {
    decoder: Decoder,
    raw: u64,
    limit: u64,
}

impl BodyReader {
    /// `content_encoding`: the header's value, if it was sent. `body_limit`: the most bytes of the body, as sent and decoded.
    /// `document_limit`: the most bytes without attachments.
    pub fn new(
        content_encoding: Option<&str>,
        body_limit: u64,
        document_limit: usize,
    ) -> Result<Self, BodyError> {
        let sink = Sink {
            filter: PushFilter::new(document_limit),
            decoded: 0,
            limit: body_limit,
            error: None,
        };
        let encoding = content_encoding.unwrap_or_default().trim();
        let decoder = match encoding.to_ascii_lowercase().as_str() {
            "" | "identity" => Decoder::Identity(sink),
            "gzip" | "x-gzip" => Decoder::Gzip(Box::new(MultiGzDecoder::new(sink))),
            "deflate" => Decoder::Deflate(Box::new(ZlibDecoder::new(sink))),
            _ => {
                let shown = encoding.chars().take(40).collect();
                return Err(BodyError::Unsupported(shown));
            }
        };
        Ok(Self {
            decoder,
            raw: 0,
            limit: body_limit,
        })
    }

    /// Whether pushing costs more than counting: cut pieces to [`SLICE`] and yield between them.
    pub fn is_encoded(&self) -> bool {
        !matches!(self.decoder, Decoder::Identity(_))
    }

    /// Takes the next piece of the body as it came.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), BodyError> {
        self.raw += bytes.len() as u64;
        if self.raw > self.limit {
            return Err(BodyError::TooLarge { limit: self.limit });
        }
        for slice in bytes.chunks(SLICE) {
            let result = match &mut self.decoder {
                Decoder::Identity(sink) => return sink.push(bytes),
                Decoder::Gzip(decoder) => decoder.write_all(slice),
                Decoder::Deflate(decoder) => decoder.write_all(slice),
            };
            result.map_err(|error| self.explain(&error))?;
        }
        Ok(())
    }

    /// The kept bytes, once the whole body was pushed.
    pub fn finish(mut self) -> Result<Vec<u8>, BodyError> {
        let result = match &mut self.decoder {
            Decoder::Identity(_) => Ok(()),
            Decoder::Gzip(decoder) => decoder.try_finish(),
            Decoder::Deflate(decoder) => decoder.try_finish(),
        };
        result.map_err(|error| self.explain(&error))?;
        let broken = |encoding| {
            move |error: io::Error| BodyError::Corrupt {
                encoding,
                detail: error.to_string(),
            }
        };
        let sink = match self.decoder {
            Decoder::Identity(sink) => sink,
            Decoder::Gzip(decoder) => decoder.finish().map_err(broken("gzip"))?,
            Decoder::Deflate(decoder) => decoder.finish().map_err(broken("deflate"))?,
        };
        match sink.error {
            Some(error) => Err(error),
            None => Ok(sink.filter.finish()),
        }
    }

    fn explain(&self, error: &io::Error) -> BodyError {
        let (encoding, sink) = match &self.decoder {
            Decoder::Identity(sink) => ("identity", sink),
            Decoder::Gzip(decoder) => ("gzip", decoder.get_ref()),
            Decoder::Deflate(decoder) => ("deflate", decoder.get_ref()),
        };
        if let Some(error) = &sink.error {
            return error.clone();
        }
        let detail = match error.kind() {
            io::ErrorKind::WriteZero => "something follows its end".to_owned(),
            io::ErrorKind::UnexpectedEof => "it ends too early".to_owned(),
            _ => error.to_string(),
        };
        BodyError::Corrupt { encoding, detail }
    }
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
