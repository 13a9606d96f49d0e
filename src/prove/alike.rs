//! Which states of a part of a mesh are one as far as paths to servers go.
//!
//! In: two states of a workload, of some pods of it, of a Service. Out: whether a path can tell them apart. Invariant:
//! every field is named, so that a new one must be thought of here; where it is not sure, they are two.

use castoff_authz::verdict::Identities;

use crate::mesh::{Generation, Service, Workload};
use crate::snapshot::Labels;

/// Whether the pods of two states of a workload are reached alike as far as all generations have it in common.
/// What new pods will be, and who owns them, is not asked on the way.
pub(super) fn workloads(left: &Workload, right: &Workload) -> bool {
    let Workload {
        owner,
        owner_api_version: _,
        name,
        role,
        // Of the template's labels one is looked at (`reading::own_hbone`).
        template_labels,
        template_annotations,
        owner_labels: _,
        owner_annotations: _,
        has_template: _,
        replacement: _,
        waits_for_promotion: _,
        needs_namespace_label: _,
        as_proxy,
        service_account,
        host_network,
        ports,
        scraped,
        // Each has a number of its own.
        generations: _,
        next_mode: _,
        next_mode_reason: _,
        predicted,
        origin: _,
        replicas: _,
        idle,
    } = left;
    let tls_mode = |one: &Labels| one.get(TLS_MODE).map(str::to_owned);
    *owner == right.owner
        && *name == right.name
        && *role == right.role
        && (*template_labels == right.template_labels
            || tls_mode(template_labels) == tls_mode(&right.template_labels))
        && *template_annotations == right.template_annotations
        && *service_account == right.service_account
        && *host_network == right.host_network
        && *as_proxy == right.as_proxy
        && *ports == right.ports
        && *scraped == right.scraped
        && *predicted == right.predicted
        && *idle == right.idle
}

/// The label by which senders choose TLS.
const TLS_MODE: &str = "security.istio.io/tlsMode";

/// Whether pods are reached alike: of each its addresses count.
pub(super) fn generations(left: &Generation, right: &Generation) -> bool {
    let Generation {
        mode,
        labels,
        accepts_hbone,
        native_sidecar,
        proxy_version,
        revision,
        pods,
    } = left;
    *mode == right.mode
        && *labels == right.labels
        && *accepts_hbone == right.accepts_hbone
        && *native_sidecar == right.native_sidecar
        && *proxy_version == right.proxy_version
        && *revision == right.revision
        && (pods.iter().map(|pod| &pod.addresses)).eq(right.pods.iter().map(|pod| &pod.addresses))
}

/// Whether a Service leads alike to whatever pods are behind it: these, and its waypoint, have numbers of their own.
pub(super) fn services(left: &Service, right: &Service) -> bool {
    let Service {
        name,
        labels,
        annotations,
        origin: _,
        created,
        selector,
        headless,
        external_name,
        addresses,
        ports,
        backends: _,
        binding: _,
        ingress_uses_waypoint,
        exposed,
        bound_condition: _,
    } = left;
    *name == right.name
        && *labels == right.labels
        && *annotations == right.annotations
        && *created == right.created
        && *selector == right.selector
        && *headless == right.headless
        && *external_name == right.external_name
        && *addresses == right.addresses
        && *ports == right.ports
        && *ingress_uses_waypoint == right.ingress_uses_waypoint
        && *exposed == right.exposed
}

/// Whether everybody of some identities that count as any other is among others of these.
pub(super) fn is_part(identities: &Identities, wider: &Identities) -> bool {
    match (identities, wider) {
        (
            Identities::OfTrustDomain { trust_domain, but },
            Identities::OfTrustDomain {
                trust_domain: of_wider,
                but: left_out,
            },
        ) => {
            let mut rest = but.iter();
            trust_domain == of_wider && left_out.iter().all(|one| rest.any(|other| other == one))
        }
        _ => identities == wider,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn others_but(names: &[&str]) -> Identities {
        Identities::OfTrustDomain {
            trust_domain: "cluster.local".to_owned(),
            but: names.iter().map(|one| (*one).to_owned()).collect(),
        }
    }

    #[test]
    fn the_more_identities_are_left_out_the_fewer_are_meant() {
        let table = [
            (&["a", "b", "c"][..], &["a", "c"][..], true),
            (&["a", "b"], &["a", "b"], true),
            (&["a", "b"], &[], true),
            (&["a", "c"], &["b"], false),
            (&["a"], &["a", "b"], false),
        ];
        for (left_out, of_wider, expected) in table {
            let found = is_part(&others_but(left_out), &others_but(of_wider));
            assert_eq!(found, expected, "{left_out:?} {of_wider:?}");
        }
        assert!(is_part(&Identities::Nobody, &Identities::Nobody));
        assert!(!is_part(&Identities::Nobody, &others_but(&[])));
    }
}
