//! Which mTLS mode a pod's port has: as its sidecar reads it, and as ztunnel is told.
//!
//! In: PeerAuthentications, a pod's namespace and labels. Out: a mode a port, or the DENY policies
//! that istiod derives for ztunnel. Invariant: of several at one level the oldest wins
//! (istio pilot/pkg/model/authentication.go, pilot/pkg/security/authn/policy_applier.go;
//! pilot/pkg/serviceregistry/ambient/authorization.go `convertedSelectorPeerAuthentications`).

use castoff_authz::policy::{Action, Operation, Policy, Rule, Source};

use super::Mesh;
use super::policy::{MtlsMode, PeerAuthentication};
use crate::snapshot::Labels;

/// The PeerAuthentications of the three levels.
struct Levels<'a> {
    mesh: Option<&'a PeerAuthentication>,
    namespace: Option<&'a PeerAuthentication>,
    workload: Option<&'a PeerAuthentication>,
}

impl Mesh {
    fn peer_levels(&self, namespace: &str, labels: &Labels) -> Levels<'_> {
        let root = self.settings.root_namespace.as_str();
        let oldest = |namespace: &str, wanted: &dyn Fn(&PeerAuthentication) -> bool| {
            self.index
                .peer_authentications_by_namespace
                .get(namespace)
                .into_iter()
                .flatten()
                .map(|index| &self.peer_authentications[*index])
                .filter(|one| wanted(one))
                .min_by(|left, right| {
                    (&left.created, &left.name).cmp(&(&right.created, &right.name))
                })
        };
        let for_all = |one: &PeerAuthentication| one.selector.is_none();
        Levels {
            mesh: oldest(root, &for_all),
            namespace: if namespace == root {
                None
            } else {
                oldest(namespace, &for_all)
            },
            // One with a selector in the root namespace is not looked at, not even for pods there
            // (`ComposePeerAuthentication`).
            workload: oldest(namespace, &|one| {
                namespace != root
                    && one
                        .selector
                        .as_ref()
                        .is_some_and(|selector| labels.selected_by(selector))
            }),
        }
    }

    /// The mode of a port at a sidecar: port, workload, namespace, mesh, else permissive.
    pub fn mtls_at_sidecar(&self, namespace: &str, labels: &Labels, port: u16) -> MtlsMode {
        let levels = self.peer_levels(namespace, labels);
        let at_port = levels
            .workload
            .and_then(|one| one.port_modes.iter().find(|(number, _)| *number == port))
            .map_or(MtlsMode::Unset, |(_, mode)| *mode);
        [
            at_port,
            levels.workload.map_or(MtlsMode::Unset, |one| one.mode),
            levels.namespace.map_or(MtlsMode::Unset, |one| one.mode),
            levels.mesh.map_or(MtlsMode::Unset, |one| one.mode),
        ]
        .into_iter()
        .find(|mode| *mode != MtlsMode::Unset)
        .unwrap_or(MtlsMode::Permissive)
    }

    /// The DENY policies for plaintext that istiod sends to the ztunnel of a pod. DISABLE is taken
    /// for permissive there.
    pub fn ztunnel_mtls_policies(&self, namespace: &str, labels: &Labels) -> Vec<Policy> {
        let levels = self.peer_levels(namespace, labels);
        let mut strict = levels.mesh.is_some_and(|one| one.mode == MtlsMode::Strict);
        match levels.namespace.map_or(MtlsMode::Unset, |one| one.mode) {
            MtlsMode::Unset => {}
            mode => strict = mode == MtlsMode::Strict,
        }
        let Some(workload) = levels.workload else {
            return static_strict(self, strict);
        };
        match workload.mode {
            MtlsMode::Unset => {}
            mode => strict = mode == MtlsMode::Strict,
        }
        if workload.port_modes.is_empty() {
            return static_strict(self, strict);
        }
        let inherited_through_unset = workload.mode == MtlsMode::Unset
            && levels
                .namespace
                .is_some_and(|one| one.mode == MtlsMode::Unset)
            && levels.mesh.is_some_and(|one| one.mode == MtlsMode::Strict);
        converted(self, workload, strict, inherited_through_unset)
    }
}

