//! How often a comparison stays undecided, over the policies and meshes of the corpus beside the
//! repository: nowhere without CUSTOM, an extension or an experimental condition.
//!
//! Every set of policies, one file (or folder) and namespace each, is compared with itself in another order and
//! with itself without each policy, at an HTTP chain, a TCP chain and a ztunnel; every dump of a
//! cluster with itself, with itself run both ways, and without each of its policies.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use castoff::mesh::{DataPlaneMode, Mesh, MeshOverrides};
use castoff::plan::both::with_ambient_generations;
use castoff::prove::reading::authorization_settings;
use castoff::prove::rows::{RowVerdict, States, rows};
use castoff::snapshot::{Kind, Snapshot};
use castoff::source::read_files;
use castoff_authz::path::{
    Address, AddressKind, EnforcementPath, Point, PointKind, Protocol, Proxy, TokenRule,
};
use castoff_authz::policy::{Action, Key, Policy};
use castoff_authz::settings::{Behaviour, Release, Settings};
use castoff_authz::verdict::{Caller, Comparison, Finding, Limits, compare};

fn corpus() -> Option<Vec<PathBuf>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    if !path.is_dir() {
        eprintln!("SKIPPED: no corpus at {}", path.display());
        return None;
    }
    let mut folders: Vec<PathBuf> = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    Some(folders)
}

/// Files below a folder, sorted.
fn files(folder: &Path, into: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for entry in entries {
        if entry.is_dir() {
            files(&entry, into);
        } else {
            into.push(entry);
        }
    }
}

/// Comparisons made, and how many of them were undecided.
#[derive(Default, Debug, Clone, Copy, PartialEq, Eq)]
struct Count {
    made: usize,
    undecided: usize,
}

impl Count {
    fn add(&mut self, undecided: bool) {
        self.made += 1;
        self.undecided += usize::from(undecided);
    }

    fn percent(self) -> f64 {
        100.0 * self.undecided as f64 / self.made.max(1) as f64
    }
}

/// Whether a policy asks what the prover does not model.
fn asks(policy: &Policy) -> bool {
    matches!(policy.action, Action::Custom { .. })
        || policy
            .rules
            .iter()
            .flat_map(|rule| &rule.when)
            .any(|one| matches!(one.key, Key::Experimental(_)))
}

fn path(
    kind: &PointKind,
    policies: &[Arc<Policy>],
    tokens: &[TokenRule],
    settings: &Arc<Settings>,
) -> EnforcementPath {
    let mut point = Point::new(kind.clone(), "shop/orders");
    point.policies = policies.to_vec();
    let http = PointKind::Envoy {
        proxy: Proxy::Sidecar,
        protocol: Protocol::Http,
    };
    if *kind == http {
        point.token_rules = tokens.to_vec();
    }
    EnforcementPath {
        address: Address {
            kind: AddressKind::Service,
            name: "shop/orders".to_owned(),
            port: 80,
        },
        in_use: true,
        settings: Arc::clone(settings),
        points: vec![point],
    }
}

fn is_undecided(baseline: EnforcementPath, present: EnforcementPath, http: bool) -> bool {
    let comparison = Comparison {
        caller: Caller::anybody(),
        http,
        baseline: vec![baseline],
        present: vec![present],
    };
    let verdict = compare(&comparison, Limits::default());
    for finding in [&verdict.opens, &verdict.breaks] {
        assert!(!matches!(finding, Finding::Bug(_)), "{finding:?}");
    }
    let undecided = |finding: &Finding| matches!(finding, Finding::Undecided(_));
    undecided(&verdict.opens) || undecided(&verdict.breaks)
}

/// Adds what the policies of one namespace give, in every pair named above.
fn compare_set(
    policies: &[Arc<Policy>],
    tokens: &[TokenRule],
    settings: &Arc<Settings>,
    count: &mut Count,
) {
    let mut others: Vec<Vec<Arc<Policy>>> = vec![policies.iter().rev().cloned().collect()];
    for index in 0..policies.len() {
        let mut without = policies.to_vec();
        without.remove(index);
        others.push(without);
    }
    let envoy = |protocol| PointKind::Envoy {
        proxy: Proxy::Sidecar,
        protocol,
    };
    for (kind, http) in [
        (envoy(Protocol::Http), true),
        (envoy(Protocol::Tcp), false),
        (PointKind::Ztunnel, false),
    ] {
        for other in &others {
            count.add(is_undecided(
                path(&kind, policies, tokens, settings),
                path(&kind, other, tokens, settings),
                http,
            ));
        }
    }
}

