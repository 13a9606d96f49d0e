//! Losses of callers whom telemetry did not see: they are noted and do not count.
//!
//! In: a verdict for a class of callers, and who was seen where. Out: the verdict, with the losses of those
//! alone who were seen. Invariant: a gain always counts, and so does whoever is no workload of the mesh.

use std::collections::BTreeSet;

use castoff_authz::verdict::{self, Comparison, Finding, Identities, Verdict};

use super::Server;
use super::callers::{CallerClass, Member};
use super::question::representatives;
use super::row::ServerRow;
use super::rows::Comparer;
use crate::mesh::{DataPlaneMode, OwnerKind};

impl Comparer<'_> {
    /// The verdict without losses of workloads that were not seen at the server.
    pub(super) fn lost_by_seen(
        &self,
        mut verdict: Verdict,
        comparison: &Comparison,
        (class, identities): (&CallerClass, &Identities),
        server: Server,
        row: &mut ServerRow,
    ) -> Verdict {
        let (Some(seen), Identities::Only(asked)) = (self.seen, identities) else {
            return verdict;
        };
        if verdict.breaks == Finding::Never {
            return verdict;
        }
        let mesh = self.present.mesh;
        let called = mesh.workload(server.workload);
        let mut known: BTreeSet<&str> = BTreeSet::new();
        for member in &class.members {
            let Member::Workload { principal, now, .. } = member else {
                return verdict;
            };
            if seen(&mesh.workload(now.0).name, &called.name) {
                known.insert(principal);
            }
        }
        // Old pods that call new ones of the same workload were left out before.
        let both =
            called.has_mode(DataPlaneMode::Ambient) && called.has_mode(DataPlaneMode::Sidecar);
        let own = called.principal(&mesh.settings.trust_domain);
        if both && called.owner != OwnerKind::StatefulSet {
            known.remove(own.as_str());
        }
        let known: Vec<String> = (asked.iter())
            .filter(|one| known.contains(one.as_str()))
            .cloned()
            .collect();
        let breaks = if known.is_empty() {
            Finding::Never
        } else {
            let mut fewer = comparison.clone();
            let known = Identities::Only(known);
            fewer.caller.identity = representatives(&known, &fewer.baseline, &fewer.present);
            verdict::compare(&fewer, self.limits).breaks
        };
        if breaks == Finding::Never {
            row.notes
                .insert("closed to workloads that telemetry did not see there".to_owned());
        }
        verdict.breaks = breaks;
        verdict
    }
}
