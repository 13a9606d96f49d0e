//! castoff's evaluator against a real Envoy that runs the filters which istiod generates.
//!
//! In: Istio's own goldens (`../shared/corpus/istio-authz-goldens`) and an Envoy (`CASTOFF_ENVOY`, or
//! the one that `.ci/envoy-venv` puts under `target/`). Every request drawn is sent, and its answer is
//! compared with the evaluator's. `CASTOFF_CONFORMANCE` multiplies the number of requests.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

#[path = "envoy_conformance/cases.rs"]
mod cases;
#[path = "envoy_conformance/client.rs"]
mod client;
#[path = "envoy_conformance/envoy.rs"]
mod envoy;
#[path = "envoy_conformance/generated.rs"]
mod generated;
#[path = "envoy_conformance/identity.rs"]
mod identity;
#[path = "envoy_conformance/istiod.rs"]
mod istiod;
#[path = "envoy_conformance/judge.rs"]
mod judge;
#[path = "envoy_conformance/requests.rs"]
mod requests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use castoff_authz::decision::Outcome;

use cases::Case;
use client::Wire;
use envoy::{Envoy, METADATA_HEADER};
use identity::Authority;
use requests::{Atoms, Content, Random};

/// Cases that cannot be compared, with the reason.
const LEFT_OUT: [(&str, &str); 0] = [];

const CONNECTIONS_PER_HTTP_GOLDEN: usize = 230;
const CONNECTIONS_PER_TCP_GOLDEN: usize = 600;
const GENERATED_CASES: usize = 80;
const CONNECTIONS_PER_GENERATED_CASE: usize = 60;
const REQUESTS_PER_CONNECTION: usize = 24;

fn envoy_binary() -> Option<PathBuf> {
    let given = std::env::var_os("CASTOFF_ENVOY").map(PathBuf::from);
    let link = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/envoy-venv/envoy");
    given.or(Some(link)).filter(|path| path.exists())
}

#[test]
fn every_decision_is_the_one_of_envoy_with_the_filters_of_istiod() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus/istio-authz-goldens");
    if !folder.is_dir() {
        eprintln!(
            "SKIPPED: {} is not here; nothing was compared with Envoy",
            folder.display()
        );
        return;
    }
    let Some(binary) = envoy_binary() else {
        eprintln!(
            "SKIPPED: no Envoy (run .ci/envoy-venv, or set CASTOFF_ENVOY); nothing was compared"
        );
        return;
    };
    let began = Instant::now();
    let scale: usize = std::env::var("CASTOFF_CONFORMANCE").map_or(1, |text| text.parse().unwrap());
    let mut cases = cases::read(&folder);
    let all = cases.len();
    cases.retain(|case| LEFT_OUT.iter().all(|(name, _)| *name != case.name));
    for (name, reason) in LEFT_OUT {
        eprintln!("left out: {name}: {reason}");
    }
    compare_with_own_istiod(&cases);
    for index in 0..GENERATED_CASES {
        let mut random = Random(0xca57 + index as u64);
        cases.push(generated::case(index, index % 4 == 3, &mut random));
    }
    let mut authority = Authority::new();
    let envoy = Envoy::start(&binary, &cases, &authority);
    let mut total = Tally::default();
    for (index, case) in cases.iter().enumerate() {
        let mut random = Random(index as u64);
        let mut run = Run {
            atoms: Atoms::of(case, &authority, &mut random),
            port: envoy.port(&case.name),
            case,
            random,
            tally: Tally::default(),
        };
        let generated = index >= all - LEFT_OUT.len();
        let connections = match (case.tcp, generated) {
            (true, false) => CONNECTIONS_PER_TCP_GOLDEN,
            (false, false) => CONNECTIONS_PER_HTTP_GOLDEN,
            (_, true) => CONNECTIONS_PER_GENERATED_CASE,
        };
        if case.tcp {
            run.connections(&mut authority, connections * scale);
        } else {
            run.requests(&mut authority, connections * scale);
        }
        let Tally {
            compared,
            allowed,
            tokens_refused,
            tokens_stripped,
            disagreements,
            ..
        } = run.tally;
        total.tokens_refused += tokens_refused;
        total.tokens_stripped += tokens_stripped;
        if !generated {
            eprintln!("{}: {compared} compared, {allowed} allowed", case.name);
            total.of_goldens += compared;
        }
        total.compared += compared;
        total.allowed += allowed;
        total.disagreements.extend(disagreements);
    }
    eprintln!(
        "{} requests compared with Envoy in {:.0?} ({} allowed, {} tokens refused, {} stripped): {} to {all} goldens ({} left out), \
         {} to {GENERATED_CASES} generated cases; {} disagree",
        total.compared,
        began.elapsed(),
        total.allowed,
        total.tokens_refused,
        total.tokens_stripped,
        total.of_goldens,
        LEFT_OUT.len(),
        total.compared - total.of_goldens,
        total.disagreements.len(),
    );
    let mut shown: BTreeMap<&str, usize> = BTreeMap::new();
    for (case, text) in &total.disagreements {
        let shown = shown.entry(case).or_default();
        *shown += 1;
        if *shown <= 3 {
            eprintln!("{case}: {text}");
        }
    }
    assert_eq!(total.disagreements.len(), 0, "by case: {shown:?}");
    let goldens = total.of_goldens;
    assert!(goldens >= 100_000 * scale, "{goldens} are too few");
    assert!(total.tokens_refused > 1_000 && total.tokens_stripped > 1_000);
}

