//! The build service's call of feedsme, as feedsme-api-client 3.0.0 makes it (contract.md 1.1, 1.4).

use super::Neighbours;
use super::fault::FaultKind;
use super::record::{Entry, Role};
use reqwest::Url;
use serde_json::{Value, json};
use std::time::Duration;

/// Pauses between the six attempts, in milliseconds.
const PAUSES: [u64; 5] = [100, 200, 400, 800, 1600];

/// Tells feedsme of a build request that ended without error. Nothing waits for it and its failure is only recorded.
pub(super) async fn notify(here: &Neighbours, document: Value, promote: Option<Value>) {
    let Some(to) = super::lock(&here.state.report_to).clone() else {
        return;
    };
    let package = document["name"].as_str().map(str::to_owned);
    let mut times = 1;
    match here.state.fault(Role::Notice, package.as_deref()) {
        None => {}
        Some(fault) => match fault.kind {
            FaultKind::Slow { ms } => actix_web::rt::time::sleep(Duration::from_millis(ms)).await,
            FaultKind::Twice => times = 2,
            kind => {
                let entry = Entry::notice(&here.state, "", 0);
                entry.document(&document, Vec::new());
                entry.outcome(None, &kind.name());
                return entry.done();
            }
        },
    }
    let (env, body) = body(document, promote, &here.state.options.notice_attachment);
    for _ in 0..times {
        send(here, &to, &env, &body).await;
    }
}

/// What carpenterd makes of the document: no `env` means `dev` and a real publish. An absent `promote` stays absent.
fn body(mut document: Value, promote: Option<Value>, attachment: &str) -> (String, Value) {
    let env = if let Some(env) = document["env"].as_str() {
        env.to_owned()
    } else {
        document["__published"] = json!(true);
        "dev".to_owned()
    };
    let (name, version) = super::record::identity(&document);
    if let (Some(name), Some(version)) = (name, version) {
        let manifest = &mut document["versions"][&version];
        if manifest.is_object() && manifest.get("keywords").is_none() {
            manifest["keywords"] = json!([]);
        }
        let attachments = &mut document["_attachments"];
        if attachments.is_null() {
            *attachments = json!({});
        }
        let file = format!("{name}-{version}.tgz");
        if attachments.get(&file).is_none() {
            attachments[file] = json!({});
        }
    }
    for (_, entry) in document["_attachments"]
        .as_object_mut()
        .into_iter()
        .flatten()
    {
        if entry.get("data").is_some() {
            entry["data"] = json!(attachment);
        }
    }
    let mut body = json!({"data": document});
    if let Some(promote) = promote {
        body["promote"] = promote;
    }
    (env, body)
}

/// Up to six attempts. Success is exactly 200 with truthy JSON; a message that contains 404 or 400 ends them.
async fn send(here: &Neighbours, to: &str, env: &str, body: &Value) {
    let path = format!("/v2/change/{env}");
    let text = body.to_string();
    for attempt in 1..=6 {
        let entry = Entry::notice(&here.state, &path, attempt);
        entry.document(&body["data"], Vec::new());
        entry.set(|e| {
            e.env = Some(env.to_owned());
            e.promote = body.get("promote").cloned();
        });
        let (status, error) = match once(here, to, &path, text.clone()).await {
            Ok((200, reply)) if truthy(reply.as_ref()) => {
                entry.outcome(Some(200), "accepted");
                return entry.done();
            }
            Ok((status, reply)) => {
                let message = reply.as_ref().and_then(|r| r["message"].as_str());
                let message = message.unwrap_or("Unexpected reply");
                (Some(status), message.to_owned())
            }
            Err(error) => (None, error),
        };
        entry.outcome(status, &format!("refused: {error}"));
        entry.done();
        if error.contains("404") || error.contains("400") {
            return;
        }
        if let Some(&pause) = PAUSES.get(attempt as usize - 1) {
            actix_web::rt::time::sleep(Duration::from_millis(pause)).await;
        }
    }
}

fn truthy(reply: Option<&Value>) -> bool {
    !matches!(reply, None | Some(Value::Null | Value::Bool(false)))
        && reply.and_then(Value::as_f64) != Some(0.0)
        && reply.and_then(Value::as_str) != Some("")
}

/// One attempt: status and parsed reply. The base URL's path is dropped, user and password become Basic auth.
async fn once(
    here: &Neighbours,
    to: &str,
    path: &str,
    body: String,
) -> Result<(u16, Option<Value>), String> {
    let mut url = Url::parse(to).map_err(|e| e.to_string())?;
    url.set_path(path);
    let chunk = futures_util::stream::once(async move { Ok::<_, std::io::Error>(body) });
    let response = here
        .client
        .post(url)
        .header("Content-Type", "application/json")
        .body(reqwest::Body::wrap_stream(chunk))
        .send()
        .await
        // Without the URL: its port could read like a status.
        .map_err(|e| format!("no connection: {}", e.without_url()))?;
    let status = response.status().as_u16();
    let bytes = response.bytes().await.map_err(|_| "reply broken off")?;
    Ok((status, serde_json::from_slice(&bytes).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_without_env_is_a_publish_in_dev() {
        let document = json!({"name": "c", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": {}},
            "_attachments": {"c-1.0.0.tgz": {"data": ""}}});
        let (env, sent) = body(document.clone(), None, "AAAA");
        assert_eq!(env, "dev");
        assert_eq!(sent["data"]["__published"], true);
        assert_eq!(sent.get("promote"), None);
        assert_eq!(sent["data"]["versions"]["1.0.0"]["keywords"], json!([]));
        assert_eq!(
            sent["data"]["_attachments"]["c-1.0.0.tgz"]["data"],
            json!("AAAA")
        );
        let mut promoted = document;
        promoted["env"] = json!("test");
        promoted["_attachments"] = json!({});
        let (env, sent) = body(promoted, Some(json!(false)), "");
        assert_eq!((env.as_str(), &sent["promote"]), ("test", &json!(false)));
        assert_eq!(sent["data"].get("__published"), None);
        assert_eq!(
            sent["data"]["_attachments"],
            json!({"c-1.0.0.tgz": {}}),
            "an expected attachment is added"
        );
    }

    #[test]
    fn truthy_is_what_javascript_calls_so() {
        for yes in [json!({}), json!([]), json!("x"), json!(1), json!(true)] {
            assert!(truthy(Some(&yes)), "{yes}");
        }
        for no in [json!(null), json!(0), json!(""), json!(false)] {
            assert!(!truthy(Some(&no)), "{no}");
        }
        assert!(!truthy(None));
    }
}
