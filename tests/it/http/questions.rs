use feedsme::sandbox::{Fault, FaultKind, Role, Sandbox, SandboxOptions, Tarball};
use serde_json::{Value, json};

use crate::helpers::{Service, alone, document, with_sandbox};

fn texts<'a>(list: &'a Value, key: &str) -> Vec<&'a str> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|item| item[key].as_str().unwrap())
        .collect()
}

/// Publishes a version into the sandbox's registry and posts it as a change.
async fn publish(
    sandbox: &Sandbox,
    service: &Service,
    name: &str,
    version: &str,
    dependencies: Value,
) -> String {
    sandbox
        .publish(
            document(name, version, dependencies.clone()),
            &Tarball::Synthetic(300),
        )
        .unwrap();
    service.publish(name, version, dependencies).await
}

#[tokio::test]
async fn a_publish_can_be_followed_from_change_to_release_line() {
    let sandbox = Sandbox::start(SandboxOptions::default()).await.unwrap();
    let service = with_sandbox(&sandbox).await;
    publish(&sandbox, &service, "root", "1.0.0", json!({})).await;
    publish(
        &sandbox,
        &service,
        "@s/child",
        "1.0.0",
        json!({"root": "^1.0.0", "left-pad": "*"}),
    )
    .await;
    publish(
        &sandbox,
        &service,
        "pinned",
        "2.0.0",
        json!({"root": "1.0.0"}),
    )
    .await;
    let id = publish(&sandbox, &service, "root", "1.1.0", json!({})).await;

    let line = service
        .until("/release-line/root", |line| {
            line["dependents"]["@s/child"] == "1.0.1-0"
        })
        .await;
    assert_eq!(
        line,
        json!({"pkg": "root", "version": "1.1.0", "previousVersion": "1.0.0", "dependents": {"@s/child": "1.0.1-0"}})
    );
    assert_eq!(
        service.read("/release-line/root/1.0.0").await,
        json!({"pkg": "root", "version": "1.0.0", "previousVersion": null, "dependents": {"@s/child": "1.0.0", "pinned": "2.0.0"}})
    );
    let keys: Vec<String> = line.as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["pkg", "version", "previousVersion", "dependents"]);

    // The notice may be quicker than what is written about the answer.
    let change = service
        .until(&format!("/changes/{id}"), |change| {
            let rebuild = &change["decisions"]["items"][0]["rebuild"];
            rebuild["attempts"][0]["outcome"] == "sent"
        })
        .await;
    assert_eq!(
        (&change["kind"], &change["env"], &change["verdict"]["code"]),
        (&json!("publish"), &json!("dev"), &json!("opened"))
    );
    assert_eq!(
        change["sentence"],
        "The publish of root@1.1.0 opened a wave of its own: 1 rebuild decided, 1 dependent skipped."
    );
    let decisions = &change["decisions"]["items"];
    assert_eq!(texts(decisions, "dependent"), ["@s/child", "pinned"]);
    assert_eq!(texts(decisions, "reason"), ["admitted", "out_of_range"]);
    assert_eq!(
        decisions[0]["sentence"],
        "@s/child@1.0.0 is the highest version of @s/child, and \"^1.0.0\" admits root@1.1.0."
    );
    assert_eq!(
        decisions[1]["sentence"],
        "No published version of pinned admits root@1.1.0 (pinned@2.0.0 declares \"1.0.0\"): publish pinned by hand with a range that does."
    );
    assert_eq!(
        decisions[0]["inputs"],
        json!({"parent": "root", "parent_version": "1.1.0", "range": "^1.0.0", "top": "1.0.0", "base": "1.0.0", "env": "dev", "wave": id})
    );
    let rebuild = &decisions[0]["rebuild"];
    assert_eq!(
        (&rebuild["state"], &rebuild["attempts"][0]["outcome"]),
        (&json!("published"), &json!("sent"))
    );
    assert_eq!(rebuild["attempts"][0]["neighbour"], "warehouse");
    assert!(decisions[1]["rebuild"].is_null());

    let view = service
        .read(&format!("/rebuilds/{}", rebuild["id"].as_str().unwrap()))
        .await;
    assert_eq!(
        (&view["package"], &view["version"], &view["env"]),
        (&json!("@s/child"), &json!("1.0.1-0"), &Value::Null)
    );
    assert_eq!(
        (&view["made"]["base"], &view["made"]["cause"]),
        (
            &json!("1.0.0"),
            &json!([{"parent": "root", "version": "1.1.0"}])
        )
    );
    assert_eq!(view["made"]["with"], json!({"root": "1.1.0"}));
    assert_eq!(view["change"], json!(id));
    assert_eq!(
        (&view["attempt"], &view["ended_because"], &view["due"]),
        (&json!(1), &Value::Null, &Value::Null)
    );
    assert_eq!(
        view["sentence"],
        "@s/child@1.0.1-0 is done: the notice of its publish came."
    );
    let notice = format!("/changes/{}", view["confirmed_by"].as_str().unwrap());
    let notice = service
        .until(&notice, |notice| !notice["verdict"].is_null())
        .await;
    assert_eq!(notice["verdict"]["code"], "answers");
    assert_eq!(notice["verdict"]["rebuild"], view["id"]);

    let package = service.read("/packages/@s/child").await;
    assert_eq!(
        (
            &package["versions"],
            &package["highest"],
            &package["highest_origin"]
        ),
        (&json!(2), &json!("1.0.1-0"), &json!("1.0.0"))
    );
    let versions = service.read("/packages/%40s%2Fchild/versions").await;
    assert_eq!(texts(&versions["items"], "version"), ["1.0.1-0", "1.0.0"]);
    assert_eq!(
        (
            &versions["items"][0]["rebuild"],
            &versions["items"][0]["lines"]
        ),
        (&view["id"], &json!({"root": "1.1.0"}))
    );
    let parents = service.read("/packages/@s/child/dependent-of").await;
    assert_eq!(parents["dependent_of"], "root");
    assert_eq!(
        parents["parents"]["items"],
        json!([{"name": "root", "range": "^1.0.0", "highest": "1.1.0"}])
    );
    let dependents = service.read("/packages/root/dependents").await;
    assert_eq!(texts(&dependents["items"], "name"), ["@s/child", "pinned"]);
    assert_eq!(
        service.read("/packages/root").await["dependents"],
        dependents
    );
    let lines = service.read("/packages/root/release-lines").await;
    assert_eq!(
        lines["items"],
        json!([{"version": "1.1.0", "previous_version": "1.0.0", "head": true}, {"version": "1.0.0", "previous_version": null, "head": false}])
    );

    let promotion = service
        .change("/v2/change/test", &document("root", "1.1.0", json!({})))
        .await;
    let change = service
        .until(&format!("/changes/{promotion}"), |change| {
            change["decisions"]["items"][0]["rebuild"]["state"] == "published"
        })
        .await;
    assert_eq!(
        change["sentence"],
        "The promotion of root@1.1.0 to test opened a wave of its own: 1 rebuild decided, 1 dependent skipped."
    );
    let decisions = &change["decisions"]["items"];
    assert_eq!(
        texts(decisions, "reason"),
        ["in_release_line", "not_in_release_line"]
    );
    assert_eq!(
        decisions[0]["rebuild"]["attempts"][0]["neighbour"],
        "build_service"
    );
    assert_eq!(
        service.read("/packages/root").await["environments"],
        json!({"test": "1.1.0"})
    );
    let view = service
        .read(&format!(
            "/rebuilds/{}",
            decisions[0]["rebuild"]["id"].as_str().unwrap()
        ))
        .await;
    assert_eq!(view["env"], "test");
}

