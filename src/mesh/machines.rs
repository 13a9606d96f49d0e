//! Machines behind Services and ServiceEntries: WorkloadEntries that their selectors pick.
//!
//! In: WorkloadEntries, selectors. Out: names. Invariant: a selector picks those of its own namespace
//! by the labels that the entry's `spec` gives the machine, and by its own (istio
//! pilot/pkg/serviceregistry/kube/controller/controller.go `workloadInstanceHandler`;
//! pilot/pkg/serviceregistry/serviceentry/controller.go `workloadEntryHandler`).

use super::Mesh;
use super::traffic::PlainObject;
use crate::snapshot::{Kind, Labels, ObjectName};

impl Mesh {
    /// WorkloadEntries, each with the labels by which selectors and policies know it.
    pub fn machines(&self) -> impl Iterator<Item = (&PlainObject, Labels)> {
        let objects = self.traffic.others.iter();
        let entries = objects.filter(|one| one.kind == Kind::WorkloadEntry);
        entries.map(|one| (one, labels(one)))
    }

    /// Of machines those that a selector of a namespace picks; none where there is no selector.
    pub fn picked<'m>(
        machines: &'m [(&PlainObject, Labels)],
        namespace: &str,
        selector: Option<&Labels>,
    ) -> Vec<&'m ObjectName> {
        let Some(selector) = selector.filter(|one| !one.is_empty()) else {
            return Vec::new();
        };
        let own = machines.iter().filter(|(machine, labels)| {
            machine.name.namespace == namespace && labels.selected_by(selector)
        });
        own.map(|(machine, _)| &machine.name).collect()
    }
}

/// Those of the object itself go before those of its `spec` (istio
/// pilot/pkg/serviceregistry/serviceentry/conversion.go `ConvertWorkloadEntry`).
fn labels(machine: &PlainObject) -> Labels {
    let of_spec = machine.raw["spec"]["labels"].as_object();
    let of_spec = of_spec.into_iter().flatten();
    let of_spec = of_spec.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)));
    of_spec.chain(machine.labels.iter()).collect()
}
