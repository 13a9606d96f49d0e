//! A live cluster that misbehaves: what is printed, with which exit code, and what is asked for.
#![allow(missing_docs, clippy::unwrap_used)]
#![cfg(feature = "cluster")]

mod bundle;
mod credentials;
mod fleet;
#[path = "../support/origins.rs"]
mod origins;
mod stub;

use std::time::Duration;

use stub::{Answer, Seen, Stub, groups, list, page, pods, resources};

const MIGRATE: [&str; 5] = ["migrate", "-v", "--ignore-failures", "--output", "json"];

/// The report of an undisturbed read.
fn undisturbed() -> String {
    let run = Stub::start(|_, _| None).castoff(&MIGRATE);
    assert_eq!(run.stderr, "");
    assert!(run.stdout.contains("shop"), "{}", run.stdout);
    run.stdout
}

fn gaps(report: &str) -> Vec<(String, String)> {
    let report: serde_json::Value = serde_json::from_str(report).unwrap();
    report["gaps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|gap| {
            let word = |key: &str| gap[key].as_str().unwrap().to_owned();
            (word("resource"), word("reason"))
        })
        .collect()
}

fn is(request: &Seen, path: &str) -> bool {
    request.path() == path
}

#[test]
fn only_get_requests_are_made_and_of_secrets_only_metadata_of_remote_clusters_is_asked_for() {
    let stub = Stub::start(|_, _| None);
    stub.castoff(&MIGRATE);
    let requests = stub.requests();
    assert!(requests.len() > 20, "{requests:?}");
    assert!(requests.iter().all(|request| request.method == "GET"));
    let of_secrets: Vec<&Seen> = requests
        .iter()
        .filter(|request| request.target.contains("secrets"))
        .collect();
    assert_eq!(of_secrets.len(), 1);
    assert_eq!(
        of_secrets[0].header("accept"),
        Some("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1")
    );
    assert_eq!(
        of_secrets[0].query("labelSelector"),
        Some("istio%2FmultiCluster%3Dtrue")
    );
}

#[test]
fn a_server_that_is_busy_is_asked_again_and_the_report_is_the_same() {
    for busy in [
        Answer::TooMany(0),
        Answer::refused(503, "the server is starting"),
        Answer::refused(500, "etcdserver: leader changed"),
        Answer::CutAfterHalf(pods(&["orders-1", "orders-2"])),
    ] {
        let stub = Stub::start(move |request, before| {
            (is(request, "/api/v1/pods") && before < 2).then(|| busy.clone())
        });
        let run = stub.castoff(&MIGRATE);
        assert_eq!(run.stdout, undisturbed(), "{}", run.stderr);
    }
}

#[test]
fn what_fails_to_the_end_is_a_gap_that_says_why() {
    let table = [
        (
            Answer::refused(503, "no leader"),
            "(before that: the server answered 503: no leader)",
        ),
        (
            Answer::CutAfterHalf(pods(&["orders-1", "orders-2"])),
            "(before that: the connection broke off in the middle of an answer",
        ),
        (
            Answer::Silence(Duration::from_secs(20)),
            "listing `pods` failed: no whole answer within 3 s, the `--request-timeout`",
        ),
        (
            Answer::ok("<html>a portal</html>"),
            "listing `pods` failed: `/api/v1/pods` gave no JSON list",
        ),
        (
            Answer::refused(403, "forbidden"),
            "forbidden: this account may not `list` `pods`",
        ),
        (Answer::refused(404, "gone"), "`pods` is not served (404)"),
    ];
    // Each of them waits for retries: side by side.
    std::thread::scope(|scope| {
        for (answer, expected) in table {
            scope.spawn(move || fails_to_the_end(&answer, expected));
        }
    });
}

fn fails_to_the_end(answer: &Answer, expected: &str) {
    let stub = Stub::start({
        let answer = answer.clone();
        move |request, _| is(request, "/api/v1/pods").then(|| answer.clone())
    });
    let run = stub.castoff(&[&MIGRATE[..], &["--request-timeout", "3s"]].concat());
    let gaps = gaps(&run.stdout);
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!(gaps[0].0, "pods");
    assert!(gaps[0].1.contains(expected), "{gaps:?}");
    assert!(!run.stdout.contains("orders-1"), "half a list was used");
    assert!(run.code == 3 || run.code == 4, "{}", run.code);
    assert!(run.took < Duration::from_secs(15), "{:?}", run.took);
}

#[test]
fn the_rest_is_said_to_be_unchecked_never_passed() {
    let stub = Stub::start(|request, _| {
        is(request, "/apis/apps/v1/daemonsets").then(|| Answer::refused(403, "no"))
    });
    let run = stub.castoff(&["migrate", "--ascii"]);
    let line = "Cluster CNI compatibility: could not check: daemonsets.apps: forbidden: this \
                account may not `list` `daemonsets.apps`";
    assert!(run.stdout.contains(line), "{}", run.stdout);
}

