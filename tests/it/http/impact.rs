//! Whom a version would reach (design.md 6, `…/impact`).

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::helpers::{Service, alone, document};

/// `["name@version", …]` of a list of what is reached.
fn reached(answer: &Value) -> Vec<String> {
    let items = answer["affected"]["items"].as_array().unwrap();
    let one = |one: &Value| {
        let text = |key: &str| one[key].as_str().unwrap().to_owned();
        format!("{} {}@{}", one["level"], text("package"), text("version"))
    };
    items.iter().map(one).collect()
}

async fn graph(service: &Service) {
    for (name, version, declared) in [
        ("root", "1.0.0", json!({})),
        ("a", "1.0.0", json!({"root": "^1.0.0", "left-pad": "*"})),
        ("@s/b", "2.0.0", json!({"root": "latest"})),
        ("tip", "1.0.0", json!({"a": "^1.0.0", "@s/b": "^2.0.0"})),
        ("pinned", "1.0.0", json!({"root": "1.0.0"})),
        ("git", "1.0.0", json!({"a": "git+https://x.example/a.git"})),
        ("gone", "1.0.0", json!({"root": "*"})),
        ("gone", "1.1.0", json!({})),
        ("alias", "1.0.0", json!({"r": "npm:root@^1.0.0"})),
    ] {
        service.publish(name, version, declared).await;
    }
}

