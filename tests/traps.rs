//! Ways in which a migration by hand gives or takes access, one folder each in `tests/fixtures/traps`:
//! the mesh before, what somebody does who copies naively, and what castoff does instead.
//!
//! The verdicts in the table are written from Istio's source, named in the fixtures; what is said in
//! full is in `tests/goldens/traps`, rewritten with `CASTOFF_BLESS=1`.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Output;

use assert_cmd::Command;

const FIXTURES: &str = "tests/fixtures/traps";

/// Folder; the server that naive copying does something to, and what; how castoff's plan ends: `done`;
/// `partial` where no order is without a gap, so that workloads keep their sidecars and the witness
/// is shown; `notReady` where a phase has to succeed first; `undecided` where what it hangs on is not
/// modelled, which each state concerned says. No state of any may differ from the baseline.
const TRAPS: &[&str] = &[
    "callers-named-at-the-pod-only-see-the-waypoint shop/orders breaks done",
    "namespace-of-the-waypoint-is-let-in shop/orders opens done",
    "caller-denied-at-the-pod-only shop/orders opens done",
    "everybody-but-some-denied shop/orders breaks done",
    "everybody-but-some-denied-a-request shop/orders breaks done",
    "open-server-is-locked-to-its-waypoint shop/orders breaks done",
    "pods-left-open-behind-a-waypoint shop/orders opens done",
    "allow-nothing-denies-the-waypoint shop/orders breaks done",
    "two-waypoints-one-let-in shop/orders breaks done",
    "namespace-wide-request-denial-not-copied shop/orders opens partial",
    "mesh-wide-request-denial-not-copied shop/orders opens partial",
    "copy-in-the-root-namespace-never-attaches shop/orders opens done",
    "copy-covers-pods-that-were-not-selected shop/orders breaks partial",
    "union-of-allows-of-two-versions shop/orders opens partial",
    "same-allow-of-two-versions shop/orders-v2 breaks done",
    "one-of-two-services-has-the-copy shop/orders opens done",
    "copy-at-the-gateway-holds-for-every-service shop/stock breaks done",
    "server-without-a-service shop/worker opens partial",
    "service-that-uses-no-waypoint shop/orders opens done",
    "pod-port-where-the-waypoint-sees-the-service-port shop/orders breaks done",
    "denied-pod-port-where-the-waypoint-sees-the-service-port shop/orders opens done",
    "token-rule-left-behind shop/orders breaks done",
    "server-moves-before-its-callers shop/orders opens done",
    "request-allow-kept-at-moved-pods shop/orders breaks done",
    "request-denial-of-a-port-kept-at-moved-pods shop/orders breaks done",
    "request-denial-of-a-caller-kept-at-moved-pods shop/orders opensAndBreaks done",
    "external-authorizer-vanishes shop/orders opens done",
    "empty-selector-is-nothing-to-ztunnel shop/orders opens done",
    "request-denial-of-a-tcp-port shop/orders opens done",
    "caller-outside-the-mesh-goes-past-the-waypoint shop/orders opens partial",
    "namespace-of-the-waypoint-is-denied shop/orders breaks done",
    "network-policy-without-the-tunnel-port shop/orders breaks done",
    "waypoint-is-among-the-denied shop/orders breaks done",
    "gateway-copy-in-another-namespace-than-the-gateway shop/orders opens done",
    "client-address-at-the-pods shop/orders undecided partial",
    "star-within-a-name-is-no-wildcard-at-ztunnel shop/orders opens done",
    "header-condition-drops-the-rule-at-ztunnel shop/orders opens done",
    "waypoint-of-another-namespace-that-admits-no-other shop/orders opens done",
    "waypoint-is-not-among-those-excepted shop/orders breaks done",
    "headless-service-behind-a-waypoint shop/queue opens partial",
    "more-services-than-a-policy-may-target shop/orders opens done",
    "revision-lost-in-the-copy shop/orders breaks done",
    "pod-address-where-the-waypoint-sees-the-service-address shop/orders undecided undecided",
    "server-name-that-only-sidecars-send shop/orders breaks partial",
    "client-certificate-header-of-sidecars shop/orders undecided undecided",
    "request-rewritten-before-the-sidecar-decides shop/orders undecided partial",
    "request-rewritten-before-the-authorizer-is-asked shop/orders undecided undecided",
    "caller-named-by-an-older-trust-domain shop/orders breaks done",
    "waypoint-in-use-before-the-server-leaves-its-sidecar shop/orders breaks done",
    "sidecar-that-takes-no-tunnel shop/orders breaks notReady",
    "headless-pods-called-by-a-sidecar shop/queue breaks done",
    "pods-without-injection-are-captured-too shop/legacy breaks done",
    "port-that-the-sidecar-never-saw shop/orders undecided undecided",
    "lock-left-behind-on-the-way-back shop/orders breaks done",
    "port-without-mtls-under-a-strict-namespace shop/orders breaks done",
    "strict-mesh-lost-by-an-unset-namespace shop/orders opens done",
    "two-authorizers-meet-at-one-service shop/orders breaks undecided",
    "denial-by-host-copied-to-that-host-alone shop/orders opens done",
    "port-that-no-service-names shop/orders opens done",
    "policy-of-the-ingress-gateway-copied-to-a-service shop/orders breaks done",
    "caller-named-by-a-condition-unknown-to-ztunnel shop/orders opens done",
    "token-taken-off-at-the-waypoint shop/orders breaks done",
    "waypoint-of-another-revision-than-its-policies shop/orders undecided undecided",
    "service-of-the-namespace-that-was-not-meant shop/stock breaks done",
    "tls-of-its-own-to-a-moved-server shop/orders undecided undecided",
    "tunnel-port-admitted-from-everybody shop/orders opens done",
    "another-pod-has-the-account-of-the-waypoint shop/orders opens partial",
    "route-to-a-service-behind-the-waypoint shop/stock opens partial",
    "waypoint-that-is-an-agentgateway shop/orders undecided done",
];