impl Mesh {
    /// Whether a PeerAuthentication for pods says of ports what sidecars read and ztunnel is not told,
    /// because it inherits STRICT instead of saying so.
    pub fn inherited_mode_is_lost(&self, one: &PeerAuthentication) -> bool {
        let Some(selector) = &one.selector else {
            return false;
        };
        let namespace = one.name.namespace.as_str();
        let levels = self.peer_levels(namespace, selector);
        let above = [levels.namespace, levels.mesh].into_iter().flatten();
        let inherited = above
            .map(|level| level.mode)
            .find(|mode| *mode != MtlsMode::Unset);
        if one.mode != MtlsMode::Unset
            || inherited != Some(MtlsMode::Strict)
            || levels.workload.is_none_or(|oldest| oldest.name != one.name)
        {
            return false;
        }
        let written_out = PeerAuthentication {
            mode: MtlsMode::Strict,
            ..one.clone()
        };
        self.ztunnel_mtls_policies(namespace, selector)
            != converted(self, &written_out, true, false)
    }
}

fn plaintext() -> Source {
    Source {
        not_principals: vec!["*".to_owned()],
        ..Source::default()
    }
}

fn static_strict(mesh: &Mesh, strict: bool) -> Vec<Policy> {
    if !strict {
        return Vec::new();
    }
    let rule = Rule {
        from: vec![plaintext()],
        ..Rule::default()
    };
    vec![Policy::new(
        &mesh.settings.root_namespace,
        "istio_converted_static_strict",
        Action::Deny,
        vec![rule],
    )]
}

