//! Every kind of bad input: what is said about it, and that the rest is still read.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

#[path = "support/folder.rs"]
#[allow(dead_code)]
mod folder;

use std::io::Write;
use std::path::PathBuf;

use castoff::snapshot::Kind;
use castoff::source::{read_files, read_files_and};
use folder::{Folder, GOOD, names};

const NOTHING: &str = "the files given hold nothing usable: no Kubernetes objects of the kinds that castoff reads; see `castoff migrate --help` for what `--from-files` needs";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

/// A bad file beside a good one: the good one is read, and this is said about the bad one.
fn said_beside_good(bad: impl AsRef<[u8]>) -> Vec<String> {
    let folder = Folder::new().with("bad.yaml", bad).with("good.yaml", GOOD);
    let snapshot = folder.read().unwrap();
    assert!(names(&snapshot).contains(&"good"));
    folder.said(&snapshot)
}

#[test]
fn a_broken_document_is_named_by_line_and_column_and_the_others_are_read() {
    let folder = Folder::new().with(
        "mesh.yaml",
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: one}\n---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: [two\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: three}\n",
    );
    let snapshot = folder.read().unwrap();
    assert_eq!(names(&snapshot), ["one", "three"]);
    assert_eq!(
        folder.said(&snapshot),
        [
            "error: mesh.yaml:8:9: this document is left out: unclosed bracket '['; correct it (`kubectl apply --dry-run=client -f` shows the same error)"
        ]
    );
}

#[test]
fn a_broken_item_of_a_dump_does_not_take_the_others_with_it() {
    let folder = Folder::new().with(
        "dump.yaml",
        "apiVersion: v1\nitems:\n- apiVersion: v1\n  kind: Namespace\n  metadata: {name: one}\n- apiVersion: v1\n  kind: Namespace\n  metadata: {name: two\n- apiVersion: v1\n  kind: Namespace\n  metadata: {name: three}\nkind: List\n",
    );
    let snapshot = folder.read().unwrap();
    assert_eq!(names(&snapshot), ["one", "three"]);
    assert_eq!(
        folder.said(&snapshot),
        [
            "error: dump.yaml:8:13: this document is left out: unclosed bracket '{'; correct it (`kubectl apply --dry-run=client -f` shows the same error)"
        ]
    );
}

#[test]
fn a_field_of_the_wrong_type_is_named_by_path_and_place() {
    assert_eq!(
        said_beside_good(
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  labels:\n    v: 1\n---\napiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n  ports:\n  - port: 99999\n"
        ),
        [
            "error: bad.yaml:6:8: this Service is left out: `metadata.labels.v`: invalid type: integer `1`, expected a string: put it in quotes",
            "error: bad.yaml:13:11: this Service is left out: `spec.ports[0].port`: invalid value: integer `99999`, expected u16"
        ]
    );
}

#[test]
fn a_template_is_told_to_be_rendered() {
    assert_eq!(
        said_beside_good("apiVersion: v1\nkind: Pod\nmetadata:\n  name: {{ .Values.name }}\n"),
        [
            "error: bad.yaml:4:10: this document is left out: a key must be text; this one is a list or a mapping; it looks like a template: render it first (`helm template`)"
        ]
    );
}

#[test]
fn tabs_are_told_to_be_spaces() {
    assert_eq!(
        said_beside_good("apiVersion: v1\nkind: Pod\nmetadata:\n\tname: web\n"),
        [
            "error: bad.yaml:4:2: this document is left out: tabs disallowed within this context (block indentation); indent with spaces, not with tabs"
        ]
    );
}

#[test]
fn what_is_no_kubernetes_object_is_skipped_with_a_warning() {
    assert_eq!(
        said_beside_good(
            "replicas: 3\nimage: web\n---\n- a\n- b\n---\nkind: Pod\nmetadata: {name: a}\n---\napiVersion: v1\nkind: Pod\nmetadata: {generateName: a-}\n"
        ),
        [
            "warning: bad.yaml:1: this is no Kubernetes object (it has neither `apiVersion` nor `kind`): skipped",
            "error: bad.yaml:4: this is no Kubernetes object but a list or a single value; take it out of the input",
            "error: bad.yaml:7: this object is left out: `apiVersion` is missing; add it",
            "error: bad.yaml:10: this Pod is left out: `metadata.name` is missing; the API server makes names of `generateName`: give it one"
        ]
    );
}

