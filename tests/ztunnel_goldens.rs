//! What ztunnel is told and how it matches, against istiod's own goldens and ztunnel's source.
//!
//! In: `../shared/corpus/istio-ztunnel-goldens` (istio `TestRBACConvert`,
//! `pilot/pkg/serviceregistry/ambient/ambientindex_test.go`), and tables written from istio/ztunnel
//! `src/rbac.rs`. An AuthorizationPolicy must yield istiod's message word for word; policies derived
//! from PeerAuthentications are compared by what they refuse, since ours are shaped otherwise.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use castoff::mesh::authorization::translate;
use castoff::mesh::{Mesh, MeshOverrides};
use castoff::snapshot::{Kind, Labels};
use castoff::source::read_files;
use castoff_authz::decision::Outcome;
use castoff_authz::eval::evaluate;
use castoff_authz::ip::IpBlock;
use castoff_authz::path::{Address, AddressKind, EnforcementPath, Point, PointKind};
use castoff_authz::policy::Policy;
use castoff_authz::request::Request;
use castoff_authz::settings::{Release, Settings};
use castoff_authz::ztunnel::{Match, project_for_ztunnel};
use serde_json::{Map, Value, json};

/// Input and expected file of each golden; empty without the corpus.
fn goldens(prefix: fn(&str) -> bool) -> Vec<(String, PathBuf, Value)> {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus/istio-ztunnel-goldens");
    if !folder.is_dir() {
        eprintln!(
            "SKIPPED: {} is not here; istiod's messages were not compared",
            folder.display()
        );
        return Vec::new();
    }
    let mut list = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap().to_owned();
        let Some(name) = file.strip_suffix("-in.yaml").filter(|name| prefix(name)) else {
            continue;
        };
        let text = std::fs::read_to_string(folder.join(format!("{name}.yaml"))).unwrap();
        let expected = if text.trim().is_empty() {
            Value::Null
        } else {
            serde_saphyr::from_str(&text).unwrap()
        };
        list.push((name.to_owned(), path, expected));
    }
    list.sort_by(|left, right| left.0.cmp(&right.0));
    list
}

fn settings() -> Settings {
    Settings::of(Release {
        minor: 31,
        patch: 0,
    })
}

#[test]
fn an_authorization_policy_becomes_the_message_that_istiod_sends() {
    let goldens = goldens(|name| !name.starts_with("peer-authn"));
    for (name, input, expected) in &goldens {
        let snapshot = read_files(std::slice::from_ref(input)).unwrap();
        let [object] = snapshot.resources(Kind::AuthorizationPolicy) else {
            panic!("{name}")
        };
        let policy = translate(object).unwrap();
        let sent = json!({
            "name": policy.name.name,
            "action": if project_for_ztunnel(&policy, &settings()).unwrap().deny { "DENY" } else { "ALLOW" },
            "groups": message(&policy),
        });
        let expected = json!({
            "name": expected["name"],
            "action": expected.get("action").unwrap_or(&json!("ALLOW")),
            "groups": expected["groups"],
        });
        assert_eq!(sent, expected, "{name}");
    }
    eprintln!(
        "{} AuthorizationPolicies give istiod's messages",
        goldens.len()
    );
}

/// `groups` of `istio.security.Authorization` as protobuf's JSON.
fn message(policy: &Policy) -> Value {
    let settings = settings();
    let projection = project_for_ztunnel(policy, &settings).unwrap();
    let groups = projection.groups.iter().map(|group| {
        let rules = group.rules.iter().map(|rules| {
            let matches: Vec<Value> = rules.matches.iter().map(one_match).collect();
            json!({"matches": matches})
        });
        json!({"rules": rules.collect::<Vec<_>>()})
    });
    groups.collect()
}

