//! What people can do for a workload that keeps its sidecar, where castoff knows a way.
//!
//! In: workloads held by a proof, and the field at the end. Out: for each a few sentences, with the
//! object that stands in the way. Invariant: a way out changes who may call whom, or how, so that
//! none of them is ever taken by castoff itself.

use std::collections::BTreeSet;

use super::field::Field;
use super::wave::Held;
use crate::convert::{Refusal, Trap};
use crate::mesh::{Attachment, DataPlaneMode, Mesh, OwnerKind, Workload, WorkloadId};
use crate::phases::Context;
use crate::prove::past::Pasts;
use crate::snapshot::{Kind, ObjectName, Snapshot};

/// Adds the ways out, of each server once: to its own entry, else to the first that names it.
pub(super) fn add(held: &mut [Held], field: &Field<'_>) {
    let servers: BTreeSet<ObjectName> = held.iter().filter_map(|one| one.server.clone()).collect();
    if servers.is_empty() {
        return;
    }
    let mesh = field.mesh();
    let context = Context::new(&mesh, field.snapshot(), field.options);
    let refusals = &context.conversion().refusals;
    for id in mesh.workload_ids() {
        let name = &mesh.workload(id).name;
        if !servers.contains(name) {
            continue;
        }
        let names = |one: &Held| one.server.as_ref() == Some(name);
        let own = held
            .iter()
            .position(|one| names(one) && one.workload == *name);
        if let Some(index) = own.or_else(|| held.iter().position(names)) {
            held[index].ways_out = ways(&mesh, id, refusals);
        }
    }
    for one in held.iter_mut().filter(|one| one.server.is_some()) {
        one.ways_out.extend(past_sidecar(&mesh, &one.workload));
    }
    for (principal, way) in running_jobs(&mesh, field.snapshot()) {
        let calls = format!(" from {principal} ");
        let waits = |one: &&mut Held| one.lines.iter().any(|line| line.contains(&calls));
        for one in held.iter_mut().filter(waits) {
            one.ways_out.push(way.clone());
        }
    }
}

/// What else can be done where it is not known who calls whom, and somebody would only lose: who never calls loses
/// nothing.
pub(super) fn add_telemetry(held: &mut [Held]) {
    for one in held
        .iter_mut()
        .filter(|one| one.direction == Some("breaks"))
    {
        one.ways_out.push(
            "if those callers never call so, say who calls whom (`--traffic`, `--prometheus`): what a caller loses that was \
             not seen does not count"
                .to_owned(),
        );
    }
}

/// Jobs that run with sidecars for now, by identity: they end, and what waits for them can move then. Of a CronJob those
/// that an earlier template started, where its next ones have no sidecar.
fn running_jobs(mesh: &Mesh, snapshot: &Snapshot) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for workload in &mesh.workloads {
        let ends = match workload.owner {
            OwnerKind::Job => true,
            OwnerKind::CronJob => workload.next_mode != DataPlaneMode::Sidecar,
            _ => false,
        };
        let old = workload.generations.iter();
        let old = old.filter(|one| ends && one.mode == DataPlaneMode::Sidecar);
        let old: BTreeSet<ObjectName> = old
            .flat_map(|one| &one.pods)
            .filter(|pod| !pod.name.is_empty())
            .map(|pod| ObjectName::new(&workload.name.namespace, &pod.name))
            .collect();
        let pods = snapshot.pods.iter();
        let owners = pods
            .filter(|pod| old.contains(&pod.object_name()))
            .flat_map(|pod| &pod.metadata.owner_references)
            .filter(|owner| owner.kind == "Job");
        let jobs: BTreeSet<&str> = owners.map(|owner| owner.name.as_str()).collect();
        for job in jobs {
            found.push((
                workload.principal(&mesh.settings.trust_domain),
                format!(
                    "Job {}/{job} still runs with a sidecar: plan again when it has ended",
                    workload.name.namespace
                ),
            ));
        }
    }
    found
}

/// For a workload whose calls its sidecar does not see: ztunnel sees them all.
fn past_sidecar(mesh: &Mesh, name: &ObjectName) -> Option<String> {
    let id = mesh
        .workload_ids()
        .find(|id| mesh.workload(*id).name == *name)?;
    let by = Pasts::of(mesh).past((id, 0)).by_redirection()?;
    Some(format!(
        "some calls of {name} go past its own sidecar ({by}) and show no identity; ztunnel takes all and shows it. Where \
         that is meant, take the setting away first and save a new baseline"
    ))
}

