//! Tests of `document`.

use super::*;
use serde_json::json;

fn publish() -> Value {
    json!({
        "_id": "child",
        "name": "child",
        "description": "d",
        "zzz": {"kept": [1, 2]},
        "dist-tags": {"latest": "1.2.3"},
        "versions": {"1.2.3": {
            "name": "child", "version": "1.2.3", "dependencies": {"root": "^1.0.0"}, "odd": null
        }},
        "readme": "r",
        "_attachments": {},
        "env": "dev",
        "__published": true,
    })
}

fn read(body: &Value) -> Result<IncomingChange, ChangeError> {
    IncomingChange::parse(body.to_string().as_bytes())
}

/// Reads `publish()` after a change.
fn with(change: impl FnOnce(&mut Value)) -> Result<IncomingChange, ChangeError> {
    let mut body = publish();
    change(&mut body);
    read(&body)
}

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().expect("an object").clone()
}

#[track_caller]
fn refused(result: Result<IncomingChange, ChangeError>, code: &str, field: &str) {
    let why = result.expect_err(code);
    assert_eq!((why.code, why.field.as_str()), (code, field), "{why}");
    assert!(!why.message.is_empty() && why.message.len() < 500, "{why}");
}

#[test]
fn rule_1_a_publish_document_is_read() {
    let change = read(&publish()).expect("valid");
    assert_eq!(change.env.as_deref(), Some("dev"));
    assert_eq!((change.promote, change.promotes()), (None, true));
    let document = change.document;
    assert_eq!(document.name.as_str(), "child");
    assert_eq!(document.version.to_string(), "1.2.3");
    assert_eq!(document.tag, None);
    assert!(document.published_flag);
    assert_eq!(
        Value::Object(document.manifest.clone()),
        publish()["versions"]["1.2.3"]
    );
    let edges = document.edges(EdgeFields::default());
    assert_eq!(
        (edges.list[0].parent.as_str(), edges.list[0].range.as_str()),
        ("root", "^1.0.0")
    );
}

#[test]
fn rule_2_unknown_fields_and_the_order_of_keys_are_kept_but_not_the_attachments() {
    let document = read(&publish()).expect("valid").document;
    let mut expected = object(&publish());
    expected.shift_remove("_attachments");
    let text = Value::Object(expected).to_string();
    assert_eq!(String::from_utf8(document.bytes()).expect("UTF-8"), text);
    let again = Document::parse(&document.bytes()).expect("what we stored");
    assert_eq!(again, document);
    assert_eq!(again.digest(), document.digest());
    assert_eq!(document.digest(), Digest::of(text.as_bytes()));
    let other = with(|body| body["readme"] = json!("x"))
        .expect("valid")
        .document;
    assert_ne!(other.digest(), document.digest());
}

#[test]
fn contract_1_2_both_shapes_and_every_way_to_say_promote() {
    let plain = read(&publish()).expect("valid").document;
    for (promote, expected) in [
        (json!(true), true),
        (json!(false), false),
        (json!("true"), true),
        (json!("False"), false),
    ] {
        let change = read(&json!({"data": publish(), "promote": promote})).expect("valid");
        assert_eq!(change.promote, Some(expected));
        assert_eq!(change.document, plain);
    }
    let absent = read(&json!({ "data": publish() })).expect("valid");
    assert_eq!((absent.promote, absent.promotes()), (None, true));
    // in a bare document it is somebody's field
    let field = with(|body| body["promote"] = json!(false)).expect("valid");
    assert!(field.promotes());
    assert_eq!(field.document.json["promote"], json!(false));
    for wrong in [json!(null), json!(1), json!("yes"), json!({})] {
        refused(
            read(&json!({"data": publish(), "promote": wrong})),
            "invalid_promote",
            "promote",
        );
    }
}

#[test]
fn design_6_the_environment_of_the_body() {
    assert_eq!(
        with(|body| body["env"] = json!("prod"))
            .expect("valid")
            .env
            .as_deref(),
        Some("prod")
    );
    assert_eq!(
        with(|body| body["env"] = json!(null)).expect("valid").env,
        None
    );
    let wrapped = json!({"data": publish(), "env": "test"});
    assert_eq!(read(&wrapped).expect("valid").env.as_deref(), Some("test"));
    refused(with(|body| body["env"] = json!(5)), "invalid_env", "env");
    refused(
        read(&json!({"data": {"name": "a", "version": "1.0.0", "env": []}})),
        "invalid_env",
        "data.env",
    );
}

#[test]
fn rule_1_published_is_what_javascript_takes_for_true() {
    for (value, expected) in [
        (json!(true), true),
        (json!(1), true),
        (json!("yes"), true),
        (json!({}), true),
        (json!(false), false),
        (json!(null), false),
        (json!(0), false),
        (json!(""), false),
    ] {
        let change = with(|body| body["__published"] = value.clone()).expect("valid");
        assert_eq!(change.document.published_flag, expected, "{value}");
    }
}