#[test]
fn duplicate_keys_take_the_later_value_and_are_named() {
    let folder = Folder::new()
        .with(
            "a.yaml",
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: first\n  name: later\n",
        )
        .with(
            "b.json",
            r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "json-first", "name": "json-later"}}"#,
        );
    let snapshot = folder.read().unwrap();
    assert_eq!(names(&snapshot), ["json-later", "later"]);
    assert_eq!(
        folder.said(&snapshot),
        [
            "warning: a.yaml:5:3: key `name` is given twice in one mapping: the later value is used; remove one of them",
            "warning: b.json:1: key `name` is given twice in one mapping: the later value is used; remove one of them"
        ]
    );
}

#[test]
fn of_an_object_given_twice_the_later_wins_and_both_places_are_named() {
    let pod = |node: &str| {
        format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec: {{nodeName: {node}}}\n")
    };
    let folder = Folder::new()
        .with("a.yaml", format!("# comment\n{}", pod("first")))
        .with("b.yaml", pod("second"))
        .with("c.yaml", format!("\n\n{}", pod("third")));
    let snapshot = folder.read().unwrap();
    assert_eq!(snapshot.pods.len(), 1);
    assert_eq!(snapshot.pods[0].body.spec.node_name, "third");
    assert_eq!(
        folder.said(&snapshot),
        [
            "error: b.yaml:1: Pod `default/web` is given twice with different texts, first at a.yaml:2: this one is used; remove one of them",
            "error: c.yaml:3: Pod `default/web` is given twice with different texts, first at b.yaml:1: this one is used; remove one of them"
        ]
    );
}

#[test]
fn the_same_text_twice_is_a_warning() {
    let policy = |version: &str, more: &str| {
        format!(
            "apiVersion: security.istio.io/{version}\nkind: AuthorizationPolicy\nmetadata: {{name: web, namespace: shop{more}}}\nspec: {{rules: [{{}}]}}\n"
        )
    };
    let folder = Folder::new()
        .with("a.yaml", policy("v1", ""))
        .with("b.yaml", policy("v1beta1", ", resourceVersion: '7'"));
    let snapshot = folder.read().unwrap();
    assert_eq!(
        folder.said(&snapshot),
        [
            "warning: b.yaml:1: AuthorizationPolicy `shop/web` is given twice, first at a.yaml:1: this one is used; remove one of them"
        ]
    );
}

#[test]
fn unknown_kinds_are_counted_and_are_no_errors() {
    let folder = Folder::new().with(
        "a.yaml",
        format!("{GOOD}---\napiVersion: apps.example.com/v1\nkind: Thing\nmetadata: {{name: x}}\n---\napiVersion: apps.example.com/v1\nkind: Thing\nmetadata: {{name: y}}\n"),
    );
    let snapshot = folder.read().unwrap();
    assert_eq!(folder.said(&snapshot), [""; 0]);
    assert_eq!(
        snapshot.unused_kinds.into_iter().collect::<Vec<_>>(),
        [("apps.example.com/v1/Thing".to_owned(), 2)]
    );
}

#[test]
fn alias_bombs_are_refused() {
    let mut bomb =
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\na: &a [x, x, x, x, x, x, x, x, x]\n"
            .to_owned();
    for (name, before) in ["b", "c", "d", "e", "f", "g", "h", "i"]
        .iter()
        .zip(["a", "b", "c", "d", "e", "f", "g", "h"])
    {
        let aliases = vec![format!("*{before}"); 9].join(", ");
        bomb.push_str(&format!("{name}: &{name} [{aliases}]\n"));
    }
    assert_eq!(
        said_beside_good(bomb),
        [
            "error: bad.yaml:9:12: this document is left out: aliases repeat more than 200000 values in one document; write the values out"
        ]
    );
    let quadratic = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\na: &a [{}]\nb: [{}]\n",
        vec!["x"; 20_000].join(", "),
        vec!["*a"; 2_000].join(", ")
    );
    assert_eq!(
        said_beside_good(quadratic),
        [
            "error: bad.yaml:5:41: this document is left out: aliases repeat more than 200000 values in one document; write the values out"
        ]
    );
}

#[test]
fn nesting_bombs_are_refused() {
    let flow = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec: {}\n",
        "[".repeat(100_000)
    );
    assert_eq!(
        said_beside_good(flow),
        [
            "error: bad.yaml:4:262: this document is left out: recursion limit exceeded; correct it (`kubectl apply --dry-run=client -f` shows the same error)"
        ]
    );
    let json = format!(
        r#"{{"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {{"name": "a"}}, "spec": {}1{}}}"#,
        r#"{"a":"#.repeat(10_000),
        "}".repeat(10_000)
    );
    let said = said_beside_good(json);
    assert_eq!(
        said,
        ["error: bad.yaml:1: this object is left out: recursion limit exceeded; correct it"]
    );
}

