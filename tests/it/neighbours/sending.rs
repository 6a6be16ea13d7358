//! Uploads: what is sent, what each answer means, and that half a tarball never passes for a whole one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use feedsme::neighbours::{
    BuildService, Class, Endpoint, Neighbour, Outcome, Registry, Report, Secret, Tarball, Warehouse,
};
use futures_util::stream;
use serde_json::Value;
use sha2::{Digest as _, Sha512};

use super::stub::{Step, Stub, chunk, chunked, reply, until_close};
use super::{Halves, IDLE, bytes, endpoint, tarball};

const RETRY: Class = Class::Retry { retry_after: None };
const PROGRESS: &str = "{\"event\":\"task\",\"message\":\"start\",\"progress\":0}\n";

/// The reply of a build service that is well.
fn accepted() -> Vec<Step> {
    vec![
        Step::Read,
        chunked(200, &[]),
        chunk(PROGRESS),
        chunk("{\"message\":\"Queuing\",\"progress\":50}\n"),
        chunk("{\"event\":\"task\",\"progress\":100}\n"),
        chunk(""),
    ]
}

async fn build_with(stub: &Stub, tarball: Tarball) -> Report {
    let service = BuildService::new(&endpoint(&stub.url())).unwrap();
    let halves = Halves::new();
    service
        .build("id-1", true, &halves.document(), tarball)
        .await
}

/// What the build service's answer comes to.
async fn build(steps: Vec<Step>) -> Outcome {
    let stub = Stub::always(steps).await;
    build_with(&stub, tarball(b"tarball", 3, Some(7)))
        .await
        .outcome
}

async fn publish(steps: Vec<Step>) -> Outcome {
    let stub = Stub::always(steps).await;
    let warehouse = Warehouse::new(&endpoint(&stub.url())).unwrap();
    let halves = Halves::new();
    let (document, tarball) = (halves.document(), tarball(b"tarball", 3, Some(7)));
    let report = warehouse.publish("id-1", "@s/c", &document, tarball);
    report.await.outcome
}

