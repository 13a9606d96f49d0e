//! # Virtual Machine usage compatibility
//!
//! ## What it finds
//!
//! WorkloadGroups and WorkloadEntries: workloads outside Kubernetes that take part in the mesh.
//! Each object is named (with many entries in one namespace: their number; all names with `-v` and
//! in JSON).
//!
//! ## Why it matters
//!
//! ztunnel runs on Kubernetes nodes only. A virtual machine keeps its sidecar for good, so it
//! bypasses every waypoint when it calls, and ambient pods reach it in plaintext, without identity,
//! unless its WorkloadEntry says that it accepts HBONE.
//!
//! ## How to fix it
//!
//! Move the machine's workload into the cluster, or keep the workloads that talk to it on sidecars.
//! If the machine's proxy runs with `ISTIO_META_ENABLE_HBONE=true`, label its WorkloadEntry
//! `networking.istio.io/tunnel=http`: ambient pods then reach it over HBONE, and the finding
//! becomes a warning. `--enterprise` makes all of them warnings.
//!
//! ## Since and source
//!
//! istio.io, "Migrate from sidecar to ambient: before you begin" (virtual machines cannot join in
//! any release). Auto-registered entries carry the HBONE label since the fix of istio issue 60788
//! (1.31, with backports to 1.29 and 1.30); entries made before have to be labelled by hand
//! (releasenotes/notes/60788.yaml).

use std::collections::BTreeMap;

use crate::finding::{Code, Finding, Level, Phase, Remedy};
use crate::mesh::traffic::PlainObject;
use crate::phases::{Check, Context, wording};
use crate::snapshot::Kind;

/// The check.
pub const CHECK: Check = Check {
    code: CODE,
    name: "Virtual Machine usage compatibility",
    phase: Phase::PreRequisites,
    needs: &[],
    reads: &[Kind::WorkloadEntry, Kind::WorkloadGroup],
    source: include_str!("virtual_machines.rs"),
    find,
};

const CODE: Code = Code("CAST0104");

fn find(context: &Context<'_>) -> Vec<Finding> {
    let mut groups: BTreeMap<(&str, Kind, bool), Vec<&PlainObject>> = BTreeMap::new();
    for object in &context.mesh.traffic.others {
        if matches!(object.kind, Kind::WorkloadEntry | Kind::WorkloadGroup) {
            let accepts_hbone = object.kind == Kind::WorkloadEntry
                && object.labels.has("networking.istio.io/tunnel", "http");
            groups
                .entry((&object.name.namespace, object.kind, accepts_hbone))
                .or_default()
                .push(object);
        }
    }
    // A group whose entries all accept HBONE is no worse than they are.
    let plain_entries = |namespace: &str| {
        groups.contains_key(&(namespace, Kind::WorkloadEntry, false))
            || !groups.contains_key(&(namespace, Kind::WorkloadEntry, true))
    };
    groups
        .iter()
        .map(|((namespace, kind, accepts_hbone), objects)| {
            let lifted =
                *accepts_hbone || (*kind == Kind::WorkloadGroup && !plain_entries(namespace));
            let level = if lifted || context.options.enterprise {
                Level::Warning
            } else {
                Level::Error
            };
            let mut finding = match objects.as_slice() {
                [only] => Finding::new(
                    CODE,
                    level,
                    format!(
                        "{} {} is a workload outside Kubernetes, which ambient mode cannot take in.",
                        kind.row().name,
                        only.name
                    ),
                )
                .about(*kind, &only.name, Some(&only.origin)),
                many => Finding::new(
                    CODE,
                    level,
                    format!(
                        "{} {} in namespace {namespace} are workloads outside Kubernetes, which \
                         ambient mode cannot take in.",
                        many.len(),
                        if *kind == Kind::WorkloadEntry {
                            "WorkloadEntries"
                        } else {
                            "WorkloadGroups"
                        },
                    ),
                ),
            };
            finding.names = objects.iter().map(|one| one.name.to_string()).collect();
            if lifted {
                finding = finding.detail(
                    "labelled networking.istio.io/tunnel=http: ambient pods reach it over HBONE; \
                     as a caller it still bypasses waypoints",
                );
            } else {
                let named = wording::first_few(&finding.names, 3);
                finding = finding.remedy(Remedy::Advice(format!(
                    "keep the workloads that talk to {} on sidecars, or move the machine's \
                     workload into the cluster",
                    named
                )));
            }
            finding
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::Value;

    use super::*;
    use crate::phases::MigrateOptions;
    use crate::phases::testing::{lines, mesh, run, run_with};
    use crate::snapshot::{Labels, ObjectName, Origin, Snapshot};

    fn object(kind: Kind, name: &str, labels: &[(&str, &str)]) -> PlainObject {
        PlainObject {
            kind,
            name: ObjectName::new("vms", name),
            labels: labels.iter().copied().collect::<Labels>(),
            origin: Origin::Simulated,
            raw: Arc::new(Value::Null),
        }
    }

    #[test]
    fn machines_are_named_and_judged() {
        let hbone = ("networking.istio.io/tunnel", "http");
        let entry = |name: &str| object(Kind::WorkloadEntry, name, &[]);
        let one = "WorkloadEntry vms/legacy is a workload outside Kubernetes, which ambient mode \
                   cannot take in.";
        let table: [(Vec<PlainObject>, bool, Vec<(Level, &str)>); 5] = [
            (vec![], false, vec![]),
            (vec![entry("legacy")], false, vec![(Level::Error, one)]),
            (vec![entry("legacy")], true, vec![(Level::Warning, one)]),
            (
                vec![object(Kind::WorkloadEntry, "legacy", &[hbone])],
                false,
                vec![(Level::Warning, one)],
            ),
            (
                vec![entry("a"), entry("b")],
                false,
                vec![(
                    Level::Error,
                    "2 WorkloadEntries in namespace vms are workloads outside Kubernetes, which \
                     ambient mode cannot take in.",
                )],
            ),
        ];
        for (others, enterprise, expected) in table {
            let mut mesh = mesh();
            mesh.traffic.others = others;
            let options = MigrateOptions {
                enterprise,
                ..MigrateOptions::default()
            };
            let result = run_with(&CHECK, &mesh, &Snapshot::default(), &options);
            assert_eq!(lines(&result), expected);
        }
    }

    #[test]
    fn a_group_is_as_grave_as_its_entries() {
        let mut mesh = mesh();
        mesh.traffic.others = vec![object(Kind::WorkloadGroup, "legacy", &[])];
        assert_eq!(run(&CHECK, &mesh).findings[0].level, Level::Error);
        mesh.traffic.others.push(object(
            Kind::WorkloadEntry,
            "legacy-1",
            &[("networking.istio.io/tunnel", "http")],
        ));
        let levels: Vec<Level> = run(&CHECK, &mesh)
            .findings
            .iter()
            .map(|finding| finding.level)
            .collect();
        assert_eq!(levels, [Level::Warning, Level::Warning]);
    }
}
