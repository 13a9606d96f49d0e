//! Namespaces: injection, enrolment, default waypoint.

use smol_str::SmolStr;

use crate::snapshot::{Labels, Origin};

/// What a namespace's labels say of sidecar injection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Injection {
    /// `istio-injection=enabled`: the default revision injects.
    Enabled,
    /// `istio.io/rev=<revision or tag>`.
    Revision(SmolStr),
    /// `istio-injection=disabled`: pods cannot opt in.
    Disabled,
    /// No label: pods may opt in by a label of their own.
    Unlabelled,
}

/// One namespace.
#[derive(Debug, Clone, PartialEq)]
pub struct Namespace {
    /// Name.
    pub name: SmolStr,
    /// Labels.
    pub labels: Labels,
    /// Annotations (GitOps and Helm ownership is read from them).
    pub annotations: Labels,
    /// Where it was read; `None` when only other objects mention it.
    pub origin: Option<Origin>,
    /// Injection by label.
    pub injection: Injection,
    /// Whether `istio.io/dataplane-mode=ambient`.
    pub ambient: bool,
    /// Whether istiod sees it (discovery selectors).
    pub discovered: bool,
    /// Whether it is one of Kubernetes' own or holds Istio itself: never migrated.
    pub system: bool,
}

impl Namespace {
    /// The same when its labels ask for no sidecars any more.
    pub(super) fn without_injection(&self, injects_by_default: bool) -> Self {
        let mut without = self.clone();
        without.labels.remove("istio-injection");
        without.labels.remove("istio.io/rev");
        without.injection = if injects_by_default {
            without.labels.set("istio-injection", "disabled");
            Injection::Disabled
        } else {
            Injection::Unlabelled
        };
        without
    }
}