#[tokio::test]
async fn the_build_service_gets_the_wrapped_document_in_order() {
    let stub = Stub::always(accepted()).await;
    let content = bytes(10_000);
    let mut settings = endpoint(&(stub.url() + "/carpenter/"));
    settings.token = Some(Secret::new("t0ken"));
    let service = BuildService::new(&settings).unwrap();
    let halves = Halves::new();
    let tarball = tarball(&content, 997, Some(content.len()));
    let report = service
        .build("id-1", false, &halves.document(), tarball)
        .await;

    assert_eq!(report.outcome.class, Class::Sent, "{:?}", report.outcome);
    assert_eq!(report.outcome.neighbour, Neighbour::BuildService);
    assert_eq!(report.outcome.status, Some(200));
    assert!(report.outcome.may_have_reached);
    let streamed = report.streamed.unwrap();
    assert_eq!(streamed.length, 10_000);
    let hash = STANDARD.encode(Sha512::digest(&content));
    assert_eq!(streamed.integrity, format!("sha512-{hash}"));

    let seen = stub.only();
    assert_eq!(
        (seen.method.as_str(), seen.path.as_str()),
        ("POST", "/carpenter/v2/build")
    );
    assert_eq!(seen.header("idempotency-key"), Some("id-1"));
    assert_eq!(seen.header("content-type"), Some("application/json"));
    assert_eq!(seen.header("authorization"), Some("Bearer t0ken"));
    assert_eq!(
        seen.header("content-length"),
        Some(seen.body.len().to_string().as_str())
    );
    let body = seen.json();
    let keys = |value: &Value| {
        value
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(keys(&body), ["promote", "data"]);
    assert_eq!(body["promote"], false);
    let data = &body["data"];
    assert_eq!(
        keys(data),
        [
            "_id",
            "name",
            "dist-tags",
            "versions",
            "_attachments",
            "env",
            "__published"
        ]
    );
    assert_eq!(data["versions"], halves.0["versions"]);
    let attachment = &data["_attachments"]["@s/c-1.0.1-0.tgz"];
    assert_eq!(keys(attachment), ["content_type", "data", "length"]);
    assert_eq!(attachment["content_type"], "application/octet-stream");
    assert_eq!(attachment["length"], 10_000);
    assert_eq!(attachment["data"], STANDARD.encode(&content));
}

#[tokio::test]
async fn the_warehouse_gets_the_bare_document_even_of_unknown_length() {
    let stub = Stub::always(vec![Step::Read, reply(201, &[], b"{}")]).await;
    let mut settings = endpoint(&stub.url().replace("//", "//me:p%40ss@"));
    settings.url = Endpoint::new(settings.url.reveal().to_owned() + "/w").url;
    let warehouse = Warehouse::new(&settings).unwrap();
    let halves = Halves::new();
    let document = halves.document();
    let report = warehouse
        .publish("id-2", "@s/c", &document, tarball(b"12345", 2, None))
        .await;

    assert_eq!(report.outcome.class, Class::Sent, "{:?}", report.outcome);
    assert_eq!(report.outcome.status, Some(201));
    let seen = stub.only();
    assert_eq!(
        (seen.method.as_str(), seen.path.as_str()),
        ("PUT", "/w/%40s%2Fc")
    );
    assert_eq!(seen.header("accept"), Some("application/json"));
    assert_eq!(seen.header("content-length"), None);
    assert_eq!(seen.header("idempotency-key"), Some("id-2"));
    let basic = format!("Basic {}", STANDARD.encode("me:p@ss"));
    assert_eq!(seen.header("authorization"), Some(basic.as_str()));
    let body = seen.json();
    assert_eq!(body["_attachments"]["@s/c-1.0.1-0.tgz"]["length"], 5);
    // What the warehouse stores is the text before `_attachments"`, closed again (contract.md 2.2).
    let text = String::from_utf8(seen.body).unwrap();
    let cut = text.find("_attachments\"").unwrap();
    let stored: Value =
        serde_json::from_str(&format!("{}_attachments\":{{}}}}", &text[..cut])).unwrap();
    for key in ["name", "dist-tags", "versions"] {
        assert_eq!(stored[key], halves.0[key]);
    }
    assert!(stored.get("env").is_none());
}

#[tokio::test]
async fn every_length_in_pieces_of_every_size_arrives_whole() {
    let stub = Stub::always(accepted()).await;
    let mut sent = Vec::new();
    for (length, piece) in [
        (1, 1),
        (2, 1),
        (3, 1),
        (4, 3),
        (5, 2),
        (6, 4),
        (7, 5),
        (100, 7),
        (101, 64),
    ] {
        for announced in [None, Some(length)] {
            let content = bytes(length);
            let report = build_with(&stub, tarball(&content, piece, announced)).await;
            assert_eq!(report.outcome.class, Class::Sent, "{length} by {piece}");
            sent.push(content);
        }
    }
    for (seen, content) in stub.seen().iter().zip(sent) {
        let attachment = &seen.json()["data"]["_attachments"]["@s/c-1.0.1-0.tgz"];
        assert_eq!(attachment["data"], STANDARD.encode(&content));
        assert_eq!(attachment["length"], content.len());
    }
}

#[tokio::test]
async fn what_the_build_service_says() {
    let lines = |status, lines: &str| vec![Step::Read, reply(status, &[], lines.as_bytes())];
    let error = "{\"event\":\"error\",\"message\":\"no spec\"}\n";
    for (steps, class) in [
        (lines(200, PROGRESS), Class::Sent),
        (lines(200, PROGRESS.trim()), Class::Sent),
        (
            vec![Step::Read, until_close(200), Step::Write(PROGRESS.into())],
            Class::Sent,
        ),
        (lines(200, ""), RETRY),
        (lines(200, "<html>\n"), RETRY),
        (lines(200, &format!("{PROGRESS}{error}")), RETRY),
        (
            lines(200, "{}\n{\"type\":\"error\",\"message\":\"x\"}\n"),
            RETRY,
        ),
        (lines(202, PROGRESS), RETRY),
        (lines(302, ""), RETRY),
        (lines(500, "child \"data\" fails"), RETRY),
        (lines(502, ""), RETRY),
        (lines(408, ""), RETRY),
        (lines(425, ""), RETRY),
        (lines(429, ""), RETRY),
        (lines(503, ""), Class::Pause { retry_after: None }),
        (lines(409, ""), Class::Exists),
        (
            lines(403, "{\"error\":\"version already exists\"}"),
            Class::Exists,
        ),
        (lines(403, "no"), Class::Dead),
        (lines(400, ""), Class::Dead),
        (lines(404, ""), Class::Dead),
        (lines(413, "<html>too large</html>"), Class::Dead),
        // The connection: reset before and after the head, cut inside a chunked reply and inside a line.
        (vec![Step::Read, Step::Reset], RETRY),
        (vec![Step::Read], RETRY),
        (
            vec![Step::Read, chunked(200, &[]), chunk(PROGRESS), Step::Reset],
            RETRY,
        ),
        (vec![Step::Read, chunked(200, &[]), chunk(PROGRESS)], RETRY),
        (
            vec![
                Step::Read,
                until_close(200),
                Step::Write(format!("{PROGRESS}{{\"ev").into()),
            ],
            RETRY,
        ),
        (
            vec![Step::Read, Step::Write("no HTTP\r\n\r\n".into())],
            RETRY,
        ),
    ] {
        let shown = format!("{steps:?}");
        let outcome = build(steps).await;
        assert_eq!(outcome.class, class, "{outcome:?} after {shown}");
        assert_eq!(outcome.neighbour, Neighbour::BuildService, "{shown}");
        assert!(outcome.may_have_reached, "{shown}");
    }
}

#[tokio::test]
async fn what_the_warehouse_says() {
    for (status, class) in [
        (200, Class::Sent),
        (201, Class::Sent),
        (204, Class::Sent),
        (301, RETRY),
        (400, Class::Dead),
        (401, Class::Dead),
        (409, Class::Exists),
        (429, RETRY),
        (500, RETRY),
        (503, Class::Pause { retry_after: None }),
    ] {
        let outcome = publish(vec![Step::Read, reply(status, &[], b"")]).await;
        assert_eq!(outcome.class, class, "{status}");
        assert_eq!(outcome.neighbour, Neighbour::Warehouse);
        assert_eq!(outcome.status, Some(status));
    }
    let outcome = publish(vec![Step::Read, Step::Reset]).await;
    assert_eq!((outcome.class, outcome.may_have_reached), (RETRY, true));
}

#[tokio::test]
async fn wishes_and_words_of_a_refusal_are_kept() {
    let body = br#"{"message":"try   later at https://me:pass@h/x"}"#;
    let outcome = build(vec![Step::Read, reply(503, &["retry-after: 17"], body)]).await;
    let retry_after = Some(Duration::from_secs(17));
    assert_eq!(outcome.class, Class::Pause { retry_after });
    assert_eq!(
        outcome.message,
        "build service: answered 503: try later at https://***@h/x"
    );
    let outcome = publish(vec![Step::Read, reply(429, &["Retry-After: 3"], b"")]).await;
    let retry_after = Some(Duration::from_secs(3));
    assert_eq!(outcome.class, Class::Retry { retry_after });
}

#[tokio::test]
async fn nobody_there_pauses_the_lane_and_reaches_nobody() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://u:secret@{}", listener.local_addr().unwrap());
    drop(listener);
    let service = BuildService::new(&endpoint(&url)).unwrap();
    let halves = Halves::new();
    let report = service
        .build("id", true, &halves.document(), tarball(b"x", 1, Some(1)))
        .await;
    assert_eq!(report.outcome.class, Class::Pause { retry_after: None });
    assert!(!report.outcome.may_have_reached && report.streamed.is_none());
    assert!(
        !report.outcome.message.contains("secret"),
        "{:?}",
        report.outcome
    );
}