/// Pods in two pages, of which the second is asked for with a token.
fn second_page(request: &Seen) -> Option<Answer> {
    let whole = pods(&["orders-1", "orders-2"]);
    let (first, second) = whole.split_once("},{\"metadata\"").unwrap();
    let first = format!("{}}}", first.split_once("\"items\":[").unwrap().1);
    let second = format!("{{\"metadata\"{}", second.strip_suffix("]}").unwrap());
    match (request.query("limit"), request.query("continue")) {
        (Some("500"), None) => Some(Answer::ok(page("v1", "Pod", &[&first], "to/ken=="))),
        (Some("500"), Some("to%2Fken%3D%3D")) => Some(Answer::ok(list("v1", "Pod", &[&second]))),
        (None, None) => Some(Answer::ok(whole)),
        _ => panic!("{request:?}"),
    }
}

#[test]
fn pages_are_joined_and_an_expired_token_begins_anew_and_then_takes_all_at_once() {
    for expired in [0, 1, 2] {
        let stub = Stub::start(move |request, before| {
            if !is(request, "/api/v1/pods") {
                return None;
            }
            if request.query("continue").is_some() && before < 2 * expired {
                return Some(Answer::refused(
                    410,
                    "The provided continue parameter is too old",
                ));
            }
            second_page(request)
        });
        let run = stub.castoff(&MIGRATE);
        assert_eq!(run.stdout, undisturbed());
        let limits: Vec<bool> = stub
            .requests()
            .iter()
            .filter(|request| is(request, "/api/v1/pods"))
            .map(|request| request.query("limit").is_some())
            .collect();
        let expected = match expired {
            0 => vec![true, true],
            1 => vec![true, true, true, true],
            _ => vec![true, true, true, true, false],
        };
        assert_eq!(limits, expected);
    }
}

#[test]
fn an_aggregated_api_that_is_down_harms_nobody_else() {
    let stub = Stub::start(|request, _| {
        if is(request, "/apis") {
            let mut served: Vec<(&str, &str)> = stub::GROUPS
                .iter()
                .map(|(name, version, _)| (*name, *version))
                .collect();
            served.push(("metrics.k8s.io", "v1beta1"));
            return Some(Answer::ok(groups(&served)));
        }
        request
            .path()
            .starts_with("/apis/metrics.k8s.io")
            .then(|| Answer::refused(503, "service unavailable"))
    });
    assert_eq!(stub.castoff(&MIGRATE).stdout, undisturbed());
}

/// Istio's security group is served like this.
fn security(request: &Seen, version: &str, answer: Answer) -> Option<Answer> {
    if is(request, "/apis") {
        let mut served: Vec<(&str, &str)> = stub::GROUPS
            .iter()
            .map(|(name, version, _)| (*name, *version))
            .collect();
        served.push(("security.istio.io", version));
        return Some(Answer::ok(groups(&served)));
    }
    is(request, &format!("/apis/security.istio.io/{version}")).then_some(answer)
}

#[test]
fn a_kind_in_an_unknown_version_or_a_failing_group_is_a_gap() {
    let unknown = Stub::start(|request, _| {
        security(
            request,
            "v9",
            Answer::ok(resources(&["authorizationpolicies"])),
        )
    });
    let run = unknown.castoff(&MIGRATE);
    assert_eq!(
        gaps(&run.stdout),
        [(
            "authorizationpolicies.security.istio.io".to_owned(),
            "`authorizationpolicies.security.istio.io` is served only as v9, which this castoff \
             does not read"
                .to_owned()
        )]
    );
    let failing = Stub::start(|request, _| security(request, "v1", Answer::refused(503, "down")));
    let kinds: Vec<String> = gaps(&failing.castoff(&MIGRATE).stdout)
        .into_iter()
        .map(|(kind, reason)| {
            assert!(reason.contains("the server answered 503: down"), "{reason}");
            kind
        })
        .collect();
    assert_eq!(
        kinds,
        [
            "authorizationpolicies.security.istio.io",
            "peerauthentications.security.istio.io",
            "requestauthentications.security.istio.io",
        ]
    );
}

#[test]
fn nothing_permitted_and_nobody_there_are_1_and_print_no_report() {
    let forbidding = Stub::start(|request, _| {
        (!is(request, "/version")).then(|| Answer::refused(403, "forbidden"))
    });
    let run = forbidding.castoff(&MIGRATE);
    assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{}", run.stderr);
    assert!(
        run.stderr
            .contains("nothing of the cluster of context `stub` could be read")
            && run.stderr.contains("castoff rbac"),
        "{}",
        run.stderr
    );

    let unknown = Stub::start(|_, _| Some(Answer::refused(401, "Unauthorized")));
    let run = unknown.castoff(&MIGRATE);
    assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{}", run.stderr);
    assert!(run.stderr.contains("(401): log in again"), "{}", run.stderr);

    let mut dead = Stub::start(|_, _| None);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    dead.address = address;
    dead.kubeconfig("{}", "");
    let run = dead.castoff(&MIGRATE);
    assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{}", run.stderr);
    assert!(
        run.stderr
            .contains(&format!("at http://{}: ", dead.address))
            && run.stderr.contains("refused"),
        "{}",
        run.stderr
    );
    assert!(run.took < Duration::from_secs(5), "{:?}", run.took);

    let hanging = Stub::start(|_, _| Some(Answer::Silence(Duration::from_secs(20))));
    let run = hanging.castoff(&[&MIGRATE[..], &["--request-timeout", "500ms"]].concat());
    assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{}", run.stderr);
    assert!(run.stderr.contains("within 0.5 s"), "{}", run.stderr);
}