#[tokio::test]
async fn contract_6_what_has_no_release_line_is_answered_in_the_warehouses_words() {
    let service = alone().await;
    service.publish("root", "1.0.0", json!({})).await;
    for (path, message) in [
        (
            "/release-line/root/2.0.0",
            "ReleaseLine not found for root 2.0.0",
        ),
        ("/release-line/nothing", "ReleaseLine not found for nothing"),
        ("/release-line/%40s%2Fc", "ReleaseLine not found for @s/c"),
        (
            "/release-line/@s/c/1.0.0",
            "ReleaseLine not found for @s/c 1.0.0",
        ),
    ] {
        let (status, answer) = service.get(path).await;
        assert_eq!(
            (status, answer["message"].as_str()),
            (404, Some(message)),
            "{path}"
        );
    }
    for version in ["latest", "x", "1", "^1.0.0", "1.0", "%2F"] {
        let (status, answer) = service.get(&format!("/release-line/root/{version}")).await;
        assert_eq!(
            (status, &answer["code"], &answer["field"]),
            (400, &json!("invalid_version"), &json!("version")),
            "{version}"
        );
    }
    assert_eq!(
        service.read("/release-line/root").await,
        json!({"pkg": "root", "version": "1.0.0", "previousVersion": null, "dependents": {}})
    );
}

