//! What an uploaded tarball was, without keeping it: base64 is decoded as it arrives, counted and hashed.
//!
//! A tarball of 100 MB costs a few kilobytes here. Small ones are kept as well (up to a limit the caller sets), so that the
//! registry role can serve them again.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};
use std::fmt::Write;

/// Base64 text decoded at once; a multiple of four.
const PIECE: usize = 16 * 1024;

/// One attachment of a received document, measured while it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attachment {
    /// The key under `_attachments`, normally `<name>-<version>.tgz`.
    pub name: String,
    /// `content_type` as sent.
    pub content_type: Option<String>,
    /// `length` as sent; npm means bytes, the Node feedsme sends the length of the base64 text (contract.md 2.4).
    pub declared_length: Option<u64>,
    /// Decoded bytes.
    pub bytes: u64,
    /// Characters of base64.
    pub base64_length: u64,
    /// Whether `data` was padded, standard base64 to its end.
    pub valid: bool,
    /// Whether the bytes begin like gzip.
    pub gzip: bool,
    /// SHA-1 in hex (npm's `shasum`).
    pub sha1: String,
    /// SHA-256 in hex.
    pub sha256: String,
    /// npm's `integrity`: `sha512-` and base64.
    pub integrity: String,
}

/// Lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The three hashes that npm and the tests care about, fed piece by piece.
#[derive(Default)]
pub(super) struct Hashes {
    sha1: Sha1,
    sha256: Sha256,
    sha512: Sha512,
    pub(super) length: u64,
}

/// Finished [`Hashes`], written as npm writes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Digests {
    pub(super) sha1: String,
    pub(super) sha256: String,
    pub(super) integrity: String,
    pub(super) length: u64,
}

impl Hashes {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.sha1.update(bytes);
        self.sha256.update(bytes);
        self.sha512.update(bytes);
        self.length += bytes.len() as u64;
    }

    pub(super) fn finish(self) -> Digests {
        Digests {
            sha1: hex(&self.sha1.finalize()),
            sha256: hex(&self.sha256.finalize()),
            integrity: format!("sha512-{}", STANDARD.encode(self.sha512.finalize())),
            length: self.length,
        }
    }
}

/// Decodes base64 that arrives in arbitrary pieces.
pub(super) struct Base64Digest {
    hashes: Hashes,
    base64_length: u64,
    carry: Vec<u8>,
    decoded: Vec<u8>,
    head: Vec<u8>,
    padded: bool,
    valid: bool,
    keep: usize,
    kept: Option<Vec<u8>>,
}

impl Base64Digest {
    /// Keeps the decoded bytes as long as there are at most `keep` of them.
    pub(super) fn new(keep: usize) -> Self {
        Self {
            hashes: Hashes::default(),
            base64_length: 0,
            carry: Vec::with_capacity(4),
            decoded: vec![0; PIECE / 4 * 3],
            head: Vec::with_capacity(2),
            padded: false,
            valid: true,
            keep,
            kept: Some(Vec::new()),
        }
    }

    pub(super) fn feed(&mut self, mut text: &[u8]) {
        self.base64_length += text.len() as u64;
        if !self.carry.is_empty() {
            let missing = (4 - self.carry.len()).min(text.len());
            self.carry.extend_from_slice(&text[..missing]);
            text = &text[missing..];
            if self.carry.len() < 4 {
                return;
            }
            let quad = std::mem::take(&mut self.carry);
            self.decode(&quad);
        }
        let whole = text.len() / 4 * 4;
        for piece in text[..whole].chunks(PIECE) {
            self.decode(piece);
        }
        self.carry.extend_from_slice(&text[whole..]);
    }

    fn decode(&mut self, text: &[u8]) {
        if !self.valid {
            return;
        }
        // Nothing may follow padding.
        if self.padded {
            self.valid = false;
            return;
        }
        let Ok(length) = STANDARD.decode_slice(text, &mut self.decoded) else {
            self.valid = false;
            return;
        };
        self.padded = text.ends_with(b"=");
        let bytes = &self.decoded[..length];
        if self.head.len() < 2 {
            self.head
                .extend(bytes.iter().take(2 - self.head.len()).copied());
        }
        self.hashes.update(bytes);
        if let Some(kept) = &mut self.kept {
            if kept.len() + bytes.len() <= self.keep {
                kept.extend_from_slice(bytes);
            } else {
                self.kept = None;
            }
        }
    }

    /// The measured attachment and its bytes, if they were few enough to be kept.
    pub(super) fn finish(self, name: String) -> (Attachment, Option<Vec<u8>>) {
        let valid = self.valid && self.carry.is_empty();
        let digests = self.hashes.finish();
        let attachment = Attachment {
            name,
            content_type: None,
            declared_length: None,
            bytes: digests.length,
            base64_length: self.base64_length,
            valid,
            gzip: self.head == [0x1f, 0x8b],
            sha1: digests.sha1,
            sha256: digests.sha256,
            integrity: digests.integrity,
        };
        (attachment, self.kept.filter(|_| valid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measure(text: &str, cut: usize, keep: usize) -> (Attachment, Option<Vec<u8>>) {
        let mut digest = Base64Digest::new(keep);
        for piece in text.as_bytes().chunks(cut) {
            digest.feed(piece);
        }
        digest.finish("a.tgz".into())
    }

    #[test]
    fn any_cut_gives_the_same_bytes_and_hashes() {
        let bytes: Vec<u8> = (0..50_000u32).map(|n| (n % 251) as u8).collect();
        let text = STANDARD.encode(&bytes);
        for cut in [1, 2, 3, 4, 5, 7, 4096, 1 << 20] {
            let (attachment, kept) = measure(&text, cut, 1 << 20);
            assert!(attachment.valid);
            assert_eq!(attachment.bytes, 50_000);
            assert_eq!(attachment.sha256, hex(&Sha256::digest(&bytes)));
            assert_eq!(attachment.sha1, hex(&Sha1::digest(&bytes)));
            assert_eq!(kept.as_deref(), Some(bytes.as_slice()));
            assert_eq!(measure(&text, cut, 1000).1, None);
        }
    }

    #[test]
    fn what_is_not_base64_is_found() {
        for text in ["QQ", "QQ=", "QQ==QQ==", "Q*==", "QQ==\n", "QR=="] {
            assert!(!measure(text, 3, 100).0.valid, "{text}");
        }
        assert!(measure("QQ==", 3, 100).0.valid);
        assert!(measure("", 3, 100).0.valid);
    }
}
