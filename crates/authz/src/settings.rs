//! What holds for the whole mesh and changes how policies are read: trust domains, external
//! authorizers, and what differs between releases.
//!
//! In comes what the mesh configuration and the versions say; nothing is guessed here.

/// A release of Istio, as `minor` and `patch` of 1.minor.patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Release {
    /// 25 for Istio 1.25.
    pub minor: u16,
    /// 3 for Istio 1.25.3.
    pub patch: u16,
}

/// What differs between releases and flags, each with the release that changed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Behaviour {
    /// `PILOT_ENABLE_MULTIPLE_CUSTOM_AUTHZ_PROVIDERS` (flag since 1.30, default off). Off: two CUSTOM
    /// providers on one chain refuse whatever either matches.
    pub multiple_custom_providers: bool,
    /// Regular expression characters in `namespaces` and in the suffix of `principals` are quoted
    /// (1.30.0, 1.29.3, 1.28.7). Before, they had their meaning.
    pub quotes_namespaces: bool,
    /// The same for `serviceAccounts` (1.30.0, 1.29.2, 1.28.6, 1.27.9).
    pub quotes_service_accounts: bool,
    /// ztunnel enforces policies in dry-run (1.25.0 and 1.25.1).
    pub ztunnel_enforces_dry_run: bool,
    /// What a CUSTOM policy in dry-run does is unclear (since 1.30, where istiod writes its rules into
    /// the enforced part of the RBAC filter, `builder.go:buildHTTP`): treated as unknown. Before, it
    /// does nothing.
    pub dry_run_custom_unclear: bool,
    /// The field `trustDomains` exists (1.31). Before, istiod does not know the field, and
    /// `source.trustDomain` is an unknown key.
    pub trust_domains: bool,
}

impl Behaviour {
    /// The behaviour of a release with its default flags.
    #[must_use]
    pub fn of(release: Release) -> Self {
        let since = |fixes: &[(u16, u16)], minor: u16| {
            release.minor >= minor
                || fixes
                    .iter()
                    .any(|&(minor, patch)| release.minor == minor && release.patch >= patch)
        };
        Self {
            multiple_custom_providers: false,
            quotes_namespaces: since(&[(29, 3), (28, 7)], 30),
            quotes_service_accounts: since(&[(29, 2), (28, 6), (27, 9)], 30),
            ztunnel_enforces_dry_run: release.minor < 25
                || (release.minor == 25 && release.patch < 2),
            dry_run_custom_unclear: release.minor >= 30,
            trust_domains: release.minor >= 31,
        }
    }
}

/// An entry of `meshConfig.extensionProviders` that CUSTOM can name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Authorizer {
    /// Its name.
    pub name: String,
    /// `envoyExtAuthzHttp`: cannot be asked on a TCP chain, where istiod leaves the policy out.
    pub http_only: bool,
    /// All else of the entry (who is asked, what it is told, what holds when it fails), as a text that
    /// is equal exactly when these are equal.
    pub definition: String,
}

/// Settings of the whole mesh.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Settings {
    /// `meshConfig.trustDomain`.
    pub trust_domain: String,
    /// `meshConfig.trustDomainAliases`.
    pub trust_domain_aliases: Vec<String>,
    /// What the release and its flags do.
    pub behaviour: Behaviour,
    /// The external authorizers that exist; a CUSTOM policy with another name refuses what it matches.
    pub authorizers: Vec<Authorizer>,
    /// Whether that list is known. If not, a CUSTOM policy with another name is one that cannot be decided.
    pub authorizers_known: bool,
}

impl Settings {
    /// `cluster.local`, no aliases, no authorizers, this release with default flags.
    #[must_use]
    pub fn of(release: Release) -> Self {
        Self {
            trust_domain: "cluster.local".to_owned(),
            trust_domain_aliases: Vec::new(),
            behaviour: Behaviour::of(release),
            authorizers: Vec::new(),
            authorizers_known: true,
        }
    }
}
