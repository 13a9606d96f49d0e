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
use crate::mesh::{DataPlaneMode, Mesh, WorkloadId};

/// Those of trust domains that only one of the states has for aliases.
pub(super) fn classes(states: &States<'_>) -> Vec<CallerClass> {
    let [was, is] = [states.baseline, states.present].map(domains);
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
    let gained = is.difference(&was).map(|one| class(one, plain, sidecar));
    let lost = was.difference(&is).map(|one| class(one, sidecar, plain));
    gained.chain(lost).collect()
}

/// The trust domains whose certificates sidecars take.
fn domains(mesh: &Mesh) -> BTreeSet<SmolStr> {
    let own = &mesh.settings.trust_domain;
    let aliases = mesh.settings.trust_domain_aliases.iter();
    aliases.filter(|one| *one != own).cloned().collect()
}

impl Comparer<'_> {
    /// Whether callers of more than one trust domain are asked for, whom the way they arrive does not tell apart.
    pub(super) fn aliases_differ(&self) -> bool {
        domains(self.baseline.mesh) != domains(self.present.mesh)
    }

    /// Notes on a server that leaves its sidecars that ztunnel takes no certificates of aliases.
    pub(super) fn note_aliases(&self, row: &mut ServerRow, (was, is): (WorkloadId, WorkloadId)) {
        let aliases = domains(self.baseline.mesh);
        let (was, is) = (
            self.baseline.mesh.workload(was),
            self.present.mesh.workload(is),
        );
        let moves = was.has_mode(DataPlaneMode::Sidecar) && is.has_mode(DataPlaneMode::Ambient);
        if aliases.is_empty() || !moves {
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