#[test]
fn rule_1_a_bare_package_json_is_a_document() {
    let bare = json!({"name": "@s/c", "version": "v2.0.0", "dependencies": {"a": "1"}, "x": 1, "env": "dev", "__published": true});
    let document = read(&bare).expect("valid").document;
    assert_eq!(
        read(&json!({ "data": bare })).expect("valid").document,
        document
    );
    assert_eq!(
        (document.name.as_str(), document.version.to_string()),
        ("@s/c", "2.0.0".to_owned())
    );
    assert_eq!(
        (
            document.tag.as_deref(),
            document.env.as_deref(),
            document.published_flag
        ),
        (None, Some("dev"), true)
    );
    assert_eq!(
        Value::Object(document.manifest),
        json!({"name": "@s/c", "version": "v2.0.0", "dependencies": {"a": "1"}, "x": 1})
    );
}

#[test]
fn rule_1_a_single_version_under_another_tag() {
    let document = with(|body| body["dist-tags"] = json!({"old": "1.0.0", "next": "1.2.3"}))
        .expect("valid")
        .document;
    assert_eq!(
        (document.tag.as_deref(), document.version.to_string()),
        (Some("next"), "1.2.3".to_owned())
    );
    let null = with(|body| body["dist-tags"] = json!({"latest": null, "next": "1.2.3"}))
        .expect("valid")
        .document;
    assert_eq!(null.tag.as_deref(), Some("next"));
    let latest = with(|body| body["dist-tags"] = json!({"next": "1.2.3", "latest": "1.2.3"}))
        .expect("valid")
        .document;
    assert_eq!(latest.tag, None);
    let two = |body: &mut Value| {
        body["dist-tags"] = json!({"next": "1.2.3"});
        body["versions"]["1.0.0"] = json!({});
    };
    refused(with(two), "missing_tag", "dist-tags.latest");
    refused(
        with(|body| body["dist-tags"] = json!({"next": "9.9.9"})),
        "missing_tag",
        "dist-tags.latest",
    );
}

#[test]
fn rule_1_dist_tags_under_either_name() {
    let camel = |body: &mut Value| {
        body["distTags"] = json!({"latest": "2.0.0"});
        body["versions"]["2.0.0"] = json!({"name": "child"});
    };
    assert_eq!(
        with(camel).expect("valid").document.version.to_string(),
        "2.0.0"
    );
    assert_eq!(
        with(|body| body["distTags"] = json!(null))
            .expect("valid")
            .document
            .version
            .to_string(),
        "1.2.3"
    );
    refused(
        with(|body| body["distTags"] = json!({"latest": 5})),
        "invalid_tag",
        "distTags.latest",
    );
}

#[test]
fn rule_1_the_key_is_looked_up_as_it_is_written() {
    let change = |body: &mut Value| {
        body["dist-tags"]["latest"] = json!("v1.2.3+build");
        body["versions"] = json!({"v1.2.3+build": {"version": "1.2.3", "marker": 1}, "1.2.3": {}});
    };
    let document = with(change).expect("valid").document;
    assert_eq!(document.manifest["marker"], json!(1));
}

#[test]
fn rule_1_missing_pieces_are_named() {
    let without = |key: &str| {
        with(|body| {
            body.as_object_mut().expect("an object").shift_remove(key);
        })
    };
    refused(without("name"), "missing_name", "name");
    refused(without("dist-tags"), "missing_tag", "dist-tags.latest");
    refused(without("versions"), "missing_version", "versions");
    refused(read(&json!({"name": "a"})), "missing_version", "version");
    refused(
        with(|body| body["versions"] = json!({})),
        "missing_version",
        "versions[\"1.2.3\"]",
    );
    refused(
        with(|body| body["versions"]["1.2.3"] = json!(null)),
        "missing_version",
        "versions[\"1.2.3\"]",
    );
    let wrapped = |change: fn(&mut Value)| {
        let mut body = publish();
        change(&mut body);
        read(&json!({ "data": body }))
    };
    refused(
        wrapped(|body| body["name"] = json!(null)),
        "missing_name",
        "data.name",
    );
    refused(
        wrapped(|body| body["dist-tags"] = json!({})),
        "missing_tag",
        "data.dist-tags.latest",
    );
    refused(read(&json!({})), "missing_name", "name");
    refused(read(&json!({"promote": true})), "missing_data", "data");
    for data in [json!(null), json!("{}"), json!([]), json!(1)] {
        refused(read(&json!({ "data": data })), "invalid_data", "data");
    }
}

