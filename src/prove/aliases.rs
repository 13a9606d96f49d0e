//! Callers whose certificates are of an alias of the trust domain.
//!
//! In: two states. Out: classes of callers where the aliases differ, and a note on servers that moved. Invariant: a sidecar
//! takes certificates of the trust domain and of its aliases (istio pilot/pkg/networking/plugin/authn/util.go
//! `TrustDomainsForValidation`), ztunnel those of the trust domain alone (istio/ztunnel src/tls/workload.rs
//! `TrustDomainVerifier`); whoever has another one can come in plaintext only.

use std::collections::BTreeSet;

use castoff_authz::verdict::Identities;
use smol_str::SmolStr;

use super::CallerMode;
use super::callers::{CallerClass, Member};
use super::past::Past;
use super::row::ServerRow;
use super::rows::{Comparer, States};
use crate::mesh::policy::MtlsMode;
use crate::mesh::{DataPlaneMode, Mesh, WorkloadId};

/// Those of trust domains that only one of the states has for aliases.
pub(super) fn classes(states: &States<'_>) -> Vec<CallerClass> {
    let [lost, gained] = [
        only_of(states.baseline, states.present),
        only_of(states.present, states.baseline),
    ];
    let class = |domain: &SmolStr, before: CallerMode, now: CallerMode| CallerClass {
        before,
        now,
        was_past: Past::default(),
        is_past: Past::default(),
        was: None,
        identities: Identities::OfTrustDomain {
            trust_domain: domain.to_string(),
            but: Vec::new(),
        },
        members: vec![Member::OtherIdentities],
        words: "callers of an alias of the trust domain",
    };
    let (plain, sidecar) = (CallerMode::Plain, CallerMode::Sidecar);
    let gained = gained.iter().map(|one| class(one, plain, sidecar));
    let lost = lost.iter().map(|one| class(one, sidecar, plain));
    gained.chain(lost).collect()
}

/// The aliases of one mesh whose certificates sidecars of the other do not take.
fn only_of(mesh: &Mesh, other: &Mesh) -> BTreeSet<SmolStr> {
    let mut only = aliases(mesh);
    only.retain(|one| {
        let settings = &other.settings;
        *one != settings.trust_domain && !settings.trust_domain_aliases.contains(one)
    });
    only
}

fn aliases(mesh: &Mesh) -> BTreeSet<SmolStr> {
    let own = &mesh.settings.trust_domain;
    let aliases = mesh.settings.trust_domain_aliases.iter();
    aliases.filter(|one| *one != own).cloned().collect()
}

impl Comparer<'_> {
    /// Whether callers of more than one trust domain are asked for, whom the way they arrive does not tell apart.
    pub(super) fn aliases_differ(&self) -> bool {
        let (baseline, present) = (self.baseline.mesh, self.present.mesh);
        !only_of(baseline, present).is_empty() || !only_of(present, baseline).is_empty()
    }

    /// Notes on a server that leaves its sidecars that ztunnel takes no certificates of aliases.
    pub(super) fn note_aliases(&self, row: &mut ServerRow, (was, is): (WorkloadId, WorkloadId)) {
        let mesh = self.baseline.mesh;
        let aliases = aliases(mesh);
        if aliases.is_empty() {
            return;
        }
        let (was, is) = (mesh.workload(was), self.present.mesh.workload(is));
        let moves = was.has_mode(DataPlaneMode::Sidecar) && is.has_mode(DataPlaneMode::Ambient);
        // Where nothing asks who calls, plaintext does as well.
        let namespace = was.name.namespace.as_str();
        let asks = was.generations.iter().any(|one| {
            let attachments = &self.baseline.attachments;
            let at = attachments.at_proxy(namespace, &one.labels, &one.revision, None);
            let mode = mesh.mtls_at_sidecar(namespace, &one.labels, 0);
            !at.policies.is_empty() || mode == MtlsMode::Strict
        });
        if !moves || !asks {
            return;
        }
        let aliases: Vec<&str> = aliases.iter().map(SmolStr::as_str).collect();
        row.notes.insert(format!(
            "ztunnel refuses certificates of {} (meshConfig.trustDomainAliases), which sidecars take; nobody is known to \
             have one",
            aliases.join(", ")
        ));
    }
}