#[test]
fn aliases_that_lead_nowhere_or_into_themselves_are_refused() {
    assert_eq!(
        said_beside_good(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: *nobody}\n---\napiVersion: v1\nkind: Pod\nmetadata: &m {name: a, labels: *m}\n"
        ),
        [
            "error: bad.yaml:3:18: this document is left out: while parsing node, found unknown anchor; correct it (`kubectl apply --dry-run=client -f` shows the same error)",
            "error: bad.yaml:7:32: this document is left out: an alias stands inside the value that it refers to; correct it (`kubectl apply --dry-run=client -f` shows the same error)"
        ]
    );
}

#[test]
fn values_that_json_cannot_hold_are_refused() {
    assert_eq!(
        said_beside_good(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a}\nspec:\n  x: .inf\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {[a]: 1}\n"
        ),
        [
            "error: bad.yaml:5:6: this AuthorizationPolicy is left out: `spec.x`: `.inf` and `.nan` have no place in a manifest: put it in quotes if text is meant",
            "error: bad.yaml:10:8: this document is left out: a key must be text; this one is a list or a mapping; correct it (`kubectl apply --dry-run=client -f` shows the same error)"
        ]
    );
}

#[test]
fn truncated_json_keeps_what_stands_before_the_break() {
    let folder = Folder::new().with(
        "dump.json",
        "{\"apiVersion\": \"v1\", \"items\": [\n{\"apiVersion\": \"v1\", \"kind\": \"Namespace\", \"metadata\": {\"name\": \"one\"}},\n{\"apiVersion\": \"v1\", \"kind\": \"Names",
    );
    let snapshot = folder.read().unwrap();
    assert_eq!(names(&snapshot), ["one"]);
    assert_eq!(
        folder.said(&snapshot),
        [
            "error: dump.json:3:35: this JSON is broken: EOF while parsing a string; what stands before is used, write the file again"
        ]
    );
}

#[test]
fn bytes_that_are_not_text_are_named_and_the_other_documents_are_read() {
    let mut latin1 = b"apiVersion: v1\nkind: Namespace\nmetadata:\n  name: one\n---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: caf".to_vec();
    latin1.extend(b"\xe9\n---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: three\n");
    let folder = Folder::new().with("latin1.yaml", latin1);
    let snapshot = folder.read().unwrap();
    assert_eq!(names(&snapshot), ["one", "three"]);
    assert_eq!(
        folder.said(&snapshot),
        [
            "error: latin1.yaml:9:12: this document is left out: it holds a byte that is not UTF-8; save the file as UTF-8"
        ]
    );
    assert_eq!(
        said_beside_good(b"\0\x01\x02"),
        [
            "error: bad.yaml:1: this file is not text (it holds NUL bytes); give YAML or JSON in UTF-8, or in UTF-16 with a byte order mark"
        ]
    );
}

#[test]
fn gzip_bombs_and_broken_gzip_are_refused() {
    let folder = Folder::new()
        .with("bomb.yaml.gz", gzip(&vec![b' '; 80 << 20]))
        .with("cut.yaml.gz", &gzip(GOOD.as_bytes())[..20])
        .with("good.yaml.gz", gzip(GOOD.as_bytes()));
    let snapshot = folder.read().unwrap();
    assert_eq!(names(&snapshot), ["good"]);
    assert_eq!(
        folder.said(&snapshot),
        [
            "error: bomb.yaml.gz:1: this gzip file unpacks to more than 64 MiB, 200 times its size or more; unpack it and give the parts that are needed",
            "error: cut.yaml.gz:1: cannot unpack this gzip file: incomplete deflate stream; pack it again"
        ]
    );
}

#[test]
fn a_single_document_that_no_api_server_would_store_is_refused() {
    let large = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata:\n  a: {}\n",
        "x".repeat(65 << 20)
    );
    assert_eq!(
        said_beside_good(large),
        [
            "error: bad.yaml:1: a single document of 65 MiB is larger than any object that an API server stores; split it with `---` lines"
        ]
    );
}

