//! The formats for machines, from the real binary: SARIF, JSON and JUnit hold to their grammars.
#![allow(missing_docs, clippy::unwrap_used)]

use std::path::Path;

use assert_cmd::Command;
use serde_json::{Value, json};

/// Runs that between them hold errors, recommendations, warnings, notes, what could not be checked,
/// problems of the input and waived findings.
fn runs(format: &str) -> Vec<(String, String)> {
    let folder = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/page");
    let broken = folder.path().join("bröken file.yaml");
    std::fs::write(
        &broken,
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n---\nkind: [\n",
    )
    .unwrap();
    let waivers = folder.path().join("waivers.yaml");
    std::fs::write(
        &waivers,
        "apiVersion: castoff/v1\nkind: Waivers\nwaivers:\n- object: Namespace/application\n  \
         code: CAST0301\n  reason: it <retires> & \"goes\"\n",
    )
    .unwrap();
    let path = |name: &str| root.join(name).display().to_string();
    let waivers = waivers.display().to_string();
    let table: Vec<Vec<String>> = vec![
        vec!["--demo".to_owned(), "--ignore-failures".to_owned()],
        vec![
            "--from-files".to_owned(),
            path("without-ambient.yaml"),
            broken.display().to_string(),
            "--ignore-failures".to_owned(),
        ],
        vec![
            "--from-files".to_owned(),
            path("ready.yaml"),
            path("hello-world.yaml"),
            path("app1.yaml"),
            "--waivers".to_owned(),
            waivers,
        ],
    ];
    table
        .into_iter()
        .map(|arguments| {
            let output = Command::new(env!("CARGO_BIN_EXE_castoff"))
                .arg("migrate")
                .args(&arguments)
                .args(["-o", format, "--output-dir"])
                .arg(folder.path().join("out"))
                .output()
                .unwrap();
            (
                arguments.join(" "),
                String::from_utf8(output.stdout).unwrap(),
            )
        })
        .collect()
}

/// What a log of findings may hold, written from the standard.
fn sarif_grammar() -> Value {
    serde_json::from_str(include_str!("fixtures/sarif-grammar.json")).unwrap()
}

fn errors(schema: &Value, instance: &Value) -> Vec<String> {
    let validator = jsonschema::options()
        .should_validate_formats(true)
        .build(schema)
        .unwrap();
    validator
        .iter_errors(instance)
        .map(|error| format!("{} at {}", error, error.instance_path()))
        .collect()
}

#[test]
fn sarif_holds_to_its_grammar_and_every_result_names_a_rule() {
    let grammar = sarif_grammar();
    let (mut results, mut suppressed) = (0, 0);
    for (arguments, printed) in runs("sarif") {
        let log: Value = serde_json::from_str(&printed).unwrap();
        assert_eq!(errors(&grammar, &log), Vec::<String>::new(), "{arguments}");
        let run = &log["runs"][0];
        let rules: Vec<&Value> = run["tool"]["driver"]["rules"]
            .as_array()
            .unwrap()
            .iter()
            .map(|rule| &rule["id"])
            .collect();
        for result in run["results"].as_array().unwrap() {
            assert!(rules.contains(&&result["ruleId"]), "{result}");
            results += 1;
            suppressed += usize::from(result.get("suppressions").is_some());
        }
    }
    assert!(results > 30, "{results} results");
    assert_eq!(suppressed, 1);
}

#[test]
fn the_grammar_refuses_what_is_no_sarif() {
    let grammar = sarif_grammar();
    for wrong in [
        json!({"version": "2.1.0"}),
        json!({"version": "2.0.0", "runs": [{"tool": {"driver": {"name": "x"}}}]}),
        json!({"version": "2.1.0", "runs": [{"tool": {"driver": {"name": "x"}}, "results": [
            {"message": {"text": "x"}, "level": "fatal"}]}]}),
        json!({"version": "2.1.0", "runs": [{"tool": {"driver": {"name": "x"}}, "results": [
            {"message": {"text": "x"}, "locations": [{"physicalLocation": {
                "artifactLocation": {"uri": "not a uri"}}}]}]}]}),
    ] {
        assert!(!errors(&grammar, &wrong).is_empty(), "{wrong}");
    }
}

#[test]
fn json_holds_to_the_committed_schema() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/report.v1.json");
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for (arguments, printed) in runs("json") {
        let report: Value = serde_json::from_str(&printed).unwrap();
        assert_eq!(
            errors(&schema, &report),
            Vec::<String>::new(),
            "{arguments}"
        );
    }
}

#[test]
fn junit_is_well_formed_and_its_counts_are_those_of_its_cases() {
    for (arguments, printed) in runs("junit") {
        let document = roxmltree::Document::parse(&printed).unwrap();
        let root = document.root_element();
        assert_eq!(root.tag_name().name(), "testsuites");
        let suites: Vec<_> = root.children().filter(|node| node.is_element()).collect();
        assert!(!suites.is_empty(), "{arguments}");
        for suite in suites {
            assert_eq!(suite.tag_name().name(), "testsuite");
            let cases: Vec<_> = suite.children().filter(|node| node.is_element()).collect();
            let with = |name: &str| {
                cases
                    .iter()
                    .filter(|case| case.children().any(|child| child.has_tag_name(name)))
                    .count()
                    .to_string()
            };
            let said = |name: &str| suite.attribute(name).unwrap().to_owned();
            assert_eq!(said("tests"), cases.len().to_string(), "{arguments}");
            assert_eq!(said("failures"), with("failure"), "{arguments}");
            assert_eq!(said("errors"), with("error"), "{arguments}");
            for case in cases {
                assert_eq!(case.tag_name().name(), "testcase");
                assert!(case.attribute("name").is_some() && case.attribute("classname").is_some());
            }
        }
    }
}

#[test]
fn markdown_says_once_what_several_findings_call_for() {
    let (arguments, page) = runs("markdown").swap_remove(1);
    assert_eq!(
        page.matches("helm install ztunnel").count(),
        1,
        "{arguments}: {page}"
    );
}
