//! Whom gateways ask for a certificate.
//!
//! In: Gateways of Istio and of the Gateway API on two sides. Out: a row for each at which somebody without a certificate
//! gets in where he was asked for one, or the other way round. Invariant: a host is compared over all ports of the same
//! gateway's pods; that a host or a port is new is no question of certificates.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use castoff_authz::path::{
    Address, AddressKind, EnforcementPath, Point, PointKind, Protocol, Proxy,
};
use castoff_authz::verdict::{Caller, Comparison, Limits, compare};
use serde_json::Value;

use super::Content;
use super::row::{PortAnswer, ServerRow};
use super::side::Side;
use crate::mesh::traffic::PlainObject;
use crate::mesh::{DataPlaneMode, Mesh, ingress};
use crate::snapshot::{Kind, ObjectName};

const WITHOUT: &str = "outsiders without a certificate";
const WITH: &str = "outsiders with a certificate";

/// Who must show a certificate at a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Asked {
    Nobody,
    /// Everybody, and by what it is checked.
    Everybody(String),
    /// Not the gateway's to ask, or two objects say different things.
    Unclear(String),
}

/// Listeners of the same pods: by port, by host.
type Listeners = BTreeMap<u16, BTreeMap<String, Asked>>;

/// By whose pods, in words: the name of an object, and its listeners.
type Gateways = BTreeMap<String, (ObjectName, Listeners)>;

/// Gateways that ask others for certificates than in the baseline.
pub(super) fn rows(baseline: &Side<'_>, present: &Side<'_>, limits: Limits) -> Vec<ServerRow> {
    let was = gateways(baseline.mesh);
    let mut rows: BTreeMap<ObjectName, ServerRow> = BTreeMap::new();
    for (pods, (name, now)) in gateways(present.mesh) {
        let Some((_, before)) = was.get(&pods) else {
            continue;
        };
        let hosts: BTreeSet<&String> = before
            .values()
            .chain(now.values())
            .flat_map(BTreeMap::keys)
            .collect();
        for host in hosts {
            let states = [(baseline, at(before, host)), (present, at(&now, host))];
            for (callers, has_one) in [(WITHOUT, false), (WITH, true)] {
                let [before, now] = states.each_ref().map(|(side, listeners)| {
                    let paths = listeners.iter();
                    let paths =
                        paths.map(|(port, asked)| path(side, &name, (host, *port), asked, has_one));
                    paths.collect::<Vec<_>>()
                });
                let Some(comparison) = comparison(before, now) else {
                    continue;
                };
                let row = rows
                    .entry(name.clone())
                    .or_insert_with(|| ServerRow::of(&name));
                row.compared += 1;
                let verdict = compare(&comparison, limits);
                if !verdict.is_same() {
                    let pods = (comparison.present[0].address.port, DataPlaneMode::None);
                    let paths = [comparison.baseline, comparison.present];
                    let answer = PortAnswer::new(pods, Content::Http, callers, paths, verdict);
                    row.differences.push(answer);
                }
                // Who has a certificate can come without it where that is taken, and all others are told of.
                break;
            }
        }
    }
    rows.into_values()
        .filter(|row| !row.differences.is_empty())
        .collect()
}

/// Whether a host is asked for; `None` where nothing differs, or one of the states does not serve it.
fn comparison(
    baseline: Vec<EnforcementPath>,
    mut present: Vec<EnforcementPath>,
) -> Option<Comparison> {
    if baseline.is_empty() || present.is_empty() || baseline == present {
        return None;
    }
    // A port that is closed is no question of certificates.
    let is_closed =
        |path: &&EnforcementPath| !present.iter().any(|one| one.address == path.address);
    let closed: Vec<EnforcementPath> = baseline.iter().filter(is_closed).cloned().collect();
    present.extend(closed);
    Some(Comparison {
        caller: Caller::outsider(),
        http: true,
        baseline,
        present,
    })
}

fn path(
    side: &Side<'_>,
    gateway: &ObjectName,
    (host, port): (&str, u16),
    asked: &Asked,
    has_one: bool,
) -> EnforcementPath {
    let kind = match asked {
        Asked::Everybody(_) if !has_one => PointKind::Stop {
            reason: format!("it asks clients of host {host} for a certificate"),
        },
        Asked::Everybody(by) | Asked::Unclear(by) => PointKind::Opaque {
            reason: format!("whether the certificate of a client is taken for host {host}"),
            content: by.as_str().into(),
        },
        Asked::Nobody => PointKind::Envoy {
            proxy: Proxy::Gateway,
            protocol: Protocol::Http,
        },
    };
    let name = gateway.to_string();
    EnforcementPath {
        points: vec![Point::new(kind, &name)],
        address: Address {
            kind: AddressKind::Gateway,
            name,
            port,
        },
        in_use: true,
        settings: Arc::clone(&side.settings),
    }
}

/// The listener of each port that takes a host: of several the most specific.
fn at<'l>(listeners: &'l Listeners, host: &str) -> Vec<(u16, &'l Asked)> {
    let takes = |pattern: &str| match pattern.strip_prefix('*') {
        Some(tail) => host.ends_with(tail),
        None => pattern == host,
    };
    let found = listeners.iter().filter_map(|(port, hosts)| {
        let matching = hosts.iter().filter(|(pattern, _)| takes(pattern));
        let (_, asked) = matching.max_by_key(|(pattern, _)| (*pattern == host, pattern.len()))?;
        Some((*port, asked))
    });
    found.collect()
}

