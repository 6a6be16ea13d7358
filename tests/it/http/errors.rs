use serde_json::{Value, json};

use super::raw;
use crate::helpers::{Service, alone, document};

/// Nothing was written at all.
async fn is_empty(service: &Service) {
    assert!(
        service
            .core
            .store
            .changes(None, 10)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(service.core.store.names(None, 10).await.unwrap().is_empty());
    assert!(
        feedsme::store::all_pending(&*service.core.store)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn rule_1_bad_documents_are_400_name_the_field_and_write_nothing() {
    let service = alone().await;
    let changed = |change: fn(&mut Value)| {
        let mut body = document("root", "1.0.0", json!({}));
        change(&mut body);
        body
    };
    let long = "x".repeat(64 * 1024);
    for (body, code, field) in [
        (json!(null), "invalid_body", ""),
        (json!("text"), "invalid_body", ""),
        (json!([1]), "invalid_body", ""),
        (json!(7), "invalid_body", ""),
        (json!({}), "missing_name", "name"),
        (json!({"data": null}), "invalid_data", "data"),
        (json!({"data": "{}"}), "invalid_data", "data"),
        (json!({"data": []}), "invalid_data", "data"),
        (json!({"promote": true}), "missing_data", "data"),
        (json!({"data": {}}), "missing_name", "data.name"),
        (
            json!({"data": document("root", "1.0.0", json!({})), "promote": null}),
            "invalid_promote",
            "promote",
        ),
        (
            json!({"data": document("root", "1.0.0", json!({})), "promote": 1}),
            "invalid_promote",
            "promote",
        ),
        (
            json!({"__proto__": {"name": "root"}}),
            "missing_name",
            "name",
        ),
        (
            changed(|body| body["name"] = json!(null)),
            "missing_name",
            "name",
        ),
        (
            changed(|body| body["name"] = json!(["root"])),
            "invalid_name",
            "name",
        ),
        (
            changed(|body| body["name"] = json!("../etc/passwd")),
            "invalid_name",
            "name",
        ),
        (
            changed(|body| body["name"] = json!("a\u{0}b")),
            "invalid_name",
            "name",
        ),
        (
            json!({"name": long, "version": "1.0.0"}),
            "invalid_name",
            "name",
        ),
        (
            changed(|body| body["dist-tags"] = json!(["latest"])),
            "invalid_tag",
            "dist-tags",
        ),
        (
            changed(|body| body["dist-tags"] = json!({"latest": null, "next": null})),
            "missing_tag",
            "dist-tags.latest",
        ),
        (
            changed(|body| body["dist-tags"]["latest"] = json!("newest")),
            "invalid_version",
            "dist-tags.latest",
        ),
        (
            changed(|body| body["dist-tags"]["latest"] = json!("2.0.0")),
            "missing_version",
            "versions[\"2.0.0\"]",
        ),
        (
            changed(|body| body["versions"] = json!("1.0.0")),
            "invalid_versions",
            "versions",
        ),
        (
            changed(|body| body["versions"]["1.0.0"] = json!(1)),
            "invalid_manifest",
            "versions[\"1.0.0\"]",
        ),
        (
            changed(|body| body["versions"]["1.0.0"]["dependencies"] = json!("root")),
            "invalid_dependencies",
            "versions[\"1.0.0\"].dependencies",
        ),
        (
            changed(|body| body["versions"]["1.0.0"]["dependencies"] = json!({"a": 1})),
            "invalid_dependencies",
            "versions[\"1.0.0\"].dependencies.a",
        ),
        (
            changed(|body| body["versions"]["1.0.0"]["name"] = json!("other")),
            "name_mismatch",
            "versions[\"1.0.0\"].name",
        ),
        (changed(|body| body["env"] = json!(1)), "invalid_env", "env"),
    ] {
        for path in ["/v2/change/dev", "/change"] {
            let (status, answer) = service.post(path, &body).await;
            assert_eq!(
                (status, answer["code"].as_str()),
                (400, Some(code)),
                "{body}: {answer}"
            );
            assert_eq!(answer["field"].as_str().unwrap_or(""), field, "{answer}");
            assert_eq!(answer["ok"], false);
            let message = answer["message"].as_str().unwrap();
            assert!(
                message.starts_with("400 ") && message.contains(field) && message.len() < 600,
                "{message}"
            );
        }
    }
    is_empty(&service).await;
}

#[tokio::test]
async fn design_6_unknown_environments_are_400() {
    let service = alone().await;
    let body = document("root", "1.0.0", json!({}));
    for path in [
        "/v2/change/DEV",
        "/v2/change/qa",
        "/change/Test",
        "/change/%00",
        "/change/%FF",
        "/v2/change/dev%2Fx",
    ] {
        let (status, answer) = service.post(path, &body).await;
        assert_eq!(
            (status, &answer["code"], &answer["field"]),
            (400, &json!("unknown_environment"), &json!("env")),
            "{path}"
        );
        assert!(
            answer["message"]
                .as_str()
                .unwrap()
                .ends_with("use dev, test, prod")
        );
    }
    let (status, answer) = service
        .post(
            "/change",
            &json!({"name": "root", "version": "1.0.0", "env": "qa"}),
        )
        .await;
    assert_eq!(
        (status, &answer["code"]),
        (400, &json!("unknown_environment"))
    );
    is_empty(&service).await;
}

#[tokio::test]
async fn texts_that_are_no_json_are_400() {
    let service = alone().await;
    let json = [("content-type", "application/json; charset=utf-8")];
    for body in [
        &b""[..],
        b"{",
        b"{\"name\":",
        b"nonsense",
        b"{} {}",
        b"{\"name\":\"\xff\xfe\",\"version\":\"1.0.0\"}",
        b"{\"name\":\"a\",\"version\":\"1.0.0\",}",
        b"{\"name\":\"a\",\"version\":NaN}",
        b"{}\xef\xbb\xbf",
        "[".repeat(100_000).as_bytes(),
        "{\"a\":".repeat(100_000).as_bytes(),
    ] {
        let (status, answer) = service.post_bytes("/change", &json, body.to_vec()).await;
        let code = answer["code"].as_str().unwrap();
        assert_eq!(
            (status, code),
            (400, "invalid_json"),
            "{:?}",
            &body[..body.len().min(20)]
        );
    }
    is_empty(&service).await;
}

#[tokio::test]
async fn the_last_of_two_equal_keys_counts() {
    let service = alone().await;
    let body = r#"{"name":"a","name":"b","version":"1.0.0","version":"2.0.0"}"#;
    let (status, answer) = service
        .post_bytes("/change", &[("content-type", "application/json")], body)
        .await;
    assert_eq!(status, 200);
    let change = service.planned(answer["id"].as_str().unwrap()).await;
    assert_eq!(
        (&change["package"], &change["version"]),
        (&json!("b"), &json!("2.0.0"))
    );
}

#[tokio::test]
async fn design_6_other_content_types_are_415() {
    let service = alone().await;
    let body = document("root", "1.0.0", json!({})).to_string();
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonp",
        "application/vnd.npm+json",
        "",
        "json",
    ] {
        let (status, answer) = service
            .post_bytes("/change", &[("content-type", kind)], body.clone())
            .await;
        assert_eq!(
            (status, &answer["code"]),
            (415, &json!("unsupported_content_type")),
            "{kind:?}"
        );
    }
    assert_eq!(
        service.post_bytes("/change", &[], body.clone()).await.0,
        415
    );
    is_empty(&service).await;
    for kind in [
        "Application/JSON",
        "application/json;charset=latin1",
        " application/json ; x=y",
    ] {
        assert_eq!(
            service
                .post_bytes("/change", &[("content-type", kind)], body.clone())
                .await
                .0,
            200,
            "{kind:?}"
        );
    }
}

#[tokio::test]
async fn parameters_are_judged() {
    let service = alone().await;
    let id = service.publish("root", "1.0.0", json!({})).await;
    for limit in [
        "0",
        "501",
        "-1",
        "x",
        "",
        "1.5",
        "99999999999999999999",
        "%2B5x",
    ] {
        for path in [
            "/changes",
            "/packages",
            "/packages/root",
            "/packages/root/versions",
            &format!("/changes/{id}"),
        ] {
            let (status, answer) = service.get(&format!("{path}?limit={limit}")).await;
            assert_eq!(
                (status, &answer["code"], &answer["field"]),
                (400, &json!("invalid_limit"), &json!("limit")),
                "{path} {limit}"
            );
        }
    }
    assert_eq!(service.get("/changes?limit=500").await.0, 200);
    assert_eq!(
        service.get("/changes?limit=1&limit=2").await.1["code"],
        "invalid_query"
    );
    for path in [
        "/changes",
        "/packages",
        "/packages/root/versions",
        "/packages/root/dependents",
        "/packages/root/dependent-of",
        "/packages/root/release-lines",
        &format!("/changes/{id}"),
    ] {
        for cursor in [
            "",
            "x",
            "!!!",
            "cGFja2FnZXM6Li4v",
            "bmFtZXM6YQ",
            "%FF%FE",
            &"A".repeat(5000),
        ] {
            let (status, answer) = service.get(&format!("{path}?cursor={cursor}")).await;
            assert_eq!(
                (status, &answer["code"]),
                (400, &json!("invalid_cursor")),
                "{path} {cursor}"
            );
        }
    }
    let body = document("other", "1.0.0", json!({}));
    for wait in [
        "-1",
        "61",
        "60.1",
        "x",
        "",
        "NaN",
        "inf",
        "1e3",
        "1e-3",
        "+1",
        "0x1",
        "1,5",
        "99999999999999999999999",
    ] {
        let (status, answer) = service.post(&format!("/change?wait={wait}"), &body).await;
        assert_eq!(
            (status, &answer["code"], &answer["field"]),
            (400, &json!("invalid_wait"), &json!("wait")),
            "{wait}"
        );
    }
    assert_eq!(service.get("/packages/other").await.0, 404);
}

#[tokio::test]
async fn unknown_parameters_are_400_where_nobody_has_reason_to_add_any() {
    let service = alone().await;
    let id = service.publish("root", "1.0.0", json!({})).await;
    for path in [
        "/status",
        "/changes",
        &format!("/changes/{id}"),
        "/packages",
        "/packages/root",
        "/packages/root/versions",
        "/packages/root/dependents",
        "/packages/root/dependent-of",
        "/packages/root/release-lines",
        "/release-line/root",
        "/release-line/root/1.0.0",
        "/rebuilds/nobody",
    ] {
        for query in ["?limt=1", "?=", "?Limit=1&limit=1", "?wait=1"] {
            let (status, answer) = service.get(&format!("{path}{query}")).await;
            let named = query[1..].split('=').next().unwrap();
            assert_eq!(
                (status, &answer["code"], &answer["field"]),
                (400, &json!("unknown_parameter"), &json!(named)),
                "{path}{query}"
            );
            let message = answer["message"].as_str().unwrap();
            assert!(message.contains(&format!("{named:?}")), "{message}");
        }
    }
    let (status, answer) = service.post("/rebuilds/x/retry?force=1", &json!({})).await;
    assert_eq!((status, &answer["field"]), (400, &json!("force")));
    let (_, answer) = service.get("/packages/root?cursor=x").await;
    assert_eq!(answer["field"], "cursor", "it is no list");
    let (_, answer) = service.get("/changes?before=1").await;
    assert_eq!(
        answer["message"],
        "400 query: \"before\" is not a parameter here: use limit, cursor"
    );
    // Clients that post changes may add what they like, and so may load balancers.
    for path in ["/change?a=1", "/v2/change/dev?wait=0&trace=x"] {
        let (status, answer) = service.post(path, &document("b", "1.0.0", json!({}))).await;
        assert_eq!(status, 200, "{path}: {answer}");
    }
    for path in ["/healthcheck", "/healthcheck.html", "/livez", "/readyz"] {
        let url = format!("{}{path}?from=balancer", service.url);
        let response = service.client.get(url).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
    }
}

/// As the Node software, and RFC 8259 allows it.
#[tokio::test]
async fn a_byte_order_mark_before_the_json_is_skipped() {
    let service = alone().await;
    let header = ("content-type", "application/json");
    for (at, shape) in ["/change", "/v2/change/dev"].iter().enumerate() {
        let document = document(&format!("marked-{at}"), "1.0.0", json!({}));
        let body = match at {
            0 => document,
            _ => json!({"data": document}),
        };
        let text = format!("\u{feff}{body}");
        let (status, answer) = service.post_bytes(shape, &[header], text).await;
        assert_eq!(status, 200, "{answer}");
    }
    let twice = format!("\u{feff}\u{feff}{}", document("c", "1.0.0", json!({})));
    let (status, answer) = service.post_bytes("/change", &[header], twice).await;
    assert_eq!((status, &answer["code"]), (400, &json!("invalid_json")));
}

#[tokio::test]
async fn things_that_are_not_there_are_404_and_bad_names_400() {
    let service = alone().await;
    // its dependency is named, but not managed
    service
        .publish("child", "1.0.0", json!({"unmanaged": "^1.0.0"}))
        .await;
    for path in [
        "/packages/nothing",
        "/packages/unmanaged",
        "/packages/unmanaged/dependents",
        "/packages/unmanaged/versions",
        "/packages/unmanaged/release-lines",
        "/packages/@s/c/dependent-of",
        "/changes/nothing",
        "/changes/%FF",
        "/rebuilds/nothing",
        "/packages/@s%2F",
    ] {
        let (status, answer) = service.get(path).await;
        assert_eq!((status, &answer["ok"]), (404, &json!(false)), "{path}");
        assert!(
            answer["message"].as_str().unwrap().starts_with("404 "),
            "{answer}"
        );
    }
    assert_eq!(
        service.post("/rebuilds/nothing/retry", &json!({})).await.0,
        404
    );
    for path in [
        "/packages/.x",
        "/packages/%00",
        "/packages/%FF",
        "/packages/a%20b",
        "/packages/..%2F..%2Fetc",
        "/release-line/_x",
        &format!("/packages/{}", "x".repeat(215)),
    ] {
        let (status, answer) = service.get(path).await;
        assert_eq!(
            (status, &answer["code"]),
            (400, &json!("invalid_name")),
            "{path} {answer}"
        );
    }
}

#[tokio::test]
async fn internals_never_leak() {
    let service = alone().await;
    service.publish("root", "1.0.0", json!({})).await;
    let mut seed = 4_u64;
    let mut next = move |below: usize| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % below
    };
    let parts = [
        "/",
        "packages",
        "root",
        "%",
        "%2F",
        "%00",
        "@s",
        "..",
        "change",
        "v2",
        "dev",
        "?limit=",
        "&cursor=",
        "'",
        "\"",
        "%F0%9F%98%80",
        "release-line",
        "1.0.0",
        "rebuilds",
        "retry",
        "changes",
        "{",
        "}",
        "*",
        "~",
        "%25",
        ";--",
    ];
    let bodies = [
        "{\"name\":",
        "\"root\"",
        "{",
        "}",
        ":",
        "\"versions\":",
        "null",
        "[",
        "]",
        ",",
        "\"dist-tags\":",
        "1e999",
        "\"\\ud800\"",
        "\"data\":",
        "\"_attachments\":",
        "\u{e9}",
    ];
    for round in 0..600 {
        let mut path = String::from("/");
        for _ in 0..next(7) {
            path.push_str(parts[next(parts.len())]);
        }
        let mut body = String::new();
        for _ in 0..next(12) {
            body.push_str(bodies[next(bodies.len())]);
        }
        let method = ["GET", "POST", "HEAD", "PUT"][next(4)];
        let path = if round % 3 == 0 {
            "/change".to_owned()
        } else {
            path
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let answer = raw(&service, request.as_bytes()).await;
        let status: u16 = answer
            .get(9..12)
            .and_then(|status| status.parse().ok())
            .unwrap_or(0);
        assert!((200..500).contains(&status), "{request} -> {answer}");
        for inside in [
            "panick",
            "src/",
            ".rs",
            "sqlite",
            "SELECT",
            "rusqlite",
            "/tmp",
            "feedsme::",
            "serde",
        ] {
            assert!(!answer.contains(inside), "{request} -> {answer}");
        }
    }
    assert_eq!(service.get("/readyz").await.0, 200);
}
