//! The registry: packuments and tarballs, from wherever they are, and credentials for nobody else.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use feedsme::neighbours::{Class, Failure, Neighbour, Registry, Secret, Tarball};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::StreamExt as _;

use super::stub::{Seen, Step, Stub, chunk, chunked, reply};
use super::{IDLE, bytes, endpoint};

const RETRY: Class = Class::Retry { retry_after: None };

fn registry(stub: &Stub) -> Registry {
    let mut settings = endpoint(&stub.url());
    settings.token = Some(Secret::new("t0ken"));
    Registry::new(&settings).unwrap()
}

async fn content(mut tarball: Tarball) -> Result<Vec<u8>, Failure> {
    let mut content = Vec::new();
    while let Some(piece) = tarball.stream.next().await {
        content.extend_from_slice(&piece?);
    }
    Ok(content)
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn packuments_are_asked_for_in_short_and_unpacked() {
    let text = br#"{"name":"@s/c","dist-tags":{"latest":"1.0.0"},
        "versions":{"1.0.0":{"dist":{"tarball":"http://h/x.tgz"}},"2.0.0":{}}}"#;
    let zipped = gzip(text);
    let stub = Stub::always(vec![reply(200, &["content-encoding: gzip"], &zipped)]).await;
    let found = registry(&stub).packument("@s/c", &["1.0.0", "3.0.0"]).await;
    let packument = found.unwrap().unwrap();
    assert_eq!(packument.dist_tags["latest"], "1.0.0");
    assert_eq!(packument.tarball("1.0.0"), Some("http://h/x.tgz"));
    assert_eq!(packument.dists.len(), 1);
    let seen = stub.only();
    assert_eq!(seen.path, "/@s%2Fc");
    assert_eq!(seen.header("accept-encoding"), Some("gzip"));
    assert_eq!(seen.header("authorization"), Some("Bearer t0ken"));
    let accept = seen.header("accept").unwrap();
    assert!(
        accept.starts_with("application/vnd.npm.install-v1+json"),
        "{accept}"
    );
}

#[tokio::test]
async fn packuments_that_cannot_be_read() {
    let whole = br#"{"versions":{"1.0.0":{}}}"#;
    for (steps, class) in [
        (vec![reply(200, &[], b"<html>log in</html>")], RETRY),
        (vec![reply(200, &[], b"{}")], RETRY),
        (vec![reply(200, &[], &whole[..20])], RETRY),
        (vec![chunked(200, &[]), chunk(&whole[..20])], RETRY),
        (
            vec![chunked(200, &[]), chunk(&whole[..20]), Step::Hang],
            RETRY,
        ),
        (vec![Step::Hang], RETRY),
        (vec![Step::Reset], RETRY),
        (vec![reply(500, &[], b"")], RETRY),
        (
            vec![reply(503, &["retry-after: 2"], b"")],
            Class::Pause {
                retry_after: Some(Duration::from_secs(2)),
            },
        ),
        (vec![reply(401, &[], b"")], Class::Dead),
    ] {
        let stub = Stub::always(steps.clone()).await;
        let failure = registry(&stub)
            .packument("c", &["1.0.0"])
            .await
            .unwrap_err();
        assert_eq!(failure.class, class, "{failure:?} after {steps:?}");
        assert_eq!(failure.neighbour, Neighbour::Registry);
        assert!(!failure.may_have_reached);
    }
    let stub = Stub::always(vec![reply(404, &[], b"{}")]).await;
    assert_eq!(registry(&stub).packument("c", &[]).await, Ok(None));
}

