//! What the account of `deploy/rbac.yaml` cannot do, tried with its own token against the API
//! server: every verb on every kind, by asking and by doing.

use castoff::snapshot::Kind;
use castoff::snapshot::kinds::{KINDS, KindRow};
use serde_json::{Value, json};

use crate::cluster::{Cluster, Namespace, repository};
use crate::permissions::{eventually, report, with_token};
use crate::requests::Requests;

const WRITES: [&str; 5] = ["create", "update", "patch", "delete", "deletecollection"];
const PLACE: &str = "privilege";

/// The folder of a kind's objects, in the version that is served (all definitions here serve the
/// preferred one).
fn folder(row: &KindRow) -> String {
    let root = match row.group {
        "" => format!("/api/{}", row.versions[0]),
        group => format!("/apis/{group}/{}", row.versions[0]),
    };
    match row.namespaced {
        true => format!("{root}/namespaces/{PLACE}/{}", row.plural),
        false => format!("{root}/{}", row.plural),
    }
}

/// A namespace with a Secret that castoff looks at.
struct Prepared<'a> {
    cluster: &'a Cluster,
    _namespace: Namespace<'a>,
}

impl Drop for Prepared<'_> {
    /// A namespace takes its time to go, and the next case must not meet this Secret.
    fn drop(&mut self) {
        let arguments = ["delete", "secret", "password", "--namespace", PLACE];
        self.cluster.try_kubectl(&arguments, None);
    }
}

fn prepared(cluster: &Cluster) -> Prepared<'_> {
    cluster.install_definitions("istio-1.30.3-crd-all.gen.yaml");
    cluster.install_definitions("gateway-api-v1.6.1-standard.yaml");
    let namespace = cluster.namespace(PLACE);
    cluster.apply(&format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: password, namespace: {PLACE}, \
         labels: {{istio/multiCluster: \"true\"}}}}\nstringData: {{password: open-sesame}}\n"
    ));
    Prepared {
        cluster,
        _namespace: namespace,
    }
}

fn allowed(requests: &Requests, row: &KindRow, verb: &str) -> bool {
    let mut attributes = json!({"group": row.group, "resource": row.plural, "verb": verb});
    if row.namespaced {
        attributes["namespace"] = PLACE.into();
    }
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    });
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let (code, answer) = requests.send("POST", path, Some(&review));
    assert_eq!(code, 201, "{answer}");
    answer["status"]["allowed"].as_bool().unwrap()
}

#[test]
fn the_account_is_told_for_each_kind_that_it_may_list_and_do_nothing_else() {
    let Some(cluster) = Cluster::of_environment() else {
        return;
    };
    let _prepared = prepared(&cluster);
    cluster.kubectl(&[
        "apply",
        "-f",
        repository().join("deploy/rbac.yaml").to_str().unwrap(),
    ]);
    let place = tempfile::tempdir().unwrap();
    let account = Requests::of(&with_token(&cluster, place.path()));
    let row_of = |kind: Kind| KINDS.iter().find(|row| row.kind == kind).unwrap();
    eventually(|| allowed(&account, row_of(Kind::Pod), "list"));
    eventually(|| !allowed(&account, row_of(Kind::Secret), "list"));

    let mut table = Vec::new();
    let mut expected = Vec::new();
    for row in KINDS {
        for verb in WRITES.iter().chain(&["get", "list", "watch", "*"]) {
            let listed = *verb == "list" && ![Kind::Secret, Kind::ConfigMap].contains(&row.kind);
            table.push((row.kind, verb, allowed(&account, row, verb)));
            expected.push((row.kind, verb, listed));
        }
    }
    assert_eq!(table, expected);
    println!("{} questions answered", table.len());
}

