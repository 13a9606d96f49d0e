//! Guards: policies that let a waypoint reach the pods behind it, and what else the copies of
//! several policies mean together.
//!
//! In: a draft with all copies. Out: the draft with guards. Invariant: a guard is made only where
//! an ALLOW policy applies to every pod behind the Service; elsewhere it would close pods that are
//! open, and nothing keeps the waypoint out.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::place::{Draft, Pending};
use super::{Purpose, Refusal, Trap, emit};
use crate::mesh::{DataPlaneMode, Mesh, Service, WaypointId};
use crate::snapshot::Kind;

pub(super) fn add(draft: &mut Draft<'_>) {
    let mesh = draft.mesh;
    for (id, (covered, policy)) in std::mem::take(&mut draft.allowed) {
        if draft.guarded.contains(&id) {
            continue;
        }
        let service = mesh.service(id);
        let refusal = |reason: &str| Refusal {
            object: policy.clone(),
            trap: Trap::GuardOverPods,
            field: None,
            service: Some(service.name.clone()),
            reason: reason.to_owned(),
        };
        let Some(waypoint) = draft.out.served.get(&id) else {
            continue;
        };
        let idle = |index: usize| mesh.workload(service.backends[index].workload).idle;
        if (0..service.backends.len()).any(|index| !covered.contains(&index) && !idle(index)) {
            draft.out.refusals.push(refusal(
                "an ALLOW policy applies to some of the pods behind the Service: letting the \
                 waypoint in would close the others to everybody else",
            ));
            continue;
        }
        let Some(selector) = service.selector.as_ref().filter(|one| !one.is_empty()) else {
            draft.out.refusals.push(refusal(
                "the Service has no selector by which its pods could let the waypoint in",
            ));
            continue;
        };
        let selector: Map<String, Value> = selector
            .iter()
            .map(|(key, value)| (key.to_owned(), Value::from(value)))
            .collect();
        let principal = mesh
            .waypoint(*waypoint)
            .principal(&mesh.settings.trust_domain);
        draft.pending.push(Pending {
            kind: Kind::AuthorizationPolicy,
            namespace: service.name.namespace.clone(),
            name: format!("{}-from-waypoint", service.name.name),
            purpose: Purpose::Guard {
                service: service.name.clone(),
            },
            services: vec![id],
            manifest: emit::guard(
                &service.name,
                Value::Object(selector),
                &principal,
                &target_ports(service),
            ),
        });
    }
    keep_unguarded_denies(draft);
    pass_tokens_on(draft);
}

/// The pods' ports that the Service leads to; none when one of them is unknown, so that the guard
/// does not close it.
fn target_ports(service: &Service) -> Vec<u16> {
    let targets: Option<Vec<u16>> = service
        .backends
        .iter()
        .flat_map(|backend| backend.target_ports.iter().copied())
        .collect();
    let mut targets = targets.unwrap_or_default();
    targets.sort_unstable();
    targets.dedup();
    targets
}

/// The pods' ports that a Service's waypoint leads to; `None` where one of them is not known, or where the pods
/// themselves use it.
pub(super) fn led(mesh: &Mesh, service: &Service, waypoint: WaypointId) -> Option<BTreeSet<u16>> {
    let mut backends = service.backends.iter();
    let by_pods = backends.any(|backend| {
        let binding = mesh.workload_binding(backend.workload, backend.generation);
        binding.waypoint() == Some(waypoint)
    });
    let ports = target_ports(service);
    (!by_pods && !ports.is_empty()).then(|| ports.into_iter().collect())
}

/// A DENY is enforced by ztunnel for callers that come straight to the pods. Without a guard
/// nothing else keeps them out, so the original stays.
fn keep_unguarded_denies(draft: &mut Draft<'_>) {
    for (source, services) in std::mem::take(&mut draft.denies) {
        let mut left = services.iter().filter(|id| !draft.guarded.contains(*id));
        let unguarded = left.find(|id| {
            !draft.pending.iter().any(|one| {
                matches!(one.purpose, Purpose::Guard { .. }) && one.services.contains(id)
            })
        });
        if let Some(id) = unguarded {
            let name = &draft.mesh.service(*id).name;
            let original = draft
                .out
                .originals
                .entry((source.kind, source.name.clone()))
                .or_default();
            original.stays.get_or_insert_with(|| {
                format!("it also denies callers that come to the pods of Service {name} past the waypoint")
            });
        }
    }
}

/// While pods have sidecars that ask for a token, the waypoint passes it on, whatever the original does:
/// these sidecars validate it again, and take it away then
/// (istio pilot/pkg/security/authn/policy_applier.go).
fn pass_tokens_on(draft: &mut Draft<'_>) {
    let mesh = draft.mesh;
    let mut asked = BTreeSet::new();
    for (id, authentication) in &draft.strips {
        let mut backends = mesh.service(*id).backends.iter();
        let at_sidecars = backends.any(|backend| {
            mesh.workload(backend.workload)
                .has_mode(DataPlaneMode::Sidecar)
        });
        if at_sidecars && draft.reads_token.contains_key(id) {
            asked.insert(authentication.name.clone());
        }
    }
    for name in &asked {
        let key = (Kind::RequestAuthentication, name.clone());
        let original = draft.out.originals.entry(key).or_default();
        original.stays.get_or_insert_with(|| {
            "its copy passes the token on until the pods behind the waypoint have no sidecars"
                .to_owned()
        });
    }
    for pending in &mut draft.pending {
        let Purpose::Copy {
            source,
            forwards_token,
            ..
        } = &mut pending.purpose
        else {
            continue;
        };
        if source.kind != Kind::RequestAuthentication || !asked.contains(&source.name) {
            continue;
        }
        *forwards_token = true;
        let rules = pending.manifest["spec"]["jwtRules"].as_array_mut();
        for rule in rules.into_iter().flatten() {
            rule["forwardOriginalToken"] = Value::Bool(true);
        }
    }
}