/// The generated cases stand on filters of our own making: they must be istiod's where that is known.
fn compare_with_own_istiod(cases: &[Case]) {
    let mut same = 0;
    for case in cases {
        let custom = |policy: &castoff_authz::policy::Policy| {
            matches!(policy.action, castoff_authz::policy::Action::Custom { .. })
        };
        if !case.settings.trust_domain_aliases.is_empty()
            || case.policies.iter().any(|one| custom(one))
        {
            continue;
        }
        let mut expected = case.filters.clone();
        for filter in &mut expected {
            let config = filter["typedConfig"].as_object_mut().unwrap();
            config.remove("shadowRulesStatPrefix");
        }
        assert_eq!(istiod::filters(case), expected, "{}", case.name);
        same += 1;
    }
    eprintln!("{same} goldens without CUSTOM and aliases are reproduced by the test's own istiod");
}

#[derive(Default)]
struct Tally {
    compared: usize,
    of_goldens: usize,
    allowed: usize,
    tokens_refused: usize,
    tokens_stripped: usize,
    disagreements: Vec<(String, String)>,
}

struct Run<'c> {
    case: &'c Case,
    atoms: Atoms,
    port: u16,
    random: Random,
    tally: Tally,
}

impl Run<'_> {
    fn connections(&mut self, authority: &mut Authority, count: usize) {
        for _ in 0..count {
            let wire = self.atoms.wire(&mut self.random);
            let tls = tls(authority, &wire);
            let allowed = client::bytes_pass(&wire, self.port, tls);
            self.compare(&wire, None, allowed);
        }
    }

    fn requests(&mut self, authority: &mut Authority, count: usize) {
        for _ in 0..count {
            let wire = self.atoms.wire(&mut self.random);
            let contents: Vec<Content> = (0..REQUESTS_PER_CONNECTION)
                .map(|_| self.atoms.content(&mut self.random))
                .collect();
            let heads: Vec<String> = contents.iter().map(|content| self.head(content)).collect();
            let tls = tls(authority, &wire);
            let answers = client::answers(&wire, self.port, tls, &heads)
                .unwrap_or_else(|error| panic!("{}: {error}: {wire:?} {heads:#?}", self.case.name));
            for (content, answer) in contents.iter().zip(answers) {
                let known = matches!(answer.status, 200 | 403)
                    || (answer.status == 401 && !self.case.token_rules.is_empty());
                assert!(known, "{answer:?} for {content:?}");
                self.compare(&wire, Some(content), answer.status == 200);
                self.tally.tokens_refused += usize::from(answer.status == 401);
                if answer.status == 200 && content.token.is_some() {
                    self.compare_token(&wire, content, answer.token);
                }
            }
        }
    }

    fn head(&self, content: &Content) -> String {
        let Content {
            method, path, host, ..
        } = content;
        let query = if content.query { "?query=/exact" } else { "" };
        let mut head =
            format!("{method} {path}{query} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 0\r\n");
        let token = content.token.map(|index| &self.atoms.tokens[index].0);
        let more = [
            (
                "x-forwarded-for",
                content.forwarded.map(|address| address.to_string()),
            ),
            (METADATA_HEADER, content.metadata.clone()),
            (
                "authorization",
                token.map(|token| format!("Bearer {token}")),
            ),
        ];
        let own = content
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), Some(value.clone())));
        for (name, value) in own.chain(more) {
            if let Some(value) = value {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        head + "\r\n"
    }

    /// Whether a token that got through is still there behind the filters.
    fn compare_token(&mut self, wire: &Wire, content: &Content, there: bool) {
        self.tally.tokens_stripped += usize::from(!there);
        let passed_on =
            content.is_preflight() || judge::token_passed_on(self.case, &self.atoms, wire, content);
        if passed_on != there {
            let text = format!("Envoy passes the token on: {there}; {wire:?} {content:?}");
            self.tally
                .disagreements
                .push((self.case.name.clone(), text));
        }
    }

    fn compare(&mut self, wire: &Wire, content: Option<&Content>, allowed: bool) {
        let decision = judge::decide(self.case, &self.atoms, wire, content);
        self.tally.compared += 1;
        self.tally.allowed += usize::from(allowed);
        if (decision.outcome == Outcome::Allow) == allowed {
            return;
        }
        let token = content.and_then(|content| content.token);
        let token = token.map(|index| &self.atoms.tokens[index].1.claims);
        let text = format!("Envoy allows: {allowed}; {wire:?} {content:?} {token:?}; {decision:?}");
        self.tally
            .disagreements
            .push((self.case.name.clone(), text));
    }
}

fn tls(authority: &mut Authority, wire: &Wire) -> Option<std::sync::Arc<rustls::ClientConfig>> {
    wire.tls()
        .then(|| authority.client(wire.principal.as_deref(), wire.sni.is_some()))
}
