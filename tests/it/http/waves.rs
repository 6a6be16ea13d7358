//! What operators and pipelines ask and say about waves (rules 14-18, design.md 6).

use std::time::Duration;

use feedsme::plan::{Confirm, Rules};
use serde_json::{Value, json};

use crate::helpers::{Service, Setup, alone, document, start};

async fn with(rules: Rules) -> Service {
    let setup = Setup {
        rules,
        ..Setup::default()
    };
    start(setup, None).await
}

/// root ← a, b ← tip; nobody is there to build anything, so that all of it stands still.
async fn diamond(service: &Service) {
    service.publish("root", "1.0.0", json!({})).await;
    for side in ["a", "b"] {
        service
            .publish(side, "1.0.0", json!({"root": "^1.0.0"}))
            .await;
    }
    service
        .publish("tip", "1.0.0", json!({"a": "^1.0.0", "b": "^1.0.0"}))
        .await;
}

impl Service {
    async fn send(&self, method: reqwest::Method, path: &str, body: &Value) -> (u16, Value) {
        let url = format!("{}{path}", self.url);
        let request = self.client.request(method, url).json(body);
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        (status, response.json().await.unwrap())
    }

    async fn put(&self, path: &str, body: &Value) -> (u16, Value) {
        self.send(reqwest::Method::PUT, path, body).await
    }

    async fn delete(&self, path: &str) -> (u16, Value) {
        let url = format!("{}{path}", self.url);
        let response = self.client.delete(url).send().await.unwrap();
        let status = response.status().as_u16();
        (status, response.json().await.unwrap())
    }

    /// The build service reports a rebuild back; nobody needs to have built it.
    async fn notice(&self, name: &str, version: &str, dependencies: Value) -> String {
        self.publish(name, version, dependencies).await
    }

    async fn why(&self, package: &str, query: &str) -> (String, String) {
        let why = self.read(&format!("/why/{package}{query}")).await;
        let text = |field: &str| why[field].as_str().unwrap().to_owned();
        (text("state"), text("sentence"))
    }
}

