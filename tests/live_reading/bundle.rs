//! The bundle and the least role: what is collected is what is read, and what is asked for is what
//! is permitted.

use std::collections::BTreeSet;
use std::io::{Read, Write};

use castoff::snapshot::kinds::KINDS;
use castoff::source::role::{self, RoleOptions, Subject};

use crate::MIGRATE;
use crate::origins::without_origins;
use crate::stub::{Answer, Stub, groups, list, resources};

#[test]
fn a_bundle_gives_the_report_of_the_cluster_gaps_included() {
    let stub = Stub::start(|request, _| {
        ["/api/v1/nodes", "/apis/batch/v1/jobs"]
            .contains(&request.path())
            .then(|| Answer::refused(403, "forbidden"))
    });
    let live = stub.castoff(&MIGRATE);
    let collected = stub.castoff(&["collect", "mesh.json.gz"]);
    assert_eq!(collected.code, 4, "{}", collected.stderr);
    assert_eq!(
        collected.stdout,
        "mesh.json.gz: 6 objects of 4 kinds of cluster stub\n\
         not read: nodes: forbidden: this account may not `list` `nodes`\n\
         not read: jobs.batch: forbidden: this account may not `list` `jobs.batch`\n"
    );
    let replayed = stub.castoff(&[&MIGRATE[..], &["--from-files", "mesh.json.gz"]].concat());
    assert_eq!(replayed.stderr, "");
    assert_eq!(
        without_origins(&replayed.stdout),
        without_origins(&live.stdout)
    );
    assert_eq!(replayed.code, live.code);
}

#[test]
fn a_bundle_cut_short_is_unusable_and_one_of_another_version_says_what_to_do() {
    let stub = Stub::start(|_, _| None);
    assert_eq!(stub.castoff(&["collect", "mesh.json.gz", "-q"]).code, 0);
    let path = stub.folder().join("mesh.json.gz");
    let whole = std::fs::read(&path).unwrap();

    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let run = stub.castoff(&["migrate", "--from-files", "mesh.json.gz"]);
    assert_eq!((run.code, run.stdout.as_str()), (65, ""));
    assert!(run.stderr.contains("cannot unpack"), "{}", run.stderr);

    let mut text = String::new();
    flate2::read::GzDecoder::new(&*whole)
        .read_to_string(&mut text)
        .unwrap();
    let newer = text.replacen("castoff/v1", "castoff/v2", 1);
    std::fs::write(stub.folder().join("newer.json"), newer).unwrap();
    let run = stub.castoff(&["migrate", "--from-files", "newer.json"]);
    let expected = "newer.json:1: this bundle is of version `castoff/v2`";
    assert!(run.stdout.contains(expected), "{}", run.stdout);
}

#[test]
fn a_bundle_that_cannot_be_written_leaves_nothing_behind() {
    let stub = Stub::start(|_, _| None);
    let run = stub.castoff(&["collect", "no/such/folder/mesh.json.gz"]);
    assert_eq!((run.code, run.stdout.as_str()), (1, ""));
    assert!(
        run.stderr
            .contains("cannot write `no/such/folder/mesh.json.gz`"),
        "{}",
        run.stderr
    );
    std::fs::File::create(stub.folder().join("old.json.gz"))
        .unwrap()
        .write_all(b"old")
        .unwrap();
    let refused = Stub::start(|_, _| Some(Answer::refused(401, "no")));
    std::fs::copy(
        refused.folder().join("config"),
        stub.folder().join("config"),
    )
    .unwrap();
    assert_eq!(stub.castoff(&["collect", "old.json.gz"]).code, 1);
    assert_eq!(
        std::fs::read(stub.folder().join("old.json.gz")).unwrap(),
        b"old"
    );
}

/// Verb, resource with its group, and the name where only one object is asked for.
type Permission = (String, String, String);

#[test]
fn the_role_permits_exactly_what_is_asked_for() {
    let stub = Stub::start(|request, _| {
        let path = request.path();
        if path == "/apis" {
            let mut served: Vec<(&str, &str)> = KINDS
                .iter()
                .filter(|row| !row.group.is_empty())
                .map(|row| (row.group, row.versions[0]))
                .collect();
            served.sort_unstable();
            served.dedup();
            return Some(Answer::ok(groups(&served)));
        }
        let words: Vec<&str> = path.split('/').skip(1).collect();
        match words[..] {
            ["apis", group, version] => {
                let plurals: Vec<&str> = KINDS
                    .iter()
                    .filter(|row| row.group == group && row.versions[0] == version)
                    .map(|row| row.plural)
                    .collect();
                Some(Answer::ok(resources(&plurals)))
            }
            ["apis", _, _, _] => Some(Answer::ok(list("v1", "Any", &[]))),
            _ => None,
        }
    });
    stub.castoff(&MIGRATE);

    let asked: BTreeSet<Permission> = stub
        .requests()
        .iter()
        .filter_map(|request| {
            let words: Vec<&str> = request.path().split('/').skip(1).collect();
            let (verb, resource, name) = match words[..] {
                // Discovery is permitted to everybody who is logged in.
                ["version"] | ["apis"] | ["apis", _, _] => return None,
                ["api", "v1", plural] => ("list", plural.to_owned(), ""),
                ["apis", group, _, plural] => ("list", format!("{plural}.{group}"), ""),
                ["api", "v1", "namespaces", _, plural, name] => ("get", plural.to_owned(), name),
                _ => panic!("{request:?}"),
            };
            Some((verb.to_owned(), resource, name.to_owned()))
        })
        .collect();

    let options = RoleOptions {
        subject: Subject::User("ada".to_owned()),
        namespaces: Vec::new(),
        revisions: Vec::new(),
        secrets: true,
    };
    let mut permitted = BTreeSet::new();
    for rule in role::rules(&options) {
        for plural in &rule.resources {
            let resource = match rule.group {
                "" => (*plural).to_owned(),
                group => format!("{plural}.{group}"),
            };
            let names = match rule.names.is_empty() {
                true => vec![String::new()],
                false => rule.names.clone(),
            };
            for name in names {
                permitted.insert((rule.verb.to_owned(), resource.clone(), name));
            }
        }
    }
    assert_eq!(asked, permitted);
}
