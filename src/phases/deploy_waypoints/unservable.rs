//! # What no waypoint can serve
//!
//! ## What it finds
//! Headless Services, ExternalName Services and pods without a Service that rely on something which
//! only an HTTP proxy can do.
//!
//! ## Why it matters
//! A waypoint takes over the address of a Service. Whoever dials the address of a pod goes past it:
//! clients of a headless Service do, and so does everybody who calls pods that have no Service. Once
//! the sidecar is gone, HTTP rules for them are no longer enforced.
//!
//! ## How to fix it
//! Give the pods a Service with an address and let callers use it, or say the rule in identities and
//! ports, which ztunnel enforces, or leave these workloads with their sidecars. A waypoint labelled
//! `istio.io/waypoint-for: workload` takes traffic to pod addresses, but of ambient callers only.
//!
//! ## Since and source
//! All releases. istio `pilot/pkg/serviceregistry/ambient/services.go` (`getVIPs`),
//! `pilot/pkg/networking/core/listener_waypoint.go`; ztunnel `src/proxy/outbound.rs`.

use super::reason_words;
use crate::finding::{Code, Finding, Level, Phase, Remedy, Subject};
use crate::needs::{Unservable, UnservableSubject};
use crate::phases::{Check, Context, wording};
use crate::snapshot::Kind;

pub(super) const CHECK: Check = Check {
    code: Code("CAST0304"),
    name: "",
    phase: Phase::DeployWaypoints,
    needs: &[],
    reads: &[Kind::Service, Kind::Pod, Kind::AuthorizationPolicy],
    source: include_str!("unservable.rs"),
    find,
};

fn find(context: &Context<'_>) -> Vec<Finding> {
    context
        .needs()
        .unservable
        .iter()
        .map(|one| finding(context, one))
        .collect()
}

fn finding(context: &Context<'_>, unservable: &Unservable) -> Finding {
    let mesh = context.mesh;
    let message = match unservable.subject {
        UnservableSubject::Headless(id) => format!(
            "Service \"{}\" is headless: its clients dial pods, which no waypoint of a Service serves:",
            mesh.service(id).name
        ),
        UnservableSubject::ExternalName(id) => format!(
            "Service \"{}\" is of type ExternalName, which ambient mode does not know:",
            mesh.service(id).name
        ),
        UnservableSubject::NoService(id) => format!(
            "Workload \"{}\" has no Service that a waypoint could serve:",
            mesh.workload(id).name
        ),
    };
    let mut finding = Finding::new(CHECK.code, Level::Warning, message);
    finding = match unservable.subject {
        UnservableSubject::Headless(id) | UnservableSubject::ExternalName(id) => {
            let service = mesh.service(id);
            finding.about(Kind::Service, &service.name, Some(&service.origin))
        }
        UnservableSubject::NoService(id) => {
            let workload = mesh.workload(id);
            let kind = wording::owner_resource(&workload.owner).unwrap_or(Kind::Pod);
            finding.about(kind, &workload.name, Some(&workload.origin))
        }
    };
    for reason in &unservable.reasons {
        finding.details.push(format!("it {}", reason_words(reason)));
        finding
            .related
            .extend(reason.object.as_ref().map(|object| Subject {
                kind: object.kind,
                name: object.name.clone(),
                field: reason.field.clone(),
                origin: Some(object.origin.clone()),
            }));
    }
    if let UnservableSubject::NoService(id) = unservable.subject {
        // A waypoint for a ServiceEntry would serve its hosts; castoff copies no policies there.
        let entries = mesh.traffic.service_entries.iter();
        for entry in entries.filter(|entry| entry.workloads.contains(&id)) {
            finding.details.push(format!(
                "ServiceEntry \"{}\" selects its pods, and policies are not copied for ServiceEntries",
                entry.name
            ));
        }
    }
    finding.remedy(Remedy::Advice(
        "put a Service with an address in front of these pods, or leave them with their sidecars"
            .to_owned(),
    ))
}
