//! Several clusters in one run.

use crate::stub::{Answer, Stub, list};

/// A kubeconfig with one context a stub, written into the folder of the first.
fn join(stubs: &[(&str, &Stub)]) {
    let mut config = "apiVersion: v1\nkind: Config\nusers: [{name: me, user: {}}]\n".to_owned();
    for (field, entry) in [
        (
            "clusters",
            "{name: NAME, cluster: {server: \"http://ADDRESS\"}}",
        ),
        (
            "contexts",
            "{name: NAME, context: {cluster: NAME, user: me}}",
        ),
    ] {
        config.push_str(&format!("{field}:\n"));
        for (name, stub) in stubs {
            let entry = entry
                .replace("NAME", name)
                .replace("ADDRESS", &stub.address);
            config.push_str(&format!("- {entry}\n"));
        }
    }
    std::fs::write(stubs[0].1.folder().join("config"), config).unwrap();
}

#[test]
fn clusters_are_reported_one_after_the_other_and_one_that_is_lost_harms_no_other() {
    let east = Stub::start(|_, _| None);
    let west = Stub::start(|request, _| {
        (request.path() == "/api/v1/pods").then(|| Answer::ok(list("v1", "Pod", &[])))
    });
    let lost = Stub::start(|_, _| Some(Answer::refused(401, "no")));
    join(&[("prod-east", &east), ("prod-west", &west), ("lab", &lost)]);

    let run = east.castoff(&[
        "migrate",
        "--ascii",
        "--ignore-failures",
        "--context",
        "prod-east,prod-west",
    ]);
    assert_eq!((run.code, run.stderr.as_str()), (3, ""), "{}", run.stdout);
    let sections: Vec<&str> = run
        .stdout
        .lines()
        .filter(|line| line.starts_with("====="))
        .collect();
    assert_eq!(
        sections,
        [
            "===== cluster prod-east",
            "===== cluster prod-west",
            "===== 2 clusters: 0 done, 2 to go on with, 0 could not run."
        ]
    );
    for context in ["prod-east", "prod-west"] {
        let script = format!("castoff-out/{context}/commands.sh");
        assert!(east.folder().join(&script).is_file(), "{script}");
        assert!(run.stdout.contains(&script), "{}", run.stdout);
    }

    let run = east.castoff(&["migrate", "--all-contexts", "-o", "json"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    let fleet: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    let clusters = fleet["clusters"].as_array().unwrap();
    let contexts: Vec<&str> = clusters
        .iter()
        .map(|cluster| cluster["context"].as_str().unwrap())
        .collect();
    assert_eq!(contexts, ["lab", "prod-east", "prod-west"]);
    assert_eq!(clusters[0]["exitCode"], 1);
    assert!(clusters[0]["error"].as_str().unwrap().contains("(401)"));
    assert_eq!(clusters[1]["report"]["kind"], "Report");

    let run = east.castoff(&["migrate", "--all-contexts=prod-*", "-o", "json"]);
    assert_eq!(run.code, 3, "{}", run.stderr);
    let run = east.castoff(&["migrate", "--all-contexts=stage-*"]);
    assert_eq!(run.code, 64);
    assert!(
        run.stderr
            .contains("none of the 3 contexts of the kubeconfig matches `stage-*`"),
        "{}",
        run.stderr
    );
    for arguments in [
        &["collect", "--context", "prod-east,prod-west"][..],
        &["migrate", "--all-contexts", "-o", "sarif"],
    ] {
        assert_eq!(east.castoff(arguments).code, 64, "{arguments:?}");
    }
}
