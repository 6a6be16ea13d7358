//! Tests of `filter`.

use super::*;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

const LIMIT: usize = 1 << 20;

fn filter(pieces: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Result<Vec<u8>, FilterError> {
    let mut filter = PushFilter::new(LIMIT);
    for piece in pieces {
        filter.push(piece.as_ref())?;
    }
    Ok(filter.finish())
}

fn text(json: &str) -> String {
    let whole = String::from_utf8(filter([json]).expect("a short text")).expect("UTF-8");
    let bytewise = filter(json.as_bytes().chunks(1)).expect("a short text");
    assert_eq!(whole.as_bytes(), bytewise, "{json}");
    whole
}

#[test]
fn rule_2_attachments_are_cut_at_the_top_level_and_inside_data() {
    for (given, expected) in [
        (
            r#"{"a":1,"_attachments":{"x":{"data":"AA=="}},"b":2}"#,
            r#"{"a":1,"_attachments":{},"b":2}"#,
        ),
        (
            r#"{"data":{"_attachments":{"x":[1,{"y":"}\"]"}]},"n":1},"promote":true}"#,
            r#"{"data":{"_attachments":{},"n":1},"promote":true}"#,
        ),
        (
            r#"{ "_attachments" : [ ] , "b" : 2 }"#,
            r#"{ "_attachments" : {} , "b" : 2 }"#,
        ),
        (r#"{"_attachments":"a\\\"}b"}"#, r#"{"_attachments":{}}"#),
        (
            r#"{"_attachments":{},"_attachments":{"a":1}}"#,
            r#"{"_attachments":{},"_attachments":{}}"#,
        ),
        (
            r#"{"_attach\u006dents":{"x":1}}"#,
            r#"{"_attach\u006dents":{}}"#,
        ),
        (
            r#"{"\u0064ata":{"\u005f\u0061ttachments":{"x":1}}}"#,
            r#"{"\u0064ata":{"\u005f\u0061ttachments":{}}}"#,
        ),
        (
            r#"{"_attachments":null,"b":[2]}"#,
            r#"{"_attachments":null,"b":[2]}"#,
        ),
        (
            r#"{"data":{"b":{}},"_attachments":{"x":1}}"#,
            r#"{"data":{"b":{}},"_attachments":{}}"#,
        ),
    ] {
        assert_eq!(text(given), expected);
    }
}

#[test]
fn rule_2_everything_else_is_kept() {
    for given in [
        r#"{"a":{"_attachments":{"x":1}}}"#,
        r#"[{"_attachments":{"x":1}}]"#,
        r#"{"data":[{"_attachments":{"x":1}}]}"#,
        r#"{"a":["_attachments",{"b":1}],"c":"_attachments"}"#,
        r#"{"data":{"data":{"_attachments":{"x":1}}}}"#,
        r#"{"a":{"data":{"_attachments":{"x":1}}}}"#,
        r#"{"data":"_attachments","b":{"_attachments":{"x":1}}}"#,
        r#"{"_attachment":{"x":1},"_attachmentss":{"x":1},"":{"y":"\\"}}"#,
        r#"{"data":1,"x":{"_attachments":{"x":1}}}"#,
        "",
        "nonsense \u{e9} \" \\",
    ] {
        assert_eq!(text(given), given);
    }
}

#[test]
fn rule_2_a_mistake_outside_of_attachments_is_not_healed() {
    for given in [
        r#"{"_attachments":}"#,
        r#"{"_attachments":,"a":1}"#,
        r#"{"_attachments":{"a":1}"#,
        r#"{"_attachments" {"a":1}}"#,
        r#"{"_attachments":{}{}}"#,
        r#"{"_attachments":{"a":"#,
        r#"{"a":1}}"#,
        r#"{"_attachments":nul}"#,
    ] {
        assert!(serde_json::from_str::<Value>(given).is_err(), "{given}");
        let kept = text(given);
        assert!(
            serde_json::from_str::<Value>(&kept).is_err(),
            "{given} -> {kept}"
        );
    }
    for given in [r#"{"_attachments":{"a":[}]}"#, r#"{"_attachments":[}"#] {
        assert_eq!(filter([given]), Err(FilterError::Malformed));
    }
    let deep = format!("{{\"_attachments\":{}", "[".repeat(1_000_000));
    assert_eq!(filter([deep]), Err(FilterError::Malformed));
}

#[test]
fn rule_2_kept_bytes_are_limited_and_skipped_bytes_are_not() {
    let mut small = PushFilter::new(22);
    assert_eq!(
        small.push(br#"{"a":1,"_attachments":{"#),
        Err(FilterError::TooLarge { limit: 22 })
    );
    let mut exact = PushFilter::new(25);
    exact
        .push(br#"{"a":1,"_attachments":{"x":"0123456789"}}"#)
        .expect("25 bytes are kept");
    assert_eq!(exact.finish(), br#"{"a":1,"_attachments":{}}"#);
}

#[test]
fn rule_2_a_hundred_megabytes_of_attachment_take_no_memory() {
    let mut filter = PushFilter::new(LIMIT);
    filter
        .push(br#"{"data":{"name":"a","_attachments":{"a-1.0.0.tgz":{"data":""#)
        .expect("short");
    let before = filter.held();
    let piece = vec![b'A'; 64 * 1024];
    for _ in 0..1600 {
        filter.push(&piece).expect("skipped");
        assert_eq!(filter.held(), before);
    }
    filter
        .push(br#"","length":9}},"after":1}}"#)
        .expect("short");
    assert_eq!(
        filter.finish(),
        br#"{"data":{"name":"a","_attachments":{},"after":1}}"#
    );
}

/// What the filter must amount to, said with `serde_json`.
fn expected(mut value: Value) -> Value {
    fn cut(object: &mut Map<String, Value>) {
        if let Some(value) = object.get_mut("_attachments")
            && (value.is_object() || value.is_array() || value.is_string())
        {
            *value = json!({});
        }
    }
    if let Some(object) = value.as_object_mut() {
        cut(object);
        if let Some(data) = object.get_mut("data").and_then(Value::as_object_mut) {
            cut(data);
        }
    }
    value
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => Just("_attachments".to_owned()),
        3 => Just("data".to_owned()),
        2 => "[a_\"\\\\\u{e9}{}:, ]{0,4}",
        1 => "_attachments?s{0,2}",
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a\"\\\\\u{1F600}{}\\[\\]:,\n ]{0,8}".prop_map(Value::from),
        key().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            4 => prop::collection::vec((key(), inner), 0..5).prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

/// JSON text of a value with white space and `\u` escapes where `seed` wants them.
fn write(value: &Value, seed: &mut u64, out: &mut String) {
    fn next(seed: &mut u64) -> u64 {
        *seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        *seed >> 33
    }
    fn string(text: &str, seed: &mut u64, out: &mut String) {
        use std::fmt::Write as _;
        out.push('"');
        let escape = next(seed).is_multiple_of(3);
        for c in text.chars() {
            if escape && next(seed).is_multiple_of(3) {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}").expect("a String takes all");
                }
            } else {
                let quoted = serde_json::to_string(&c).expect("a char is JSON");
                out.push_str(&quoted[1..quoted.len() - 1]);
            }
        }
        out.push('"');
    }
    fn space(seed: &mut u64, out: &mut String) {
        if next(seed).is_multiple_of(4) {
            out.push_str(
                [" ", "\n", "\t ", "  "][usize::try_from(next(seed) % 4).expect("below 4")],
            );
        }
    }
    space(seed, out);
    match value {
        Value::String(text) => string(text, seed, out),
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at == 0 { "" } else { "," });
                write(item, seed, out);
            }
            out.push(']');
        }
        Value::Object(entries) => {
            out.push('{');
            for (at, (key, item)) in entries.iter().enumerate() {
                out.push_str(if at == 0 { "" } else { "," });
                space(seed, out);
                string(key, seed, out);
                space(seed, out);
                out.push(':');
                write(item, seed, out);
            }
            out.push('}');
        }
        other => out.push_str(&other.to_string()),
    }
    space(seed, out);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn rule_2_the_filter_agrees_with_serde_json_at_any_cut(value in value(), mut seed: u64, cuts in prop::collection::vec(1_usize..9, 1..6)) {
        let mut given = String::new();
        write(&value, &mut seed, &mut given);
        prop_assert_eq!(&serde_json::from_str::<Value>(&given).expect("we wrote JSON"), &value);
        let mut filter = PushFilter::new(LIMIT);
        let mut rest = given.as_bytes();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            filter.push(piece).expect("valid and short");
            rest = after;
        }
        let kept: Value = serde_json::from_slice(&filter.finish()).expect("still JSON");
        prop_assert_eq!(kept, expected(value));
    }

    #[test]
    fn rule_2_no_bytes_panic_and_cuts_do_not_matter(bytes in prop::collection::vec(prop::sample::select(b"{}[]\",:\\_ adtu0\xff".to_vec()), 0..60), cut in 1_usize..8) {
        let mut bytes = bytes;
        for text in ["{\"_attachments\":", "{\"data\":{\"_attachments\":"] {
            prop_assert_eq!(filter([&bytes]), filter(bytes.chunks(cut)));
            bytes.splice(0..0, text.bytes());
        }
    }
}
