//! Paths and decisions against captures from a real istiod and a real Envoy.
//!
//! Each state is a folder: `snapshot/` is read as a user's dump would be, and every record of
//! `paths.jsonl` is compared: points, transports, identities, ports, policies, decisions.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use castoff::mesh::{DataPlaneMode, Mesh, MeshOverrides, WorkloadId};
use castoff::prove::pins::Leads;
use castoff::prove::{
    Attachments, Caller, CallerMode, Content, Dial, Hop, Server, Transport, hops, reading,
};
use castoff::snapshot::ObjectName;
use castoff_authz::decision::Outcome;
use castoff_authz::path::{
    Address, AddressKind, EnforcementPath, IpSeen, PointKind, PrincipalSeen, Protocol, Proxy,
    SniSeen,
};
use castoff_authz::request::{Http, Request, Token};
use serde_json::Value;

const FOLDERS: [&str; 2] = ["../shared/corpus/path-goldens", "tests/fixtures/paths"];

#[test]
fn every_captured_path_and_decision_is_reproduced() {
    let mut failures = Vec::new();
    let mut records = 0;
    let mut states = 0;
    for folder in FOLDERS {
        let folder = PathBuf::from(folder);
        if !folder.is_dir() {
            eprintln!(
                "SKIPPED: {} is not here, its paths were not compared",
                folder.display()
            );
            continue;
        }
        let mut names: Vec<PathBuf> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.join("paths.jsonl").is_file())
            .collect();
        names.sort();
        for state in names {
            states += 1;
            records += compare_state(&state, &mut failures);
        }
    }
    let mut by_state: BTreeMap<&str, usize> = BTreeMap::new();
    for failure in &failures {
        *by_state
            .entry(failure.split(' ').next().unwrap())
            .or_default() += 1;
    }
    eprintln!(
        "{records} records of {states} states compared, {} differences {by_state:?}",
        failures.len()
    );
    assert!(
        failures.is_empty(),
        "{}",
        failures[..failures.len().min(40)].join("\n")
    );
}