#[tokio::test]
async fn silence_ends_after_the_idle_time() {
    let drip = |text: &'static str| {
        let mut steps = vec![Step::Read, chunked(200, &[]), chunk(PROGRESS)];
        for _ in 0..20 {
            steps.extend([Step::Wait(IDLE / 4), chunk(text)]);
        }
        steps
    };
    let started = Instant::now();
    let (no_head, no_line, no_end, bytes_only) = tokio::join!(
        build(vec![Step::Read, Step::Hang]),
        build(vec![Step::Read, chunked(200, &[]), Step::Hang]),
        build(vec![
            Step::Read,
            chunked(200, &[]),
            chunk(PROGRESS),
            Step::Hang
        ]),
        build(drip("x")),
    );
    for outcome in [no_head, no_line, no_end, bytes_only] {
        assert_eq!(outcome.class, RETRY, "{outcome:?}");
        assert!(outcome.may_have_reached);
        assert!(outcome.message.contains("nothing moved"), "{outcome:?}");
    }
    assert!(started.elapsed() > IDLE && started.elapsed() < IDLE * 5);
}

#[tokio::test]
async fn slow_is_not_silent() {
    let mut steps = vec![Step::Read, Step::Wait(IDLE / 2), chunked(200, &[])];
    for _ in 0..6 {
        steps.extend([Step::Wait(IDLE / 3), chunk(PROGRESS)]);
    }
    steps.push(chunk(""));
    // A registry that trickles: at first for more than the idle time of the build service, whose fault it is not.
    let pieces = stream::unfold(0, |count| async move {
        tokio::time::sleep(if count == 1 { IDLE * 3 } else { IDLE / 4 }).await;
        (count < 8).then(|| (Ok(Bytes::from_static(b"abcd")), count + 1))
    });
    let trickle = Tarball {
        stream: Box::pin(pieces),
        length: Some(32),
        sha512: None,
    };
    let stub = Stub::always(steps).await;
    let report = build_with(&stub, trickle).await;
    assert_eq!(report.outcome.class, Class::Sent, "{:?}", report.outcome);
    assert_eq!(report.streamed.unwrap().length, 32);
}

