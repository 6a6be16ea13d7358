//! The warehouse: publishes, conflicts, key order, large uploads.

use super::{Feedsme, SOON, document, hex, lines, of, put, sandbox};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use feedsme::sandbox::{Role, Sandbox, SandboxOptions, Tarball, synthetic};
use reqwest::Client;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

#[tokio::test]
async fn a_publish_goes_to_the_registry_and_then_to_feedsme() {
    let (sandbox, client) = sandbox().await;
    let feedsme = Feedsme::start(vec![(200, "{\"ok\":true}")]);
    sandbox.report_to(&feedsme.url);
    let mut document = document("@s/c", "1.0.0", b"the tarball");
    document["env"] = json!("dev");
    document["__published"] = json!(true);
    let response = put(&sandbox, &client, "@s/c", &document)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 201);
    let registry = sandbox.registry_url();
    let packument = client
        .get(format!("{registry}/@s%2Fc"))
        .send()
        .await
        .unwrap();
    let packument: Value = packument.json().await.unwrap();
    assert_eq!(packument["dist-tags"], json!({"latest": "1.0.0"}));
    let url = packument["versions"]["1.0.0"]["dist"]["tarball"]
        .as_str()
        .unwrap();
    let tarball = client.get(url).send().await.unwrap().bytes().await.unwrap();
    assert_eq!(&tarball[..], b"the tarball");
    let requests = sandbox
        .wait_for(|all| all.iter().any(|r| r.outcome == "accepted"), SOON)
        .await
        .unwrap();
    assert_eq!(requests[0].outcome, "published");
    assert_eq!(requests[0].version.as_deref(), Some("1.0.0"));
    let builds = of(&requests, Role::Build);
    assert_eq!(builds.len(), 1);
    assert!(builds[0].from_warehouse && builds[0].published);
    assert_eq!(builds[0].promote, Some(json!(true)));
    // The same version again.
    let again = put(&sandbox, &client, "@s/c", &document)
        .send()
        .await
        .unwrap();
    assert_eq!(again.status(), 403);
    let text = again.text().await.unwrap();
    assert!(text.contains("cannot publish over the previously published versions: 1.0.0"));
}

#[tokio::test]
async fn the_status_of_a_conflict_can_be_chosen_and_autopromote_switched_off() {
    let options = SandboxOptions {
        conflict_status: 409,
        ..SandboxOptions::default()
    };
    let (sandbox, client) = (
        Sandbox::start(options).await.unwrap(),
        Client::builder().no_proxy().build().unwrap(),
    );
    let mut document = document("c", "1.0.0", b"x");
    document["versions"]["1.0.0"]["wrhs"] = json!({"autoPromoteOnPublish": false});
    let status = async || {
        let response = put(&sandbox, &client, "c", &document).send().await.unwrap();
        response.status().as_u16()
    };
    assert_eq!((status().await, status().await), (201, 409));
    let requests = sandbox
        .wait_for(
            |all| of(all, Role::Build).iter().any(|r| r.status.is_some()),
            SOON,
        )
        .await
        .unwrap();
    assert_eq!(of(&requests, Role::Build)[0].promote, Some(json!(false)));
}

#[tokio::test]
async fn key_order_decides_what_the_warehouse_stores() {
    let (sandbox, client) = sandbox().await;
    let sorted = |document: &Value, keys: &[&str]| {
        let mut map = serde_json::Map::new();
        for key in keys {
            map.insert((*key).to_owned(), document[*key].clone());
        }
        Value::Object(map)
    };
    // Attachments first: in the registry, but neither stored nor built.
    let lost = sorted(
        &document("a", "1.0.0", b"x"),
        &["_attachments", "name", "dist-tags", "versions"],
    );
    // Versions after the attachments: the same.
    let half = sorted(
        &document("b", "1.0.0", b"x"),
        &["name", "dist-tags", "_attachments", "versions"],
    );
    for (name, document) in [("a", &lost), ("b", &half)] {
        let response = put(&sandbox, &client, name, document).send().await.unwrap();
        assert_eq!(response.status(), 201);
        let url = format!("{}/{name}", sandbox.registry_url());
        assert_eq!(client.get(url).send().await.unwrap().status(), 200);
    }
    // A nested key of that name cuts the text where it is no JSON.
    let mut nested = json!({"name": "c", "wrhs": {"_attachments": 1}});
    for (key, value) in document("c", "1.0.0", b"x").as_object().unwrap() {
        nested[key] = value.clone();
    }
    let response = put(&sandbox, &client, "c", &nested).send().await.unwrap();
    assert_eq!(response.status(), 400);
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["code"], "npm-parse");
    // In good order, as a check that builds do come.
    let good = document("d", "1.0.0", b"x");
    put(&sandbox, &client, "d", &good).send().await.unwrap();
    let requests = sandbox
        .wait_for(
            |all| of(all, Role::Build).iter().any(|r| r.package.is_some()),
            SOON,
        )
        .await
        .unwrap();
    let built: Vec<_> = of(&requests, Role::Build)
        .iter()
        .map(|r| r.package.clone().unwrap())
        .collect();
    assert_eq!(built, ["d"]);
    assert!(requests[0].outcome.contains("nothing stored"));
    assert_eq!(requests[0].keys[0], "_attachments");
}