#[test]
fn no_pair_of_policy_sets_of_the_corpus_is_undecided_but_those_that_ask_others() {
    let Some(folders) = corpus() else { return };
    let (mut plain, mut asking) = (Count::default(), Count::default());
    let (mut sets, mut read) = (0, 0);
    let mut inputs = folders.clone();
    folders.iter().for_each(|folder| files(folder, &mut inputs));
    for input in inputs {
        let Ok(snapshot) = read_files(&[input]) else {
            continue;
        };
        let mesh = Mesh::build(&snapshot, &MeshOverrides::default());
        // Most folders show no istiod. Releases before 1.30 take `[` in a principal for a regular
        // expression, which stays undecided.
        let mut settings = authorization_settings(&mesh);
        settings.behaviour = Behaviour::of(Release {
            minor: 31,
            patch: 0,
        });
        let settings = Arc::new(settings);
        let mut by_namespace: BTreeMap<&str, Vec<Arc<Policy>>> = BTreeMap::new();
        for policy in &mesh.authorization_policies {
            if let Ok(meaning) = &policy.meaning {
                read += 1;
                by_namespace
                    .entry(&policy.name.namespace)
                    .or_default()
                    .push(Arc::clone(meaning));
            }
        }
        for (namespace, policies) in by_namespace {
            sets += 1;
            let tokens: Vec<TokenRule> = mesh
                .request_authentications
                .iter()
                .filter(|one| one.name.namespace == namespace)
                .flat_map(castoff::mesh::RequestAuthentication::token_rules)
                .collect();
            let modelled: Vec<Arc<Policy>> = policies
                .iter()
                .filter(|policy| !asks(policy))
                .cloned()
                .collect();
            compare_set(&modelled, &tokens, &settings, &mut plain);
            if modelled.len() < policies.len() {
                compare_set(&policies, &tokens, &settings, &mut asking);
            }
        }
    }
    eprintln!(
        "{read} policies in {sets} sets: {} pairs without CUSTOM and experimental conditions, {} undecided; {} pairs \
         with them, {} undecided ({:.1} %)",
        plain.made,
        plain.undecided,
        asking.made,
        asking.undecided,
        asking.percent()
    );
    assert!(
        plain.made > 1_000 && asking.made > 0,
        "{plain:?} {asking:?}"
    );
    assert_eq!(plain.undecided, 0);
}

fn compare_rows(baseline: &Mesh, present: &Mesh, count: &mut Count) {
    for row in rows(&States { baseline, present }, Limits::default()) {
        count.add(row.verdict() == RowVerdict::Undecided);
    }
}

fn without(snapshot: &Snapshot, kind: Kind, index: usize) -> Snapshot {
    let mut less = snapshot.clone();
    less.resources.get_mut(&kind).unwrap().remove(index);
    less
}

#[test]
fn no_row_of_a_real_mesh_is_undecided_but_where_extensions_stand() {
    let Some(folders) = corpus() else { return };
    let (mut plain, mut extended) = (Count::default(), Count::default());
    let mut both_ways = 0;
    for folder in folders {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        if !name.starts_with("live-") {
            continue;
        }
        let snapshot = read_files(&[folder]).unwrap();
        let overrides = MeshOverrides::default();
        let mesh = Mesh::build(&snapshot, &overrides);
        let opaque = mesh
            .extension_policies
            .iter()
            .any(|one| one.kind != Kind::Telemetry)
            || mesh
                .authorization_policies
                .iter()
                .any(|one| one.meaning.as_ref().map_or(true, |meaning| asks(meaning)));
        let count = if opaque { &mut extended } else { &mut plain };
        let before = *count;
        compare_rows(&mesh, &mesh, count);
        let both = with_ambient_generations(&mesh, |_| true);
        both_ways += both
            .workloads
            .iter()
            .filter(|workload| workload.has_mode(DataPlaneMode::Ambient))
            .count();
        compare_rows(&mesh, &both, count);
        for kind in [Kind::AuthorizationPolicy, Kind::RequestAuthentication] {
            for index in 0..snapshot.resources(kind).len() {
                let less = Mesh::build(&without(&snapshot, kind, index), &overrides);
                compare_rows(&mesh, &less, count);
            }
        }
        eprintln!(
            "{name}: {} rows, {} undecided",
            count.made - before.made,
            count.undecided - before.undecided
        );
    }
    eprintln!(
        "rows of real meshes: {} without extensions, {} undecided ({:.1} %); {} with, {} undecided ({:.1} %)",
        plain.made,
        plain.undecided,
        plain.percent(),
        extended.made,
        extended.undecided,
        extended.percent()
    );
    assert!(plain.made > 100 && both_ways > 50, "{plain:?} {both_ways}");
    assert_eq!(plain.undecided, 0);
}