#[tokio::test]
async fn design_6_names_work_encoded_and_plain_also_those_of_our_routes() {
    let service = alone().await;
    let names = [
        "root",
        "@s/c",
        "versions",
        "dependents",
        "@s/versions",
        "@versions/dependents",
        "Capital",
        "a~b!'()*",
        "release-line",
    ];
    for name in names {
        service.publish(name, "1.0.0", json!({})).await;
        service
            .publish(
                &format!(
                    "of-{}",
                    name.replace(['@', '/', '!', '\'', '(', ')', '*', '~'], "-")
                        .to_lowercase()
                ),
                "1.0.0",
                json!({name: "*"}),
            )
            .await;
    }
    for name in names {
        let encoded = name.replace('@', "%40").replace('/', "%2F");
        let half = name.replace('/', "%2f");
        for text in [name, &encoded, &half] {
            for end in ["", "/"] {
                assert_eq!(
                    service.read(&format!("/packages/{text}{end}")).await["name"],
                    name,
                    "{text}"
                );
                let versions = service
                    .read(&format!("/packages/{text}/versions{end}"))
                    .await;
                assert_eq!(texts(&versions["items"], "version"), ["1.0.0"], "{text}");
                let dependents = service
                    .read(&format!("/packages/{text}/dependents{end}"))
                    .await;
                assert_eq!(
                    dependents["items"].as_array().unwrap().len(),
                    1,
                    "{text} {dependents}"
                );
                assert_eq!(
                    service
                        .read(&format!("/packages/{text}/dependent-of{end}"))
                        .await["parents"]["items"],
                    json!([])
                );
                assert_eq!(
                    service
                        .read(&format!("/packages/{text}/release-lines{end}"))
                        .await["items"][0]["head"],
                    true
                );
                assert_eq!(
                    service.read(&format!("/release-line/{text}{end}")).await["pkg"],
                    name
                );
                assert_eq!(
                    service
                        .read(&format!("/release-line/{text}/1.0.0{end}"))
                        .await["pkg"],
                    name
                );
            }
        }
    }
}

#[tokio::test]
async fn rule_6_both_kinds_of_parents_and_only_managed_ones() {
    let service = alone().await;
    for name in ["a", "b"] {
        service.publish(name, "1.0.0", json!({})).await;
    }
    service
        .publish(
            "child",
            "1.0.0",
            json!({"unknown": "*", "b": "^1.0.0", "a": "^2.0.0"}),
        )
        .await;
    let parents = service.read("/packages/child/dependent-of").await;
    assert_eq!(
        (&parents["dependent_of"], &parents["version"]),
        (&json!("b"), &json!("1.0.0"))
    );
    assert_eq!(texts(&parents["parents"]["items"], "name"), ["b", "a"]);
    let first = service.read("/packages/child/dependent-of?limit=1").await;
    let next = first["parents"]["next"].as_str().unwrap();
    let second = service
        .read(&format!(
            "/packages/child/dependent-of?limit=1&cursor={next}"
        ))
        .await;
    assert_eq!(texts(&second["parents"]["items"], "name"), ["a"]);
    assert!(second["parents"]["next"].is_null());
    // dropped: no dependent any more, although the edge's row stays
    service
        .publish("child", "1.0.1", json!({"b": "^1.0.0"}))
        .await;
    assert_eq!(
        service.read("/packages/a/dependents").await,
        json!({"items": [], "next": null})
    );
}