#[tokio::test]
async fn a_publish_without_a_usable_tarball_is_refused() {
    let (sandbox, client) = sandbox().await;
    let none = json!({"name": "c", "_attachments": {}});
    let mut bad = document("c", "1.0.0", b"xyz");
    bad["_attachments"]["c-1.0.0.tgz"]["data"] = json!("no base64");
    for document in [none, bad] {
        let response = put(&sandbox, &client, "c", &document).send().await.unwrap();
        assert_eq!(response.status(), 400);
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["code"], "npm-verify");
    }
    let url = format!("{}/c", sandbox.registry_url());
    assert_eq!(client.get(url).send().await.unwrap().status(), 404);
}

/// A 20 MB tarball as a publish body, made while it is sent.
fn upload(name: &str, version: &str, size: u64, wrapped: bool) -> reqwest::Body {
    let mut text = document(name, version, b"").to_string();
    if wrapped {
        text = format!("{{\"promote\":true,\"data\":{text}}}");
    }
    let (before, after) = text.split_once("\"data\":\"\"").unwrap();
    let data = STANDARD.encode(synthetic(name, version, size));
    let mut pieces = vec![format!("{before}\"data\":\"")];
    pieces.extend(
        data.as_bytes()
            .chunks(100_003)
            .map(|c| String::from_utf8(c.to_vec()).unwrap()),
    );
    pieces.push(format!("\"{after}"));
    reqwest::Body::wrap_stream(futures_util::stream::iter(
        pieces.into_iter().map(Ok::<_, std::io::Error>),
    ))
}

#[tokio::test]
async fn twenty_megabytes_are_streamed_and_measured() {
    const SIZE: u64 = 20_000_000;
    let (sandbox, client) = sandbox().await;
    sandbox
        .publish(
            json!({"name": "big", "version": "1.0.0"}),
            &Tarball::Synthetic(SIZE),
        )
        .unwrap();
    let expected = hex(&Sha256::digest(synthetic("big", "1.0.1-0", SIZE)));
    let response = client
        .post(format!("{}/v2/build", sandbox.build_service_url()))
        .header("Content-Type", "application/json")
        .body(upload("big", "1.0.1-0", SIZE, true));
    assert_eq!(lines(response).await.len(), 3);
    let built = sandbox.requests().remove(0);
    let sent = built.tarball().unwrap();
    assert_eq!((sent.bytes, &sent.sha256), (SIZE, &expected));
    // Published under the bytes of big@1.0.0, as a rebuild is: it can be downloaded again though it was not kept.
    let mut text = document("big", "1.0.1-1", b"").to_string();
    let data = STANDARD.encode(synthetic("big", "1.0.0", SIZE));
    text = text.replace("\"data\":\"\"", &format!("\"data\":\"{data}\""));
    let url = format!("{}/big", sandbox.warehouse_url());
    let response = client.put(url).body(text).send().await.unwrap();
    assert_eq!(response.status(), 201);
    let registry = sandbox.registry_url();
    let download = async |version: &str| {
        let url = format!("{registry}/big/-/big-{version}.tgz");
        client.get(url).send().await.unwrap().bytes().await.unwrap()
    };
    let first = download("1.0.0").await;
    assert_eq!(first.len() as u64, SIZE);
    assert!(first == download("1.0.1-1").await);
}
