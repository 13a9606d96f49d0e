//! # Sidecar objects
//!
//! ## What it finds
//! `Sidecar` objects (networking.istio.io), and what of them would be missed.
//!
//! ## Why it matters
//! ztunnel and waypoints do not read them. Limits on which services a sidecar knows are not needed
//! any more; but an egress fence (`outboundTrafficPolicy`) and listeners that move ports (`ingress`)
//! end with the sidecar.
//!
//! ## How to fix it
//! Nothing for scoping: the object is deleted in a later phase. Where it fences egress, put a
//! NetworkPolicy or an egress waypoint in its place; where it moves ports, let the application listen
//! on the Service's target port.
//!
//! ## Since and source
//! All releases. istio `pilot/pkg/model/push_context.go` (`getSidecarScope`: waypoints always have
//! the default scope); `istioctl analyze` IST0167.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::finding::{Code, Finding, Level, Phase, Subject};
use crate::mesh::traffic::PlainObject;
use crate::phases::{Check, Context, wording};
use crate::snapshot::{Kind, ObjectName};

pub(super) const CHECK: Check = Check {
    code: Code("CAST0403"),
    name: "",
    phase: Phase::MigratePolicies,
    needs: &[],
    reads: &[Kind::Sidecar],
    source: include_str!("sidecar.rs"),
    find,
};

fn find(context: &Context<'_>) -> Vec<Finding> {
    // Namespaces with one Sidecar for every workload are common: those that say alike are one finding.
    let mut alike: BTreeMap<(&str, Vec<&'static str>), Vec<&PlainObject>> = BTreeMap::new();
    for one in &context.mesh.traffic.others {
        if one.kind == Kind::Sidecar && context.choice().includes(&one.name.namespace) {
            alike
                .entry((&one.name.namespace, missed(&one.raw["spec"])))
                .or_default()
                .push(one);
        }
    }
    alike
        .into_iter()
        .map(|((namespace, details), objects)| finding(namespace, details, &objects))
        .collect()
}

/// What of a Sidecar ambient does not have.
fn missed(spec: &Value) -> Vec<&'static str> {
    let mut missed = Vec::new();
    if spec["egress"].is_array() {
        missed.push(
            "Configuration scoping is detected. Typically, this is used for scalability purposes, \
             which is not necessary with ambient.",
        );
    }
    if spec["outboundTrafficPolicy"]["mode"] == "REGISTRY_ONLY" {
        missed.push(
            "Outbound traffic is limited to known hosts (REGISTRY_ONLY), which ambient does not \
             enforce.",
        );
    }
    if spec["ingress"].is_array() {
        missed.push(
            "Inbound listeners are set, which ambient ignores: applications receive traffic on the \
             Service's target port.",
        );
    }
    if missed.is_empty() {
        missed.push("Ambient ignores this object.");
    }
    missed
}

fn finding(namespace: &str, details: Vec<&str>, objects: &[&PlainObject]) -> Finding {
    let rest = "will be removed in a later step: Found unsupported configurations:";
    let mut finding = match objects {
        [only] => Finding::new(
            CHECK.code,
            Level::Warning,
            format!("Sidecar/{} {rest}", only.name),
        )
        .about(Kind::Sidecar, &only.name, Some(&only.origin)),
        many => {
            let names: Vec<String> = many.iter().map(|one| one.name.name.to_string()).collect();
            let mut finding = Finding::new(
                CHECK.code,
                Level::Warning,
                format!(
                    "{} of namespace {namespace} ({}) {rest}",
                    wording::count(many.len(), "Sidecar"),
                    wording::first_few(&names, 3)
                ),
            )
            .about(Kind::Namespace, &ObjectName::new("", namespace), None);
            finding.names = many.iter().map(|one| one.name.to_string()).collect();
            finding.related = many
                .iter()
                .map(|one| Subject {
                    kind: Kind::Sidecar,
                    name: one.name.clone(),
                    field: None,
                    origin: Some(one.origin.clone()),
                })
                .collect();
            finding
        }
    };
    finding.details = details.into_iter().map(str::to_owned).collect();
    finding
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phases::testing::{lines, read, run};

    #[test]
    fn sidecars_that_say_alike_are_one_finding_and_others_have_their_own() {
        let one = |name: &str, spec: &str| {
            format!(
                "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: {name}, namespace: \
                 shop}}\nspec: {spec}\n"
            )
        };
        let text = [
            one("web", "{egress: [{hosts: ['./*']}]}"),
            one("db", "{egress: [{hosts: ['./*']}]}"),
            one(
                "fenced",
                "{egress: [{hosts: ['./*']}], outboundTrafficPolicy: {mode: REGISTRY_ONLY}}",
            ),
        ]
        .concat();
        let (mesh, _) = read(&text);
        let result = run(&CHECK, &mesh);
        let rest = "will be removed in a later step: Found unsupported configurations:";
        assert_eq!(
            lines(&result),
            [
                (
                    Level::Warning,
                    format!("2 Sidecars of namespace shop (db, web) {rest}").as_str()
                ),
                (
                    Level::Warning,
                    format!("Sidecar/shop/fenced {rest}").as_str()
                )
            ]
        );
        assert_eq!(result.findings[0].names, ["shop/db", "shop/web"]);
        assert_eq!(result.findings[1].details.len(), 2);
    }

    #[test]
    fn a_mesh_without_any_says_nothing() {
        assert_eq!(lines(&run(&CHECK, &crate::phases::testing::mesh())), []);
    }
}
