//! YAML means what kubectl takes it for. The expected values were printed by
//! `kubectl label --local -f FILE -o json zz=1` (kubectl v1.32.4) for the same text.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use castoff::snapshot::{Kind, Snapshot};
use castoff::source::{Place, read_text};
use serde_json::Value;

const HEAD: &str =
    "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a, namespace: d}\n";

fn read(text: &str) -> Option<Value> {
    let snapshot: Snapshot = read_text(&Place::StandardInput, text).ok()?;
    Some(snapshot.resources(Kind::VirtualService)[0].body["spec"].clone())
}

/// Equal as kubectl prints them: a whole number that does not fit 64 bits is a double.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => {
            left == right || (left.as_i64().is_none() && left.as_f64() == right.as_f64())
        }
        (left, right) => left == right,
    }
}

/// A scalar, and what kubectl makes of it.
const SCALARS: &[(&str, &str)] = &[
    ("on", "true"),
    ("On", "true"),
    ("ON", "true"),
    ("oN", r#""oN""#),
    ("off", "false"),
    ("yes", "true"),
    ("Yes", "true"),
    ("no", "false"),
    ("NO", "false"),
    ("y", "true"),
    ("Y", "true"),
    ("n", "false"),
    ("N", "false"),
    ("true", "true"),
    ("True", "true"),
    ("TRUE", "true"),
    ("tRue", r#""tRue""#),
    ("false", "false"),
    ("~", "null"),
    ("null", "null"),
    ("Null", "null"),
    ("NULL", "null"),
    ("nULL", r#""nULL""#),
    ("0", "0"),
    ("007", "7"),
    ("0777", "511"),
    ("08", "8"),
    ("0o17", "15"),
    ("0x1F", "31"),
    ("0xfg", r#""0xfg""#),
    ("0b11", "3"),
    ("-0b11", "-3"),
    ("-0x10", "-16"),
    ("+5", "5"),
    ("-7", "-7"),
    ("1_000", "1000"),
    ("1__0", "10"),
    ("_1", r#""_1""#),
    ("1_", "1"),
    ("0_8", "8"),
    ("9223372036854775807", "9223372036854775807"),
    ("9223372036854775808", "9223372036854776000"),
    ("18446744073709551615", "18446744073709552000"),
    ("18446744073709551616", "18446744073709552000"),
    ("123456789012345678901234567890", "1.2345678901234568e+29"),
    ("-9223372036854775808", "-9223372036854775808"),
    ("-9223372036854775809", "-9223372036854776000"),
    ("1.0", "1"),
    ("1.50", "1.5"),
    ("1.", "1"),
    (".5", "0.5"),
    ("-.5", "-0.5"),
    ("+.5", "0.5"),
    (".", r#"".""#),
    ("1e3", "1000"),
    ("1e+3", "1000"),
    ("1E3", "1000"),
    ("1e-7", "1e-7"),
    ("1e21", "1e+21"),
    ("1e22", "1e+22"),
    ("1.5e300", "1.5e+300"),
    ("1e400", r#""1e400""#),
    ("1_0.5", "10.5"),
    (".inf", "error"),
    ("-.inf", "error"),
    (".nan", "error"),
    (".NaN", "error"),
    ("190:20:30", r#""190:20:30""#),
    ("2001-12-14", r#""2001-12-14""#),
    ("2001-12-14T21:59:43Z", r#""2001-12-14T21:59:43Z""#),
    ("1.2.3", r#""1.2.3""#),
    ("v1", r#""v1""#),
    ("0.0", "0"),
    ("-0", "0"),
    ("-0.0", "0"),
    ("1e", r#""1e""#),
    ("0x", r#""0x""#),
    ("0b", r#""0b""#),
    ("0b2", r#""0b2""#),
    ("1 2", r#""1 2""#),
    ("<<", r#""<<""#),
    ("=", r#""=""#),
    ("!!str 5", r#""5""#),
    ("!!str yes", r#""yes""#),
    (r#"!!int "5""#, "5"),
    ("!!float 5", "5"),
    (r#"!!bool "yes""#, "true"),
    ("!custom x", r#""x""#),
    ("!custom 5", r#""5""#),
    ("! 5", r#""5""#),
    (r#""5""#, r#""5""#),
    ("'yes'", r#""yes""#),
    ("100m", r#""100m""#),
    ("1Gi", r#""1Gi""#),
    ("1e3m", r#""1e3m""#),
    ("12e03", "12000"),
    ("+", r#""+""#),
    ("--", r#""--""#),
    ("+1_0", "10"),
    ("0.1", "0.1"),
    ("123456789.125", "123456789.125"),
    ("1.7976931348623157e308", "1.7976931348623157e+308"),
    ("0777_0", "4088"),
    ("+0777", "511"),
    ("-0777", "-511"),
    ("0o8", r#""0o8""#),
    ("1.e5", "100000"),
    (".5e3", "500"),
    ("5e5", "500000"),
];

#[test]
fn scalars_mean_what_kubectl_takes_them_for() {
    for (text, expected) in SCALARS {
        let found = read(&format!("{HEAD}spec:\n  v: {text}\n"));
        match (*expected, found) {
            ("error", found) => assert_eq!(found, None, "{text}"),
            (expected, None) => panic!("{text}: not read, expected {expected}"),
            (expected, Some(found)) => {
                let expected: Value = serde_json::from_str(expected).unwrap();
                assert!(
                    same(&found["v"], &expected),
                    "{text}: {} is not {expected}",
                    found["v"]
                );
            }
        }
    }
}

/// The rest of a document, and the `spec` that kubectl makes of it.
const DOCUMENTS: &[(&str, &str)] = &[
    ("spec: {a: 1, b: 2, a: 3}\n", r#"{"a":3,"b":2}"#),
    (
        "x: &x {a: 1, b: 2}\nspec:\n  <<: *x\n  b: 3\n",
        r#"{"a":1,"b":3}"#,
    ),
    (
        "x: &x {a: 1, b: 2}\nspec:\n  b: 3\n  <<: *x\n",
        r#"{"a":1,"b":2}"#,
    ),
    (
        "x: &x {a: 1, b: 2}\nz: &y {a: 9, c: 8}\nspec:\n  <<: [*x, *y]\n",
        r#"{"a":1,"b":2,"c":8}"#,
    ),
    (
        "x: &x {a: 1}\nz: &y {a: 2}\nspec:\n  <<: *x\n  <<: *y\n",
        r#"{"a":2}"#,
    ),
    (
        "x: &x {a: 1, b: 2}\nspec:\n  \"<<\": *x\n",
        r#"{"<<":{"a":1,"b":2}}"#,
    ),
    ("spec:\n  <<: 5\n  a: 1\n", "error"),
    (
        "spec: {1: a, 007: b, 1.5: c, yes: e, 0x10: f, 1e3: g}\n",
        r#"{"1":"a","1.5":"c","1000":"g","16":"f","7":"b","true":"e"}"#,
    ),
    ("spec: {~: a}\n", "error"),
    ("spec: {? [a] : b}\n", "error"),
    (
        "spec:\n  a: |\n    x\n    y\n  b: >-\n    x\n    y\n  c: |+\n    x\n\n",
        r#"{"a":"x\ny\n","b":"x y","c":"x\n\n"}"#,
    ),
    ("spec:\n  a: |\n    x", r#"{"a":"x\n"}"#),
    (
        "x: &x [1, 2]\nspec: {a: *x, b: *x}\n",
        r#"{"a":[1,2],"b":[1,2]}"#,
    ),
    ("spec: &s {a: *s}\n", "error"),
    ("spec: {a: *zz}\n", "error"),
    (
        "spec:\n  a: x\n    y\n  b: \"x\n    y\"\n",
        r#"{"a":"x y","b":"x y"}"#,
    ),
    (
        "spec:\n  a:\n  b: \"\"\n  c: []\n",
        r#"{"a":null,"b":"","c":[]}"#,
    ),
    ("spec:\n  a:\t1\n", r#"{"a":1}"#),
    ("x: &x 1\ny: *x\nz: &x 2\nspec: {a: *x}\n", r#"{"a":2}"#),
    ("spec: {a: \"x\n- y\"}\n", r#"{"a":"x - y"}"#),
];

#[test]
fn documents_mean_what_kubectl_takes_them_for() {
    for (text, expected) in DOCUMENTS {
        let found = read(&format!("{HEAD}{text}"));
        match *expected {
            "error" => assert_eq!(found, None, "{text}"),
            expected => {
                let expected: Value = serde_json::from_str(expected).unwrap();
                assert_eq!(found, Some(expected), "{text}");
            }
        }
    }
}

/// A dump whose text could be cut wrongly at its items means what it means as a whole.
#[test]
fn items_are_cut_only_where_the_text_cannot_mean_one_value() {
    let item = |name: &str, spec: &str| {
        format!(
            "- apiVersion: networking.istio.io/v1\n  kind: VirtualService\n  metadata: {{name: {name}}}\n  spec: {spec}\n"
        )
    };
    let dump = |items: &str| format!("apiVersion: v1\nitems:\n{items}kind: List\n");
    let specs = |text: &str| -> Vec<Value> {
        let snapshot = read_text(&Place::StandardInput, text).unwrap();
        assert!(snapshot.problems.is_empty(), "{:?}", snapshot.problems);
        snapshot
            .resources(Kind::VirtualService)
            .iter()
            .map(|object| object.body["spec"].clone())
            .collect()
    };
    let quoted = dump(&(item("a", "{v: \"x\n- y\"}") + &item("b", "{v: 1}")));
    assert_eq!(
        specs(&quoted),
        [
            serde_json::json!({"v": "x - y"}),
            serde_json::json!({"v": 1})
        ]
    );
    let anchored = dump(&(item("a", "&s {v: 2}") + &item("b", "*s")));
    assert_eq!(
        specs(&anchored),
        [serde_json::json!({"v": 2}), serde_json::json!({"v": 2})]
    );
    let block = dump(
        &(item("a", "{v: 1}\n  text: |\n    - a\n    kind: Pod\n    ---\n") + &item("b", "{v: 3}")),
    );
    assert_eq!(
        specs(&block),
        [serde_json::json!({"v": 1}), serde_json::json!({"v": 3})]
    );
    let indented = quoted
        .replace("x\n- y", "x y")
        .replace("\n  ", "\n    ")
        .replace("\n- ", "\n  - ");
    assert_eq!(
        specs(&indented),
        [serde_json::json!({"v": "x y"}), serde_json::json!({"v": 1})]
    );
}

#[test]
fn lists_of_any_kind_are_expanded_and_their_items_inherit_the_kind() {
    let text = "apiVersion: v1\nkind: PodList\nitems:\n- metadata: {name: a}\n---\napiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: PodList\n  items:\n  - metadata: {name: b}\n---\n{\"apiVersion\": \"v1\", \"kind\": \"PodList\", \"items\": [{\"metadata\": {\"name\": \"c\"}}]}\n{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"metadata\": {\"name\": \"d\"}}\n";
    let snapshot = read_text(&Place::StandardInput, text).unwrap();
    let pods: Vec<String> = snapshot
        .pods
        .iter()
        .map(|pod| format!("{} {} {}", pod.kind, pod.object_name(), pod.origin))
        .collect();
    assert_eq!(
        pods,
        [
            "Pod default/a standard input:4",
            "Pod default/b standard input:12",
            "Pod default/c standard input:14",
            "Pod default/d standard input:15",
        ]
    );
    assert!(snapshot.problems.is_empty());
}

#[test]
fn an_empty_list_says_that_none_exist() {
    let namespace = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n";
    let typed = format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicyList\nitems: []\n{namespace}"
    );
    let snapshot = read_text(&Place::StandardInput, &typed).unwrap();
    assert!(snapshot.seen_kinds.contains(&Kind::AuthorizationPolicy));
    let untyped = format!("apiVersion: v1\nkind: List\nitems: []\n{namespace}");
    let file = Place::File("dump/authorizationpolicies.security.istio.io.yaml".into());
    assert!(
        read_text(&file, &untyped)
            .unwrap()
            .seen_kinds
            .contains(&Kind::AuthorizationPolicy)
    );
    let file = Place::File("dump/pods.json.gz".into());
    let snapshot = read_text(&file, &untyped).unwrap();
    assert!(snapshot.seen_kinds.contains(&Kind::Pod));
    let anywhere = read_text(&Place::StandardInput, &untyped).unwrap();
    assert_eq!(
        anywhere.seen_kinds.into_iter().collect::<Vec<_>>(),
        [Kind::Namespace]
    );
}

#[test]
fn null_means_not_given() {
    for text in [
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: null}\nspec: {containers: null, hostNetwork: null, nodeName: null}\nstatus: null\n",
        r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","labels":null},"spec":{"containers":null,"hostNetwork":null,"nodeName":null},"status":null}"#,
    ] {
        let snapshot = read_text(&Place::StandardInput, text).unwrap();
        assert!(snapshot.problems.is_empty(), "{:?}", snapshot.problems);
        assert!(snapshot.pods[0].body.spec.containers.is_empty());
    }
}