#[tokio::test]
async fn lists_are_paged_and_a_cursor_outlives_new_entries() {
    let service = alone().await;
    service.publish("root", "1.0.0", json!({})).await;
    for at in 0..7 {
        service
            .publish(
                &format!("c{at}"),
                "1.0.0",
                json!({"root": if at % 2 == 0 { "^1.0.0" } else { "^2.0.0" }}),
            )
            .await;
    }
    // dropped ones between others do not end a page early
    service.publish("c2", "1.0.1", json!({})).await;
    let id = service.publish("root", "1.0.1", json!({})).await;
    for (path, at, key, expected) in [
        (
            "/packages",
            "",
            "",
            vec!["c0", "c1", "c2", "c3", "c4", "c5", "c6", "root"],
        ),
        (
            "/packages/root/dependents",
            "",
            "name",
            vec!["c0", "c1", "c3", "c4", "c5", "c6"],
        ),
        (
            "/packages/root/versions",
            "",
            "version",
            vec!["1.0.1", "1.0.0"],
        ),
        (
            "/packages/root/release-lines",
            "",
            "version",
            vec!["1.0.1", "1.0.0"],
        ),
        (
            &format!("/changes/{id}"),
            "/decisions",
            "dependent",
            vec!["c0", "c1", "c2", "c3", "c4", "c5", "c6"],
        ),
    ] {
        for limit in [1, 2, 3, 500] {
            let mut found = Vec::new();
            let mut cursor = String::new();
            loop {
                let body = service.read(&format!("{path}?limit={limit}{cursor}")).await;
                let page = body.pointer(at).unwrap();
                let items = page["items"].as_array().unwrap();
                assert!(items.len() <= limit && !items.is_empty());
                let text = |item: &Value| {
                    if key.is_empty() {
                        item.clone()
                    } else {
                        item[key].clone()
                    }
                };
                found.extend(
                    items
                        .iter()
                        .map(|item| text(item).as_str().unwrap().to_owned()),
                );
                match page["next"].as_str() {
                    Some(next) => cursor = format!("&cursor={next}"),
                    None => break,
                }
            }
            assert_eq!(found, expected, "{path} {limit}");
        }
    }
    let first = service.read("/changes?limit=4").await;
    assert_eq!(first["items"][0]["id"], json!(id));
    service.publish("newer", "1.0.0", json!({})).await;
    let second = service
        .read(&format!(
            "/changes?limit=500&cursor={}",
            first["next"].as_str().unwrap()
        ))
        .await;
    let mut ids = [texts(&first["items"], "id"), texts(&second["items"], "id")].concat();
    assert_eq!(ids.len(), 10);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 10, "no change twice");
    let times = texts(&second["items"], "accepted");
    assert!(
        times.is_sorted_by(|newer, older| newer >= older),
        "{times:?}"
    );
    let other = first["next"].as_str().unwrap();
    assert_eq!(
        service.get(&format!("/packages?cursor={other}")).await.1["code"],
        "invalid_cursor"
    );
}

#[tokio::test]
async fn design_4_a_rebuild_that_was_given_up_can_be_retried_and_no_other() {
    let sandbox = Sandbox::start(SandboxOptions::default()).await.unwrap();
    let service = with_sandbox(&sandbox).await;
    publish(&sandbox, &service, "root", "1.0.0", json!({})).await;
    publish(
        &sandbox,
        &service,
        "child",
        "1.0.0",
        json!({"root": "^1.0.0"}),
    )
    .await;
    let refusal = FaultKind::Status {
        status: 400,
        retry_after: None,
        body: Some("no such scope".into()),
    };
    sandbox.fail(Fault::once(Role::Warehouse, refusal));
    let id = publish(&sandbox, &service, "root", "1.0.1", json!({})).await;
    let change = service
        .until(&format!("/changes/{id}"), |change| {
            change["decisions"]["items"][0]["rebuild"]["state"] == "dead"
        })
        .await;
    let rebuild = change["decisions"]["items"][0]["rebuild"]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("/rebuilds/{rebuild}");
    let view = service.read(&path).await;
    assert_eq!(view["attempts"][0]["status"], 400);
    assert!(
        view["ended_because"].as_str().unwrap().contains("400"),
        "{view}"
    );
    assert!(
        view["sentence"]
            .as_str()
            .unwrap()
            .ends_with("It can be retried."),
        "{view}"
    );

    let (status, answer) = service.post(&format!("{path}/retry"), &json!({})).await;
    assert_eq!((status, answer), (200, json!({"ok": true, "id": rebuild})));
    let view = service
        .until(&path, |view| view["state"] == "published")
        .await;
    assert_eq!(
        (&view["version"], &view["attempt"]),
        (&json!("1.0.1-0"), &json!(2))
    );
    assert_eq!(texts(&view["attempts"], "outcome"), ["dead", "sent"]);

    let (status, answer) = service.post(&format!("{path}/retry"), &json!({})).await;
    assert_eq!((status, &answer["code"]), (409, &json!("not_dead")));
    assert_eq!(
        answer["message"],
        "409 child@1.0.1-0 is done: the notice of its publish came. only a rebuild that was given up can be retried"
    );
}