fn one_match(one: &Match<'_>) -> Value {
    let texts = |list: &[&str]| {
        list.iter()
            .map(|text| string_match(text))
            .collect::<Vec<_>>()
    };
    let accounts = |list: &[(&str, &str, &str)]| {
        let accounts = list.iter();
        accounts
            .map(|(_, namespace, name)| json!({"namespace": namespace, "serviceAccount": name}))
            .collect::<Vec<_>>()
    };
    let blocks = |list: &[(&str, IpBlock)]| {
        let blocks = list.iter();
        blocks.map(|(text, _)| json!({"address": base64(text.split('/').next().unwrap()), "length": length(text)})).collect::<Vec<_>>()
    };
    let ports = |list: &[(&str, u16)]| list.iter().map(|(_, port)| json!(port)).collect::<Vec<_>>();
    let fields = [
        ("namespaces", texts(&one.namespaces)),
        ("notNamespaces", texts(&one.not_namespaces)),
        ("serviceAccounts", accounts(&one.service_accounts)),
        ("notServiceAccounts", accounts(&one.not_service_accounts)),
        ("principals", texts(&one.principals)),
        ("notPrincipals", texts(&one.not_principals)),
        ("sourceIps", blocks(&one.source_ips)),
        ("notSourceIps", blocks(&one.not_source_ips)),
        ("destinationIps", blocks(&one.destination_ips)),
        ("notDestinationIps", blocks(&one.not_destination_ips)),
        ("destinationPorts", ports(&one.destination_ports)),
        ("notDestinationPorts", ports(&one.not_destination_ports)),
    ];
    let written = fields.into_iter().filter(|(_, list)| !list.is_empty());
    Value::Object(
        written
            .map(|(name, list)| (name.to_owned(), Value::from(list)))
            .collect::<Map<_, _>>(),
    )
}

fn length(text: &str) -> u8 {
    text.split_once('/')
        .map_or(32, |(_, length)| length.parse().unwrap())
}

/// `stringToMatch` of istiod.
fn string_match(text: &str) -> Value {
    if text == "*" {
        json!({"presence": {}})
    } else if let Some(suffix) = text.strip_prefix('*') {
        json!({"suffix": suffix})
    } else if let Some(prefix) = text.strip_suffix('*') {
        json!({"prefix": prefix})
    } else {
        json!({"exact": text})
    }
}

/// The bytes of an address as protobuf's JSON writes them.
fn base64(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let std::net::IpAddr::V4(address) = text.parse().unwrap() else {
        panic!("`{text}` is no IPv4")
    };
    let number = u64::from(u32::from(address)) << 4;
    let digits = (0..6).map(|digit| char::from(DIGITS[(number >> (30 - 6 * digit)) as usize & 63]));
    digits.chain(['=', '=']).collect()
}

/// The decision of a ztunnel with these policies.
fn admits(policies: &[Policy], principal: Option<&str>, port: u16) -> bool {
    let mut point = Point::new(PointKind::Ztunnel, "foo/a");
    point.policies = policies.iter().cloned().map(Arc::new).collect();
    let address = Address {
        kind: AddressKind::Pod,
        name: "foo/a".to_owned(),
        port,
    };
    let path = EnforcementPath {
        address,
        in_use: true,
        settings: Arc::new(settings()),
        points: vec![point],
    };
    let request = Request {
        principal: principal.map(str::to_owned),
        source_ip: "10.0.0.1".parse().unwrap(),
        forwarded_ip: "10.0.0.1".parse().unwrap(),
        destination_ip: "10.0.0.2".parse().unwrap(),
        destination_port: port,
        sni: None,
        http: None,
        surroundings: BTreeMap::new(),
        answers: BTreeMap::new(),
    };
    evaluate(&request, &path).outcome == Outcome::Allow
}

/// `Authorization::matches` of ztunnel, for the fields that a converted PeerAuthentication has.
fn golden_matches(message: &Value, identified: bool, port: u16) -> bool {
    let items = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let one = |one: &Value| {
        let known = ["destinationPorts", "notDestinationPorts", "notPrincipals"];
        assert!(
            one.as_object()
                .unwrap()
                .keys()
                .all(|name| known.contains(&name.as_str())),
            "{one}"
        );
        let among = |name: &str| {
            items(&one[name])
                .iter()
                .any(|number| *number == json!(port))
        };
        let any = one.get("destinationPorts").is_none() || among("destinationPorts");
        let principal = items(&one["notPrincipals"]) == [json!({"presence": {}})];
        any && !among("notDestinationPorts") && !(principal && identified)
    };
    items(&message["groups"]).iter().any(|group| {
        items(&group["rules"])
            .iter()
            .all(|rules| items(&rules["matches"]).iter().any(one))
    })
}

