//! Gateways as servers: what they let in from outside, whoever sends it.
//!
//! In: two sides. Out: a row for each gateway at which something differs. Invariant: where a request goes
//! from there is no part of it; the servers behind are compared for gateways as callers.

use castoff_authz::path::{
    Address, AddressKind, EnforcementPath, Point, PointKind, PortSeen, Protocol, Proxy,
};
use castoff_authz::verdict::{Caller, Comparison, Limits, compare};

use super::addresses;
use super::row::{PortAnswer, ServerRow};
use super::side::Side;
use super::{Content, Server};
use crate::mesh::{Role, WorkloadId};

/// Gateways that let in something else than in the baseline, by name.
pub(super) fn rows(baseline: &Side<'_>, present: &Side<'_>, limits: Limits) -> Vec<ServerRow> {
    let mut rows = Vec::new();
    for (index, workload) in present.mesh.workloads.iter().enumerate() {
        let is_gateway = workload.role.is_gateway();
        let Some((was, _)) = baseline.workload(&workload.name).filter(|_| is_gateway) else {
            continue;
        };
        let is = WorkloadId(index);
        let mut ports = addresses::ports(baseline.mesh, was);
        ports.extend(addresses::ports(present.mesh, is));
        let mut row = ServerRow::of(&workload.name);
        for port in ports {
            for content in [Content::Http, Content::Bytes] {
                let server = |workload| Server {
                    workload,
                    generation: 0,
                    port,
                };
                let mut before = vec![path(baseline, server(was), content)];
                let mut now = vec![path(present, server(is), content)];
                baseline.mark_normalization(present, &mut before);
                present.mark_normalization(baseline, &mut now);
                if before == now {
                    continue;
                }
                let comparison = Comparison {
                    caller: Caller::anybody(),
                    http: content == Content::Http,
                    baseline: before,
                    present: now,
                };
                row.compared += 1;
                let verdict = compare(&comparison, limits);
                if !verdict.is_same() {
                    let pods = (port, workload.generations[0].mode);
                    let paths = [comparison.baseline, comparison.present];
                    let answer = PortAnswer::new(pods, content, "anybody", paths, verdict);
                    row.differences.push(answer);
                }
            }
        }
        if !row.differences.is_empty() {
            rows.push(row);
        }
    }
    rows
}

/// The gateway's own chain, as the caller sends to it.
pub(super) fn path(side: &Side<'_>, server: Server, content: Content) -> EnforcementPath {
    let workload = side.mesh.workload(server.workload);
    let generation = &workload.generations[server.generation];
    let gateway = match &workload.role {
        Role::KubernetesGateway(name) => Some(name),
        _ => None,
    };
    let at = side.attachments.at_proxy(
        &workload.name.namespace,
        &generation.labels,
        &generation.revision,
        gateway,
    );
    let name = workload.name.to_string();
    let protocol = match content {
        Content::Http => Protocol::Http,
        Content::Bytes => Protocol::Tcp,
    };
    let envoy = PointKind::Envoy {
        proxy: Proxy::Gateway,
        protocol,
    };
    let mut point = Point::new(at.opaque_kind().unwrap_or(envoy), &name);
    point.policies = at.policies;
    if content == Content::Http {
        point.token_rules = at.token_rules;
        point.seen.headers_set = at.headers_set;
    }
    point.seen.destination_port = PortSeen::Fixed(server.port);
    EnforcementPath {
        address: Address {
            kind: AddressKind::Gateway,
            name,
            port: server.port,
        },
        in_use: true,
        settings: side.settings.clone(),
        points: vec![point],
    }
}
