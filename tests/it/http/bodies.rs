use std::io::Write as _;
use std::time::{Duration, Instant};

use bytes::Bytes;
use feedsme::http::ServerOptions;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use futures_util::stream;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::{answer, raw};
use crate::helpers::{Service, Setup, alone, document, start};

const JSON: (&str, &str) = ("content-type", "application/json");

async fn limited(body_limit: u64) -> Service {
    let options = ServerOptions {
        body_limit,
        linger: Duration::from_millis(300),
        workers: 1,
        ..ServerOptions::default()
    };
    start(
        Setup {
            options,
            ..Setup::default()
        },
        None,
    )
    .await
}

/// A document whose attachment has so many bytes, in pieces, without a Content-Length.
fn with_attachment(name: &str, bytes: usize) -> reqwest::Body {
    let text = document(name, "1.0.0", json!({})).to_string();
    let (before, after) = text.split_once("\"data\":\"\"").unwrap();
    let piece = Bytes::from(vec![b'A'; 64 * 1024]);
    let start = Bytes::from(format!("{before}\"data\":\""));
    let end = Bytes::from(format!("\"{after}"));
    let pieces = std::iter::once(start)
        .chain(std::iter::repeat_n(piece, bytes / (64 * 1024)))
        .chain(std::iter::once(end))
        .map(Ok::<_, std::io::Error>);
    reqwest::Body::wrap_stream(stream::iter(pieces))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn rule_2_thirty_megabytes_of_attachment_are_taken_and_not_kept() {
    let service = alone().await;
    let (status, answer) = service
        .post_bytes(
            "/v2/change/dev",
            &[JSON],
            with_attachment("root", 30_000_000),
        )
        .await;
    assert_eq!(status, 200, "{answer}");
    let change = service.planned(answer["id"].as_str().unwrap()).await;
    assert_eq!(change["package"], "root");
}

#[tokio::test]
async fn encoded_bodies_are_decoded() {
    let service = alone().await;
    let body = |name: &str| document(name, "1.0.0", json!({})).to_string().into_bytes();
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
    zlib.write_all(&body("deflated")).unwrap();
    for (encoding, bytes) in [
        ("gzip", gzip(&body("gzipped"))),
        ("X-Gzip", gzip(&body("gzipped"))),
        ("deflate", zlib.finish().unwrap()),
        ("identity", body("plain")),
    ] {
        let (status, answer) = service
            .post_bytes("/change", &[JSON, ("content-encoding", encoding)], bytes)
            .await;
        assert_eq!(status, 200, "{encoding} {answer}");
    }
    for encoding in ["br", "zstd", "gzip, gzip", "nonsense"] {
        let sent = [JSON, ("content-encoding", encoding)];
        let (status, answer) = service.post_bytes("/change", &sent, body("x")).await;
        assert_eq!(
            (status, &answer["code"]),
            (415, &json!("unsupported_encoding")),
            "{encoding}"
        );
    }
    let twice = [
        JSON,
        ("content-encoding", "gzip"),
        ("content-encoding", "gzip"),
    ];
    assert_eq!(
        service.post_bytes("/change", &twice, body("x")).await.0,
        415
    );
    for bytes in [body("x"), gzip(&body("x"))[..20].to_vec(), Vec::new()] {
        let (status, answer) = service
            .post_bytes("/change", &[JSON, ("content-encoding", "gzip")], bytes)
            .await;
        assert_eq!((status, &answer["code"]), (400, &json!("invalid_encoding")));
    }
}

#[tokio::test]
async fn a_gzip_bomb_is_413_and_holds_nobody_up() {
    let service = limited(50_000_000).await;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(br#"{"_attachments":{"x":""#).unwrap();
    for _ in 0..60 {
        encoder.write_all(&vec![b'A'; 1 << 20]).unwrap();
    }
    let bomb = encoder.finish().unwrap();
    let post = service.post_bytes("/change", &[JSON, ("content-encoding", "gzip")], bomb);
    let meanwhile = async {
        let mut slowest = Duration::ZERO;
        for _ in 0..20 {
            let asked = Instant::now();
            assert_eq!(
                service
                    .client
                    .get(format!("{}/livez", service.url))
                    .send()
                    .await
                    .unwrap()
                    .status(),
                200
            );
            slowest = slowest.max(asked.elapsed());
        }
        slowest
    };
    let ((status, answer), slowest) = tokio::join!(post, meanwhile);
    assert_eq!((status, &answer["code"]), (413, &json!("body_too_large")));
    assert!(slowest < Duration::from_millis(500), "{slowest:?}");
}

#[tokio::test]
async fn design_6_bodies_above_the_limits_are_413() {
    let service = limited(100_000).await;
    // announced
    let (status, answer) = service
        .post_bytes("/change", &[JSON], vec![b' '; 5_000_000])
        .await;
    assert_eq!((status, &answer["code"]), (413, &json!("body_too_large")));
    assert!(answer["message"].as_str().unwrap().starts_with("413 "));
    // not announced
    let (status, answer) = service
        .post_bytes("/change", &[JSON], with_attachment("root", 5_000_000))
        .await;
    assert_eq!((status, &answer["code"]), (413, &json!("body_too_large")));
    // the document without its attachments
    let service = alone().await;
    let mut body = document("root", "1.0.0", json!({}));
    body["readme"] = json!("x".repeat(2 << 20));
    let (status, answer) = service.post("/change", &body).await;
    assert_eq!(
        (status, &answer["code"]),
        (413, &json!("document_too_large"))
    );
    assert!(
        service
            .core
            .store
            .changes(None, 1)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn an_early_error_reaches_a_client_that_is_still_sending() {
    let service = alone().await;
    let body = vec![b'x'; 5_000_000];
    for (path, kind, expected) in [
        ("/change", "text/plain", 415),
        ("/change/qa", "application/json", 400),
        ("/change?wait=x", "application/json", 400),
        ("/nothing", "application/json", 404),
        ("/packages", "application/json", 405),
    ] {
        let (status, answer) = service
            .post_bytes(path, &[("content-type", kind)], body.clone())
            .await;
        assert_eq!((status, &answer["ok"]), (expected, &json!(false)), "{path}");
        let chunked = stream::iter(
            body.chunks(10_000)
                .map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece)))
                .collect::<Vec<_>>(),
        );
        let (status, _) = service
            .post_bytes(
                path,
                &[("content-type", kind)],
                reqwest::Body::wrap_stream(chunked),
            )
            .await;
        assert_eq!(status, expected, "{path} chunked");
    }
    // the connection pool is still good
    assert_eq!(service.get("/readyz").await.0, 200);
}

#[tokio::test]
async fn a_client_that_never_stops_sending_is_cut_off() {
    let service = limited(100_000).await;
    for path in ["/change", "/nothing", "/packages"] {
        let mut stream = TcpStream::connect(("127.0.0.1", service.port))
            .await
            .unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let chunk = [&b"8000\r\n"[..], &vec![b' '; 0x8000], b"\r\n"].concat();
        let began = Instant::now();
        while stream.write_all(&chunk).await.is_ok() {
            assert!(
                began.elapsed() < Duration::from_secs(5),
                "{path} is read on for ever"
            );
        }
    }
}

#[tokio::test]
async fn a_body_without_length_or_with_expect_is_fine() {
    let service = alone().await;
    let body = document("root", "1.0.0", json!({})).to_string();
    let head = "POST /change HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n";
    let chunked = format!(
        "{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    assert!(
        raw(&service, chunked.as_bytes())
            .await
            .starts_with("HTTP/1.1 200 OK")
    );
    let mut stream = TcpStream::connect(("127.0.0.1", service.port))
        .await
        .unwrap();
    let expecting = format!(
        "{head}Expect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(expecting.as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    tokio::io::AsyncReadExt::read_exact(&mut stream, &mut interim)
        .await
        .unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).await.unwrap();
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 200 OK"));
    assert_eq!(
        service.read("/changes").await["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn a_body_that_ends_early_writes_nothing() {
    let service = alone().await;
    let body = document("root", "1.0.0", json!({})).to_string();
    for cut in [0, 1, body.len() / 2, body.len() - 1] {
        let head = format!(
            "POST /change HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = TcpStream::connect(("127.0.0.1", service.port))
            .await
            .unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body.as_bytes()[..cut]).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = answer(&mut stream).await;
        assert!(!answer.contains("200"), "{answer}");
    }
    assert!(
        service
            .core
            .store
            .changes(None, 1)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn a_slow_client_holds_up_nobody_and_is_given_up_when_it_stops() {
    let options = ServerOptions {
        body_timeout: Duration::from_millis(300),
        workers: 1,
        ..ServerOptions::default()
    };
    let service = start(
        Setup {
            options,
            ..Setup::default()
        },
        None,
    )
    .await;
    let body = document("slow", "1.0.0", json!({})).to_string();
    let head = format!(
        "POST /change HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let slow = async {
        let mut stream = TcpStream::connect(("127.0.0.1", service.port))
            .await
            .unwrap();
        stream.set_nodelay(true).unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        for piece in body.as_bytes().chunks(20) {
            stream.write_all(piece).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        answer(&mut stream).await
    };
    let others = async {
        for at in 0..20 {
            let body = document("quick", &format!("1.0.{at}"), json!({}));
            assert_eq!(service.post("/change", &body).await.0, 200);
        }
        Instant::now()
    };
    let (slow, ended) = tokio::join!(async { (slow.await, Instant::now()) }, others);
    assert!(slow.0.starts_with("HTTP/1.1 200 OK"), "{}", slow.0);
    assert!(ended < slow.1, "the others waited for the slow one");
    let stuck = format!("{head}{}", &body[..10]);
    let answer = raw(&service, stuck.as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 408 ") && answer.contains("body_timeout"),
        "{answer}"
    );
}
