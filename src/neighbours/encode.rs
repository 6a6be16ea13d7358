//! Base64 over pieces of any size.
//!
//! Why: base64 works on three bytes at a time and the network does not. What is left of a piece (0 to 2 bytes) is
//! carried into the next one, so that the text is the same as if the whole tarball had been encoded at once.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The bytes that did not fill a group of three yet.
#[derive(Debug, Default)]
pub(super) struct Carry {
    bytes: [u8; 3],
    len: usize,
}

impl Carry {
    /// The text of all whole groups in what was carried plus `piece`.
    pub(super) fn push(&mut self, mut piece: &[u8]) -> String {
        let mut text = String::with_capacity((self.len + piece.len()).div_ceil(3) * 4);
        if self.len > 0 {
            let taken = piece.len().min(3 - self.len);
            self.bytes[self.len..self.len + taken].copy_from_slice(&piece[..taken]);
            self.len += taken;
            piece = &piece[taken..];
            if self.len < 3 {
                return text;
            }
            STANDARD.encode_string(self.bytes, &mut text);
        }
        let whole = piece.len() / 3 * 3;
        STANDARD.encode_string(&piece[..whole], &mut text);
        let rest = &piece[whole..];
        self.bytes[..rest.len()].copy_from_slice(rest);
        self.len = rest.len();
        text
    }

    /// The text of the last, padded group; empty if nothing is left.
    pub(super) fn finish(self) -> String {
        STANDARD.encode(&self.bytes[..self.len])
    }
}

/// The length of the base64 text of `bytes` bytes.
pub(super) const fn encoded_len(bytes: u64) -> u64 {
    bytes.div_ceil(3) * 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_give_the_text_of_the_whole(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            cuts in prop::collection::vec(0usize..200, 0..12),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.sort_unstable();
            let mut carry = Carry::default();
            let mut text = String::new();
            let mut from = 0;
            for cut in cuts.into_iter().chain([bytes.len()]) {
                text += &carry.push(&bytes[from..cut]);
                from = cut;
            }
            text += &carry.finish();
            prop_assert_eq!(text.len() as u64, encoded_len(bytes.len() as u64));
            prop_assert_eq!(text, STANDARD.encode(&bytes));
        }
    }
}
