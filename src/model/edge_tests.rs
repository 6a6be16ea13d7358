//! Tests of `edge`.

use super::*;
use serde_json::json;

fn of(manifest: &Value, fields: EdgeFields) -> Edges {
    edges(manifest.as_object().expect("a manifest"), fields)
}

fn pairs(manifest: &Value, fields: EdgeFields) -> Vec<(String, String)> {
    of(manifest, fields)
        .list
        .into_iter()
        .map(|edge| (edge.parent.to_string(), edge.range))
        .collect()
}

/// The stored text of one dependency `p`.
fn stored(spec: &str) -> String {
    let found = pairs(&json!({"dependencies": {"p": spec}}), EdgeFields::default());
    assert_eq!(found.len(), 1, "{spec}: {found:?}");
    assert_eq!(found[0].0, "p", "{spec}");
    found[0].1.clone()
}

fn version(text: &str) -> Version {
    Version::parse(text).expect(text)
}

#[test]
fn rule_3_package_json_order_is_kept() {
    let manifest = json!({"dependencies": {"z": "^1.0.0", "@s/b": "~2.0.0", "a": "3.0.0"}});
    assert_eq!(
        pairs(&manifest, EdgeFields::default()),
        [("z", "^1.0.0"), ("@s/b", "~2.0.0"), ("a", "3.0.0")].map(|(p, r)| (p.into(), r.into()))
    );
}

#[test]
fn rule_3_optional_overrides_dependencies_and_those_override_peer() {
    let manifest = json!({
        "peerDependencies": {"a": "^9.0.0", "c": "^3.0.0", "b": "^9.0.0"},
        "optionalDependencies": {"b": "^2.0.0", "d": "^4.0.0"},
        "dependencies": {"a": "^1.0.0", "b": "^1.0.0"},
    });
    let pairs = |optional, peer| pairs(&manifest, EdgeFields { optional, peer });
    let owned = |list: &[(&str, &str)]| -> Vec<(String, String)> {
        list.iter()
            .map(|(p, r)| ((*p).into(), (*r).into()))
            .collect()
    };
    assert_eq!(
        pairs(false, false),
        owned(&[("a", "^1.0.0"), ("b", "^1.0.0")])
    );
    assert_eq!(
        pairs(true, true),
        owned(&[
            ("a", "^1.0.0"),
            ("b", "^2.0.0"),
            ("d", "^4.0.0"),
            ("c", "^3.0.0")
        ])
    );
    assert_eq!(
        pairs(false, true),
        owned(&[("a", "^1.0.0"), ("b", "^1.0.0"), ("c", "^3.0.0")])
    );
}

#[test]
fn rule_3_no_dependencies_is_no_edges() {
    for manifest in [
        json!({}),
        json!({"dependencies": null}),
        json!({"dependencies": {}}),
    ] {
        assert_eq!(of(&manifest, EdgeFields::default()), Edges::default());
    }
}

#[test]
fn rule_4_ranges_are_stored_as_declared() {
    for spec in [
        "^1.2.3",
        "~1.2",
        "1.0.0",
        ">=1.0.0",
        "^1.0.0 || ^2.0.0",
        "*",
    ] {
        assert_eq!(stored(spec), spec);
        assert!(
            matches!(EdgeRange::of(spec), EdgeRange::Semver(_)),
            "{spec}"
        );
    }
    assert_eq!(stored("  ^1.2.3 "), "^1.2.3");
}

#[test]
fn rule_4_latest_and_empty_are_any() {
    for spec in ["latest", "", "  ", " latest "] {
        assert_eq!(stored(spec), "*", "{spec:?}");
        assert!(
            EdgeRange::of(spec).admits(&version("9.9.9"), None),
            "{spec:?}"
        );
    }
}

#[test]
fn rule_4_workspace_star_is_any() {
    for spec in ["workspace:*", "workspace:^", "workspace:~", "workspace:"] {
        assert_eq!(stored(spec), "*", "{spec}");
    }
    assert_eq!(stored("workspace:^1.2.3"), "^1.2.3");
    assert_eq!(stored("workspace:1.2.3"), "1.2.3");
    assert_eq!(stored("workspace:../p"), "workspace:../p");
    assert_eq!(EdgeRange::of("workspace:../p").nothing(), Some(Form::File));
    assert_eq!(
        pairs(
            &json!({"dependencies": {"p": "workspace:@s/c@^", "q": "workspace:d@~1.0.0"}}),
            EdgeFields::default()
        ),
        [("@s/c", "*"), ("d", "~1.0.0")].map(|(p, r)| (p.into(), r.into()))
    );
}

#[test]
fn rule_4_alias_is_an_edge_to_the_real_name() {
    for (spec, name, range) in [
        ("npm:real@^1.0.0", "real", "^1.0.0"),
        ("npm:@s/real@^1.0.0", "@s/real", "^1.0.0"),
        ("npm:real", "real", "*"),
        ("npm:@s/real", "@s/real", "*"),
        ("npm:real@", "real", "*"),
        ("npm:real@latest", "real", "*"),
        ("npm:real@next", "real", "next"),
        ("NPM:real@~1.0.0", "real", "~1.0.0"),
        ("npm:^1.0.0", "p", "^1.0.0"),
        ("npm:1.0.0", "p", "1.0.0"),
        ("npm:x", "x", "*"),
    ] {
        let manifest = json!({"dependencies": {"p": spec}});
        assert_eq!(
            pairs(&manifest, EdgeFields::default()),
            [(name.to_owned(), range.to_owned())],
            "{spec}"
        );
    }
}

