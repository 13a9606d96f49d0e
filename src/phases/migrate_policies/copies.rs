//! # Policies to copy to waypoints
//!
//! ## What it finds
//! AuthorizationPolicies, RequestAuthentications, Telemetries, WasmPlugins and TrafficExtensions
//! (with `--enterprise` also EnvoyFilters) that sidecars enforce and that the waypoint in front of
//! their pods does not have yet, pods that must let their waypoint in, and policies of your own that
//! ztunnel or a waypoint would make something else of, edited.
//!
//! ## Why it matters
//! A waypoint heeds only what names it, its class or a Service in `targetRefs`. And once a waypoint
//! stands in front of pods, they see the waypoint's identity instead of the client's: an ALLOW
//! policy on the pods would turn it away.
//!
//! And ztunnel reads some policies otherwise than sidecars do: of a DENY it drops what is about requests
//! and denies the rest of it altogether, a policy with `selector: {}` it applies to nothing, it knows no
//! aliases of the trust domain, and of a PeerAuthentication with ports it misses a STRICT that is
//! inherited.
//!
//! ## How to fix it
//! Apply the generated `recommended-policies.yaml`, and `edited-policies.yaml`, whose objects mean at
//! sidecars what they meant, but for a waypoint that they except. The originals stay. Each generated object has
//! the label `castoff.dev/generated` (`copy` or `guard`) and an annotation that names where it came
//! from (`castoff.dev/copied-from`) or what it is for (`castoff.dev/guards`). A policy for a
//! namespace is copied to its Gateway where that means the same for every Service behind it, else to
//! each Service.
//!
//! ## Since and source
//! `targetRefs` of Services since Istio 1.22, of the GatewayClass since 1.25. istio
//! `pilot/pkg/model/policyattachment.go` (`ShouldAttachPolicy`); copies only where there is a
//! waypoint: istio/istio issue 57315.

use std::collections::BTreeMap;

use super::file_of;
use crate::convert::{Generated, Presence, Purpose, Scope};
use crate::finding::{Code, Finding, Level, Phase, Remedy, Subject};
use crate::phases::{Check, Context};
use crate::snapshot::{Kind, ObjectName};

pub(super) const CHECK: Check = Check {
    code: Code("CAST0401"),
    name: "",
    phase: Phase::MigratePolicies,
    needs: &[Kind::Service],
    reads: &[
        Kind::Namespace,
        Kind::Pod,
        Kind::AuthorizationPolicy,
        Kind::RequestAuthentication,
        Kind::Telemetry,
        Kind::WasmPlugin,
        Kind::TrafficExtension,
        Kind::EnvoyFilter,
        Kind::Gateway,
    ],
    source: include_str!("copies.rs"),
    find,
};

fn find(context: &Context<'_>) -> Vec<Finding> {
    let conversion = context.conversion();
    let mut waiting: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for id in &conversion.waiting {
        let name = &context.mesh.service(*id).name;
        waiting
            .entry(&name.namespace)
            .or_default()
            .push(name.to_string());
    }
    let mut findings: Vec<Finding> = waiting
        .into_iter()
        .map(|(namespace, services)| {
            let mut finding = Finding::new(
                CHECK.code,
                Level::Recommendation,
                format!(
                    "Namespace \"{namespace}\" has no waypoint yet for the following services, so \
                     nothing is copied for them; finish the phase deploy-waypoints first:"
                ),
            )
            .about(Kind::Namespace, &ObjectName::new("", namespace), None);
            finding.details = services
                .iter()
                .map(|one| format!("Service \"{one}\""))
                .collect();
            finding.names = services;
            finding
        })
        .collect();
    findings.extend(conversion.to_apply().map(recommendation));
    findings
}

fn recommendation(one: &Generated) -> Finding {
    let kind = one.kind.row().name;
    let message = match &one.purpose {
        Purpose::Guard { service } => format!(
            "Add {kind}/{}: Service/{service} must allow traffic from its waypoint",
            one.name
        ),
        Purpose::Edit { source, because } => {
            let reasons: Vec<&str> = because.iter().map(|one| one.reason()).collect();
            format!("Edit {kind}/{}: {}", source.name, reasons.join(". "))
        }
        Purpose::Copy { source, scope, .. } => {
            let scope = match scope {
                Scope::Workload => "",
                Scope::Namespace => "namespace ",
                Scope::Mesh => "mesh ",
            };
            format!(
                "Apply {kind}/{}: Existing configuration is copied from {scope}policy {} to be enforced at the waypoint.",
                one.name, source.name
            )
        }
    };
    let mut finding = Finding::new(CHECK.code, Level::Recommendation, message)
        .about(one.kind, &one.name, None)
        .remedy(Remedy::Apply {
            file: file_of(one),
            object: Subject {
                kind: one.kind,
                name: one.name.clone(),
                field: None,
                origin: None,
            },
        });
    let is_edit = matches!(one.purpose, Purpose::Edit { .. });
    if let (Presence::Differs(path), false) = (&one.presence, is_edit) {
        finding = finding.detail(format!("The one that is applied differs in {path}."));
    }
    if let Purpose::Copy {
        forwards_token: true,
        ..
    } = &one.purpose
    {
        finding = finding.detail(
            "It passes the token on while pods behind the waypoint have sidecars, which ask for it again; once they have \
             none, it is to be applied once more as the original has it.",
        );
    }
    if let Purpose::Copy { source, .. } | Purpose::Edit { source, .. } = &one.purpose {
        finding.related.push(Subject {
            kind: source.kind,
            name: source.name.clone(),
            field: None,
            origin: Some(source.origin.clone()),
        });
    }
    finding
}
