//! Tests of `outgoing`.

use super::*;

fn version(text: &str) -> Version {
    Version::parse(text).expect(text)
}

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().expect("an object").clone()
}

/// A stored document as npm makes it, with a little of everything.
fn base() -> Map<String, Value> {
    object(&json!({
        "_id": "c",
        "name": "c",
        "description": "d",
        "dist-tags": {"latest": "5.0.0", "old": "4.0.0", "gone": null},
        "versions": {
            "4.0.0": {"name": "c", "version": "4.0.0"},
            "5.0.0": {
                "name": "c", "version": "5.0.0", "dependencies": {"root": "^5.0.0"}, "_id": "c@5.0.0",
                "dist": {
                    "integrity": "sha512-x", "shasum": "abc", "tarball": "http://r/c/-/c-5.0.0.tgz",
                    "signatures": [{"keyid": "k"}], "fileCount": 3
                },
                "wrhs": {"kept": true}
            }
        },
        "version": "5.0.0",
        "readme": "r",
        "maintainers": [{"name": "m"}],
        "access": null,
        "env": "dev",
        "__published": true,
    }))
}

fn publish_as(
    doc: &Map<String, Value>,
    from: &str,
    to: &str,
    packument: Option<&PackumentView>,
) -> Outgoing {
    publish(doc, &version(from), &version(to), "dev", packument)
        .expect("a document with that version")
}

fn keys(map: &Map<String, Value>) -> Vec<&str> {
    map.keys().map(String::as_str).collect()
}

/// The body as it goes over the wire, with a tarball of three bytes.
fn body(sent: &Outgoing) -> String {
    let open = Value::Object(sent.before.clone()).to_string();
    let close = Value::Object(sent.after.clone()).to_string();
    let attachment = json!({
        sent.attachment.clone(): {"content_type": "application/octet-stream", "data": "QUJD", "length": 3}
    });
    let (open, close) = (&open[..open.len() - 1], &close[1..]);
    format!("{open},\"_attachments\":{attachment},{close}")
}

#[test]
fn rule_10_a_publish_is_the_base_under_its_new_version() {
    let sent = publish_as(&base(), "5.0.0", "5.0.1-0", None);
    assert_eq!(sent.attachment, "c-5.0.1-0.tgz");
    assert_eq!(
        Value::Object(sent.after),
        json!({"version": "5.0.1-0", "env": "dev", "__published": true})
    );
    let expected = json!({
        "_id": "c",
        "name": "c",
        "description": "d",
        "dist-tags": {"latest": "5.0.1-0", "old": "4.0.0"},
        "versions": {"5.0.1-0": {
            "name": "c", "version": "5.0.1-0", "dependencies": {"root": "^5.0.0"}, "_id": "c@5.0.1-0",
            "wrhs": {"kept": true},
            "dist": {
                "integrity": "sha512-x", "shasum": "abc", "tarball": "http://r/c/-/c-5.0.1-0.tgz", "fileCount": 3
            },
        }},
        "readme": "r",
        "maintainers": [{"name": "m"}],
        "access": null,
    });
    // as text, because the order of keys counts
    assert_eq!(Value::Object(sent.before).to_string(), expected.to_string());
}

#[test]
fn contract_2_2_what_the_warehouse_stores_precedes_the_attachments() {
    let sent = publish_as(&base(), "5.0.0", "5.0.1-0", None);
    let body = body(&sent);
    let parsed: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(parsed["_attachments"]["c-5.0.1-0.tgz"]["length"], json!(3));
    let (cut, after) = body.split_once("_attachments\"").expect("attachments");
    let stored: Value = serde_json::from_str(&format!("{cut}_attachments\":{{}}}}"))
        .expect("what the warehouse parses");
    let stored = object(&stored);
    for key in ["name", "_id", "dist-tags", "versions", "readme"] {
        assert!(stored.contains_key(key), "{key}");
    }
    for key in ["version", "env", "__published"] {
        assert!(
            !stored.contains_key(key) && after.contains(&format!("\"{key}\":")),
            "{key}"
        );
    }
    assert_eq!(keys(&object(&parsed)).last(), Some(&"__published"));
}