fn ways(mesh: &Mesh, id: WorkloadId, refusals: &[Refusal]) -> Vec<String> {
    let services: Vec<_> = mesh.services_of(id).map(|(_, one)| &one.name).collect();
    if services.is_empty() {
        return without_service(mesh.workload(id));
    }
    let of_these = |refusal: &&Refusal| {
        refusal
            .service
            .as_ref()
            .is_some_and(|name| services.contains(&name))
    };
    let mut found: Vec<String> = refusals
        .iter()
        .filter(of_these)
        .filter_map(|one| way(mesh, one))
        .collect();
    found.sort();
    found.dedup();
    found
}

fn without_service(workload: &Workload) -> Vec<String> {
    let name = &workload.name;
    let expose = match workload.owner {
        OwnerKind::Deployment => format!(
            " (`kubectl expose deployment {} -n {}`)",
            name.name, name.namespace
        ),
        _ => String::new(),
    };
    vec![
        format!(
            "put a Service before {name}{expose} that its callers dial: what its policies say of requests can then be \
             checked by a waypoint"
        ),
        format!(
            "if nobody is to call {name}, close it before it moves, with an AuthorizationPolicy that selects it and has \
             action: DENY and rules: [{{}}]"
        ),
    ]
}

/// The way around one refusal; `None` where its reason says all there is.
fn way(mesh: &Mesh, refusal: &Refusal) -> Option<String> {
    let policy = format!("{}/{}", refusal.object.kind.row().name, refusal.object.name);
    let service = refusal.service.as_ref()?;
    let way = match refusal.trap {
        Trap::SubsetOfPods => {
            let selector = selector_of(mesh, refusal);
            format!(
                "split Service {service}, since a waypoint cannot tell pods of one Service apart: one more Service with \
                 spec.selector {selector} that those dial whom {policy} means, and other labels for {service}; or let \
                 {policy} select every pod of {service}. `castoff verify` shows whom that lets in or keeps out"
            )
        }
        Trap::GuardOverPods => format!(
            "let an ALLOW policy select all pods of Service {service}, or split the Service: the waypoint must be let in \
             where {policy} applies, and that would close the other pods"
        ),
        Trap::HeadlessService => format!(
            "let callers of {service} dial a Service with an address, since clients of a headless one go past any \
             waypoint"
        ),
        Trap::SourceAddress => format!(
            "say in principals, namespaces or serviceAccounts what {policy} says in addresses: nobody but ztunnel sees \
             the caller's address in ambient mode, and not behind a waypoint"
        ),
        Trap::ServerName | Trap::DestinationAddress => format!(
            "say what {policy} says of the server name or address in hosts or ports, or in a policy for one Service"
        ),
        Trap::RewrittenRequest => format!(
            "let {policy} speak of requests as callers send them, or take the rewriting away: a waypoint decides before \
             it rewrites"
        ),
        Trap::AmbiguousPort => format!(
            "let every pod of Service {service} listen on one number for each of its ports, or let {policy} name all of \
             them"
        ),
        _ => return None,
    };
    Some(way)
}

/// `{app: orders, version: v2}`, as the policy has it.
fn selector_of(mesh: &Mesh, refusal: &Refusal) -> String {
    let authorization = mesh.authorization_policies.iter();
    let authorization = authorization
        .filter(|_| refusal.object.kind == Kind::AuthorizationPolicy)
        .map(|one| (&one.name, &one.attachment));
    let authentication = mesh.request_authentications.iter();
    let authentication = authentication
        .filter(|_| refusal.object.kind == Kind::RequestAuthentication)
        .map(|one| (&one.name, &one.attachment));
    let mut all = authorization.chain(authentication);
    match all.find(|(name, _)| **name == refusal.object.name) {
        Some((_, Attachment::Selector(labels))) => {
            let pairs: Vec<String> = labels
                .iter()
                .map(|(key, value)| format!("{key}: {value}"))
                .collect();
            format!("{{{}}}", pairs.join(", "))
        }
        _ => "as the policy has it".to_owned(),
    }
}