#[tokio::test]
async fn rules_3_to_5_whom_a_version_would_reach() {
    let service = alone().await;
    graph(&service).await;
    let answer = service.read("/packages/root/impact?version=1.1.0").await;
    assert_eq!(
        reached(&answer),
        [
            "1 @s/b@2.0.1-0",
            "1 a@1.0.1-0",
            "1 alias@1.0.1-0",
            "2 tip@1.0.1-0"
        ]
    );
    assert_eq!(
        answer["counts"],
        json!({
            "direct": 3, "transitive": 4, "by_level": [3, 1], "circles": 0, "longest_chain": 3, "out_of_range": 2
        })
    );
    assert_eq!(answer["longest_chain"], json!(["root", "@s/b", "tip"]));
    assert_eq!(
        answer["out_of_range"],
        json!([
            {"package": "git", "version": "1.0.0", "parent": "a", "parent_version": "1.0.1-0", "range": "git+https://x.example/a.git"},
            {"package": "pinned", "version": "1.0.0", "parent": "root", "parent_version": "1.1.0", "range": "1.0.0"}
        ])
    );
    assert_eq!(
        answer["sentence"],
        "root@1.1.0 would reach 4 packages in 2 levels, 3 of them directly; the ranges of 2 more are in the way."
    );
    assert_eq!(
        (
            &answer["package"],
            &answer["version"],
            &answer["highest"],
            &answer["exact"]
        ),
        (
            &json!("root"),
            &json!("1.1.0"),
            &json!("1.0.0"),
            &json!(false)
        )
    );
    assert!(answer["as_of"].as_str().unwrap().ends_with('Z'));

    // Whichever comes next: whoever lets 1.0.0 in is taken to let it in.
    let next = service.read("/packages/root/impact").await;
    assert_eq!(next["version"], Value::Null);
    assert_eq!(next["counts"]["direct"], 4, "pinned, too");
    assert_eq!(next["exact"], false);
    assert_eq!(
        next["sentence"],
        "A version of root that is let in like 1.0.0 would reach 5 packages in 2 levels, 4 of them directly; the range of 1 more is in the way."
    );
    let tip = service.read("/packages/tip/impact?version=9.0.0").await;
    assert_eq!(
        (
            &tip["counts"]["transitive"],
            &tip["exact"],
            &tip["longest_chain"]
        ),
        (&json!(0), &json!(true), &json!([]))
    );
    assert_eq!(tip["sentence"], "tip@9.0.0 would reach nobody.");
    // A version that we made, or would take for ours, passes where its origin does.
    let made = service.read("/packages/@s/b/impact?version=2.0.1-5").await;
    assert_eq!(reached(&made), ["1 tip@1.0.1-0"]);
    let not = service
        .read("/packages/%40s%2Fb/impact?version=2.1.0-5")
        .await;
    assert_eq!(reached(&not), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_reached_comes_in_pages() {
    let service = alone().await;
    graph(&service).await;
    let path = "/packages/root/impact?version=1.1.0";
    let whole = service.read(path).await;
    for limit in 1..6 {
        let mut seen = Vec::new();
        let mut next = String::new();
        loop {
            let page = service.read(&format!("{path}&limit={limit}{next}")).await;
            assert_eq!(page["counts"], whole["counts"]);
            seen.extend(reached(&page));
            match page["affected"]["next"].as_str() {
                Some(cursor) => next = format!("&cursor={cursor}"),
                None => break,
            }
        }
        assert_eq!(seen, reached(&whole), "in pages of {limit}");
    }
}

#[tokio::test]
async fn what_cannot_be_answered_says_why() {
    let service = alone().await;
    graph(&service).await;
    for (path, status, code, field) in [
        (
            "/packages/nobody/impact",
            404,
            "package_not_found",
            Value::Null,
        ),
        // Named by a, but nobody published it (rule 3).
        (
            "/packages/left-pad/impact?version=1.0.0",
            404,
            "package_not_found",
            Value::Null,
        ),
        (
            "/packages/root/impact?version=one",
            400,
            "invalid_version",
            json!("version"),
        ),
        (
            "/packages/root/impact?version=",
            400,
            "invalid_version",
            json!("version"),
        ),
        (
            "/packages/root/impact?version=1.0.0&version=1.0.1",
            400,
            "invalid_query",
            json!("version"),
        ),
        (
            "/packages/.root/impact",
            400,
            "invalid_name",
            json!("package"),
        ),
        (
            "/packages/root/impact?limit=0",
            400,
            "invalid_limit",
            json!("limit"),
        ),
        (
            "/packages/root/impact?cursor=x",
            400,
            "invalid_cursor",
            json!("cursor"),
        ),
        (
            "/packages/root/impact?after=x",
            400,
            "unknown_parameter",
            json!("after"),
        ),
    ] {
        let (got, answer) = service.get(path).await;
        assert_eq!(
            (got, &answer["code"], &answer["field"]),
            (status, &json!(code), &field),
            "{path}"
        );
    }
    let (status, _) = service.post("/packages/root/impact", &json!({})).await;
    assert_eq!(status, 405);
}

#[tokio::test]
async fn changes_are_in_the_next_answer() {
    let service = alone().await;
    let path = "/packages/root/impact?version=1.1.0";
    service.publish("root", "1.0.0", json!({})).await;
    let found = async || reached(&service.read(path).await);
    assert!(found().await.is_empty());
    service
        .publish("a", "1.0.0", json!({"root": "^1.0.0"}))
        .await;
    assert_eq!(found().await, ["1 a@1.0.1-0"]);
    service.publish("b", "1.0.0", json!({"a": "*"})).await;
    assert_eq!(found().await, ["1 a@1.0.1-0", "2 b@1.0.1-0"]);
    service
        .publish("b", "1.2.0", json!({"a": "*", "root": "*"}))
        .await;
    assert_eq!(found().await, ["1 a@1.0.1-0", "2 b@1.2.1-0"]);
    // An older version has no say; a tag of its own neither (rules 1 and 5).
    service.publish("b", "0.1.0", json!({})).await;
    let mut tagged = document("a", "3.0.0", json!({}));
    tagged["dist-tags"] = json!({"next": "3.0.0"});
    service.change("/change", &tagged).await;
    assert_eq!(found().await, ["1 a@1.0.1-0", "2 b@1.2.1-0"]);
    service
        .publish("a", "2.0.0", json!({"root": "^2.0.0"}))
        .await;
    assert_eq!(found().await, ["1 b@1.2.1-0"]);
    // Seen first as somebody else's, ours once its origin is known: then it passes through ^1.0.0.
    service.publish("c", "1.0.1-0", json!({"root": "*"})).await;
    service.publish("d", "1.0.0", json!({"c": "^1.0.0"})).await;
    assert_eq!(found().await, ["1 b@1.2.1-0", "1 c@1.0.1-1"]);
    service.publish("c", "1.0.0", json!({"root": "*"})).await;
    assert_eq!(found().await, ["1 b@1.2.1-0", "1 c@1.0.1-1", "2 d@1.0.1-0"]);
}

/// The same packages, levels and versions as a dry run, where it says that it is exact.
#[tokio::test]
async fn it_agrees_with_a_dry_run() {
    let service = alone().await;
    for (name, declared) in [
        ("root", json!({})),
        ("x", json!({"root": "^1.0.0", "z": "*"})),
        ("y", json!({"x": "^1.0.0"})),
        ("z", json!({"y": "*", "root": "~1.0.0 || ^1.1.0"})),
        ("end", json!({"z": ">=1.0.0", "y": "*"})),
        ("aside", json!({"end": "1.x"})),
        ("alone", json!({"nobody": "*"})),
    ] {
        service.publish(name, "1.0.0", declared).await;
    }
    // Nothing has been sent, but the waves of these publishes have reserved versions: those of a fresh one differ.
    let (status, plan) = service
        .post("/plan", &document("root", "1.1.0", json!({})))
        .await;
    assert_eq!(status, 200);
    let answer = service.read("/packages/root/impact?version=1.1.0").await;
    assert_eq!(answer["exact"], true);
    let both = |items: &Value| -> BTreeSet<String> {
        let items = items.as_array().unwrap().iter();
        items
            .map(|one| format!("{} {}", one["level"], one["package"]))
            .collect()
    };
    assert_eq!(both(&answer["affected"]["items"]), both(&plan["nodes"]));
    assert_eq!(answer["longest_chain"], plan["critical_path"]);
    assert_eq!(
        answer["counts"]["circles"],
        plan["components"].as_array().unwrap().len()
    );
    assert_eq!(answer["counts"]["transitive"], 5);
}