#[tokio::test]
async fn an_error_line_is_enough_even_if_the_reply_never_ends() {
    let started = Instant::now();
    let error = "{\"event\":\"error\",\"message\":\"spec: GET http://u:p@h failed\"}\n";
    let outcome = build(vec![
        Step::Read,
        chunked(200, &[]),
        chunk(error),
        Step::Hang,
    ])
    .await;
    assert_eq!(outcome.class, RETRY);
    assert_eq!(
        outcome.message,
        "build service: reported an error: spec: GET http://***@h failed"
    );
    assert!(started.elapsed() < IDLE);
}

/// A tarball of `length` bytes that counts what was taken of it.
fn counted(length: usize) -> (Tarball, Arc<AtomicUsize>) {
    const PIECE: usize = 60_000;
    let taken = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&taken);
    let piece = Bytes::from(bytes(PIECE));
    let pieces = stream::unfold(length, move |left| {
        let next = piece.slice(..left.min(PIECE));
        counter.fetch_add(next.len(), Ordering::Relaxed);
        async move { (left > 0).then(|| (Ok(next.clone()), left - next.len())) }
    });
    let tarball = Tarball {
        stream: Box::pin(pieces),
        length: Some(length as u64),
        sha512: None,
    };
    (tarball, taken)
}

/// More than loopback sockets take unread, on any usual setting.
const BUFFERED: usize = 20 << 20;

#[tokio::test]
async fn fifty_megabytes_wait_for_a_receiver_that_waits() {
    const LENGTH: usize = 50_000_000;
    let (tarball, taken) = counted(LENGTH);
    let mut steps = vec![Step::ReadSome(100_000), Step::Wait(IDLE / 2)];
    steps.extend([reply(500, &[], b"")]);
    let stub = Stub::always(steps).await;
    let report = build_with(&stub, tarball).await;
    assert_eq!(report.outcome.class, RETRY, "{:?}", report.outcome);
    assert!(!report.outcome.may_have_reached, "the end was never sent");
    let taken = taken.load(Ordering::Relaxed);
    assert!(
        taken < BUFFERED,
        "{taken} bytes were taken for a receiver that reads nothing"
    );

    let (tarball, _) = counted(LENGTH);
    let stub = Stub::always(accepted()).await;
    // A busy machine may take its time over so much.
    let service = BuildService::new(&Endpoint::new(stub.url())).unwrap();
    let halves = Halves::new();
    let document = halves.document();
    let report = service.build("id-1", true, &document, tarball).await;
    assert_eq!(report.outcome.class, Class::Sent, "{:?}", report.outcome);
    let body = stub.only().json();
    let attachment = &body["data"]["_attachments"]["@s/c-1.0.1-0.tgz"];
    assert_eq!(attachment["length"], LENGTH);
    assert_eq!(
        attachment["data"].as_str().unwrap().len(),
        LENGTH.div_ceil(3) * 4
    );
}