fn compare_state(state: &Path, failures: &mut Vec<String>) -> usize {
    let name = state.file_name().unwrap().to_string_lossy().into_owned();
    let snapshot =
        castoff::source::read_files(&[state.join("snapshot")]).expect("the snapshot is readable");
    let mesh = Mesh::build(&snapshot, &MeshOverrides::default());
    let attachments = Attachments::of(&mesh);
    let text = std::fs::read_to_string(state.join("paths.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    let records: Vec<Value> = lines.collect();
    if name == "pin" {
        failures.extend(compare_pins(&mesh, &attachments, &records));
    }
    for record in &records {
        let mut problems = Vec::new();
        compare_record(&mesh, &attachments, record, &mut problems);
        if !problems.is_empty() {
            let head = format!(
                "{name} {} ({}) -> {} {} at {} ({})",
                record["from"],
                record["from_generation"].as_str().unwrap(),
                record["dial"],
                record["sends"].as_str().unwrap(),
                record["server"].as_str().unwrap(),
                record["generation"].as_str().unwrap(),
            );
            failures.push(format!("{head}: {}", problems.join("; ")));
        }
    }
    records.len()
}

fn content(record: &Value) -> Content {
    if record["sends"] == "http" {
        Content::Http
    } else {
        Content::Bytes
    }
}

fn compare_record(
    mesh: &Mesh,
    attachments: &Attachments<'_>,
    record: &Value,
    problems: &mut Vec<String>,
) {
    let Some((caller, dial, server)) = question(mesh, record, problems) else {
        return;
    };
    let content = content(record);
    if attachments.leads(caller.mode, dial, server, content) != Leads::Here {
        problems.push("nobody is led there, and it was captured".to_owned());
    }
    let mut actual = hops(mesh, attachments, &caller, dial, server, content);
    let mut expected: Vec<&Value> = record["path"].as_array().unwrap().iter().collect();
    if record["dial"].get("gateway").is_some() && !expected.is_empty() {
        // The leg into the gateway is not the gateway's own leg to the server.
        expected.remove(0);
    }
    if expected.is_empty() && actual.is_empty() {
        return;
    }
    let names = |list: Vec<String>| list.join(" > ");
    let expected_names = names(
        expected
            .iter()
            .map(|point| describe_expected(point))
            .collect(),
    );
    let actual_names = names(actual.iter().map(describe).collect());
    if expected_names != actual_names {
        problems.push(format!(
            "path is [{actual_names}], captured [{expected_names}]"
        ));
        return;
    }
    for (hop, captured) in actual.iter().zip(&expected) {
        compare_point(mesh, hop, captured, &caller, problems);
    }
    if record["dial"].get("gateway").is_some() {
        return;
    }
    let path = EnforcementPath {
        address: Address {
            kind: AddressKind::Service,
            name: "captured".into(),
            port: server.port,
        },
        in_use: true,
        settings: Arc::new(reading::authorization_settings(mesh)),
        points: actual.drain(..).map(|hop| hop.point).collect(),
    };
    for (probe, captured) in record["decision"].as_object().unwrap() {
        let request = request(probe, &caller, &path);
        let decision = castoff_authz::eval::evaluate(&request, &path);
        let ours = match decision.outcome {
            Outcome::Allow => "allow",
            Outcome::Deny => "deny",
            Outcome::Depends(_) => "ask",
        };
        if captured != ours {
            problems.push(format!(
                "`{probe}` is {ours}, captured {captured} ({:?})",
                decision.deciding()
            ));
        }
    }
}

/// Whoever was captured at one kind of a Service's pods alone is led to no other.
fn compare_pins(mesh: &Mesh, attachments: &Attachments<'_>, records: &[Value]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut elsewhere = 0;
    let mut captured: BTreeMap<(Caller, Dial, Content), BTreeSet<Server>> = BTreeMap::new();
    for record in records {
        let from_gateway = record["dial"].get("gateway").is_some();
        let question = question(mesh, record, &mut problems);
        let Some((caller, dial, server)) = question.filter(|_| !from_gateway) else {
            continue;
        };
        let key = (caller, dial, content(record));
        captured.entry(key).or_default().insert(server);
    }
    for ((caller, dial, content), servers) in captured {
        let Dial::Service { service, port } = dial else {
            continue;
        };
        for backend in &mesh.service(service).backends {
            let Some(port) = backend.target_ports[port] else {
                continue;
            };
            let server = Server {
                workload: backend.workload,
                generation: backend.generation,
                port,
            };
            // Calls of an owner to itself were left out.
            let own = caller.workload.as_ref() == Some(&mesh.workload(backend.workload).name);
            let leads = attachments.leads(caller.mode, dial, server, content);
            elsewhere += usize::from(leads == Leads::Elsewhere);
            if !own && (leads == Leads::Here) != servers.contains(&server) {
                problems.push(format!("{caller:?} is led {leads:?} at {server:?}"));
            }
        }
    }
    assert!(elsewhere > 0, "no pin was recognized");
    problems
}

fn object_name(text: &str) -> ObjectName {
    let (namespace, name) = text.split_once('/').unwrap();
    ObjectName::new(namespace, name)
}

fn workload_named(mesh: &Mesh, name: &ObjectName) -> Option<WorkloadId> {
    mesh.workloads_in(&name.namespace)
        .find(|(_, workload)| workload.name == *name)
        .map(|(id, _)| id)
}

fn question(
    mesh: &Mesh,
    record: &Value,
    problems: &mut Vec<String>,
) -> Option<(Caller, Dial, Server)> {
    let dialled = &record["dial"];
    let from = match dialled.get("gateway") {
        Some(gateway) => gateway,
        None => &record["from"],
    };
    let caller = match from.as_str() {
        None => Caller::outsider(),
        Some(name) => {
            let mode = match record["from_generation"].as_str().unwrap() {
                _ if dialled.get("gateway").is_some() => CallerMode::Gateway,
                "sidecar" => CallerMode::Sidecar,
                "ambient" => CallerMode::Ambient,
                "gateway" => CallerMode::Gateway,
                _ => CallerMode::Plain,
            };
            let name = object_name(name);
            // A Gateway API gateway's Deployment is named after its class, too.
            let found = workload_named(mesh, &name).or_else(|| {
                workload_named(
                    mesh,
                    &ObjectName::new(&name.namespace, &format!("{}-istio", name.name)),
                )
            });
            let Some(id) = found else {
                problems.push(format!("caller {name} is not in the mesh"));
                return None;
            };
            Caller::of(mesh, id, mode)
        }
    };
    let server_name = object_name(record["server"].as_str().unwrap());
    let Some(workload) = workload_named(mesh, &server_name) else {
        problems.push(format!("server {server_name} is not in the mesh"));
        return None;
    };
    let mode = match record["generation"].as_str().unwrap() {
        "sidecar" => DataPlaneMode::Sidecar,
        "ambient" => DataPlaneMode::Ambient,
        _ => DataPlaneMode::None,
    };
    let generations = &mesh.workload(workload).generations;
    let Some(generation) = generations
        .iter()
        .position(|generation| generation.mode == mode)
    else {
        problems.push(format!(
            "server {server_name} has no {mode:?} pods, but {generations:?}"
        ));
        return None;
    };
    let port = u16::try_from(dialled["port"].as_u64().unwrap()).unwrap();
    let Some(service) = dialled.get("service") else {
        return Some((
            caller,
            Dial::Pod,
            Server {
                workload,
                generation,
                port,
            },
        ));
    };
    let name = object_name(service.as_str().unwrap());
    let Some((id, service)) = mesh.service_named(&name) else {
        problems.push(format!("Service {name} is not in the mesh"));
        return None;
    };
    let backend = service
        .backends
        .iter()
        .find(|backend| backend.workload == workload && backend.generation == generation);
    let index = if dialled.get("gateway").is_some() {
        // The record names the gateway's own port; its route leads to the first port.
        Some(0)
    } else {
        service.ports.iter().position(|one| one.port == port)
    };
    let target = index.and_then(|index| backend.and_then(|backend| backend.target_ports[index]));
    let (Some(index), Some(target)) = (index, target) else {
        problems.push(format!(
            "Service {name}:{port} does not lead to {server_name}: {service:?}"
        ));
        return None;
    };
    Some((
        caller,
        Dial::Service {
            service: id,
            port: index,
        },
        Server {
            workload,
            generation,
            port: target,
        },
    ))
}

fn describe_expected(point: &Value) -> String {
    let protocol = if point.get("stop").is_some() {
        "stop"
    } else {
        point["protocol"].as_str().unwrap_or("stop")
    };
    format!(
        "{} {} {} {protocol}",
        point["transport"].as_str().unwrap(),
        point["point"].as_str().unwrap(),
        point["name"].as_str().unwrap()
    )
}

fn describe(hop: &Hop) -> String {
    let transport = match hop.transport {
        Transport::MutualTls => "mtls",
        Transport::Hbone => "hbone",
        Transport::Plain => "plain",
    };
    let (point, protocol) = match &hop.point.kind {
        PointKind::Envoy { proxy, protocol } => (
            match proxy {
                Proxy::Sidecar => "sidecar",
                Proxy::Waypoint => "waypoint",
                Proxy::Gateway => "gateway",
                Proxy::Route => "route",
            },
            match protocol {
                _ if hop.point.identity_required && hop.transport == Transport::Plain => "stop",
                Protocol::Http => "http",
                Protocol::Tcp => "tcp",
            },
        ),
        PointKind::Ztunnel => ("ztunnel", "tcp"),
        other => return format!("{transport} {other:?}"),
    };
    format!("{transport} {point} {} {protocol}", hop.point.name)
}

fn compare_point(
    mesh: &Mesh,
    hop: &Hop,
    captured: &Value,
    caller: &Caller,
    problems: &mut Vec<String>,
) {
    let mut differ = |what: &str, ours: String, theirs: String| {
        if ours != theirs {
            problems.push(format!(
                "{what} at {} is {ours}, captured {theirs}",
                hop.point.name
            ));
        }
    };
    let seen = &hop.point.seen;
    let principal = match &seen.principal {
        PrincipalSeen::Callers => caller.principal.clone(),
        PrincipalSeen::None => None,
        PrincipalSeen::Fixed(principal) => Some(principal.clone()),
    };
    differ(
        "principal",
        format!("{principal:?}"),
        format!("{:?}", captured["principal"].as_str().map(str::to_owned)),
    );
    differ(
        "source address known",
        (seen.source_ip != IpSeen::NotAnIp).to_string(),
        captured["source_ip_known"].to_string(),
    );
    differ(
        "port",
        match seen.destination_port {
            castoff_authz::path::PortSeen::Fixed(port) => port.to_string(),
            castoff_authz::path::PortSeen::Dialled => "dialled".into(),
        },
        captured["port"].to_string(),
    );
    let captured_sni = captured["sni"].as_str();
    if let SniSeen::Fixed(sni) = &seen.sni {
        differ(
            "SNI",
            format!("{:?}", Some(sni.as_str())),
            format!("{captured_sni:?}"),
        );
    }
    let stopped = captured.get("stop").is_some();
    if stopped {
        return;
    }
    // Captured names are those with a rule left in this chain, ours all that attach.
    let ours: BTreeSet<String> = hop
        .point
        .policies
        .iter()
        .map(|policy| policy.name.to_string())
        .collect();
    let theirs: BTreeSet<String> = captured["policies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| {
            name.as_str()
                .unwrap()
                .trim_start_matches("DRY-RUN ")
                .to_owned()
        })
        .collect();
    let unknown: Vec<&String> = theirs.difference(&ours).collect();
    differ(
        "policies captured and not attached",
        format!("{unknown:?}"),
        "[]".into(),
    );
    if matches!(
        hop.point.kind,
        PointKind::Envoy {
            protocol: Protocol::Http,
            ..
        }
    ) {
        let extra: Vec<&String> = ours
            .difference(&theirs)
            .filter(|name| has_rules(mesh, name))
            .collect();
        differ(
            "policies attached and not captured",
            format!("{extra:?}"),
            "[]".into(),
        );
    }
    let issuers: BTreeSet<&str> = hop
        .point
        .token_rules
        .iter()
        .map(|rule| rule.issuer.as_str())
        .collect();
    let captured_issuers: BTreeSet<&str> = captured["jwt"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    differ(
        "token issuers",
        format!("{issuers:?}"),
        format!("{captured_issuers:?}"),
    );
}

fn has_rules(mesh: &Mesh, name: &str) -> bool {
    mesh.authorization_policies
        .iter()
        .find(|policy| policy.name.to_string() == *name)
        .and_then(|policy| policy.meaning.as_ref().ok())
        .is_some_and(|meaning| !meaning.rules.is_empty())
}

fn request(probe: &str, caller: &Caller, path: &EnforcementPath) -> Request {
    // Pods of the captured clusters are in 10.244.0.0/16, the caller without a name is not.
    let source: IpAddr = match caller.workload {
        Some(_) => Ipv4Addr::new(10, 244, 0, 99).into(),
        None => Ipv4Addr::new(192, 0, 2, 7).into(),
    };
    let (line, extra) = probe
        .split_once(" with ")
        .map_or((probe, None), |(line, extra)| (line, Some(extra)));
    let http = line.split_once(' ').map(|(method, target)| Http {
        method: method.into(),
        path: target.into(),
        host: "captured.example".into(),
        headers: BTreeMap::new(),
        token: extra.and_then(|text| token(text, path)),
    });
    let forwarded = extra
        .and_then(|extra| extra.strip_prefix("x-forwarded-for "))
        .map(|text| text.parse().unwrap());
    let surroundings = path
        .points
        .iter()
        .flat_map(|point| {
            [
                &point.seen.source_ip,
                &point.seen.remote_ip,
                &point.seen.destination_ip,
            ]
        })
        .filter_map(|seen| match seen {
            IpSeen::Of { owner, .. } => Some((
                owner.clone(),
                forwarded.unwrap_or(Ipv4Addr::new(10, 244, 0, 50).into()),
            )),
            _ => None,
        })
        .collect();
    Request {
        principal: caller.principal.clone(),
        source_ip: source,
        forwarded_ip: forwarded.unwrap_or(source),
        destination_ip: Ipv4Addr::new(10, 244, 0, 60).into(),
        destination_port: path.address.port,
        sni: None,
        http,
        surroundings,
        answers: BTreeMap::new(),
    }
}

fn token(text: &str, path: &EnforcementPath) -> Option<Token> {
    let (bad, text) = text
        .strip_prefix("bad ")
        .map_or((false, text), |rest| (true, rest));
    let (issuer, subject) = text.split_once('/')?;
    let claims = BTreeMap::from([
        (vec!["iss".to_owned()], vec![issuer.to_owned()]),
        (vec!["sub".to_owned()], vec![subject.to_owned()]),
    ]);
    // A bad token fails every validation.
    let rules = path.points.iter().flat_map(|point| &point.token_rules);
    let fails = if bad {
        rules.map(|rule| rule.validation.clone()).collect()
    } else {
        BTreeSet::new()
    };
    Some(Token { claims, fails })
}
