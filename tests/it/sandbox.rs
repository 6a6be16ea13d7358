//! The stand-in neighbours themselves: they must behave as the real ones do, or every test that uses them proves nothing.

use actix_web::{App, HttpResponse, HttpServer, web};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use feedsme::sandbox::{
    Fault, FaultKind, Received, Role, Sandbox, SandboxOptions, Tarball, synthetic,
};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(10);

async fn sandbox() -> (Sandbox, Client) {
    let sandbox = Sandbox::start(SandboxOptions::default()).await.unwrap();
    (sandbox, Client::builder().no_proxy().build().unwrap())
}

fn document(name: &str, version: &str, tarball: &[u8]) -> Value {
    json!({
        "_id": name, "name": name, "dist-tags": {"latest": version},
        "versions": {version: {"name": name, "version": version, "dependencies": {"root": "^5.0.0"}}},
        "_attachments": {format!("{name}-{version}.tgz"): {
            "content_type": "application/octet-stream", "data": STANDARD.encode(tarball), "length": tarball.len()
        }},
    })
}

fn build(sandbox: &Sandbox, client: &Client, document: &Value) -> RequestBuilder {
    client
        .post(format!("{}/v2/build", sandbox.build_service_url()))
        .json(&json!({"promote": true, "data": document}))
}

fn put(sandbox: &Sandbox, client: &Client, name: &str, document: &Value) -> RequestBuilder {
    let name = name.replace('@', "%40").replace('/', "%2F");
    client
        .put(format!("{}/{name}", sandbox.warehouse_url()))
        .json(document)
}