fn traps() -> impl Iterator<Item = [&'static str; 4]> {
    let words = |row: &&'static str| row.split(' ').collect::<Vec<_>>().try_into().unwrap();
    TRAPS.iter().map(words)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(FIXTURES).join(path)).unwrap_or_default()
}

/// The documents of `text` but those that `gone` names, a line each: `Kind namespace/name`.
fn without(text: &str, gone: &str) -> String {
    let stays = |document: &&str| {
        !gone.lines().any(|line| {
            let (kind, name) = line.split_once(' ').unwrap();
            let (namespace, name) = name.split_once('/').unwrap();
            document.contains(&format!("kind: {kind}\n"))
                && document.contains(&format!(
                    "metadata: {{name: {name}, namespace: {namespace}}}"
                ))
        })
    };
    text.split("---\n")
        .filter(stays)
        .collect::<Vec<_>>()
        .join("---\n")
}

fn castoff(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_castoff"))
        .args(arguments)
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .output()
        .unwrap()
}

/// Which object a document is, if it is one.
fn object(document: &str) -> Option<String> {
    let value = castoff::source::yaml::parse_value(document).ok()?;
    let name = value.pointer("/metadata/name")?;
    let namespace = value.pointer("/metadata/namespace");
    Some(format!("{} {namespace:?} {name}", value["kind"]))
}

/// Empties every document whose object a later one gives anew, so that each is given once; lines stay where
/// they are.
fn given_once(files: &mut [(String, String)]) {
    let mut given = BTreeSet::new();
    for (_, text) in files.iter_mut().rev() {
        let documents: Vec<&str> = text.split("---\n").collect();
        let mut kept: Vec<String> = Vec::new();
        for document in documents.iter().rev() {
            let again = object(document).is_some_and(|object| !given.insert(object));
            kept.push(if again {
                "\n".repeat(document.lines().count())
            } else {
                (*document).to_owned()
            });
        }
        kept.reverse();
        *text = kept.join("---\n");
    }
}