#[test]
fn nothing_usable_is_an_error_that_says_why() {
    let message = |folder: &Folder| {
        folder
            .read()
            .unwrap_err()
            .to_string()
            .replace(&folder.path("").display().to_string(), "")
    };
    assert_eq!(message(&Folder::new()), NOTHING);
    assert_eq!(message(&Folder::new().with("empty.yaml", "")), NOTHING);
    assert_eq!(
        message(&Folder::new().with("comments.yaml", "# nothing\n---\n# here\n")),
        NOTHING
    );
    assert_eq!(
        message(&Folder::new().with("broken.yaml", "a: b: c\n")),
        "the files given hold nothing usable: broken.yaml:1:5: this document is left out: mapping values are not allowed in this context; correct it (`kubectl apply --dry-run=client -f` shows the same error)"
    );
    assert_eq!(
        message(
            &Folder::new()
                .with("values.yaml", "replicas: 3\n")
                .with("x.yaml", "a: [\n")
        ),
        "the files given hold nothing usable: values.yaml:1: this is no Kubernetes object (it has neither `apiVersion` nor `kind`): skipped (and 1 more)"
    );
}

#[test]
fn standard_input_is_read_once_and_may_be_broken_too() {
    let read = |text: &str| {
        read_files_and(
            &[PathBuf::from("-"), PathBuf::from("-")],
            &mut text.as_bytes(),
        )
    };
    let snapshot = read(&format!("{GOOD}---\nx: [\n")).unwrap();
    assert_eq!(names(&snapshot), ["good"]);
    assert_eq!(
        Folder::new().said(&snapshot),
        [
            "error: standard input:6:4: this document is left out: unclosed bracket '['; correct it (`kubectl apply --dry-run=client -f` shows the same error)"
        ]
    );
    assert_eq!(read("").unwrap_err().to_string(), NOTHING);
}

#[test]
fn byte_order_marks_utf16_and_crlf_are_text_like_any_other() {
    let windows = GOOD.replace('\n', "\r\n");
    let mut with_mark = b"\xef\xbb\xbf".to_vec();
    with_mark.extend(windows.as_bytes());
    let utf16 = |mark: [u8; 2], unit: fn(u16) -> [u8; 2]| {
        let mut bytes = mark.to_vec();
        bytes.extend(windows.encode_utf16().flat_map(unit));
        bytes
    };
    for bytes in [
        windows.clone().into_bytes(),
        with_mark,
        utf16([0xff, 0xfe], u16::to_le_bytes),
        utf16([0xfe, 0xff], u16::to_be_bytes),
        gzip(windows.as_bytes()),
    ] {
        let folder = Folder::new().with("a.yaml", bytes);
        let snapshot = folder.read().unwrap();
        assert_eq!(names(&snapshot), ["good"]);
        assert_eq!(folder.said(&snapshot), [""; 0]);
    }
}

#[test]
fn of_a_secret_nothing_but_metadata_is_kept() {
    let folder = Folder::new().with(
        "a.yaml",
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: remote\n  labels: {istio/multiCluster: 'true'}\n  annotations:\n    kubectl.kubernetes.io/last-applied-configuration: '{\"data\": \"c2VjcmV0\"}'\ndata:\n  kubeconfig: c2VjcmV0\nstringData: {a: hunter2}\n",
    );
    let snapshot = folder.read().unwrap();
    assert!(
        snapshot.secrets[0]
            .metadata
            .labels
            .has("istio/multiCluster", "true")
    );
    let everything = format!("{snapshot:?}");
    assert!(
        !everything.contains("c2VjcmV0") && !everything.contains("hunter2"),
        "{everything}"
    );
}

#[test]
fn the_order_of_files_does_not_change_what_is_read() {
    let files = [
        (
            "b.yaml",
            "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop}\n",
        ),
        ("a.yaml", GOOD),
        (
            "c.json",
            r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"shop"}}"#,
        ),
        ("d.yaml", "x: [\n"),
        (
            "e.yaml",
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: web}\nspec: {}\n",
        ),
    ];
    let mut folder = Folder::new();
    for (name, content) in files {
        folder = folder.with(name, content);
    }
    let read = |order: &[usize]| {
        let paths: Vec<PathBuf> = order
            .iter()
            .map(|index| folder.path(files[*index].0))
            .collect();
        format!("{:?}", read_files(&paths).unwrap())
    };
    let expected = read(&[0, 1, 2, 3, 4]);
    for order in [[4, 3, 2, 1, 0], [1, 0, 3, 2, 4], [2, 4, 1, 0, 3]] {
        assert_eq!(read(&order), expected);
    }
    assert!(expected.contains(&format!("{:?}", Kind::AuthorizationPolicy)));
}