#[test]
fn what_the_account_tries_to_write_is_refused_and_secrets_cannot_be_read() {
    let Some(cluster) = Cluster::of_environment() else {
        return;
    };
    let _prepared = prepared(&cluster);
    cluster.kubectl(&[
        "apply",
        "-f",
        repository().join("deploy/rbac.yaml").to_str().unwrap(),
    ]);
    let place = tempfile::tempdir().unwrap();
    let account = Requests::of(&with_token(&cluster, place.path()));
    let administrator = Requests::of(&cluster.kubeconfig);
    let row_of = |kind: Kind| KINDS.iter().find(|row| row.kind == kind).unwrap();
    eventually(|| !allowed(&account, row_of(Kind::Secret), "list"));

    let refused = |method: &str, path: &str, body: Option<&Value>, row: &KindRow| {
        let (code, answer) = account.send(method, path, body);
        assert_eq!(code, 403, "{method} {path}: {answer}");
        let resource = match row.group {
            "" => format!("resource \"{}\" in API group \"\"", row.plural),
            group => format!("resource \"{}\" in API group \"{group}\"", row.plural),
        };
        let message = answer["message"].as_str().unwrap();
        assert!(message.contains(&resource), "{method} {path}: {message}");
    };

    let mut tried = 0;
    for row in KINDS {
        let folder = folder(row);
        if administrator.send("GET", &folder, None).0 == 404 {
            // No definition here: nothing could be written anyway.
            continue;
        }
        let object = format!("{folder}/attempt");
        let version = match row.group {
            "" => row.versions[0].to_owned(),
            group => format!("{group}/{}", row.versions[0]),
        };
        let body = json!({
            "apiVersion": version, "kind": row.name, "metadata": {"name": "attempt"},
        });
        let dry = "?dryRun=All";
        refused("POST", &format!("{folder}{dry}"), Some(&body), row);
        refused("POST", &folder, Some(&body), row);
        refused("PUT", &object, Some(&body), row);
        refused("PATCH", &object, Some(&json!({"metadata": {}})), row);
        refused("DELETE", &object, None, row);
        refused("DELETE", &folder, None, row);
        tried += 6;
        // The same as the administrator is not refused for want of permission.
        let (code, answer) = administrator.send("PATCH", &object, Some(&json!({"metadata": {}})));
        assert_eq!(code, 404, "{object}: {answer}");
    }
    println!("{tried} attempts to write were refused");

    // Secrets: one, all here, all anywhere, a watch, and those that castoff would look for.
    let secrets = row_of(Kind::Secret);
    let here = folder(secrets);
    let label = "labelSelector=istio%2FmultiCluster%3Dtrue";
    for path in [
        format!("{here}/password"),
        here.clone(),
        format!("{here}?watch=true&timeoutSeconds=1"),
        format!("{here}?{label}"),
        "/api/v1/secrets".to_owned(),
        format!("/api/v1/secrets?{label}"),
    ] {
        refused("GET", &path, None, secrets);
    }
    let (code, secret) = administrator.send("GET", &format!("{here}/password"), None);
    assert_eq!(
        (code, &secret["data"]["password"]),
        (200, &json!("b3Blbi1zZXNhbWU="))
    );

    // What `--secrets` gives away is what its own words say: data, to whoever has the token.
    let manifests = cluster.castoff(&["rbac", "--secrets"]).stdout;
    assert!(
        manifests.contains("can read the data of\n# every Secret"),
        "{manifests}"
    );
    cluster.apply(&manifests);
    eventually(|| allowed(&account, secrets, "list"));
    let (code, list) = account.send("GET", &here, None);
    assert_eq!(
        (code, &list["items"][0]["data"]["password"]),
        (200, &json!("b3Blbi1zZXNhbWU="))
    );
    refused("GET", &format!("{here}/password"), None, secrets);
    // castoff, with that permission, keeps nothing of it.
    let kubeconfig = with_token(&cluster, place.path());
    let bundle = place.path().join("bundle.json.gz");
    let run = cluster.castoff_with(&kubeconfig, &["collect", bundle.to_str().unwrap()]);
    assert_eq!(run.code, 0, "{run:?}");
    let mut text = String::new();
    std::io::Read::read_to_string(
        &mut flate2::read::GzDecoder::new(std::fs::File::open(&bundle).unwrap()),
        &mut text,
    )
    .unwrap();
    assert!(text.contains("\"password\""), "the Secret itself is seen");
    for data in ["b3Blbi1zZXNhbWU", "open-sesame"] {
        assert!(!text.contains(data), "data of a Secret was read");
    }
    cluster.kubectl(&[
        "apply",
        "-f",
        repository().join("deploy/rbac.yaml").to_str().unwrap(),
    ]);
    let gaps = report(
        &cluster
            .castoff_with(&kubeconfig, &crate::permissions::MIGRATE)
            .stdout,
    );
    assert!(gaps["gaps"].is_array());
}