/// Writes the input folders `before` and `after` of a trap, where the later of two objects with one name
/// counts.
fn write(folder: &Path, trap: &str) {
    let before = read(&format!("{trap}/before.yaml"));
    let after = without(&before, &read(&format!("{trap}/gone")));
    let naive = read(&format!("{trap}/naive.yaml"));
    for (state, files) in [
        ("before", vec![before]),
        ("after", vec![after, read("moved.yaml"), naive]),
    ] {
        let state = folder.join(state);
        std::fs::create_dir_all(&state).unwrap();
        let demo = castoff::demo::FILES[..2].iter().enumerate();
        let mut written: Vec<(String, String)> = demo
            .map(|(index, (_, text))| (format!("0-{index}.yaml"), (*text).to_owned()))
            .collect();
        written.push(("1-mesh.yaml".to_owned(), read("mesh.yaml")));
        let files = files.into_iter().enumerate();
        written.extend(files.map(|(index, text)| (format!("{}.yaml", index + 2), text)));
        given_once(&mut written);
        for (name, text) in written {
            std::fs::write(state.join(name), text).unwrap();
        }
    }
}

#[test]
fn naive_copies_are_caught_and_castoff_avoids_or_refuses_them() {
    let mut problems = Vec::new();
    for [trap, server, naive, ending] in traps() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), trap);
        let verify = castoff(folder.path(), &["verify", "before", "after", "-o", "json"]);
        let report: serde_json::Value = serde_json::from_slice(&verify.stdout).unwrap();
        let verdict = report["servers"]
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["server"] == server)
            .map_or("absent", |one| one["verdict"].as_str().unwrap());
        if verdict != naive {
            problems.push(format!("{trap}: naive {verdict} instead of {naive}"));
        }
        let code = if naive == "undecided" { 4 } else { 3 };
        if verify.status.code() != Some(code) {
            problems.push(format!(
                "{trap}: verify ended with {:?}",
                verify.status.code()
            ));
        }
        let plan = castoff(
            folder.path(),
            &["plan", "--from-files", "before", "-o", "json"],
        );
        let planned: serde_json::Value = serde_json::from_slice(&plan.stdout).unwrap();
        let differs: Vec<&str> = planned["waves"]
            .as_array()
            .unwrap()
            .iter()
            .map(|wave| wave["verdict"].as_str().unwrap())
            .filter(|verdict| {
                let may_be_undecided = naive == "undecided" || ending == "undecided";
                *verdict != "same" && !(may_be_undecided && *verdict == "undecided")
            })
            .collect();
        if planned["ending"] != ending || !differs.is_empty() {
            problems.push(format!(
                "{trap}: plan {} with {differs:?} instead of {ending}",
                planned["ending"]
            ));
        }
        let text = castoff(folder.path(), &["verify", "before", "after"]).stdout;
        let summary = castoff(folder.path(), &["plan", "--from-files", "before"]).stdout;
        let transcript = [
            "$ castoff verify before after\n",
            &String::from_utf8(text).unwrap(),
            "\n$ castoff plan --from-files before\n",
            &String::from_utf8(summary).unwrap(),
        ]
        .concat();
        let golden = Path::new("tests/goldens/traps").join(format!("{trap}.txt"));
        if std::env::var_os("CASTOFF_BLESS").is_some() {
            std::fs::create_dir_all(golden.parent().unwrap()).unwrap();
            std::fs::write(&golden, &transcript).unwrap();
        } else if std::fs::read_to_string(&golden).unwrap_or_default() != transcript {
            problems.push(format!(
                "{trap}: {} differs; look at it and run with CASTOFF_BLESS=1",
                golden.display()
            ));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// A row of a table of the page, without its first cell.
fn cells(line: &str) -> Option<Vec<&str>> {
    let row = line.strip_prefix("| ")?.strip_suffix(" |")?;
    Some(row.split(" | ").skip(1).collect())
}

/// The codes that a text names.
fn codes(text: &str) -> BTreeSet<String> {
    let named = text.split(|letter: char| !letter.is_ascii_alphanumeric());
    named
        .filter(|word| word.len() == 8 && word.starts_with("CAST"))
        .map(str::to_owned)
        .collect()
}

/// How the page says what a plan ends with, or what naive copying does.
fn in_words(word: &str) -> &str {
    match word {
        "opensAndBreaks" => "opens and breaks",
        "done" => "same",
        "partial" => "same, held",
        "notReady" => "held",
        other => other,
    }
}

#[test]
fn every_fixture_is_in_the_table_and_on_the_page_as_it_ends() {
    let mut folders: Vec<String> = std::fs::read_dir(FIXTURES)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    folders.sort();
    let mut known: Vec<&str> = traps().map(|[trap, ..]| trap).collect();
    known.sort_unstable();
    assert_eq!(folders, known);

    let page = std::fs::read_to_string("docs/traps.md").unwrap();
    let mut told: Vec<(String, &str, &str)> = page
        .lines()
        .filter_map(cells)
        .filter(|cells| cells.len() == 3 && cells[0].starts_with('['))
        .map(|cells| {
            let (name, link) = cells[0][1..].split_once("](").unwrap();
            assert_eq!(link, format!("../{FIXTURES}/{name}/before.yaml)"));
            let says = cells[2].split_once(';').map_or(cells[2], |(says, _)| says);
            (name.to_owned(), cells[1], says)
        })
        .collect();
    told.sort_unstable();
    let mut expected: Vec<(String, &str, &str)> = traps()
        .map(|[trap, _, naive, ending]| (trap.to_owned(), in_words(naive), in_words(ending)))
        .collect();
    expected.sort_unstable();
    assert_eq!(told, expected);
}

#[test]
fn the_page_names_every_check_and_no_other() {
    let page = std::fs::read_to_string("docs/traps.md").unwrap();
    let list = castoff(Path::new("."), &["explain", "--list"]).stdout;
    let list = String::from_utf8(list).unwrap();
    let checks = list.lines().filter(|line| line.starts_with("CAST"));
    let listed = checks.map(|line| line[..8].to_owned()).collect();
    assert_eq!(codes(&page), listed);
}

/// Whether a finding in a report has this code. A check that found nothing has no level.
fn finds(report: &serde_json::Value, code: &str) -> bool {
    match report {
        serde_json::Value::Object(fields) => {
            (fields.get("code").is_some_and(|one| one == code) && fields.contains_key("level"))
                || fields.values().any(|field| finds(field, code))
        }
        serde_json::Value::Array(items) => items.iter().any(|item| finds(item, code)),
        _ => false,
    }
}

#[test]
fn a_check_named_beside_a_fixture_finds_something_in_it() {
    let page = std::fs::read_to_string("docs/traps.md").unwrap();
    let mut missing = Vec::new();
    for cells in page.lines().filter_map(cells) {
        let Some(code_cell) = cells.get(2) else {
            continue;
        };
        let named = codes(code_cell);
        if named.is_empty() {
            continue;
        }
        let (trap, _) = cells[0][1..].split_once(']').unwrap();
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), trap);
        let reports = ["before", "after"].map(|state| {
            let arguments = [
                "migrate",
                "--ignore-failures",
                "--from-files",
                state,
                "-o",
                "json",
            ];
            let output = castoff(folder.path(), &arguments);
            serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
        });
        for code in named {
            if !reports.iter().any(|report| finds(report, &code)) {
                missing.push(format!("{trap}: {code} finds nothing"));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}
