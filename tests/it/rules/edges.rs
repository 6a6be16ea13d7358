//! Rules 3 to 6: who depends on whom.

use std::collections::BTreeMap;

use super::stage::{Stage, doc, on};
use feedsme::settings::EdgeField;
use serde_json::{Value, json};

async fn dependents(stage: &Stage, name: &str) -> BTreeMap<String, String> {
    let page = stage.read(&format!("/packages/{name}/dependents")).await;
    let items = page["items"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    items
        .iter()
        .map(|one| (text(&one["name"]), text(&one["range"])))
        .collect()
}

async fn parents(stage: &Stage, name: &str) -> Vec<String> {
    let page = stage.read(&format!("/packages/{name}/dependent-of")).await;
    let items = page["parents"]["items"].as_array().unwrap();
    items
        .iter()
        .map(|one| one["name"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn rule_3_a_parent_that_becomes_managed_later_finds_its_dependents() {
    let stage = Stage::new().await;
    stage.publish("root", "1.0.0", json!({})).await;
    let deps = json!({"ghost": "^1.0.0", "root": "^1.0.0"});
    stage.publish("child", "1.0.0", deps).await;
    assert_eq!(
        parents(&stage, "child").await,
        ["root"],
        "only managed ones show up"
    );
    assert_eq!(stage.get("/packages/ghost").await.0, 404);
    assert_eq!(
        stage.read("/packages").await["items"],
        json!(["child", "root"])
    );
    assert_eq!(
        stage.version("child", "1.0.0").await["with"],
        json!({"root": "1.0.0"})
    );

    let id = stage.publish("ghost", "1.2.0", json!({})).await;
    stage
        .decided(&id, &[("child", "rebuild 1.0.1-0 admitted")])
        .await;
    assert_eq!(parents(&stage, "child").await, ["ghost", "root"]);
    assert_eq!(
        stage.goes_with("ghost", "1.2.0").await,
        json!({"child": "1.0.1-0"})
    );
    assert_eq!(
        stage.version("child", "1.0.1-0").await["with"],
        json!({"ghost": "1.2.0", "root": "1.0.0"})
    );
    stage.end().await;
}

/// Root with one dependent that names it in each of the other fields.
async fn in_other_fields(stage: &Stage) -> String {
    stage.publish("root", "1.0.0", json!({})).await;
    for (name, field) in [
        ("optional", "optionalDependencies"),
        ("peer", "peerDependencies"),
        ("dev", "devDependencies"),
    ] {
        let mut document = doc(name, "1.0.0", &json!({}));
        document["versions"]["1.0.0"][field] = on("root", "^1.0.0");
        stage.publish_document(document).await;
    }
    // npm's precedence: optional over dependencies over peer.
    let mut document = doc("both", "1.0.0", &json!({"root": "^1.0.0"}));
    document["versions"]["1.0.0"]["optionalDependencies"] = on("root", "^2.0.0");
    document["versions"]["1.0.0"]["peerDependencies"] = on("root", "^3.0.0");
    stage.publish_document(document).await;
    stage.publish("root", "1.0.1", json!({})).await
}

#[tokio::test]
async fn rule_3_only_dependencies_count_unless_a_setting_says_so() {
    let stage = Stage::new().await;
    let id = in_other_fields(&stage).await;
    stage
        .decided(&id, &[("both", "rebuild 1.0.1-0 admitted")])
        .await;
    stage.end().await;
}

#[tokio::test]
async fn rule_3_the_setting_adds_optional_and_peer_dependencies_with_npms_precedence() {
    let stage = Stage::with(|settings| {
        settings.edges = vec![
            EdgeField::Dependencies,
            EdgeField::Optional,
            EdgeField::Peer,
        ];
    })
    .await;
    let id = in_other_fields(&stage).await;
    stage
        .decided(
            &id,
            &[
                ("both", "skip out_of_range"),
                ("optional", "rebuild 1.0.1-0 admitted"),
                ("peer", "rebuild 1.0.1-0 admitted"),
            ],
        )
        .await;
    assert_eq!(dependents(&stage, "root").await["both"], "^2.0.0");
    stage.end().await;
}

#[tokio::test]
async fn rule_4_every_form_of_a_range() {
    let stage = Stage::new().await;
    stage.publish("root", "1.0.0", json!({})).await;
    let yes = "rebuild 1.0.1-0 admitted";
    let out = "skip out_of_range";
    let nothing = "skip admits_nothing";
    let forms = [
        ("^1.0.0", yes),
        ("~1.2.0", yes),
        ("1.x", yes),
        ("1.2.3", yes),
        ("=1.2.3", yes),
        (">=1 <2", yes),
        ("1.0.0 - 1.5.0", yes),
        ("^0.9.0 || ^1.2.0", yes),
        ("*", yes),
        ("", yes),
        ("latest", yes),
        (" ^1.0.0 ", yes),
        ("npm:root@^1.0.0", yes),
        ("npm:root", yes),
        ("workspace:*", yes),
        ("workspace:^", yes),
        ("workspace:~", yes),
        ("workspace:^1.0.0", yes),
        ("^2.0.0", out),
        ("1.0.0", out),
        ("npm:root@^2.0.0", out),
        ("workspace:^2.0.0", out),
        ("git+ssh://git@example.com/root.git", nothing),
        ("user/root", nothing),
        ("github:user/root#semver:^1.0.0", nothing),
        ("https://example.com/root.tgz", nothing),
        ("file:../root", nothing),
        ("link:../root", nothing),
        ("next", nothing),
    ];
    let mut expected = BTreeMap::new();
    for (at, (form, said)) in forms.iter().enumerate() {
        let name = format!("c{at:02}");
        let key = if form.starts_with("npm:") {
            "alias"
        } else {
            "root"
        };
        stage
            .change("/change", &doc(&name, "1.0.0", &on(key, form)))
            .await;
        stage.in_registry(&name, "1.0.0");
        expected.insert(name, (*said).to_owned());
    }
    // An alias of another package is no edge to the one that it is called like.
    stage
        .publish("other", "1.0.0", on("root", "npm:else@^1.0.0"))
        .await;
    let id = stage.publish("root", "1.2.3", json!({})).await;
    assert_eq!(stage.why(&id).await, expected);
    let change = stage.planned(&id).await;
    for (form, sentence) in [
        ("git+ssh", "a git address admits no version"),
        ("user/root", "a git address admits no version"),
        ("https:", "a URL admits no version"),
        ("file:", "a file or folder admits no version"),
        ("link:", "a link admits no version"),
        ("next", "a dist-tag other than latest admits no version"),
    ] {
        let at = forms.iter().position(|(one, _)| one.starts_with(form));
        let name = format!("c{:02}", at.unwrap());
        let decisions = change["decisions"]["items"].as_array().unwrap();
        let decision = decisions.iter().find(|one| one["dependent"] == *name);
        let said = decision.unwrap()["sentence"].as_str().unwrap();
        assert!(said.contains(sentence), "{form}: {said}");
    }
    // "latest" counts for the line as well: the Node software's hazard 16.
    let latest = forms
        .iter()
        .position(|(form, _)| *form == "latest")
        .unwrap();
    let line = stage.goes_with("root", "1.0.0").await;
    assert_eq!(line[format!("c{latest:02}")], "1.0.0");
    stage.end().await;
}

#[tokio::test]
async fn rule_5_a_dropped_dependency_and_its_return() {
    let stage = Stage::new().await;
    stage.publish("root", "1.0.0", json!({})).await;
    stage.publish("child", "1.0.0", on("root", "^1.0.0")).await;
    stage.publish("child", "2.0.0", json!({})).await;
    assert!(dependents(&stage, "root").await.is_empty());
    let id = stage.publish("root", "1.0.1", json!({})).await;
    stage
        .decided(&id, &[("child", "skip no_longer_depends")])
        .await;
    assert_eq!(stage.taken(), [""; 0]);

    // An older version that declares it does not bring it back, also one with a range that was never seen.
    stage.publish("child", "1.0.5", on("root", "~1.0.0")).await;
    let id = stage.publish("root", "1.0.2", json!({})).await;
    stage
        .decided(&id, &[("child", "skip no_longer_depends")])
        .await;

    stage.publish("child", "2.1.0", on("root", "^1.0.0")).await;
    assert_eq!(dependents(&stage, "root").await["child"], "^1.0.0");
    let id = stage.publish("root", "1.0.3", json!({})).await;
    stage
        .decided(&id, &[("child", "rebuild 2.1.1-0 admitted")])
        .await;
    stage.end().await;
}

#[tokio::test]
async fn rule_5_an_older_version_that_is_the_first_to_name_a_parent_makes_no_edge() {
    let stage = Stage::new().await;
    stage.publish("root", "1.0.0", json!({})).await;
    stage.publish("child", "2.0.0", json!({})).await;
    stage.publish("child", "1.0.0", on("root", "^1.0.0")).await;
    let id = stage.publish("root", "1.0.1", json!({})).await;
    stage
        .decided(&id, &[("child", "skip no_longer_depends")])
        .await;
    assert!(dependents(&stage, "root").await.is_empty());
    stage.end().await;
}

#[tokio::test]
async fn rule_5_each_range_has_the_highest_version_that_declares_it() {
    let stage = Stage::new().await;
    stage.publish("root", "1.0.0", json!({})).await;
    for (version, range) in [
        ("1.1.0", "^1.0.0"),
        ("1.0.0", "^1.0.0"),
        ("1.2.0", "~1.0.0"),
        ("2.0.0", "^2.0.0"),
    ] {
        stage.publish("child", version, on("root", range)).await;
    }
    // Both older ranges admit 1.0.1; 1.2.0 is the highest version of the two.
    let id = stage.publish("root", "1.0.1", json!({})).await;
    stage
        .decided(&id, &[("child", "rebuild 1.2.1-0 older_admitted")])
        .await;
    // Only ^1.0.0 admits 1.5.0: of those that declare it 1.1.0 is the highest, whenever they came.
    let id = stage.publish("root", "1.5.0", json!({})).await;
    stage
        .decided(&id, &[("child", "rebuild 1.1.1-0 older_admitted")])
        .await;
    let change = stage.planned(&id).await;
    let inputs = &change["decisions"]["items"][0]["inputs"];
    assert_eq!(
        (&inputs["range"], &inputs["top"], &inputs["base"]),
        (&json!("^1.0.0"), &json!("2.0.0"), &json!("1.1.0"))
    );
    stage.end().await;
}

#[tokio::test]
async fn rule_5_two_ranges_to_one_package_are_joined() {
    let stage = Stage::new().await;
    stage.publish("root", "1.0.0", json!({})).await;
    let deps = json!({"root": "^1.0.0", "root2": "npm:root@^2.0.0", "root3": "npm:root@next"});
    stage.publish("child", "1.0.0", deps).await;
    assert_eq!(
        dependents(&stage, "root").await["child"],
        "^1.0.0 || ^2.0.0"
    );
    for (root, child) in [("1.0.1", "1.0.1-0"), ("2.0.0", "1.0.1-1")] {
        let id = stage.publish("root", root, json!({})).await;
        stage
            .decided(&id, &[("child", &format!("rebuild {child} admitted"))])
            .await;
    }
    let id = stage.publish("root", "3.0.0", json!({})).await;
    stage.decided(&id, &[("child", "skip out_of_range")]).await;
    stage.end().await;
}

#[tokio::test]
async fn rule_6_dependent_of_is_the_first_managed_parent_and_stays_while_it_is_declared() {
    let stage = Stage::new().await;
    for name in ["a", "b"] {
        stage.publish(name, "1.0.0", json!({})).await;
    }
    let is = async |expected: Value| {
        let package = stage.read("/packages/child").await;
        assert_eq!(package["dependent_of"], expected);
        let parents = stage.read("/packages/child/dependent-of").await;
        assert_eq!(parents["dependent_of"], expected);
    };
    let deps = json!({"ghost": "*", "b": "^1.0.0", "a": "^1.0.0"});
    stage.publish("child", "1.0.0", deps).await;
    is(json!("b")).await;
    let deps = json!({"a": "^1.0.0", "b": "^1.0.0"});
    stage.publish("child", "1.1.0", deps).await;
    is(json!("b")).await;
    // A rebuild is a publish of its own and keeps it too.
    stage.publish("a", "1.0.1", json!({})).await;
    is(json!("b")).await;
    stage.publish("ghost", "1.0.0", json!({})).await;
    is(json!("b")).await;
    stage.publish("child", "1.2.0", on("a", "^1.0.0")).await;
    is(json!("a")).await;
    stage.publish("child", "1.3.0", json!({})).await;
    is(Value::Null).await;
    stage.end().await;
}