#[test]
fn peer_authentications_refuse_at_ztunnel_what_istiods_message_refuses() {
    let goldens = goldens(|name| name.starts_with("peer-authn"));
    let mut failures = Vec::new();
    for (name, input, expected) in &goldens {
        let snapshot = read_files(std::slice::from_ref(input)).unwrap();
        let mesh = Mesh::build(&snapshot, &MeshOverrides::default());
        // istiod converts the last document, which the test names; the others are its parents.
        let converted = mesh
            .peer_authentications
            .iter()
            .find(|one| one.selector.is_some());
        let Some(workload) = converted else {
            assert_eq!(*expected, Value::Null, "{name}: nothing selects a workload");
            continue;
        };
        let labels = workload.selector.clone().unwrap_or_default();
        let policies = mesh.ztunnel_mtls_policies(&workload.name.namespace, &labels);
        let own: Vec<Policy> = policies
            .iter()
            .filter(|policy| policy.name.name.starts_with("converted_"))
            .cloned()
            .collect();
        let names: BTreeSet<&str> = policies
            .iter()
            .map(|policy| policy.name.name.as_str())
            .collect();
        if *expected == Value::Null {
            if !own.is_empty() {
                failures.push(format!("{name}: istiod sends nothing, we have {names:?}"));
            }
            continue;
        }
        let ports: BTreeSet<u16> = workload
            .port_modes
            .iter()
            .map(|(port, _)| *port)
            .chain([1])
            .collect();
        for port in ports {
            for principal in [None, Some("cluster.local/ns/foo/sa/b")] {
                let refused = golden_matches(expected, principal.is_some(), port);
                if admits(&own, principal, port) == refused {
                    failures.push(format!(
                        "{name}: port {port}, {principal:?}: istiod's message refuses: {refused}; {names:?}"
                    ));
                }
            }
        }
    }
    eprintln!(
        "{} PeerAuthentications compared with istiod's messages",
        goldens.len()
    );
    assert!(failures.is_empty(), "{failures:#?}");
}

/// One line of a table: the policy's rules as JSON, what ztunnel does and where that stands.
type Line = (
    &'static str,
    Value,
    &'static [(Option<&'static str>, u16, bool)],
);

const WEB: Option<&str> = Some("cluster.local/ns/shop/sa/web");
const OPS: Option<&str> = Some("cluster.local/ns/ops/sa/job");

