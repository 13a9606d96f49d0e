//! Who puts an object back as it was: Argo CD, Flux, Helm.
//!
//! In: labels and annotations of an object. Out: the tool and the place to edit. Invariant: only
//! marks that these tools write themselves count; `app.kubernetes.io/instance` alone proves
//! nothing, since charts set it too.

use crate::snapshot::Labels;

/// A tool that applies an object from a source elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manager {
    /// Argo CD, by the tracking annotation or label
    /// (argo-cd docs, user-guide/resource_tracking).
    ArgoCd {
        /// The Application.
        application: String,
    },
    /// Flux, by the labels of its kustomize and helm controllers (fluxcd.io, "ownership").
    Flux {
        /// `Kustomization` or `HelmRelease`.
        kind: &'static str,
        /// Its namespace and name.
        name: String,
    },
    /// Helm, by `meta.helm.sh/release-name`.
    Helm {
        /// Namespace and name of the release.
        release: String,
    },
}

impl Manager {
    /// The manager of an object; Argo CD and Flux before Helm, because they also run Helm.
    pub fn of(labels: &Labels, annotations: &Labels) -> Option<Self> {
        if let Some(id) = annotations.get("argocd.argoproj.io/tracking-id") {
            let application = id.split(':').next().unwrap_or(id).to_owned();
            return Some(Self::ArgoCd { application });
        }
        if let Some(application) = labels
            .get("argocd.argoproj.io/instance")
            .or_else(|| annotations.get("argocd.argoproj.io/instance"))
        {
            return Some(Self::ArgoCd {
                application: application.to_owned(),
            });
        }
        let flux = |kind, prefix: &str| {
            let name = labels.get(&format!("{prefix}.toolkit.fluxcd.io/name"))?;
            let namespace = labels
                .get(&format!("{prefix}.toolkit.fluxcd.io/namespace"))
                .unwrap_or("flux-system");
            Some(Self::Flux {
                kind,
                name: format!("{namespace}/{name}"),
            })
        };
        flux("Kustomization", "kustomize")
            .or_else(|| flux("HelmRelease", "helm"))
            .or_else(|| {
                let release = annotations.get("meta.helm.sh/release-name")?;
                let namespace = annotations
                    .get("meta.helm.sh/release-namespace")
                    .unwrap_or("default");
                Some(Self::Helm {
                    release: format!("{namespace}/{release}"),
                })
            })
    }

    /// One line to print beneath a command that changes `object` (`namespace app1`).
    pub fn warning(&self, object: &str) -> String {
        match self {
            Self::ArgoCd { application } => format!(
                "{object} is kept by Argo CD application {application}, which reverts what is set \
                 by hand: make the change in the application's source"
            ),
            Self::Flux { kind, name } => format!(
                "{object} is kept by Flux {kind} {name}, which reverts what is set by hand: make \
                 the change in its source"
            ),
            Self::Helm { release } => format!(
                "{object} belongs to Helm release {release}, whose next upgrade may revert what is \
                 set by hand: make the change in the chart's values"
            ),
        }
    }
}

/// The line of [`Manager::warning`], where somebody keeps the object.
pub fn warning(object: &str, labels: &Labels, annotations: &Labels) -> Option<String> {
    Some(Manager::of(labels, annotations)?.warning(object))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().copied().collect()
    }

    #[test]
    fn marks_of_the_tools_are_known() {
        let table = [
            (
                pairs(&[]),
                pairs(&[(
                    "argocd.argoproj.io/tracking-id",
                    "shop:/Namespace:shop/shop",
                )]),
                Some(Manager::ArgoCd {
                    application: "shop".to_owned(),
                }),
            ),
            (
                pairs(&[("argocd.argoproj.io/instance", "shop")]),
                pairs(&[("meta.helm.sh/release-name", "shop")]),
                Some(Manager::ArgoCd {
                    application: "shop".to_owned(),
                }),
            ),
            (
                pairs(&[
                    ("kustomize.toolkit.fluxcd.io/name", "apps"),
                    ("kustomize.toolkit.fluxcd.io/namespace", "flux-system"),
                ]),
                pairs(&[]),
                Some(Manager::Flux {
                    kind: "Kustomization",
                    name: "flux-system/apps".to_owned(),
                }),
            ),
            (
                pairs(&[("app.kubernetes.io/managed-by", "Helm")]),
                pairs(&[
                    ("meta.helm.sh/release-name", "shop"),
                    ("meta.helm.sh/release-namespace", "shop-system"),
                ]),
                Some(Manager::Helm {
                    release: "shop-system/shop".to_owned(),
                }),
            ),
            (
                pairs(&[("app.kubernetes.io/instance", "shop")]),
                pairs(&[]),
                None,
            ),
        ];
        for (labels, annotations, expected) in table {
            assert_eq!(Manager::of(&labels, &annotations), expected);
        }
    }
}