fn gateways(mesh: &Mesh) -> Gateways {
    let mut all = Gateways::new();
    for object in &mesh.traffic.others {
        match object.kind {
            Kind::IstioGateway => {
                for pods in pods(mesh, object) {
                    let entry = all.entry(pods);
                    let entry = entry.or_insert_with(|| (object.name.clone(), Listeners::new()));
                    of_istio(object, &mut entry.1);
                }
            }
            Kind::Gateway => {
                let pods = format!("Gateway {}", object.name);
                let entry = all
                    .entry(pods)
                    .or_insert_with(|| (object.name.clone(), Listeners::new()));
                of_kubernetes(object, &mut entry.1);
            }
            _ => {}
        }
    }
    all
}

/// Whose pods an Istio Gateway configures, in words; by its selector where they are not among the input.
fn pods(mesh: &Mesh, gateway: &PlainObject) -> Vec<String> {
    let workloads = ingress::selected(mesh, &gateway.raw);
    let names = workloads.into_iter();
    let names: Vec<String> = names
        .map(|id| format!("pods of {}", mesh.workload(id).name))
        .collect();
    if names.is_empty() {
        return vec![format!("pods {}", gateway.raw["spec"]["selector"])];
    }
    names
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn port_of(value: &Value) -> Option<u16> {
    u16::try_from(value.as_u64()?).ok()
}

fn add(listeners: &mut Listeners, port: u16, host: &str, asked: Asked) {
    let hosts = listeners.entry(port).or_default();
    let known = hosts
        .entry(host.to_owned())
        .or_insert_with(|| asked.clone());
    if *known != asked {
        *known = Asked::Unclear(format!("{known:?}, {asked:?}"));
    }
}

/// istio pilot/pkg/networking/core/gateway.go `BuildListenerTLSContext`: of the modes MUTUAL and ISTIO_MUTUAL require a
/// certificate.
fn of_istio(object: &PlainObject, listeners: &mut Listeners) {
    for server in list(&object.raw["spec"]["servers"]) {
        let tls = &server["tls"];
        let Some(port) = port_of(&server["port"]["number"]) else {
            continue;
        };
        // It answers that one should come by TLS.
        if tls["httpsRedirect"] == true {
            continue;
        }
        let asked = match tls["mode"].as_str() {
            Some("MUTUAL") => Asked::Everybody(authority(tls)),
            Some("ISTIO_MUTUAL") => Asked::Everybody("the mesh".to_owned()),
            Some(mode @ ("PASSTHROUGH" | "AUTO_PASSTHROUGH")) => Asked::Unclear(mode.to_owned()),
            _ => Asked::Nobody,
        };
        for host in list(&server["hosts"]).filter_map(Value::as_str) {
            let host = host.split_once('/').map_or(host, |(_, host)| host);
            add(listeners, port, host, asked.clone());
        }
    }
}

/// By what an Istio Gateway checks certificates.
fn authority(tls: &Value) -> String {
    const FIELDS: [&str; 8] = [
        "credentialName",
        "credentialNames",
        "caCertCredentialName",
        "caCertificates",
        "caCrl",
        "subjectAltNames",
        "verifyCertificateHash",
        "verifyCertificateSpki",
    ];
    let says = FIELDS
        .iter()
        .filter_map(|field| Some(format!("{field} {}", tls.get(field)?)));
    says.collect::<Vec<_>>().join(", ")
}

/// istio pilot/pkg/config/kube/gateway/conversion.go `buildTLS`, `resolveGatewayTLS`; `frontendValidation` of a listener
/// in releases before Gateway API 1.4.
fn of_kubernetes(object: &PlainObject, listeners: &mut Listeners) {
    let spec = &object.raw["spec"];
    for listener in list(&spec["listeners"]) {
        let Some(port) = port_of(&listener["port"]) else {
            continue;
        };
        let tls = &listener["tls"];
        let frontend = &spec["tls"]["frontend"];
        let mut per_port = list(&frontend["perPort"]).filter(|one| one["port"] == listener["port"]);
        let of_port = per_port
            .next()
            .map_or(&frontend["default"], |one| &one["tls"]);
        let validation = [&of_port["validation"], &tls["frontendValidation"]];
        let validation = validation.into_iter().find(|one| {
            one["caCertificateRefs"]
                .as_array()
                .is_some_and(|list| !list.is_empty())
        });
        let mode = tls["options"]["gateway.istio.io/tls-terminate-mode"].as_str();
        let asked = match (tls["mode"].as_str(), mode, validation) {
            _ if tls.is_null() => Asked::Nobody,
            (Some("Passthrough"), ..) => Asked::Unclear("Passthrough".to_owned()),
            (_, Some("ISTIO_MUTUAL"), _) => Asked::Everybody("the mesh".to_owned()),
            (_, Some("ISTIO_SIMPLE" | "OPTIONAL_MUTUAL"), _) => Asked::Nobody,
            (_, mode, Some(validation)) => {
                let lenient = validation["mode"] == "AllowInsecureFallback";
                match lenient && mode != Some("MUTUAL") {
                    true => Asked::Nobody,
                    false => Asked::Everybody(validation["caCertificateRefs"].to_string()),
                }
            }
            (_, Some("MUTUAL"), None) => Asked::Everybody(tls["certificateRefs"].to_string()),
            (_, _, None) => Asked::Nobody,
        };
        let host = listener["hostname"].as_str().unwrap_or("*");
        add(listeners, port, host, asked);
    }
}
