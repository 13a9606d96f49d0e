//! # Policies that cannot be copied without a change of meaning
//!
//! ## What it finds
//! Policies, field by field, that would decide otherwise at a waypoint, or at the pods behind one,
//! than they do at sidecars. They are not copied; each names what stands in the way.
//!
//! ## Why it matters
//! A waypoint serves a whole Service, sees the Service's port and address, decides before routes
//! rewrite, and is itself the client that pods see. A copy that ignores this lets somebody in or
//! keeps somebody out. Until it is settled, traffic should not be led through the waypoint.
//!
//! ## How to fix it
//! By what is named: say the rule in identities instead of addresses, give the pods meant a Service
//! of their own, except the waypoint in a DENY, or leave the workload with its sidecar.
//!
//! ## Since and source
//! Istio 1.25 to 1.31. istio `pilot/pkg/networking/core/listener_waypoint.go`,
//! `pilot/pkg/xds/filters/filters.go`, `pilot/pkg/serviceregistry/ambient/authorization.go`.

use crate::convert::Refusal;
use crate::finding::{Code, Finding, Level, Phase, Subject};
use crate::phases::{Check, Context};

pub(super) const CHECK: Check = Check {
    code: Code("CAST0402"),
    name: "",
    phase: Phase::MigratePolicies,
    needs: &[],
    reads: &[],
    source: include_str!("refusals.rs"),
    find,
};

fn find(context: &Context<'_>) -> Vec<Finding> {
    context.conversion().refusals.iter().map(finding).collect()
}

fn finding(refusal: &Refusal) -> Finding {
    let kind = refusal.object.kind.row().name;
    let service = refusal
        .service
        .as_ref()
        .map(|name| format!(" for Service/{name}"))
        .unwrap_or_default();
    let mut finding = Finding::new(
        CHECK.code,
        Level::Warning,
        format!(
            "{kind}/{} is not carried over exactly{service} ({}):",
            refusal.object.name,
            refusal.trap.name()
        ),
    )
    .detail(match &refusal.field {
        Some(field) => format!("{field}: {}", refusal.reason),
        None => refusal.reason.clone(),
    })
    .fact("trap", refusal.trap.name());
    finding.subject = Some(Subject {
        kind: refusal.object.kind,
        name: refusal.object.name.clone(),
        field: refusal.field.clone(),
        origin: Some(refusal.object.origin.clone()),
    });
    finding
}