#[test]
fn rule_1_wrong_pieces_are_named() {
    refused(
        with(|body| body["name"] = json!("A B")),
        "invalid_name",
        "name",
    );
    refused(with(|body| body["name"] = json!(5)), "invalid_name", "name");
    refused(
        with(|body| body["name"] = json!("a".repeat(100_000))),
        "invalid_name",
        "name",
    );
    refused(
        with(|body| body["dist-tags"] = json!("1.2.3")),
        "invalid_tag",
        "dist-tags",
    );
    refused(
        with(|body| body["dist-tags"]["latest"] = json!(1)),
        "invalid_tag",
        "dist-tags.latest",
    );
    refused(
        with(|body| body["dist-tags"]["latest"] = json!("1.2")),
        "invalid_version",
        "dist-tags.latest",
    );
    refused(
        with(|body| body["dist-tags"]["latest"] = json!("x".repeat(100_000))),
        "invalid_version",
        "dist-tags.latest",
    );
    refused(
        with(|body| body["versions"] = json!([])),
        "invalid_versions",
        "versions",
    );
    refused(
        with(|body| body["versions"]["1.2.3"] = json!("x")),
        "invalid_manifest",
        "versions[\"1.2.3\"]",
    );
    refused(
        with(|body| body["versions"]["1.2.3"]["name"] = json!("other")),
        "name_mismatch",
        "versions[\"1.2.3\"].name",
    );
    refused(
        with(|body| body["versions"]["1.2.3"]["version"] = json!("1.2.4")),
        "version_mismatch",
        "versions[\"1.2.3\"].version",
    );
    refused(
        read(&json!({"name": "a", "version": "one"})),
        "invalid_version",
        "version",
    );
    refused(
        read(&json!({"name": "a", "version": 1})),
        "invalid_version",
        "version",
    );
}

#[test]
fn rule_1_dependencies_are_an_object_of_strings_or_nothing() {
    for none in [json!(null), json!({})] {
        with(|body| body["versions"]["1.2.3"]["dependencies"] = none).expect("valid");
    }
    for wrong in [json!([]), json!("a"), json!(1)] {
        let result = with(|body| body["versions"]["1.2.3"]["dependencies"] = wrong);
        refused(
            result,
            "invalid_dependencies",
            "versions[\"1.2.3\"].dependencies",
        );
    }
    let number =
        |body: &mut Value| body["versions"]["1.2.3"]["dependencies"] = json!({"a": "1", "root": 1});
    refused(
        with(number),
        "invalid_dependencies",
        "versions[\"1.2.3\"].dependencies.root",
    );
    let null = json!({"data": {"name": "a", "version": "1.0.0", "dependencies": {"@s/x": null}}});
    refused(
        read(&null),
        "invalid_dependencies",
        "data.dependencies[\"@s/x\"]",
    );
}

#[test]
fn rule_1_bodies_that_are_no_json_object() {
    for body in [
        "",
        "{",
        "nonsense",
        "{\"name\":\"a\"} x",
        "{\"name\":\"\u{1}\"}",
        "{\"a\":1e999}",
    ] {
        refused(IncomingChange::parse(body.as_bytes()), "invalid_json", "");
    }
    refused(
        IncomingChange::parse(b"{\"name\":\"\xff\"}"),
        "invalid_json",
        "",
    );
    for body in ["[]", "1", "null", "\"x\""] {
        refused(IncomingChange::parse(body.as_bytes()), "invalid_body", "");
    }
    for open in ["[", "{\"a\":"] {
        let deep = format!("{{\"name\":\"a\",\"x\":{}", open.repeat(400_000));
        refused(IncomingChange::parse(deep.as_bytes()), "invalid_json", "");
    }
}

#[test]
fn rule_1_the_last_of_two_equal_keys_counts() {
    let body = br#"{"name":"a","version":"1.0.0","name":"b"}"#;
    assert_eq!(
        IncomingChange::parse(body)
            .expect("valid")
            .document
            .name
            .as_str(),
        "b"
    );
}

#[test]
fn rule_2_half_an_emoji_does_not_fail_a_change() {
    let read = |readme: &str| {
        let body = format!(r#"{{"name":"a","version":"1.0.0","readme":"{readme}"}}"#);
        IncomingChange::parse(body.as_bytes()).map(|change| change.document.json["readme"].clone())
    };
    assert_eq!(read(r"x\ud83d"), Ok(json!("x\u{fffd}")));
    assert_eq!(
        read(r"\ud83d\ude00 \ude00\ud83dz"),
        Ok(json!("\u{1F600} \u{fffd}\u{fffd}z"))
    );
    assert_eq!(read(r"\\ud83d"), Ok(json!("\\ud83d")));
    assert_eq!(
        read(r"\ud83d\\ude00\ud83d"),
        Ok(json!("\u{fffd}\\ude00\u{fffd}"))
    );
    assert_eq!(
        read(r"\ud83d\x").map_err(|why| why.code),
        Err("invalid_json")
    );
}

#[test]
fn rule_1_no_bytes_panic() {
    let good = publish().to_string().into_bytes();
    let wrapped = json!({"data": publish(), "promote": "true"})
        .to_string()
        .into_bytes();
    let mut seed = 3_u64;
    let mut valid = 0;
    for round in 0..30_000 {
        let mut next = |below: usize| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(seed >> 33).expect("31 bits") % below
        };
        let mut body = if round % 2 == 0 {
            good.clone()
        } else {
            wrapped.clone()
        };
        for _ in 0..=next(3) {
            let at = next(body.len());
            let with = b"{}[]\",:\\u0d8null\xff1"[next(18)];
            match next(3) {
                0 => body[at] = with,
                1 => body.insert(at, with),
                _ => {
                    body.remove(at);
                }
            }
        }
        valid += usize::from(IncomingChange::parse(&body).is_ok());
    }
    assert!(valid > 300, "the loop must get past the parser: {valid}");
}
