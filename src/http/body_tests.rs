//! Tests of `body`.

use super::*;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};

const MIB: usize = 1 << 20;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("a Vec takes all");
    encoder.finish().expect("a Vec takes all")
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("a Vec takes all");
    encoder.finish().expect("a Vec takes all")
}

fn read(encoding: Option<&str>, pieces: &[&[u8]], limit: u64) -> Result<Vec<u8>, BodyError> {
    let mut reader = BodyReader::new(encoding, limit, MIB)?;
    for piece in pieces {
        reader.push(piece)?;
    }
    reader.finish()
}

fn document() -> (Vec<u8>, &'static [u8]) {
    let tarball = "QUJD".repeat(100_000);
    let body = format!(
        r#"{{"name":"a","_attachments":{{"a-1.0.0.tgz":{{"data":"{tarball}"}}}},"env":"dev"}}"#
    );
    (
        body.into_bytes(),
        br#"{"name":"a","_attachments":{},"env":"dev"}"#,
    )
}

#[test]
fn contract_1_2_every_encoding_gives_the_same_document_at_any_cut() {
    let (body, kept) = document();
    let cases = [
        (None, body.clone()),
        (Some(""), body.clone()),
        (Some("Identity"), body.clone()),
        (Some("gzip"), gzip(&body)),
        (Some(" X-GZIP "), gzip(&body)),
        (Some("deflate"), zlib(&body)),
        // several members are one body
        (
            Some("gzip"),
            [gzip(&body[..1000]), gzip(&body[1000..])].concat(),
        ),
    ];
    for (encoding, sent) in &cases {
        for cut in [1, 7, 4096, usize::MAX] {
            let pieces: Vec<&[u8]> = sent.chunks(cut.min(sent.len())).collect();
            let read = read(*encoding, &pieces, 1 << 30);
            assert_eq!(read.as_deref(), Ok(kept), "{encoding:?} {cut}");
        }
    }
}

#[test]
fn contract_1_2_unknown_encodings_are_415() {
    for encoding in ["br", "zstd", "gzip, gzip", "compress", "*"] {
        let error = BodyReader::new(Some(encoding), 9, 9).expect_err(encoding);
        assert_eq!(error, BodyError::Unsupported(encoding.into()));
        assert_eq!(error.status(), 415);
    }
}

#[test]
fn contract_1_2_cut_and_broken_bodies_are_400() {
    let (body, _) = document();
    for (encoding, sent) in [("gzip", gzip(&body)), ("deflate", zlib(&body))] {
        for length in [0, 1, 5, 12, sent.len() / 2, sent.len() - 5, sent.len() - 1] {
            let error = read(Some(encoding), &[&sent[..length]], 1 << 30).expect_err("cut");
            assert_eq!(
                (error.status(), error.code()),
                (400, "invalid_encoding"),
                "{encoding} {length}"
            );
        }
        let mut flipped = sent.clone();
        *flipped.last_mut().expect("not empty") ^= 1;
        assert_eq!(
            read(Some(encoding), &[&flipped], 1 << 30).map_err(|e| e.status()),
            Err(400),
            "{encoding}"
        );
        let followed = [&sent[..], b"more"].concat();
        assert_eq!(
            read(Some(encoding), &[&followed], 1 << 30).map_err(|e| e.status()),
            Err(400),
            "{encoding}"
        );
        assert_eq!(
            read(Some(encoding), &[&body], 1 << 30).map_err(|e| e.status()),
            Err(400),
            "{encoding}"
        );
    }
}

#[test]
fn contract_1_2_limits_count_what_is_sent_what_is_decoded_and_what_is_kept() {
    let (body, kept) = document();
    let length = body.len() as u64;
    let sent = gzip(&body);
    assert_eq!(read(None, &[&body], length).as_deref(), Ok(kept));
    assert_eq!(
        read(None, &[&body], length - 1),
        Err(BodyError::TooLarge { limit: length - 1 })
    );
    assert_eq!(read(Some("gzip"), &[&sent], length).as_deref(), Ok(kept));
    assert_eq!(
        read(Some("gzip"), &[&sent], length - 1),
        Err(BodyError::TooLarge { limit: length - 1 })
    );
    assert_eq!(
        read(Some("gzip"), &[&sent], 10),
        Err(BodyError::TooLarge { limit: 10 })
    );
    let long = format!("[{}1]", "1,".repeat(MIB));
    for (encoding, sent) in [
        (None, long.clone().into_bytes()),
        (Some("gzip"), gzip(long.as_bytes())),
    ] {
        let error = read(encoding, &[&sent], 1 << 30).expect_err("too long");
        assert_eq!(error, BodyError::DocumentTooLarge { limit: MIB });
        assert_eq!(error.status(), 413);
    }
}

#[test]
fn contract_1_2_a_bomb_costs_no_memory() {
    // 200 MB of "A" in an attachment, about 200 KB on the wire
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder
        .write_all(br#"{"_attachments":{"x":""#)
        .expect("a Vec takes all");
    for _ in 0..200 {
        encoder
            .write_all(&vec![b'A'; MIB])
            .expect("a Vec takes all");
    }
    let sent = encoder.finish().expect("a Vec takes all");
    let held = |reader: &BodyReader| match &reader.decoder {
        Decoder::Gzip(decoder) => (decoder.get_ref().filter.held(), decoder.get_ref().decoded),
        _ => (usize::MAX, 0),
    };
    let mut reader = BodyReader::new(Some("gzip"), 500_000_000, MIB).expect("gzip is known");
    for piece in sent.chunks(10_000) {
        reader.push(piece).expect("within the limits");
        assert!(held(&reader).0 < 1000);
    }
    assert!(held(&reader).1 > 190_000_000, "the bomb went off");
    let mut reader = BodyReader::new(Some("gzip"), 1_000_000, MIB).expect("gzip is known");
    assert_eq!(
        reader.push(&sent),
        Err(BodyError::TooLarge { limit: 1_000_000 })
    );
    let decoded = held(&reader).1;
    assert!(
        decoded < 2_000_000,
        "stopped at once, not at the end: {decoded}"
    );
    assert_eq!(
        reader.push(b"x"),
        Err(BodyError::TooLarge { limit: 1_000_000 })
    );
}

#[test]
fn contract_1_2_no_bytes_panic() {
    let (body, _) = document();
    let good = [gzip(&body[..2000]), zlib(&body[..2000])];
    let mut seed = 11_u64;
    for round in 0..20_000_usize {
        let mut next = |below: usize| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(seed >> 33).expect("31 bits") % below
        };
        let mut sent = good[round % 2].clone();
        for _ in 0..=next(4) {
            let at = next(sent.len());
            sent[at] = u8::try_from(next(256)).expect("a byte");
        }
        sent.truncate(next(sent.len()) + 1);
        let cut = next(sent.len()) + 1;
        let pieces: Vec<&[u8]> = sent.chunks(cut).collect();
        let _ = read(Some(["gzip", "deflate"][round % 2]), &pieces, 100_000);
    }
}
