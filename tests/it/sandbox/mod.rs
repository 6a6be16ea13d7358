//! The stand-in neighbours themselves: they must behave as the real ones do, or every test that uses them proves nothing.

mod build;
mod control;
mod faults;
mod registry;
mod warehouse;

use actix_web::{App, HttpResponse, HttpServer, web};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use feedsme::sandbox::{Received, Role, Sandbox, SandboxOptions};
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;

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

fn hex(bytes: &[u8]) -> String {
    let digits = |byte: &u8| [byte >> 4, byte & 15];
    let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap();
    bytes.iter().flat_map(digits).map(digit).collect()
}