fn column<'a>(list: &'a Value, field: &str) -> Vec<&'a str> {
    let items = list.as_array().unwrap();
    items
        .iter()
        .map(|one| one[field].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn design_6_a_dry_run_says_all_and_writes_nothing() {
    let service = alone().await;
    diamond(&service).await;
    service
        .publish("pinned", "1.0.0", json!({"root": "1.0.0"}))
        .await;
    let changes = service.read("/changes").await;
    let body = document("root", "1.1.0", json!({}));
    for (path, body) in [
        ("/plan", body.clone()),
        ("/plan", json!({"name": "root", "version": "1.1.0"})),
        (
            "/plan/dev",
            json!({"data": {"name": "root", "version": "1.1.0", "__published": true}}),
        ),
    ] {
        let (status, plan) = service.post(path, &body).await;
        assert_eq!(status, 200, "{plan}");
        assert_eq!(plan["verdict"], json!({"code": "opened"}));
        assert_eq!(
            plan["sentence"],
            "Publishing root@1.1.0 would rebuild 3 packages in 2 levels and skip 1 dependent."
        );
        assert_eq!(
            plan["counts"],
            json!({"rebuilds": 3, "skips": 1, "levels": 2})
        );
        assert_eq!(column(&plan["nodes"], "package"), ["a", "b", "tip"]);
        assert_eq!(column(&plan["nodes"], "version"), ["1.0.1-0"; 3]);
        assert_eq!(plan["nodes"][2]["waits_for"], json!(["a", "b"]));
        assert_eq!(plan["nodes"][2]["level"], 2);
        assert_eq!(column(&plan["skips"], "reason"), ["out_of_range"]);
        assert_eq!(plan["critical_path"], json!(["root", "a", "tip"]));
    }
    assert_eq!(service.read("/changes").await, changes);
    assert_eq!(service.read("/waves").await["items"], json!([]));

    // What was published already, and what has no line.
    let (_, again) = service
        .post("/plan", &document("root", "1.0.0", json!({})))
        .await;
    assert_eq!(again["verdict"]["code"], "duplicate");
    let (_, nothing) = service
        .post("/plan/test", &json!({"name": "root", "version": "7.0.0"}))
        .await;
    assert_eq!(nothing["verdict"]["code"], "no_release_line");
    let (_, promotion) = service
        .post("/plan/test", &json!({"name": "root", "version": "1.0.0"}))
        .await;
    assert_eq!(
        column(&promotion["nodes"], "package"),
        ["a", "b", "pinned", "tip"]
    );
    assert_eq!(service.post("/plan/nowhere", &body).await.0, 400);
    assert_eq!(service.post("/plan?wait=1", &body).await.0, 400);
    assert_eq!(service.get("/plan").await.0, 405);
    assert_eq!(service.read("/changes").await, changes);
}

#[tokio::test]
async fn rule_15_a_diamond_can_be_watched() {
    let service = alone().await;
    diamond(&service).await;
    let id = service.publish("root", "1.1.0", json!({})).await;
    let waves = service.read("/waves?state=open").await;
    assert_eq!(column(&waves["items"], "id"), [id.as_str()]);
    assert_eq!(
        service.read("/waves?state=closed").await["items"],
        json!([])
    );
    let path = format!("/waves/{id}");
    let wave = service.read(&path).await;
    assert_eq!(
        wave["sentence"],
        "Follows from the publish of root@1.1.0; it is under way, with 3 packages."
    );
    assert_eq!(wave["counts"], json!({"released": 2, "waiting": 1}));
    let tip = &wave["packages"]["items"][2];
    assert_eq!(tip["package"], "tip");
    assert_eq!(column(&tip["waits_for"], "package"), ["a", "b"]);
    assert_eq!(
        column(&tip["waits_for"], "standing"),
        ["released", "released"]
    );
    assert_eq!(
        (&tip["predicted"], &tip["base"]),
        (&json!("1.0.1-0"), &json!("1.0.0"))
    );
    let a = &wave["packages"]["items"][0];
    let state = a["rebuild"]["state"].as_str().unwrap();
    assert!(["queued", "sending"].contains(&state), "{state}");

    // A page at a time.
    let first = service.read(&format!("{path}?limit=2")).await;
    let next = first["packages"]["next"].as_str().unwrap();
    let second = service.read(&format!("{path}?limit=2&cursor={next}")).await;
    assert_eq!(column(&second["packages"]["items"], "package"), ["tip"]);
    assert_eq!(second["packages"]["next"], Value::Null);

    assert_eq!(
        service.why("tip", "?root=root@1.1.0").await,
        (
            "waiting".into(),
            "tip waits for a (being sent) and b (being sent). It follows root@1.1.0.".into()
        )
    );
    assert_eq!(service.why("a", "").await.0, "released");
    assert_eq!(service.why("root", "?root=root@1.1.0").await.0, "origin");
    assert_eq!(service.why("a", "?root=root@9.0.0").await.0, "unknown_root");

    for bad in [
        "/waves?state=odd",
        "/waves?limit=0",
        "/waves?what=1",
        "/why/a?root=b",
        "/why/a?env=x",
    ] {
        assert_eq!(service.get(bad).await.0, 400, "{bad}");
    }
    assert_eq!(service.get("/waves/none").await.0, 404);
    assert_eq!(service.get("/why/nobody").await.0, 404);
}

#[tokio::test]
async fn rule_17_approval_and_cancelling() {
    let rules = Rules {
        approve_above: Some(2),
        ..Rules::default()
    };
    let service = with(rules).await;
    diamond(&service).await;
    let (_, plan) = service
        .post("/plan", &document("root", "1.1.0", json!({})))
        .await;
    assert_eq!(plan["awaits_approval"], true);
    let id = service.publish("root", "1.1.0", json!({})).await;
    let wave = service.read(&format!("/waves/{id}")).await;
    assert_eq!(
        (&wave["state"], &wave["counts"]),
        (&json!("awaiting"), &json!({"waiting": 3}))
    );
    assert_eq!(
        service.why("a", "?root=root@1.1.0").await.1,
        "a waits, because the wave waits for an operator's approval. It follows root@1.1.0."
    );
    let (status, told) = service
        .post(&format!("/waves/{id}/approve"), &json!({}))
        .await;
    assert_eq!((status, &told["state"]), (200, &json!("open")));
    let seen = |wave: &Value| wave["counts"]["released"] == 2;
    service.until(&format!("/waves/{id}"), seen).await;
    let (status, told) = service
        .post(&format!("/waves/{id}/cancel"), &json!({}))
        .await;
    assert_eq!((status, &told["state"]), (200, &json!("cancelled")));
    let (status, refused) = service
        .post(&format!("/waves/{id}/approve"), &json!({}))
        .await;
    assert_eq!((status, &refused["code"]), (409, &json!("wave_state")));
    assert_eq!(service.post("/waves/none/cancel", &json!({})).await.0, 404);
    assert_eq!(
        service.why("tip", "?root=root@1.1.0").await.1,
        "The wave was cancelled before tip was sent."
    );
}

#[tokio::test]
async fn rule_17_holds_are_placed_shown_and_ended() {
    let service = alone().await;
    diamond(&service).await;
    let body = json!({"owner": "ada", "reason": "release week", "expires": "2h"});
    let (status, hold) = service.put("/holds/a", &body).await;
    assert_eq!(status, 200, "{hold}");
    let edge = json!({"owner": "bob", "reason": "not that one", "expires": null});
    let (_, edge) = service.put("/holds/tip?parent=b", &edge).await;
    assert_eq!(
        edge["sentence"],
        "tip is not rebuilt for b until the hold is removed: not that one (bob)."
    );
    let holds = service.read("/holds").await;
    assert_eq!(column(&holds["items"], "package"), ["a", "tip"]);

    let (_, plan) = service
        .post("/plan", &document("root", "1.1.0", json!({})))
        .await;
    assert_eq!(
        column(&plan["nodes"], "reason"),
        ["held", "admitted", "held"]
    );

    service.publish("root", "1.1.0", json!({})).await;
    let (state, sentence) = service.why("a", "?root=root@1.1.0").await;
    assert_eq!(state, "held");
    assert!(
        sentence.starts_with("ada holds a: it is not to be rebuilt before 20"),
        "{sentence}"
    );

    // Another reason takes its place; the same again changes nothing.
    let other = json!({"owner": "ada", "reason": "still", "expires": "2099-01-01T00:00:00Z"});
    let (_, second) = service.put("/holds/a", &other).await;
    assert_ne!(second["id"], hold["id"]);
    assert_eq!(service.put("/holds/a", &other).await.1["id"], second["id"]);
    assert_eq!(
        column(&service.read("/holds").await["items"], "reason"),
        ["still", "not that one"]
    );

    let (status, ended) = service.delete("/holds/a").await;
    assert_eq!((status, &ended["ended"]), (200, &json!([second["id"]])));
    assert_eq!(service.delete("/holds/a").await.0, 404);
    // What was held goes as a wave of its own.
    let released = |wave: &Value| {
        let items = wave["items"].as_array().unwrap();
        items
            .iter()
            .any(|wave| wave["start"]["code"] == "hold_ended" && wave["nodes"] == 2)
    };
    service.until("/waves", released).await;

    for (path, body, code) in [
        ("/holds/a", json!({"reason": "x"}), "missing_field"),
        (
            "/holds/a",
            json!({"owner": "x", "reason": "y", "expires": "soon"}),
            "invalid_expires",
        ),
        (
            "/holds/a",
            json!({"owner": "x", "reason": "y", "expires": "2001-01-01T00:00:00Z"}),
            "invalid_expires",
        ),
        (
            "/holds/a",
            json!({"owner": "x", "reason": "y", "until": "1h"}),
            "unknown_field",
        ),
        (
            "/holds/a?parent=%20",
            json!({"owner": "x", "reason": "y"}),
            "invalid_name",
        ),
        ("/holds/a", json!([]), "invalid_json"),
    ] {
        let (status, error) = service.put(path, &body).await;
        assert_eq!(
            (status, &error["code"]),
            (400, &json!(code)),
            "{path} {body} {error}"
        );
    }
    assert_eq!(service.put("/holds/nobody", &body).await.0, 404);
}

#[tokio::test]
async fn rule_15_outcomes_are_taken_and_told() {
    let rules = Rules {
        confirm: Confirm::Outcome,
        deadline: Duration::from_hours(1),
        ..Rules::default()
    };
    let service = with(rules).await;
    diamond(&service).await;
    service.publish("root", "1.1.0", json!({})).await;
    assert_eq!(service.why("a", "?root=root@1.1.0").await.0, "waiting");
    let built = json!({"name": "root", "version": "1.1.0", "env": "dev", "ok": true});
    assert_eq!(service.post("/outcomes", &built).await.0, 200);
    let sent = |why: &Value| why["state"] == "released";
    service.until("/why/a?root=root@1.1.0", sent).await;
    let broken = json!({"name": "a", "version": "1.0.1-0", "env": "dev", "ok": false, "message": "no tests pass"});
    assert_eq!(service.post("/outcomes", &broken).await.0, 200);
    let failed = |why: &Value| why["state"] == "failed";
    let why = service.until("/why/a?root=root@1.1.0", failed).await;
    assert_eq!(
        why["sentence"],
        "a failed: its build failed: no tests pass."
    );
    assert_eq!(why["outcomes"][0]["message"], "no tests pass");
    for (body, code) in [
        (
            json!({"name": "a", "version": "1.0.0", "env": "dev"}),
            "invalid_ok",
        ),
        (
            json!({"name": "a", "version": "1", "env": "dev", "ok": true}),
            "invalid_version",
        ),
        (
            json!({"name": "a", "version": "1.0.0", "env": "moon", "ok": true}),
            "unknown_environment",
        ),
        (
            json!({"version": "1.0.0", "env": "dev", "ok": true}),
            "missing_field",
        ),
    ] {
        let (status, error) = service.post("/outcomes", &body).await;
        assert_eq!((status, &error["code"]), (400, &json!(code)), "{error}");
    }
}

#[tokio::test]
async fn design_6_rebuilds_by_hand_and_replays() {
    let service = alone().await;
    diamond(&service).await;
    let id = service.publish("root", "1.1.0", json!({})).await;
    let (status, replayed) = service
        .post(&format!("/changes/{id}/replay"), &json!({}))
        .await;
    // One may be under way at this moment.
    let sends = replayed["sends"].as_u64().unwrap();
    assert!(status == 200 && sends <= 2, "{replayed}");
    assert_eq!(
        service.post("/changes/none/replay", &json!({})).await.0,
        404
    );
    let waves = service.read("/waves").await["items"]
        .as_array()
        .unwrap()
        .len();

    let body = json!({"name": "tip"}).to_string();
    let header = ("content-type", "application/json");
    let by_hand = async |key: &str| {
        let headers = [header, ("idempotency-key", key)];
        let (status, answer) = service
            .post_bytes("/rebuilds", &headers, body.clone())
            .await;
        assert_eq!(status, 200, "{answer}");
        answer["wave"].as_str().unwrap().to_owned()
    };
    let first = by_hand("one").await;
    assert_eq!(by_hand("one").await, first);
    assert_ne!(by_hand("two").await, first);
    let all = service.read("/waves").await;
    assert_eq!(all["items"].as_array().unwrap().len(), waves + 2);
    let wave = service.read(&format!("/waves/{first}")).await;
    assert_eq!(wave["start"], json!({"code": "by_hand", "package": "tip"}));
    assert_eq!(
        service
            .post("/rebuilds", &json!({"name": "nobody"}))
            .await
            .0,
        404
    );
    assert_eq!(service.post("/rebuilds", &json!({})).await.0, 400);
}

#[tokio::test]
async fn a_package_is_stale_until_it_is_rebuilt() {
    let service = alone().await;
    diamond(&service).await;
    let fresh = service.read("/packages/a").await;
    assert_eq!(
        (&fresh["stale"], &fresh["stale_because"]),
        (&json!(false), &Value::Null)
    );
    let id = service.publish("root", "1.1.0", json!({})).await;
    let change = service.read(&format!("/changes/{id}")).await;
    let stale = service.read("/packages/a").await;
    assert_eq!(stale["stale"], true);
    let because = &stale["stale_because"]["because"][0];
    assert_eq!(
        (
            &because["parent"],
            &because["version"],
            &because["built_with"]
        ),
        (&json!("root"), &json!("1.1.0"), &json!("1.0.0"))
    );
    assert!(stale["stale_because"]["since"].as_str() >= change["accepted"].as_str());
    service
        .notice("a", "1.0.1-0", json!({"root": "^1.0.0"}))
        .await;
    assert_eq!(service.read("/packages/a").await["stale"], false);
    assert_eq!(service.read("/packages/tip").await["stale"], true);
    assert_eq!(service.read("/packages/root").await["stale"], false);
}