fn converted(mesh: &Mesh, workload: &PeerAuthentication, strict: bool, lost: bool) -> Vec<Policy> {
    let ports = |wanted: &dyn Fn(MtlsMode) -> bool| -> Vec<String> {
        workload
            .port_modes
            .iter()
            .filter(|(_, mode)| wanted(*mode))
            .map(|(port, _)| port.to_string())
            .collect()
    };
    let name = format!("converted_peer_authentication_{}", workload.name.name);
    let policy = |operation: Operation| {
        let rule = Rule {
            from: vec![plaintext()],
            to: vec![operation],
            ..Rule::default()
        };
        vec![Policy::new(
            &workload.name.namespace,
            &name,
            Action::Deny,
            vec![rule],
        )]
    };
    if strict {
        // With a mode of its own, DISABLE makes the workload refer to the converted policy like
        // PERMISSIVE; under an inherited STRICT only PERMISSIVE does. That policy exempts both.
        let refers = ports(&|mode| {
            mode == MtlsMode::Permissive
                || (mode == MtlsMode::Disable && workload.mode == MtlsMode::Strict)
        });
        if refers.is_empty() {
            return static_strict(mesh, true);
        }
        let exempt = ports(&|mode| matches!(mode, MtlsMode::Permissive | MtlsMode::Disable));
        if lost {
            // The workload is told of a policy that istiod never sends; ztunnel passes it over.
            return Vec::new();
        }
        return policy(Operation {
            not_ports: exempt,
            ..Operation::default()
        });
    }
    let strict_ports = ports(&|mode| mode == MtlsMode::Strict);
    if strict_ports.is_empty() {
        Vec::new()
    } else {
        policy(Operation {
            ports: strict_ports,
            ..Operation::default()
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

    use super::*;
    use crate::mesh::MeshOverrides;
    use crate::source::{Place, read_text};

    fn mesh(policies: &[&str]) -> Mesh {
        let text: String = policies
            .iter()
            .map(|policy| {
                format!(
                    "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\n{policy}\n"
                )
            })
            .collect();
        let snapshot = read_text(&Place::Simulated, &text).unwrap();
        Mesh::build(&snapshot, &MeshOverrides::default())
    }

    #[test]
    fn the_narrowest_level_decides_and_of_one_level_the_oldest() {
        let strict =
            "metadata: {name: mesh, namespace: istio-system}\nspec: {mtls: {mode: STRICT}}";
        let unset = "metadata: {name: all, namespace: shop}\nspec: {mtls: {mode: UNSET}}";
        let young = "metadata: {name: a, namespace: shop, creationTimestamp: '2026-02-01T00:00:00Z'}\n\
                     spec: {mtls: {mode: DISABLE}}";
        let old = "metadata: {name: b, namespace: shop, creationTimestamp: '2026-01-01T00:00:00Z'}\n\
                   spec: {mtls: {mode: PERMISSIVE}}";
        let ported = "metadata: {name: c, namespace: shop}\n\
                      spec: {selector: {matchLabels: {app: web}}, portLevelMtls: {8080: {mode: DISABLE}}}";
        let in_root = "metadata: {name: d, namespace: istio-system}\n\
                       spec: {selector: {matchLabels: {app: web}}, mtls: {mode: DISABLE}}";
        let table: [(&[&str], &str, u16, MtlsMode); 8] = [
            (&[unset], "shop", 80, MtlsMode::Permissive),
            (&[strict], "shop", 80, MtlsMode::Strict),
            (&[strict, unset], "shop", 80, MtlsMode::Strict),
            (&[strict, young, old], "shop", 80, MtlsMode::Permissive),
            (&[strict, young], "shop", 80, MtlsMode::Disable),
            (&[strict, ported], "shop", 8080, MtlsMode::Disable),
            (&[strict, ported], "shop", 80, MtlsMode::Strict),
            (&[strict, in_root], "istio-system", 80, MtlsMode::Strict),
        ];
        let labels: Labels = [("app", "web")].into_iter().collect();
        for (policies, namespace, port, expected) in table {
            let mesh = mesh(policies);
            assert_eq!(mesh.gaps, [], "{policies:?}");
            assert_eq!(
                mesh.mtls_at_sidecar(namespace, &labels, port),
                expected,
                "{policies:?} port {port}"
            );
        }
    }

    /// `convertPeerAuthentication`: once a permissive port makes the workload refer to the converted
    /// policy, disabled ports are exempt, too; alone they are not.
    #[test]
    fn a_disabled_port_is_exempt_at_ztunnel_beside_a_permissive_one() {
        let strict = "metadata: {name: all, namespace: shop}\nspec: {mtls: {mode: STRICT}}";
        let labels: Labels = [("app", "web")].into_iter().collect();
        let table = [
            ("8080: {mode: DISABLE}", None),
            (
                "8080: {mode: DISABLE}, 9090: {mode: PERMISSIVE}",
                Some(vec!["8080", "9090"]),
            ),
            ("9090: {mode: PERMISSIVE}", Some(vec!["9090"])),
        ];
        for (ports, exempt) in table {
            let ported = format!(
                "metadata: {{name: c, namespace: shop}}\n\
                 spec: {{selector: {{matchLabels: {{app: web}}}}, portLevelMtls: {{{ports}}}}}"
            );
            let mesh = mesh(&[strict, &ported]);
            let policies = mesh.ztunnel_mtls_policies("shop", &labels);
            let found: Vec<&str> = policies
                .iter()
                .flat_map(|policy| &policy.rules)
                .flat_map(|rule| &rule.to)
                .flat_map(|operation| &operation.not_ports)
                .map(String::as_str)
                .collect();
            assert_eq!(policies.len(), 1, "{ports}");
            assert_eq!(found, exempt.unwrap_or_default(), "{ports}");
        }
    }

    #[test]
    fn a_mode_that_is_none_is_named_and_not_passed_over() {
        let mesh = mesh(&["metadata: {name: a, namespace: shop}\nspec: {mtls: {mode: STRICKT}}"]);
        let reasons: Vec<&str> = mesh.gaps.iter().map(|gap| gap.reason.as_str()).collect();
        assert_eq!(
            reasons,
            ["`a` at simulated has \"STRICKT\" at `mtls.mode`, which castoff does not understand"]
        );
    }
}