#[tokio::test]
async fn big_packuments_are_read_without_being_held() {
    let stub = Stub::start(|_| {
        let mut steps = vec![chunked(200, &[]), chunk(r#"{"readme":""#)];
        steps.extend(std::iter::repeat_n(chunk(vec![b'x'; 1 << 20]), 30));
        steps.push(chunk(r#"","versions":{"1.0.0":{}}}"#));
        steps.push(chunk(""));
        steps
    })
    .await;
    let packument = registry(&stub)
        .packument("c", &["1.0.0"])
        .await
        .unwrap()
        .unwrap();
    assert!(packument.dists.contains_key("1.0.0"));
}

#[tokio::test]
async fn a_tarball_arrives_as_it_is() {
    let tgz = gzip(&bytes(5_000));
    let labelled = reply(200, &["content-encoding: gzip"], &tgz);
    let stub = Stub::always(vec![labelled]).await;
    let tarball = registry(&stub).tarball("c", "1.0.0", None).await.unwrap();
    assert_eq!(tarball.length, Some(tgz.len() as u64));
    assert_eq!(content(tarball).await.unwrap(), tgz);
    let seen = stub.only();
    assert_eq!(seen.path, "/c/-/c-1.0.0.tgz");
    assert_eq!(seen.header("accept-encoding"), None);
    assert_eq!(seen.header("authorization"), Some("Bearer t0ken"));

    let stub = Stub::always(vec![chunked(200, &[]), chunk(&tgz), chunk("")]).await;
    let tarball = registry(&stub).tarball("c", "1.0.0", None).await.unwrap();
    assert_eq!(tarball.length, None);
    assert_eq!(content(tarball).await.unwrap(), tgz);
}

fn paths(stub: &Stub) -> Vec<String> {
    stub.seen().into_iter().map(|seen| seen.path).collect()
}

#[tokio::test]
async fn the_usual_places_are_tried_in_turn() {
    let only_at = |place: &'static str| {
        Stub::start(move |seen: &Seen| {
            let status = if seen.path == place { 200 } else { 404 };
            vec![reply(status, &[], b"tgz")]
        })
    };
    let stub = only_at("/@s/c/-/@s/c-1.0.0.tgz").await;
    let stated = format!("{}/files/c.tgz", stub.url());
    let tarball = registry(&stub)
        .tarball("@s/c", "1.0.0", Some(&stated))
        .await;
    assert_eq!(content(tarball.unwrap()).await.unwrap(), b"tgz");
    assert_eq!(
        paths(&stub),
        [
            "/files/c.tgz",
            "/@s/c/-/c-1.0.0.tgz",
            "/@s/c/-/@s/c-1.0.0.tgz"
        ]
    );

    let stub = only_at("nowhere").await;
    let failure = registry(&stub)
        .tarball("@s/c", "1.0.0", None)
        .await
        .unwrap_err();
    assert_eq!(failure.class, Class::MissingTarball);
    assert_eq!(failure.status, Some(404));
    assert!(!failure.may_have_reached);
    assert_eq!(paths(&stub).len(), 2);
}

#[tokio::test]
async fn a_registry_in_trouble_is_not_one_without_the_tarball() {
    for (steps, class) in [
        (vec![reply(500, &[], b"")], RETRY),
        (
            vec![reply(503, &[], b"")],
            Class::Pause { retry_after: None },
        ),
        (vec![reply(403, &[], b"")], Class::Dead),
        (vec![reply(200, &[], b"")], RETRY),
        (vec![reply(206, &[], b"tgz")], RETRY),
        (vec![Step::Hang], RETRY),
    ] {
        let stub = Stub::always(steps.clone()).await;
        let failure = registry(&stub)
            .tarball("@s/c", "1.0.0", None)
            .await
            .unwrap_err();
        assert_eq!(failure.class, class, "{failure:?} after {steps:?}");
        assert_eq!(paths(&stub).len(), 1, "asked once");
    }
}

#[tokio::test]
async fn credentials_go_to_the_registry_alone() {
    let cdn = Arc::new(Stub::always(vec![reply(200, &[], b"tgz")]).await);
    let elsewhere = format!("{}/c.tgz", cdn.url());

    // Redirected there.
    let location = format!("location: {elsewhere}");
    let redirecting = Stub::start(move |seen: &Seen| match seen.path.as_str() {
        "/c/-/c-1.0.0.tgz" => vec![reply(302, &["location: /moved"], b"")],
        _ => vec![reply(307, &[&location], b"")],
    })
    .await;
    let tarball = registry(&redirecting)
        .tarball("c", "1.0.0", None)
        .await
        .unwrap();
    assert_eq!(content(tarball).await.unwrap(), b"tgz");
    let own = redirecting.seen();
    assert_eq!(own.len(), 2);
    assert!(
        own.iter()
            .all(|seen| seen.header("authorization").is_some())
    );

    // Named in the packument.
    let home = Stub::always(vec![reply(404, &[], b"")]).await;
    let tarball = registry(&home)
        .tarball("c", "1.0.0", Some(&elsewhere))
        .await
        .unwrap();
    assert_eq!(content(tarball).await.unwrap(), b"tgz");
    assert!(home.seen().is_empty());

    for seen in cdn.seen() {
        assert_eq!(seen.header("authorization"), None);
        assert_eq!(seen.header("referer"), None);
        assert_eq!(seen.path, "/c.tgz");
    }
    assert_eq!(cdn.seen().len(), 2);
}

#[tokio::test]
async fn an_address_out_of_reach_leads_back_to_the_registry() {
    let stub = Stub::always(vec![reply(200, &[], b"tgz")]).await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let behind_the_proxy = format!("http://{}/c.tgz", listener.local_addr().unwrap());
    drop(listener);
    let tarball = registry(&stub)
        .tarball("c", "1.0.0", Some(&behind_the_proxy))
        .await
        .unwrap();
    assert_eq!(content(tarball).await.unwrap(), b"tgz");
    assert_eq!(paths(&stub), ["/c/-/c-1.0.0.tgz"]);
}

#[tokio::test]
async fn redirects_come_to_an_end() {
    let stub = Stub::always(vec![reply(302, &["location: /again"], b"")]).await;
    let failure = registry(&stub)
        .tarball("c", "1.0.0", None)
        .await
        .unwrap_err();
    assert_eq!(failure.class, RETRY);
    assert!(paths(&stub).len() <= 7);
}

#[tokio::test]
async fn the_idle_time_runs_only_while_somebody_waits() {
    let steps = vec![
        chunked(200, &[]),
        chunk("ab"),
        Step::Wait(IDLE / 2),
        chunk("cd"),
        chunk(""),
    ];
    let stub = Stub::always(steps).await;
    let mut tarball = registry(&stub).tarball("c", "1.0.0", None).await.unwrap();
    tokio::time::sleep(IDLE * 3 / 2).await;
    let mut whole = Vec::new();
    while let Some(piece) = tarball.stream.next().await {
        whole.extend_from_slice(&piece.unwrap());
        tokio::time::sleep(IDLE * 3 / 2).await;
    }
    assert_eq!(whole, b"abcd");
}