async fn lines(request: RequestBuilder) -> Vec<Value> {
    let text = request.send().await.unwrap().text().await.unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn of(requests: &[Received], role: Role) -> Vec<&Received> {
    requests.iter().filter(|r| r.role == role).collect()
}

/// A feedsme that answers from a list of replies, the last one for ever, and keeps what it was sent.
struct Feedsme {
    url: String,
    got: Arc<Mutex<Vec<(String, Value, bool)>>>,
    handle: actix_web::dev::ServerHandle,
}

impl Feedsme {
    fn start(replies: Vec<(u16, &'static str)>) -> Self {
        let got = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&got);
        let server = HttpServer::new(move || {
            let (kept, replies) = (Arc::clone(&kept), replies.clone());
            App::new().route(
                "/v2/change/{env}",
                web::post().to(
                    move |req: actix_web::HttpRequest,
                          env: web::Path<String>,
                          body: web::Json<Value>| {
                        let mut kept = kept.lock().unwrap();
                        let chunked = req.headers().contains_key("transfer-encoding");
                        let (status, text) = replies[kept.len().min(replies.len() - 1)];
                        kept.push((env.into_inner(), body.into_inner(), chunked));
                        let status = actix_web::http::StatusCode::from_u16(status).unwrap();
                        async move { HttpResponse::build(status).body(text) }
                    },
                ),
            )
        })
        .workers(1)
        .disable_signals()
        .bind("127.0.0.1:0")
        .unwrap();
        let url = format!("http://{}/dropped/path", server.addrs()[0]);
        let server = server.run();
        let handle = server.handle();
        tokio::spawn(server);
        Self { url, got, handle }
    }
}

impl Drop for Feedsme {
    fn drop(&mut self) {
        drop(self.handle.stop(false));
    }
}

#[tokio::test]
async fn a_build_streams_its_progress_and_then_notifies_feedsme() {
    let (sandbox, client) = sandbox().await;
    let feedsme = Feedsme::start(vec![(200, "{\"ok\":true}")]);
    sandbox.report_to(&feedsme.url);
    let tarball = synthetic("child", "5.0.1-0", 1000);
    let mut document = document("child", "5.0.1-0", &tarball);
    document["env"] = json!("test");
    let request = build(&sandbox, &client, &document)
        .header("Idempotency-Key", "k1")
        .bearer_auth("secret");
    let lines = lines(request).await;
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["event"], "task");
    assert_eq!(lines[0]["message"], "start");
    assert_eq!(lines[1].get("event"), None);
    assert_eq!(lines[2]["message"], "Successfully queued build");
    assert_eq!(lines[2]["progress"], 100);
    assert_eq!(lines[2]["locale"], "en-US");
    assert!(lines[2]["timestamp"].is_i64() && lines[2]["id"].is_string());
    let requests = sandbox
        .wait_for(
            |all| {
                all.iter()
                    .any(|r| r.role == Role::Notice && r.finished.is_some())
            },
            SOON,
        )
        .await
        .unwrap();
    let build = &requests[0];
    assert_eq!(build.role, Role::Build);
    assert_eq!(build.package.as_deref(), Some("child"));
    assert_eq!(build.version.as_deref(), Some("5.0.1-0"));
    assert_eq!(build.env.as_deref(), Some("test"));
    assert_eq!(build.promote, Some(json!(true)));
    assert_eq!(build.idempotency_key.as_deref(), Some("k1"));
    assert_eq!(build.authorization.as_deref(), Some("Bearer secret"));
    assert_eq!(
        (build.status, build.outcome.as_str()),
        (Some(200), "queued")
    );
    assert!(!build.published && !build.from_warehouse && build.finished.is_some());
    assert_eq!(
        build.keys,
        [
            "_id",
            "name",
            "dist-tags",
            "versions",
            "_attachments",
            "env"
        ]
    );
    let sent = build.tarball().unwrap();
    assert_eq!((sent.bytes, sent.declared_length), (1000, Some(1000)));
    assert_eq!(sent.sha256, hex(&Sha256::digest(&tarball)));
    assert_eq!(requests[1].status, Some(200));
    let got = feedsme.got.lock().unwrap().clone();
    assert_eq!(got.len(), 1);
    let (env, body, chunked) = &got[0];
    assert_eq!((env.as_str(), *chunked), ("test", true));
    assert_eq!(body["promote"], true);
    assert_eq!(body["data"].get("__published"), None);
    assert_eq!(
        body["data"]["_attachments"]["child-5.0.1-0.tgz"]["data"],
        ""
    );
    assert_eq!(
        body["data"]["versions"]["5.0.1-0"]["dependencies"],
        json!({"root": "^5.0.0"})
    );
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_document_as_json_string_and_without_env_is_a_publish() {
    let (sandbox, client) = sandbox().await;
    let feedsme = Feedsme::start(vec![(200, "{\"ok\":true}")]);
    sandbox.report_to(&feedsme.url);
    let document = document("@s/c", "1.0.0", b"tarball");
    let text = json!({"data": document.to_string()});
    let url = format!("{}/v2/build", sandbox.build_service_url());
    assert_eq!(lines(client.post(url).json(&text)).await.len(), 3);
    let requests = sandbox
        .wait_for(|all| of(all, Role::Notice).len() == 1, SOON)
        .await
        .unwrap();
    assert_eq!(requests[0].tarball().unwrap().bytes, 7);
    assert_eq!(requests[0].promote, None);
    let notice = of(&requests, Role::Notice)[0];
    assert_eq!(notice.env.as_deref(), Some("dev"));
    assert!(notice.published);
    assert_eq!(notice.path, "/v2/change/dev");
}

#[tokio::test]
async fn bad_builds_are_refused_as_joi_does_or_never_answered() {
    let (sandbox, client) = sandbox().await;
    let url = format!("{}/v2/build", sandbox.build_service_url());
    let refused = client
        .post(&url)
        .json(&json!({"data": {}}))
        .send()
        .await
        .unwrap();
    assert_eq!(refused.status(), 500);
    assert_eq!(
        refused.text().await.unwrap(),
        "child \"data\" fails because [child \"name\" fails because [\"name\" is required]]"
    );
    let untyped = client.post(&url).body(json!({"data": {}}).to_string());
    let text = untyped.send().await.unwrap().text().await.unwrap();
    assert_eq!(text, "child \"data\" fails because [\"data\" is required]");
    let unknown = client.post(format!("{url}s")).send().await.unwrap();
    assert_eq!(
        (
            unknown.status().as_u16(),
            unknown.bytes().await.unwrap().len()
        ),
        (404, 0)
    );
    // Its spec step fails: one error event, and the stream never ends.
    let mut document = document("child", "1.0.0", b"x");
    document["versions"] = json!({});
    let mut stream = build(&sandbox, &client, &document).send().await.unwrap();
    let line = stream.chunk().await.unwrap().unwrap();
    let line: Value = serde_json::from_slice(&line).unwrap();
    assert_eq!(line["event"], "error");
    let more = tokio::time::timeout(Duration::from_millis(150), stream.chunk()).await;
    assert!(more.is_err(), "{more:?}");
    assert!(of(&sandbox.requests(), Role::Notice).is_empty());
}

#[tokio::test]
async fn an_ignored_build_is_noticed_too() {
    let (sandbox, client) = sandbox().await;
    let feedsme = Feedsme::start(vec![(200, "{\"ok\":true}")]);
    sandbox.report_to(&feedsme.url);
    let mut document = document("child", "1.0.0", b"x");
    document["versions"]["1.0.0"]["build"] = json!(false);
    let lines = lines(build(&sandbox, &client, &document)).await;
    assert_eq!(lines.len(), 1);
    assert_eq!(
        (&lines[0]["message"], &lines[0]["progress"], &lines[0]["id"]),
        (&json!("ignored"), &json!(-1), &json!("generic"))
    );
    sandbox
        .wait_for(|all| of(all, Role::Notice).len() == 1, SOON)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_failed_notice_is_sent_again_until_200_with_truthy_json() {
    let (sandbox, client) = sandbox().await;
    let feedsme = Feedsme::start(vec![
        (500, "{\"ok\":false,\"message\":\"late\"}"),
        (202, "{\"ok\":true}"),
        (200, "{\"ok\":true}"),
    ]);
    sandbox.report_to(&feedsme.url);
    let began = Instant::now();
    lines(build(&sandbox, &client, &document("c", "1.0.0", b"x"))).await;
    let requests = sandbox
        .wait_for(|all| all.iter().any(|r| r.outcome == "accepted"), SOON)
        .await
        .unwrap();
    let notices = of(&requests, Role::Notice);
    let seen: Vec<_> = notices.iter().map(|n| (n.attempt, n.status)).collect();
    assert_eq!(seen, [(1, Some(500)), (2, Some(202)), (3, Some(200))]);
    assert!(began.elapsed() >= Duration::from_millis(300));
    let got = feedsme.got.lock().unwrap();
    assert!(got.iter().all(|sent| sent == &got[0]), "the same body");
}

#[tokio::test]
async fn a_notice_ends_at_a_message_with_400_or_404() {
    let (sandbox, client) = sandbox().await;
    let feedsme = Feedsme::start(vec![(400, "{\"message\":\"400 bad name\"}")]);
    sandbox.report_to(&feedsme.url);
    lines(build(&sandbox, &client, &document("c", "1.0.0", b"x"))).await;
    let refused = |all: &[Received]| all.iter().any(|r| r.outcome == "refused: 400 bad name");
    sandbox.wait_for(refused, SOON).await.unwrap();
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert_eq!(of(&sandbox.requests(), Role::Notice).len(), 1);
}

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

#[tokio::test]
async fn packuments_and_tarballs_of_scoped_names_plain_and_encoded() {
    let (sandbox, client) = sandbox().await;
    let package =
        json!({"name": "@s/c", "version": "1.0.0", "dependencies": {"root": "^5"}, "scripts": {}});
    sandbox
        .publish(package.clone(), &Tarball::Synthetic(70_000))
        .unwrap();
    assert!(sandbox.publish(package, &Tarball::Synthetic(1)).is_err());
    let registry = sandbox.registry_url();
    for name in ["@s/c", "@s%2Fc", "%40s%2fc"] {
        let full = client
            .get(format!("{registry}/{name}"))
            .send()
            .await
            .unwrap();
        assert_eq!(full.headers()["content-type"], "application/json");
        let full: Value = full.json().await.unwrap();
        assert_eq!(full["name"], "@s/c");
        assert!(full["time"]["1.0.0"].is_string());
        let short = client
            .get(format!("{registry}/{name}"))
            .header(
                "Accept",
                "application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8",
            )
            .send()
            .await
            .unwrap();
        let short: Value = short.json().await.unwrap();
        let keys: Vec<_> = short.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["name", "modified", "dist-tags", "versions"]);
        let version = &short["versions"]["1.0.0"];
        assert_eq!(version["dependencies"], json!({"root": "^5"}));
        assert_eq!(version.get("scripts"), None);
        assert!(
            version["dist"]["integrity"]
                .as_str()
                .unwrap()
                .starts_with("sha512-")
        );
    }
    let expected = synthetic("@s/c", "1.0.0", 70_000);
    for file in [
        "@s/c/-/c-1.0.0.tgz",
        "@s/c/-/@s/c-1.0.0.tgz",
        "@s%2fc/-/c-1.0.0.tgz",
    ] {
        let response = client
            .get(format!("{registry}/{file}"))
            .send()
            .await
            .unwrap();
        assert_eq!(response.headers()["content-length"], "70000", "{file}");
        assert!(response.bytes().await.unwrap() == expected);
        let head = client
            .head(format!("{registry}/{file}"))
            .send()
            .await
            .unwrap();
        assert_eq!(head.headers()["content-length"], "70000", "{file}");
    }
    for unknown in ["nope", "@s/c/-/c-2.0.0.tgz", "@s/nope/-/nope-1.0.0.tgz"] {
        let response = client
            .get(format!("{registry}/{unknown}"))
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 404, "{unknown}");
    }
    let packuments = of(&sandbox.requests(), Role::Packument).len();
    assert_eq!(packuments, 7);
}