#[test]
fn rule_4_addresses_and_tags_admit_nothing_and_say_why() {
    for (spec, expected) in [
        ("git+ssh://git@host/x.git#v1", Form::Git),
        ("git://host/x.git", Form::Git),
        ("git@github.com:user/repo.git", Form::Git),
        ("me@host:repo", Form::Git),
        ("github:user/repo#semver:^1.0.0", Form::Git),
        ("user/repo", Form::Git),
        ("user/repo#branch", Form::Git),
        ("https://github.com/user/repo", Form::Git),
        ("https://github.com/user/repo.git#v1", Form::Git),
        ("https://github.com/user/repo/archive/v1.tar.gz", Form::Url),
        ("https://host/x-1.0.0.tgz", Form::Url),
        ("http://host/x", Form::Url),
        ("file:../x", Form::File),
        ("./x", Form::File),
        ("../x", Form::File),
        ("/abs/x", Form::File),
        ("~/x", Form::File),
        ("x-1.0.0.tgz", Form::File),
        ("a/b/c", Form::File),
        ("link:../x", Form::Link),
        ("portal:../x", Form::Link),
        ("next", Form::Tag),
        ("beta-5", Form::Tag),
        ("catalog:", Form::Protocol),
        ("patch:p@1.0.0", Form::Protocol),
        ("not a range", Form::Invalid),
        ("é", Form::Invalid),
        ("#", Form::Invalid),
    ] {
        assert_eq!(stored(spec), spec);
        let range = EdgeRange::of(spec);
        assert_eq!(range.nothing(), Some(expected), "{spec}");
        assert!(
            !range.admits(&version("1.0.0"), Some(&version("1.0.0"))),
            "{spec}"
        );
    }
    assert_eq!(Form::Git.to_string(), "a git address admits no version");
}

#[test]
fn rule_5_two_ranges_to_one_package_are_joined() {
    let join = |dependencies: Value| {
        pairs(
            &json!({ "dependencies": dependencies }),
            EdgeFields::default(),
        )
    };
    let one = |range: &str| vec![("p".to_owned(), range.to_owned())];
    assert_eq!(
        join(json!({"p": "^2.0.0", "old": "npm:p@^1.0.0"})),
        one("^2.0.0 || ^1.0.0")
    );
    assert_eq!(
        join(json!({"p": "^2.0.0", "old": "npm:p@^2.0.0"})),
        one("^2.0.0")
    );
    assert_eq!(
        join(json!({"p": "user/p", "old": "npm:p@^1.0.0"})),
        one("^1.0.0")
    );
    assert_eq!(
        join(json!({"p": "user/p", "old": "npm:p@next"})),
        one("user/p || next")
    );
    assert_eq!(
        EdgeRange::of("git+ssh://h/p || next").nothing(),
        Some(Form::Git)
    );
    let joined = EdgeRange::of("^2.0.0 || ^1.0.0");
    assert!(joined.admits(&version("1.5.0"), None) && joined.admits(&version("2.5.0"), None));
    assert!(!joined.admits(&version("3.0.0"), None));
}

#[test]
fn rule_4_what_cannot_be_an_edge_is_a_note() {
    let found = of(
        &json!({
            "dependencies": {"a b": "^1.0.0", "ok": "^1.0.0", "node_modules": "*", "n": 5, "x": "npm:a b@1", "y": "npm:.z"},
            "optionalDependencies": ["not an object"],
        }),
        EdgeFields {
            optional: true,
            peer: true,
        },
    );
    assert_eq!(found.list.len(), 1);
    assert_eq!(
        found.notes,
        [
            "dependencies[\"n\"]: the range is not a string",
            "optionalDependencies: is not an object",
            "dependencies[\"a b\"]: the name has characters other than letters, digits and -_.!~*'()",
            "dependencies[\"node_modules\"]: the name is reserved by npm",
            "dependencies[\"x\"]: the name \"a b\" has characters other than letters, digits and -_.!~*'()",
            "dependencies[\"y\"]: the name \".z\" begins with a period",
        ]
    );
}

#[test]
fn rule_4_no_text_panics() {
    let alphabet: Vec<char> = "npmworkspace:@/*^~.-# é\u{1F600}0129|v<>=gitfile+"
        .chars()
        .collect();
    let mut seed = 7_u64;
    for _ in 0..40_000 {
        let mut text = String::new();
        for _ in 0..12 {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let at = usize::try_from(seed >> 33).expect("31 bits") % (alphabet.len() * 2);
            text.extend(alphabet.get(at));
        }
        let _ = of(
            &json!({"dependencies": {"p": text, text.clone(): "1"}}),
            EdgeFields::default(),
        );
        let _ = EdgeRange::of(&text);
    }
}

#[test]
fn rule_5_many_aliases_of_one_package_take_linear_time() {
    let aliases: Map<String, Value> = (0..40_000)
        .map(|at| (format!("a{at}"), json!(format!("npm:p@1.0.{at}"))))
        .collect();
    let manifest = json!({ "dependencies": aliases });
    let begun = std::time::Instant::now();
    let found = of(&manifest, EdgeFields::default());
    assert_eq!(found.list.len(), 1);
    let range = EdgeRange::of(&found.list[0].range);
    assert!(
        range.admits(&version("1.0.39999"), None) && !range.admits(&version("1.0.40000"), None)
    );
    // well below a second, even in a debug build
    assert!(begun.elapsed().as_secs() < 10);
}