#[test]
fn rule_10_other_tags_are_those_of_the_packument() {
    let packument = PackumentView {
        dist_tags: [("latest", "9.0.0"), ("next", "10.0.0")]
            .map(|(t, v)| (t.into(), v.into()))
            .into(),
        dist_of_base: None,
    };
    let sent = publish_as(&base(), "5.0.0", "5.0.1-0", Some(&packument));
    assert_eq!(
        sent.before["dist-tags"],
        json!({"latest": "5.0.1-0", "next": "10.0.0"})
    );
    let bare = publish_as(&base(), "5.0.0", "5.0.1-0", Some(&PackumentView::default()));
    assert_eq!(bare.before["dist-tags"], json!({"latest": "5.0.1-0"}));
}

#[test]
fn rule_10_a_missing_dist_is_filled_from_the_packument_or_left_out() {
    let mut doc = base();
    doc["versions"]["5.0.0"]
        .as_object_mut()
        .expect("a manifest")
        .shift_remove("dist");
    let without = publish_as(&doc, "5.0.0", "5.0.1-0", None);
    assert_eq!(without.before["versions"]["5.0.1-0"].get("dist"), None);
    let packument = PackumentView {
        dist_of_base: Some(
            json!({"shasum": "def", "tarball": "https://r/c/-/c-5.0.0.tgz?x=5.0.0", "signatures": []}),
        ),
        ..PackumentView::default()
    };
    for missing in [None, Some(json!(null))] {
        if let Some(null) = missing {
            doc["versions"]["5.0.0"]["dist"] = null;
        }
        let filled = publish_as(&doc, "5.0.0", "5.0.1-0", Some(&packument));
        assert_eq!(
            filled.before["versions"]["5.0.1-0"]["dist"],
            json!({"shasum": "def", "tarball": "https://r/c/-/c-5.0.1-0.tgz?x=5.0.0"})
        );
    }
    let own = publish_as(&base(), "5.0.0", "5.0.1-0", Some(&packument));
    assert_eq!(
        own.before["versions"]["5.0.1-0"]["dist"]["shasum"],
        json!("abc")
    );
}

#[test]
fn rule_10_the_tarball_names_the_new_version() {
    let name = PackageName::parse("@s/c").expect("a name");
    for (url, expected) in [
        (
            "http://r/@s/c/-/c-5.0.0.tgz",
            "http://r/@s/c/-/c-5.0.1-0.tgz",
        ),
        (
            "http://r/@s/c/-/@s/c-5.0.0.tgz",
            "http://r/@s/c/-/@s/c-5.0.1-0.tgz",
        ),
        (
            "http://r/5.0.0/c-5.0.0.tgz#5.0.0",
            "http://r/5.0.0/c-5.0.1-0.tgz#5.0.0",
        ),
        (
            "https://r/download/@s/c/5.0.0/0a1b2c",
            "https://r/download/@s/c/5.0.0/c-5.0.1-0.tgz",
        ),
        ("c-5.0.0.tgz", "c-5.0.1-0.tgz"),
    ] {
        assert_eq!(
            rename_tarball(url, &name, "5.0.0", &version("5.0.1-0")),
            expected
        );
    }
    // a name that ends like the version
    let name = PackageName::parse("c-5.0.0").expect("a name");
    let url = rename_tarball("/c-5.0.0-5.0.0.tgz", &name, "5.0.0", &version("5.0.1-0"));
    assert_eq!(url, "/c-5.0.0-5.0.1-0.tgz");
}

#[test]
fn rule_10_scoped_names_and_rebuilds_of_rebuilds() {
    let doc = object(&json!({
        "name": "@s/c",
        "distTags": {"latest": "v5.0.1-0"},
        "dist-tags": {"latest": "1.0.0"},
        "versions": {"v5.0.1-0": {"dist": {"tarball": "http://r/@s/c/-/c-5.0.1-0.tgz"}}},
        "_rev": "7-abc",
    }));
    let sent = publish_as(&doc, "5.0.1-0", "5.0.1-1", None);
    assert_eq!(sent.attachment, "@s/c-5.0.1-1.tgz");
    assert_eq!(keys(&sent.before), ["name", "dist-tags", "versions", "_id"]);
    assert_eq!(sent.before["_id"], json!("@s/c"));
    assert_eq!(sent.before["dist-tags"], json!({"latest": "5.0.1-1"}));
    assert_eq!(
        sent.before["versions"],
        json!({"5.0.1-1": {"name": "@s/c", "version": "5.0.1-1", "_id": "@s/c@5.0.1-1", "dist": {"tarball": "http://r/@s/c/-/c-5.0.1-1.tgz"}}})
    );
}

