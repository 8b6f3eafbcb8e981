//! What is written reads back as what it was; what is read means what `kubectl` takes it for.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::read::read;
use super::scalar::resolve;
use super::{block, rewrite};

fn value(text: &str) -> Value {
    read(text, 1).unwrap().map_or(Value::Null, |node| node.value)
}

/// Guards: YAML 1.1 as Go reads it.
#[test]
fn plain_scalars() {
    for (text, expected) in [
        ("yes", json!(true)),
        ("Off", json!(false)),
        ("~", Value::Null),
        ("0644", json!(420)),
        ("0o17", json!(15)),
        ("0x1F", json!(31)),
        ("-0b11", json!(-3)),
        ("1_000", json!(1000)),
        ("1.50", json!(1.5)),
        ("1e3", json!("1e3")),
        ("1e+3", json!(1000.0)),
        ("+-5", json!("+-5")),
        ("089", json!(89.0)),
        ("1.2.3", json!("1.2.3")),
        ("12:30", json!("12:30")),
        ("2001-12-14", json!("2001-12-14")),
        ("18446744073709551615", json!(u64::MAX)),
        ("10m", json!("10m")),
        ("nO", json!("nO")),
    ] {
        assert_eq!(resolve(text), Some(expected), "{text}");
    }
    assert_eq!(resolve(".inf"), None);
    assert_eq!(resolve("-.inf"), None);
}

/// Guards: what can't be understood is no manifest, rather than a wrong one.
#[test]
fn what_is_refused() {
    for text in [
        "a: 1\na: 2",
        "a: !mine 1",
        "? [a]\n: b",
        "{{ x }}",
        "a: *b",
        "a: .nan",
        "a: b: c",
        "a: 1\n...\nb: 2",
    ] {
        assert!(read(text, 1).is_err(), "{text}");
    }
    let bomb: String = (0..40).map(|i| format!("k{}: &a{} [*a{i}, *a{i}]\n", i + 1, i + 1)).collect();
    assert!(read(&format!("k0: &a0 [x]\n{bomb}"), 1).unwrap_err().contains("more than"));
}

/// Guards: aliases, merge keys, tags and block scalars.
#[test]
fn what_is_understood() {
    assert_eq!(
        value("a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}"),
        json!({"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 3}})
    );
    assert_eq!(
        value("- !!str 5\n- !!int \"5\"\n-\n- |\n  a\n   b\n- >-\n  a\n  b"),
        json!(["5", 5, null, "a\n b\n", "a b"])
    );
    assert_eq!(value("8080: x\nyes: z"), json!({"8080": "x", "true": "z"}));
    assert_eq!(value("# nothing\n"), Value::Null);
}

/// Guards: only the lines that must change do.
#[test]
fn in_place() {
    let text =
        "a: 1 # one\nb:\n# before\n- name: x # x\n  v: 'q'\n- name: yy\nc: {d: e} # flow\nf: |\n  text\ng:\n";
    let root = read(text, 1).unwrap().unwrap();
    let new = json!({"a": 2, "b": [{"v": "q"}, {"name": "yy"}, {"name": "z"}], "c": {"d": "no"}, "f": "text\n", "g": [], "h": {"i": "j"}});
    assert_eq!(
        rewrite(text, &root, &new),
        "a: 2 # one\nb:\n- v: q\n- name: yy\n- name: z\nc: {d: \"no\"} # flow\nf: |\n  text\ng: []\nh:\n  i: j\n"
    );
    let new = json!({"a": 1, "b": [{"name": "x", "v": "w", "u": 1}], "f": "text\n", "g": null});
    assert_eq!(
        rewrite(text, &root, &new),
        "a: 1 # one\nb:\n# before\n- name: x # x\n  v: w\n  u: 1\nf: |\n  text\ng:\n"
    );
}

/// Guards: several keys that go from the line of a dash, and a last line without an end.
#[test]
fn removed_in_place() {
    let text = "# first\na:\n- name: x # x\n  b: 1\n  c: 2 # c\n  d: 3 # d";
    let root = read(text, 1).unwrap().unwrap();
    assert_eq!(
        rewrite(text, &root, &json!({"a": [{"c": 2, "d": 3}]})),
        "# first\na:\n- c: 2 # c\n  d: 3 # d"
    );
    assert_eq!(rewrite(text, &root, &json!({"a": [{"name": "x"}]})), "# first\na:\n- name: x # x");
}

/// Guards: a text that can't be changed in place, because something else hangs on it, is written anew.
#[test]
fn anew() {
    let text = "# first\na: &x {b: 1}\nc: *x\n";
    let root = read(text, 1).unwrap().unwrap();
    let new = json!({"a": {"b": 2}, "c": {"b": 1}});
    assert_eq!(rewrite(text, &root, &new), "# first\na:\n  b: 2\nc:\n  b: 1\n");
}

fn scalars() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_filter("JSON has it", |n| n.is_finite()).prop_map(Value::from),
        "(?s).{0,12}".prop_map(Value::from),
        "[-+0-9a-fxob_.:~ #\n]{0,8}".prop_map(Value::from),
    ]
}

fn documents() -> impl Strategy<Value = Value> {
    let inner = scalars().prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map("[a-d]|(?s).{0,3}", inner, 0..4)
                .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    });
    prop::collection::hash_map("[a-d]", inner, 1..4)
        .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into())
}

proptest! {
    /// Guards: the writer's quotes, numbers and block scalars.
    #[test]
    fn written_is_read(document in documents()) {
        let text = block(&document);
        prop_assert_eq!(read(&text, 1).map(|node| node.map(|node| node.value)), Ok(Some(document)), "{}", text);
    }

    /// Guards: whatever a document becomes, its text becomes.
    #[test]
    fn rewritten_is_read(old in documents(), new in documents(), crlf in any::<bool>()) {
        let mut text = block(&old) + "\n";
        if crlf {
            text = text.replace('\n', "\r\n");
        }
        let root = read(&text, 1).unwrap().unwrap();
        let written = rewrite(&text, &root, &new);
        prop_assert_eq!(read(&written, 1).map(|node| node.map(|node| node.value)), Ok(Some(new)), "{}", written);
    }
}