#[tokio::test]
async fn a_stalled_upload_ends() {
    let (tarball, taken) = counted(50_000_000);
    let stub = Stub::always(vec![Step::ReadSome(1_000), Step::Hang]).await;
    let started = Instant::now();
    let report = build_with(&stub, tarball).await;
    assert_eq!(report.outcome.class, RETRY);
    assert_eq!(report.outcome.neighbour, Neighbour::BuildService);
    assert!(
        report.outcome.message.contains("nothing moved"),
        "{:?}",
        report.outcome
    );
    assert!(!report.outcome.may_have_reached && report.streamed.is_none());
    assert!(started.elapsed() < IDLE * 6);
    assert!(taken.load(Ordering::Relaxed) < BUFFERED);
}

#[tokio::test]
async fn a_yes_to_half_a_document_is_none() {
    let steps = vec![
        Step::ReadSome(1_000),
        reply(200, &[], PROGRESS.as_bytes()),
        Step::Wait(IDLE / 2),
    ];
    for outcome in [
        build_with(&Stub::always(steps.clone()).await, counted(50_000_000).0)
            .await
            .outcome,
        {
            let stub = Stub::always(steps).await;
            let warehouse = Warehouse::new(&endpoint(&stub.url())).unwrap();
            let (halves, tarball) = (Halves::new(), counted(50_000_000).0);
            warehouse
                .publish("id", "c", &halves.document(), tarball)
                .await
                .outcome
        },
    ] {
        assert_eq!(outcome.class, RETRY, "{outcome:?}");
        assert!(outcome.may_have_reached, "it says that it took it");
    }
}

/// Sends a tarball that the registry does not deliver as announced. The build service would say yes to anything.
async fn cut(tarball: Tarball) {
    let length = tarball.length;
    let stub = Stub::always(accepted()).await;
    let report = build_with(&stub, tarball).await;
    let outcome = &report.outcome;
    assert_eq!(outcome.class, RETRY, "{outcome:?}");
    assert_eq!(outcome.neighbour, Neighbour::Registry, "{outcome:?}");
    assert!(!outcome.may_have_reached && report.streamed.is_none());
    // Whatever arrived is no message and no JSON.
    for seen in stub.seen() {
        assert!(!seen.complete, "announced {length:?}");
        assert!(serde_json::from_slice::<Value>(&seen.body).is_err());
    }
}

#[tokio::test]
async fn a_cut_tarball_is_never_accepted() {
    // Shorter and longer than announced, by multiples of three and not, by less and by more than what would follow.
    for (real, announced) in [
        (10, 11),
        (10, 12),
        (9, 12),
        (12, 9),
        (12, 10),
        (100_000, 99_999),
        (100_000, 50_000),
    ] {
        cut(tarball(&bytes(real), 1_000, Some(announced))).await;
    }
    cut(tarball(b"", 1, None)).await;
    let mut other = tarball(b"tarball", 3, None);
    other.sha512 = Some([0; 64]);
    cut(other).await;
}

#[tokio::test]
async fn a_registry_that_breaks_off_is_to_blame() {
    let content = bytes(300_000);
    let half = &content[..150_000];
    let announced = format!("content-length: {}\r\n\r\n", content.len());
    let head = Step::Write(format!("HTTP/1.1 200 OK\r\n{announced}").into());
    let half_sent = Step::Write(half.to_vec());
    for steps in [
        vec![head.clone(), half_sent.clone()],
        vec![head.clone(), half_sent.clone(), Step::Reset],
        vec![head, half_sent, Step::Hang],
        vec![chunked(200, &[]), chunk(half)],
        vec![chunked(200, &[]), chunk(half), Step::Hang],
    ] {
        let stub = Stub::always(steps).await;
        let registry = Registry::new(&endpoint(&stub.url())).unwrap();
        cut(registry.tarball("c", "1.0.0", None).await.unwrap()).await;
    }
    // Where nothing but the hash can tell: the end of the connection is the end of the body.
    let stub = Stub::always(vec![until_close(200), Step::Write(half.to_vec())]).await;
    let registry = Registry::new(&endpoint(&stub.url())).unwrap();
    let tarball = registry.tarball("c", "1.0.0", None).await.unwrap();
    let integrity = format!("sha512-{}", STANDARD.encode(Sha512::digest(&content)));
    cut(tarball.with_integrity(Some(&integrity))).await;
}