#[test]
fn ztunnel_matches_as_its_source_says() {
    let from = |source: Value| json!({"from": [{"source": source}]});
    let to = |operation: Value| json!({"to": [{"operation": operation}]});
    // Each entry says: identity, port, whether the policy (a DENY) refuses.
    let table: Vec<Line> = vec![
        (
            "rbac.rs matches: `rules` empty never matches",
            json!([]),
            &[(WEB, 80, false), (None, 80, false)],
        ),
        (
            "rbac.rs matches: a rule without clauses matches",
            json!([{}]),
            &[(WEB, 80, true), (None, 80, true)],
        ),
        (
            "rbac.rs matches: any rule is enough",
            json!([
                from(json!({"namespaces": ["ops"]})),
                to(json!({"ports": ["80"]}))
            ]),
            &[(OPS, 1, true), (WEB, 80, true), (WEB, 1, false)],
        ),
        (
            "rbac.rs matches: every clause of a rule must match",
            json!([{"from": [{"source": {"namespaces": ["ops"]}}], "to": [{"operation": {"ports": ["80"]}}]}]),
            &[(OPS, 80, true), (OPS, 1, false), (WEB, 80, false)],
        ),
        (
            "rbac.rs matches: of one clause some match is enough",
            json!([{"from": [{"source": {"namespaces": ["ops"]}}, {"source": {"principals": ["*/web"]}}]}]),
            &[(OPS, 80, true), (WEB, 80, true), (None, 80, false)],
        ),
        (
            "rbac.rs matches: an empty match is skipped, so an HTTP-only rule never matches",
            json!([to(json!({"methods": ["GET"]}))]),
            &[(WEB, 80, false), (None, 80, false)],
        ),
        (
            "rbac.rs matches: a clause of empty matches takes its rule with it",
            json!([{"from": [{"source": {"namespaces": ["ops"]}}], "to": [{"operation": {"paths": ["/x"]}}]}]),
            &[(OPS, 80, false)],
        ),
        (
            "rbac.rs matches: beside an empty match another of the clause counts",
            json!([{"to": [{"operation": {"methods": ["GET"]}}, {"operation": {"ports": ["80"]}}]}]),
            &[(WEB, 80, true), (WEB, 1, false)],
        ),
        (
            "authorization.go handleRule: the L4 part of a mixed operation stays, and is wider",
            json!([to(json!({"methods": ["GET"], "ports": ["80"]}))]),
            &[(WEB, 80, true), (WEB, 1, false)],
        ),
        (
            "authorization.go l4WhenAttributes: source.serviceAccount is none of them",
            json!([{"when": [{"key": "source.serviceAccount", "values": ["shop/web"]}]}]),
            &[(WEB, 80, false)],
        ),
        (
            "rbac.rs matches_internal: values and not-values of one field are both asked",
            json!([from(json!({"namespaces": ["*"], "notNamespaces": ["ops"]}))]),
            &[(WEB, 80, true), (OPS, 80, false), (None, 80, false)],
        ),
        (
            "rbac.rs matches: no identity is the empty namespace; not-values hold for it",
            json!([from(json!({"notNamespaces": ["shop"]}))]),
            &[(WEB, 80, false), (OPS, 80, true), (None, 80, true)],
        ),
        (
            "rbac.rs StringMatch::matches: presence is what is not empty",
            json!([from(json!({"notPrincipals": ["*"]}))]),
            &[(WEB, 80, false), (None, 80, true)],
        ),
        (
            "rbac.rs matches_principal: `spiffe://` is cut off the identity, so a value with it never matches",
            json!([from(
                json!({"principals": ["spiffe://cluster.local/ns/shop/sa/web"]})
            )]),
            &[(WEB, 80, false)],
        ),
        (
            "rbac.rs StringMatch::matches: prefix and suffix, with case",
            json!([from(
                json!({"principals": ["cluster.local/ns/shop/*", "*/sa/JOB"]})
            )]),
            &[(WEB, 80, true), (OPS, 80, false)],
        ),
        (
            "authorization.go stringToMatch: a `*` inside is a star",
            json!([from(json!({"namespaces": ["s*p"]}))]),
            &[(WEB, 80, false)],
        ),
        (
            "rbac.rs ServiceAccountMatch: namespace and account exactly, whatever the trust domain",
            json!([from(json!({"serviceAccounts": ["shop/web", "job"]}))]),
            &[
                (WEB, 80, true),
                (OPS, 80, false),
                (Some("td/ns/shop/sa/web"), 80, true),
                (None, 80, false),
            ],
        ),
        (
            "rbac.rs matches: ports are those of the destination",
            json!([to(json!({"ports": ["80"], "notPorts": ["90"]}))]),
            &[(None, 80, true), (None, 90, false)],
        ),
        (
            "rbac.rs matches: source addresses are the peer's",
            json!([from(
                json!({"ipBlocks": ["10.0.0.0/24"], "notIpBlocks": ["10.0.0.2"]})
            )]),
            &[(None, 80, true)],
        ),
        (
            "authorization.go handleRule: trustDomains is dropped, so what is left decides",
            json!([from(
                json!({"namespaces": ["shop"], "trustDomains": ["other"]})
            )]),
            &[(WEB, 80, true)],
        ),
    ];
    for (source, rules, expected) in table {
        let name = castoff::snapshot::ObjectName::new("foo", "deny");
        let spec = json!({"action": "DENY", "rules": rules});
        let policy =
            castoff::mesh::authorization::translate_spec(&name, &Labels::default(), &spec).unwrap();
        for (principal, port, refused) in expected {
            let one = std::slice::from_ref(&policy);
            assert_eq!(
                !admits(one, *principal, *port),
                *refused,
                "{source}: {principal:?}:{port}"
            );
        }
    }
}

#[test]
fn an_allow_rule_with_an_http_field_is_gone_at_ztunnel_but_its_policy_still_refuses() {
    let name = castoff::snapshot::ObjectName::new("foo", "allow");
    let spec = json!({"rules": [
        {"to": [{"operation": {"methods": ["GET"], "ports": ["80"]}}]},
        {"to": [{"operation": {"ports": ["90"]}}]},
    ]});
    let policy =
        castoff::mesh::authorization::translate_spec(&name, &Labels::default(), &spec).unwrap();
    let one = std::slice::from_ref(&policy);
    assert_eq!(
        [80, 90, 1].map(|port| admits(one, WEB, port)),
        [false, true, false]
    );
    assert!(admits(&[], WEB, 80));
}