#[tokio::test]
async fn dist_tags_are_moved() {
    let (sandbox, client) = sandbox().await;
    for version in ["1.0.0", "1.1.0"] {
        let package = json!({"name": "@s/c", "version": version});
        sandbox.publish(package, &Tarball::Synthetic(1)).unwrap();
    }
    let tags = format!("{}/-/package/@s%2Fc/dist-tags", sandbox.registry_url());
    let tag = async |tag: &str, version: &str| {
        let request = client.put(format!("{tags}/{tag}")).json(version);
        let response = request.send().await.unwrap();
        (
            response.status().as_u16(),
            response.json::<Value>().await.unwrap(),
        )
    };
    assert_eq!(tag("test", "1.0.0").await, (201, json!({"test": "1.0.0"})));
    assert_eq!(tag("test", "9.0.0").await.0, 404);
    let all: Value = client
        .get(&tags)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(all, json!({"latest": "1.1.0", "test": "1.0.0"}));
    assert_eq!(sandbox.requests()[0].role, Role::DistTag);
}

#[tokio::test]
async fn statuses_are_given_for_the_next_requests_of_a_package() {
    let (sandbox, client) = sandbox().await;
    let kind = FaultKind::Status {
        status: 503,
        retry_after: Some("7".into()),
        body: Some("later".into()),
    };
    sandbox.fail(Fault::once(Role::Build, kind).of("a").times(2));
    let (a, b) = (document("a", "1.0.0", b"x"), document("b", "1.0.0", b"x"));
    let send = async |document| {
        let request = build(&sandbox, &client, document).header("Idempotency-Key", "same");
        request.send().await.unwrap()
    };
    assert_eq!(send(&b).await.status(), 200);
    let refused = send(&a).await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "7");
    assert_eq!(refused.text().await.unwrap(), "later");
    assert_eq!(send(&a).await.status(), 503);
    assert_eq!(send(&a).await.status(), 200);
    let requests = sandbox.requests();
    let attempts: Vec<_> = requests.iter().map(|r| (r.attempt, r.status)).collect();
    assert_eq!(
        attempts,
        [
            (1, Some(200)),
            (2, Some(503)),
            (3, Some(503)),
            (4, Some(200))
        ]
    );
    sandbox.fail(Fault::always(Role::Packument, FaultKind::status(500)));
    let url = format!("{}/a", sandbox.registry_url());
    for _ in 0..3 {
        assert_eq!(client.get(&url).send().await.unwrap().status(), 500);
    }
    sandbox.clear_faults();
    assert_eq!(client.get(&url).send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn error_events_and_useless_streams_lead_to_no_notice() {
    let (sandbox, client) = sandbox().await;
    let feedsme = Feedsme::start(vec![(200, "{\"ok\":true}")]);
    sandbox.report_to(&feedsme.url);
    let message = || "queue is away".to_owned();
    for kind in [
        FaultKind::ErrorEvent { message: message() },
        FaultKind::FinalError { message: message() },
        FaultKind::NoParsableLine,
        FaultKind::EmptyStream,
    ] {
        sandbox.fail(Fault::once(Role::Build, kind));
    }
    let document = document("c", "1.0.0", b"x");
    let error = lines(build(&sandbox, &client, &document)).await;
    assert_eq!(
        (&error[1]["event"], &error[1]["message"]),
        (&json!("error"), &json!(message()))
    );
    assert_eq!(
        (error[2].get("event"), &error[2]["type"]),
        (None, &json!("error"))
    );
    let last = lines(build(&sandbox, &client, &document)).await;
    assert_eq!(last.len(), 2);
    assert_eq!(
        (last[1].get("event"), &last[1]["type"]),
        (None, &json!("error"))
    );
    let text = build(&sandbox, &client, &document)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(!text.is_empty());
    assert!(
        text.lines()
            .all(|line| serde_json::from_str::<Value>(line).is_err())
    );
    let empty = build(&sandbox, &client, &document).send().await.unwrap();
    assert_eq!(empty.status(), 200);
    assert!(empty.bytes().await.unwrap().is_empty());
    // The next one is good: its notice is the first.
    lines(build(&sandbox, &client, &document)).await;
    let requests = sandbox
        .wait_for(|all| !of(all, Role::Notice).is_empty(), SOON)
        .await
        .unwrap();
    assert_eq!(of(&requests, Role::Build).len(), 5);
    assert_eq!(of(&requests, Role::Notice).len(), 1);
}

#[tokio::test]
async fn connections_are_reset_cut_and_left_hanging() {
    let (sandbox, client) = sandbox().await;
    let document = document("c", "1.0.0", b"x");
    sandbox.fail(Fault::once(Role::Build, FaultKind::Reset));
    let error = build(&sandbox, &client, &document)
        .send()
        .await
        .unwrap_err();
    assert!(
        format!("{error:?}").contains("ConnectionReset"),
        "{error:?}"
    );
    sandbox.fail(Fault::once(Role::Build, FaultKind::Cut));
    let mut cut = build(&sandbox, &client, &document).send().await.unwrap();
    let line = cut.chunk().await.unwrap().unwrap();
    assert!(line.starts_with(b"{\"event\":\"task\""));
    assert!(cut.chunk().await.is_err());
    sandbox.fail(Fault::once(Role::Build, FaultKind::Hang));
    let hanging = build(&sandbox, &client, &document).timeout(Duration::from_millis(150));
    assert!(hanging.send().await.unwrap_err().is_timeout());
    let outcomes: Vec<_> = sandbox
        .requests()
        .iter()
        .map(|r| r.outcome.clone())
        .collect();
    assert_eq!(
        outcomes,
        ["fault: reset", "fault: cut (queued)", "fault: hang"]
    );
    // Everybody else is served all the while.
    assert_eq!(lines(build(&sandbox, &client, &document)).await.len(), 3);
}

#[tokio::test]
async fn tarballs_are_cut_slowed_moved_and_missing() {
    let (sandbox, client) = sandbox().await;
    for (name, tarball) in [
        ("a", Tarball::Synthetic(300_000)),
        ("gone", Tarball::Missing),
    ] {
        let package = json!({"name": name, "version": "1.0.0"});
        sandbox.publish(package, &tarball).unwrap();
    }
    let url = |name| format!("{}/{name}/-/{name}-1.0.0.tgz", sandbox.registry_url());
    assert_eq!(client.get(url("gone")).send().await.unwrap().status(), 404);
    sandbox.fail(Fault::once(Role::Tarball, FaultKind::Cut));
    let mut cut = client.get(url("a")).send().await.unwrap();
    assert_eq!(cut.content_length(), Some(300_000));
    let mut got = 0;
    let end = loop {
        match cut.chunk().await {
            Ok(Some(piece)) => got += piece.len(),
            other => break other,
        }
    };
    assert!(end.is_err(), "a cut must not look like an end");
    assert_eq!(got, 150_000);
    sandbox.fail(Fault::once(Role::Tarball, FaultKind::Redirect));
    let quiet = Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    let moved = quiet.get(url("a")).send().await.unwrap();
    assert_eq!(moved.status(), 302);
    assert!(
        moved.headers()["location"]
            .to_str()
            .unwrap()
            .contains("/-/moved/")
    );
    sandbox.fail(Fault::always(Role::Tarball, FaultKind::Redirect));
    let followed = client.get(url("a")).send().await.unwrap();
    assert!(followed.bytes().await.unwrap() == synthetic("a", "1.0.0", 300_000));
    sandbox.clear_faults();
    sandbox.fail(Fault::once(Role::Tarball, FaultKind::Slow { ms: 30 }));
    let began = Instant::now();
    let slow = client
        .get(url("a"))
        .send()
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    assert_eq!(slow.len(), 300_000);
    assert!(began.elapsed() >= Duration::from_millis(150), "five blocks");
    sandbox.fail(Fault::once(Role::Tarball, FaultKind::Hang));
    let hanging = client.get(url("a")).timeout(Duration::from_millis(100));
    assert!(hanging.send().await.unwrap_err().is_timeout());
}

#[tokio::test]
async fn a_fault_may_spoil_only_the_answer() {
    let (sandbox, client) = sandbox().await;
    sandbox.fail(Fault::once(Role::Warehouse, FaultKind::Reset));
    sandbox.fail(Fault::once(Role::Warehouse, FaultKind::Reset).work_done());
    let document = document("c", "1.0.0", b"x");
    let packument = format!("{}/c", sandbox.registry_url());
    let mut seen = Vec::new();
    for _ in 0..2 {
        assert!(put(&sandbox, &client, "c", &document).send().await.is_err());
        seen.push(
            client
                .get(&packument)
                .send()
                .await
                .unwrap()
                .status()
                .as_u16(),
        );
    }
    assert_eq!(seen, [404, 200]);
    let conflict = put(&sandbox, &client, "c", &document).send().await.unwrap();
    assert_eq!(conflict.status(), 403);
    // The build service: queued and noticed, the answer lost.
    let feedsme = Feedsme::start(vec![(200, "{\"ok\":true}")]);
    sandbox.report_to(&feedsme.url);
    sandbox.fail(
        Fault::once(Role::Build, FaultKind::status(500))
            .of("c")
            .work_done(),
    );
    let answer = build(&sandbox, &client, &document).send().await.unwrap();
    assert_eq!(answer.status(), 500);
    let noticed = |all: &[Received]| all.iter().any(|r| r.outcome == "accepted");
    sandbox.wait_for(noticed, SOON).await.unwrap();
}

#[tokio::test]
async fn notices_can_be_late_doubled_and_lost() {
    let (sandbox, client) = sandbox().await;
    let feedsme = Feedsme::start(vec![(200, "{\"ok\":true}")]);
    sandbox.report_to(&feedsme.url);
    sandbox.fail(Fault::once(Role::Notice, FaultKind::Slow { ms: 200 }).of("late"));
    sandbox.fail(Fault::once(Role::Notice, FaultKind::Twice).of("twice"));
    sandbox.fail(Fault::once(Role::Notice, FaultKind::Hang).of("lost"));
    for name in ["late", "lost", "twice"] {
        lines(build(&sandbox, &client, &document(name, "1.0.0", b"x"))).await;
    }
    let accepted = |all: &[Received]| all.iter().filter(|r| r.outcome == "accepted").count() == 3;
    sandbox.wait_for(accepted, SOON).await.unwrap();
    let got = feedsme.got.lock().unwrap();
    let names: Vec<_> = got
        .iter()
        .map(|(_, body, _)| &body["data"]["name"])
        .collect();
    assert_eq!(names, ["twice", "twice", "late"]);
}

#[tokio::test]
async fn it_stops_and_starts_on_the_same_port_with_what_it_knew() {
    let (mut sandbox, client) = sandbox().await;
    let package = json!({"name": "a", "version": "1.0.0"});
    sandbox.publish(package, &Tarball::Synthetic(10)).unwrap();
    sandbox.fail(Fault::always(Role::Build, FaultKind::Hang));
    let url = format!("{}/a", sandbox.registry_url());
    let hanging = build(&sandbox, &client, &document("a", "1.0.0", b"x"));
    let hanging = tokio::spawn(hanging.send());
    let hangs = |all: &[Received]| all.iter().any(|r| r.outcome == "fault: hang");
    sandbox.wait_for(hangs, SOON).await.unwrap();
    let began = Instant::now();
    sandbox.stop().await;
    assert!(began.elapsed() < Duration::from_secs(3));
    assert!(hanging.await.unwrap().is_err());
    let refused = client.get(&url).send().await.unwrap_err();
    assert!(refused.is_connect(), "{refused:?}");
    sandbox.restart().await.unwrap();
    assert_eq!(client.get(&url).send().await.unwrap().status(), 200);
    assert_eq!(sandbox.requests().len(), 2);
}

#[tokio::test]
async fn another_process_can_steer_it() {
    let (sandbox, client) = sandbox().await;
    let feedsme = Feedsme::start(vec![(200, "{\"ok\":true}")]);
    let control = async |method: Method, path: &str, body: Value| {
        let url = format!("{}/{path}", sandbox.control_url());
        let response = client
            .request(method, url)
            .json(&body)
            .send()
            .await
            .unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    };
    let to = json!({"url": feedsme.url});
    assert_eq!(control(Method::POST, "report-to", to).await.0, 204);
    let fault = json!({"role": "packument", "times": 1, "kind": {"status": {"status": 502}}});
    assert_eq!(control(Method::POST, "faults", fault).await.0, 200);
    let wrong = json!({"role": "packument", "kind": "nonsense"});
    assert_eq!(control(Method::POST, "faults", wrong).await.0, 400);
    let publish = json!({"document": {"name": "a", "version": "1.0.0"}, "size": 5, "notify": true});
    assert_eq!(
        control(Method::POST, "publish", publish.clone()).await.0,
        201
    );
    assert_eq!(control(Method::POST, "publish", publish).await.0, 409);
    let url = format!("{}/a", sandbox.registry_url());
    assert_eq!(client.get(&url).send().await.unwrap().status(), 502);
    assert_eq!(client.get(&url).send().await.unwrap().status(), 200);
    let accepted = |all: &[Received]| all.iter().any(|r| r.outcome == "accepted");
    sandbox.wait_for(accepted, SOON).await.unwrap();
    let (_, requests) = control(Method::GET, "requests", Value::Null).await;
    let mut roles: Vec<_> = requests
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["role"].as_str().unwrap())
        .collect();
    roles.sort_unstable();
    assert_eq!(roles, ["build", "notice", "packument", "packument"]);
    assert_eq!(
        control(Method::DELETE, "requests", Value::Null).await.0,
        204
    );
    assert!(sandbox.requests().is_empty());
    sandbox
        .publish_by_hand(json!({"name": "a", "version": "1.1.0"}), 5)
        .await
        .unwrap();
    sandbox.wait_for(accepted, SOON).await.unwrap();
    assert!(
        sandbox
            .publish_by_hand(json!({"name": "a", "version": "1.1.0"}), 5)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn many_sandboxes_share_nothing() {
    let mut all = Vec::new();
    for n in 0..16 {
        let (sandbox, client) = sandbox().await;
        let package = json!({"name": "a", "version": format!("1.0.{n}")});
        sandbox.publish(package, &Tarball::Synthetic(10)).unwrap();
        all.push((sandbox, client));
    }
    for (n, (sandbox, client)) in all.iter().enumerate() {
        let url = format!("{}/a", sandbox.registry_url());
        let packument: Value = client.get(url).send().await.unwrap().json().await.unwrap();
        let latest = json!(format!("1.0.{n}"));
        assert_eq!(packument["dist-tags"]["latest"], latest);
        assert_eq!(sandbox.requests().len(), 1);
    }
}

#[tokio::test]
async fn what_does_not_come_is_reported_with_what_came() {
    let (sandbox, client) = sandbox().await;
    let url = format!("{}/nope", sandbox.registry_url());
    client.get(url).send().await.unwrap();
    let error = sandbox
        .wait_for(|all| all.len() > 1, Duration::from_millis(50))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("Packument nope@-"), "{error}");
}

#[tokio::test]
async fn bodies_above_the_limit_get_413() {
    let options = SandboxOptions {
        body_limit: 1000,
        ..SandboxOptions::default()
    };
    let sandbox = Sandbox::start(options).await.unwrap();
    let client = Client::builder().no_proxy().build().unwrap();
    let large = document("c", "1.0.0", &[7; 100_000]);
    let refused = build(&sandbox, &client, &large).send().await.unwrap();
    assert_eq!(refused.status(), 413);
    assert!(refused.text().await.unwrap().starts_with("<html>"));
    let refused = put(&sandbox, &client, "c", &large).send().await.unwrap();
    assert_eq!(refused.status(), 413);
}