#[test]
fn rule_1_a_bare_package_json_is_published_as_a_document() {
    let doc = object(&json!({
        "name": "c", "version": "5.0.0", "description": "d", "dependencies": {"root": "*"}, "env": "dev", "__published": true
    }));
    let sent = publish_as(&doc, "5.0.0", "5.0.1-0", None);
    assert_eq!(
        Value::Object(sent.before),
        json!({
            "_id": "c", "name": "c", "description": "d",
            "dist-tags": {"latest": "5.0.1-0"},
            "versions": {"5.0.1-0": {
                "name": "c", "version": "5.0.1-0", "description": "d", "dependencies": {"root": "*"}, "_id": "c@5.0.1-0"
            }},
        })
    );
    let built = promotion(&doc, &version("5.0.0"), "test").expect("it has the version");
    assert_eq!(built.attachment, "c-5.0.0.tgz");
    assert_eq!(Value::Object(built.after), json!({"env": "test"}));
    assert_eq!(
        Value::Object(built.before),
        json!({
            "_id": "c", "name": "c", "description": "d",
            "dist-tags": {"latest": "5.0.0"},
            "versions": {"5.0.0": {
                "name": "c", "version": "5.0.0", "description": "d", "dependencies": {"root": "*"}, "_id": "c@5.0.0"
            }},
        })
    );
}

#[test]
fn rule_12_a_promotion_changes_env_and_nothing_else() {
    let sent = promotion(&base(), &version("5.0.0"), "prod").expect("it has the version");
    assert_eq!(sent.attachment, "c-5.0.0.tgz");
    assert_eq!(Value::Object(sent.after.clone()), json!({"env": "prod"}));
    let mut expected = base();
    expected.shift_remove("env");
    expected.shift_remove("__published");
    assert_eq!(
        Value::Object(sent.before.clone()).to_string(),
        Value::Object(expected).to_string()
    );
}

#[test]
fn rule_12_the_build_service_reads_the_tag_latest_only() {
    let mut doc = base();
    doc["dist-tags"] = json!({"next": "5.0.0"});
    let sent = promotion(&doc, &version("5.0.0"), "test").expect("it has the version");
    assert_eq!(
        sent.before["dist-tags"],
        json!({"next": "5.0.0", "latest": "5.0.0"})
    );
}

#[test]
fn rule_10_a_document_without_the_version_is_an_error() {
    let missing = publish(&base(), &version("9.0.0"), &version("9.0.1-0"), "dev", None);
    assert_eq!(missing, Err(OutgoingError::NoManifest("9.0.0".into())));
    assert_eq!(
        promotion(&base(), &version("9.0.0"), "dev"),
        Err(OutgoingError::NoManifest("9.0.0".into()))
    );
    assert_eq!(
        promotion(&Map::new(), &version("1.0.0"), "dev"),
        Err(OutgoingError::NoName)
    );
}

#[test]
fn rule_10_what_was_sent_comes_back_as_a_valid_change() {
    use crate::model::document::IncomingChange;
    let sent = publish_as(&base(), "5.0.0", "5.0.1-0", None);
    let mut filter = crate::http::filter::PushFilter::new(1 << 20);
    filter.push(body(&sent).as_bytes()).expect("short");
    let change = IncomingChange::parse(&filter.finish()).expect("a valid change");
    assert_eq!(change.env.as_deref(), Some("dev"));
    assert!(change.document.published_flag);
    assert_eq!(change.document.version, version("5.0.1-0"));
    // and can be the base of the next one
    let again = publish_as(&change.document.json, "5.0.1-0", "5.0.1-1", None);
    assert_eq!(
        again.before["versions"]["5.0.1-1"]["version"],
        json!("5.0.1-1")
    );
}
