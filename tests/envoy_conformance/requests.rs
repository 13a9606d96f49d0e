//! Draws requests: values that the policies of a case name, values near them, and others.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use castoff_authz::ip::{IpBlock, from_number, number};
use castoff_authz::path::TokenRule;
use castoff_authz::policy::{Condition, Key, Operation, Policy, Source};
use castoff_authz::request::Token;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};

use crate::cases::Case;
use crate::client::Wire;
use crate::identity::{Authority, TOKEN_KEYS};

/// A small generator (splitmix64), so that a run repeats.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub(crate) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    pub(crate) fn of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

/// The HTTP part of a request.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    pub(crate) method: String,
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) query: bool,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) forwarded: Option<Ipv4Addr>,
    pub(crate) metadata: Option<String>,
    pub(crate) token: Option<usize>,
}

impl Content {
    /// A CORS preflight, whose token nobody looks at (Envoy
    /// `source/extensions/filters/http/jwt_authn/filter.cc:isCorsPreflightRequest`).
    pub(crate) fn is_preflight(&self) -> bool {
        let filled = |name: &str| {
            self.headers
                .get(name)
                .is_some_and(|value| !value.is_empty())
        };
        self.method == "OPTIONS" && filled("origin") && filled("access-control-request-method")
    }
}

/// What a case's policies name, by dimension, and tokens made of it.
pub(crate) struct Atoms {
    principals: Vec<String>,
    sources: Vec<Ipv4Addr>,
    remotes: Vec<Ipv4Addr>,
    destinations: Vec<Ipv4Addr>,
    ports: Vec<u16>,
    names: Vec<String>,
    methods: Vec<String>,
    hosts: Vec<String>,
    paths: Vec<String>,
    headers: BTreeMap<String, Vec<String>>,
    metadata: Vec<String>,
    /// Signed, and as the evaluator takes them.
    pub(crate) tokens: Vec<(String, Token)>,
}

#[derive(Default)]
struct Found {
    principals: BTreeSet<String>,
    sources: Vec<String>,
    remotes: Vec<String>,
    destinations: Vec<String>,
    ports: Vec<String>,
    names: Vec<String>,
    methods: Vec<String>,
    hosts: Vec<String>,
    paths: Vec<String>,
    headers: BTreeMap<String, Vec<String>>,
    metadata: Vec<String>,
    request_principals: Vec<String>,
    claims: BTreeMap<Vec<String>, Vec<String>>,
}

impl Found {
    fn source(&mut self, source: &Source, policy: &Policy) {
        let both = |one: &[String], other: &[String]| [one, other].concat();
        for text in both(&source.principals, &source.not_principals) {
            self.principals.extend(texts(&text));
        }
        self.namespaces(&both(&source.namespaces, &source.not_namespaces));
        self.accounts(
            &both(&source.service_accounts, &source.not_service_accounts),
            policy,
        );
        self.domains(&both(&source.trust_domains, &source.not_trust_domains));
        let tokens = both(&source.request_principals, &source.not_request_principals);
        self.request_principals.extend(tokens);
        self.sources
            .extend(both(&source.ip_blocks, &source.not_ip_blocks));
        self.remotes
            .extend(both(&source.remote_ip_blocks, &source.not_remote_ip_blocks));
    }

    fn namespaces(&mut self, values: &[String]) {
        for text in values.iter().flat_map(|text| texts(text)) {
            self.principals
                .insert(format!("cluster.local/ns/{text}/sa/a"));
            self.principals.insert(format!("td/ns/{text}"));
        }
    }

    fn accounts(&mut self, values: &[String], policy: &Policy) {
        for text in values {
            let own = policy.name.namespace.as_str();
            let (namespace, account) = text.split_once('/').unwrap_or((own, text));
            for suffix in ["", "/more", "x"] {
                self.principals
                    .insert(format!("td/ns/{namespace}/sa/{account}{suffix}"));
            }
            self.principals
                .insert(format!("td/ns/{namespace}/more/sa/{account}"));
            self.principals.insert(format!("td/ns/other/sa/{account}"));
        }
    }

    fn domains(&mut self, values: &[String]) {
        for text in values.iter().flat_map(|text| texts(text)) {
            self.principals.insert(format!("{text}/ns/foo/sa/a"));
        }
    }

    fn operation(&mut self, operation: &Operation) {
        let both = |one: &[String], other: &[String]| [one, other].concat();
        self.hosts
            .extend(both(&operation.hosts, &operation.not_hosts));
        self.methods
            .extend(both(&operation.methods, &operation.not_methods));
        self.paths
            .extend(both(&operation.paths, &operation.not_paths));
        self.ports
            .extend(both(&operation.ports, &operation.not_ports));
    }

    fn condition(&mut self, condition: &Condition, policy: &Policy) {
        let values = [&condition.values[..], &condition.not_values].concat();
        let claim = |name: &str| vec![name.to_owned()];
        match &condition.key {
            Key::RequestHeader(name) => {
                self.headers
                    .entry(name.to_ascii_lowercase())
                    .or_default()
                    .extend(values);
            }
            Key::SourceIp => self.sources.extend(values),
            Key::RemoteIp => self.remotes.extend(values),
            Key::SourceNamespace => self.namespaces(&values),
            Key::SourcePrincipal => {
                self.principals
                    .extend(values.iter().flat_map(|text| texts(text)));
            }
            Key::SourceServiceAccount => self.accounts(&values, policy),
            Key::SourceTrustDomain => self.domains(&values),
            Key::RequestAuthPrincipal => self.request_principals.extend(values),
            Key::RequestAuthAudiences => {
                self.claims.entry(claim("aud")).or_default().extend(values);
            }
            Key::RequestAuthPresenter => {
                self.claims.entry(claim("azp")).or_default().extend(values);
            }
            Key::RequestAuthClaim(path) => {
                self.claims.entry(path.clone()).or_default().extend(values);
            }
            Key::DestinationIp => self.destinations.extend(values),
            Key::DestinationPort => self.ports.extend(values),
            Key::ConnectionSni => self.names.extend(values),
            Key::Experimental(_) => self.metadata.extend(values),
            Key::Invalid(_) => {}
        }
    }
}

/// Texts that a value matches, and texts near it.
fn texts(value: &str) -> Vec<String> {
    let filled = value.replace("{**}", "u/v").replace("{*}", "w");
    let mut list = vec![filled.replace('*', ""), filled.replace('*', "q")];
    if value.contains("{**}") {
        list.extend([value.replace("{**}", ""), value.replace("{**}", "w")]);
        list.push(value.replace("{**}/", ""));
    }
    if value.contains("{*}") {
        list.extend([value.replace("{*}", ""), value.replace("{*}", "u/v")]);
    }
    list.push(format!("{filled}z"));
    list.push(format!("z{filled}").replace('*', ""));
    list.push(filled.replace('*', "q/q"));
    list.push(filled.to_uppercase().replace('*', "Q"));
    let mut shorter = filled.replace('*', "");
    shorter.pop();
    list.push(shorter);
    list.retain(|text| !text.is_empty() && !text.contains(['*', '{', ' ']));
    list.sort();
    list.dedup();
    list
}

fn all_texts(values: &[String], others: &[&str]) -> Vec<String> {
    let own = values.iter().flat_map(|value| texts(value));
    let list: BTreeSet<String> = own.chain(others.iter().map(ToString::to_string)).collect();
    list.into_iter().collect()
}

/// First, last, one before and one behind each block, and others.
fn addresses(blocks: &[String], others: &[&str]) -> Vec<Ipv4Addr> {
    let mut list: BTreeSet<Ipv4Addr> = others.iter().map(|text| text.parse().unwrap()).collect();
    for block in blocks {
        let block = IpBlock::parse(block).unwrap();
        let (first, last) = (number(block.first()), number(block.last()));
        for address in [first, last, first - 1, last + 1, first + (last - first) / 2] {
            let IpAddr::V4(address) = from_number(address, block.first()) else {
                panic!("the goldens have no IPv6 block")
            };
            list.insert(address);
        }
    }
    list.into_iter().collect()
}

impl Atoms {
    pub(crate) fn of(case: &Case, authority: &Authority, random: &mut Random) -> Self {
        let mut found = Found::default();
        for policy in &case.policies {
            for rule in &policy.rules {
                rule.from
                    .iter()
                    .for_each(|source| found.source(source, policy));
                rule.to
                    .iter()
                    .for_each(|operation| found.operation(operation));
                rule.when
                    .iter()
                    .for_each(|condition| found.condition(condition, policy));
            }
        }
        found
            .principals
            .insert("cluster.local/ns/foo/sa/other".to_owned());
        found.principals.insert("td1/ns/foo/sa/other".to_owned());
        let domains =
            std::iter::once(&case.settings.trust_domain).chain(&case.settings.trust_domain_aliases);
        for domain in domains {
            for principal in found.principals.clone() {
                if let Some((_, rest)) = principal.split_once('/') {
                    found.principals.insert(format!("{domain}/{rest}"));
                }
            }
        }
        let mut ports: BTreeSet<u16> = [8080, 1].into();
        for port in &found.ports {
            let port: u16 = port.parse().unwrap();
            ports.extend([port, port.saturating_add(1)]);
        }
        let mut names = all_texts(&found.names, &["other.test"]);
        // What a client can put into a ClientHello; Envoy compares it in lower case.
        names.retain(|name| !name.ends_with('.'));
        names.retain(|name| {
            matches!(
                ServerName::try_from(name.clone()),
                Ok(ServerName::DnsName(_))
            )
        });
        names.retain(|name| *name == name.to_lowercase());
        let mut paths = all_texts(&found.paths, &["/", "/other", "/a/b/c"]);
        for path in &mut paths {
            if !path.starts_with('/') {
                path.insert(0, '/');
            }
        }
        // Rewritten by path normalization, which is not what is compared here.
        paths.retain(|path| !path.contains("//"));
        // What the HTTP parser refuses never reaches the filters.
        let mut methods = all_texts(&found.methods, &["GET", "POST", "OPTIONS"]);
        methods.retain(|text| !text.contains('/'));
        let mut hosts = all_texts(&found.hosts, &["httpbin.foo", "httpbin.foo:8000"]);
        hosts.retain(|text| !text.contains('/'));
        let headers = found
            .headers
            .iter()
            .map(|(name, values)| (name.clone(), all_texts(values, &["other"])));
        let mut headers: BTreeMap<String, Vec<String>> = headers.collect();
        if !case.token_rules.is_empty() {
            // What makes an OPTIONS a CORS preflight, which passes with any token.
            for name in ["origin", "access-control-request-method"] {
                let values = ["", "GET"].map(str::to_owned);
                headers.entry(name.to_owned()).or_insert(values.to_vec());
            }
            methods.extend(["OPTIONS".to_owned(), "OPTIONS".to_owned()]);
        }
        Self {
            principals: found.principals.iter().cloned().collect(),
            sources: addresses(&found.sources, &["127.0.0.1", "127.200.0.1"]),
            remotes: addresses(&found.remotes, &["172.30.0.1"]),
            destinations: addresses(&found.destinations, &["172.30.0.2"]),
            ports: ports.into_iter().collect(),
            names,
            methods,
            hosts,
            paths,
            headers,
            metadata: all_texts(&found.metadata, &["other"]),
            tokens: tokens(&found, &case.token_rules, authority, random),
        }
    }

    pub(crate) fn wire(&self, random: &mut Random) -> Wire {
        Wire {
            principal: (!random.one_in(5)).then(|| random.of(&self.principals).clone()),
            sni: (!random.one_in(3)).then(|| random.of(&self.names).clone()),
            source: *random.of(&self.sources),
            remote: *random.of(&self.remotes),
            destination: *random.of(&self.destinations),
            port: *random.of(&self.ports),
        }
    }

    pub(crate) fn content(&self, random: &mut Random) -> Content {
        let mut headers = BTreeMap::new();
        for (name, values) in &self.headers {
            if !random.one_in(4) {
                headers.insert(name.clone(), random.of(values).clone());
            }
        }
        Content {
            method: random.of(&self.methods).clone(),
            host: random.of(&self.hosts).clone(),
            path: random.of(&self.paths).clone(),
            query: random.one_in(4),
            headers,
            forwarded: random.one_in(2).then(|| *random.of(&self.remotes)),
            metadata: (!random.one_in(4)).then(|| random.of(&self.metadata).clone()),
            token: (!random.one_in(4)).then(|| random.below(self.tokens.len())),
        }
    }
}

/// Tokens with claims that the policies name, as a text or in a list, or of a type that never matches.
/// Where there are rules, some are of another issuer or of none, for another audience, signed with
/// another key, or expired.
fn tokens(
    found: &Found,
    rules: &[TokenRule],
    authority: &Authority,
    random: &mut Random,
) -> Vec<(String, Token)> {
    let mut issuers: Vec<String> = vec!["https://issuer.test".to_owned()];
    let mut subjects: Vec<String> = vec!["subject".to_owned()];
    for value in &found.request_principals {
        for text in texts(value) {
            match text.rsplit_once('/') {
                Some((issuer, subject)) => {
                    issuers.push(issuer.to_owned());
                    subjects.push(subject.to_owned());
                }
                None => {
                    issuers.push(text.clone());
                    subjects.push(text);
                }
            }
        }
    }
    let none = Vec::new();
    let issuer_claims = found.claims.get(&vec!["iss".to_owned()]).unwrap_or(&none);
    issuers.extend(all_texts(issuer_claims, &[]));
    issuers.retain(|text| !text.is_empty());
    if !rules.is_empty() {
        let others = issuers.iter().take(3).cloned();
        let own = rules.iter().flat_map(|rule| vec![rule.issuer.clone(); 3]);
        issuers = others.chain(own).collect();
    }
    let audiences = ["orders", "payments", "others"].map(str::to_owned);
    let mut list = Vec::new();
    for _ in 0..120 {
        let mut claims = json!({"iss": random.of(&issuers)});
        let mut token = Token::default();
        let issuer = claims["iss"].as_str().unwrap().to_owned();
        token.claims.insert(vec!["iss".to_owned()], vec![issuer]);
        if !random.one_in(5) {
            let subject = random.of(&subjects).clone();
            claims["sub"] = subject.clone().into();
            token.claims.insert(vec!["sub".to_owned()], vec![subject]);
        }
        for (path, values) in &found.claims {
            if path == &["iss"] || path == &["sub"] || random.one_in(5) {
                continue;
            }
            let values = all_texts(values, &["other"]);
            let (one, other) = (random.of(&values).clone(), random.of(&values).clone());
            let (value, meant) = match random.below(if path == &["aud"] { 4 } else { 5 }) {
                0 | 1 => (json!(one), vec![one]),
                2 => (json!([one, other]), vec![one, other]),
                3 => (json!([]), Vec::new()),
                _ => (json!(7), Vec::new()),
            };
            nest(&mut claims, path, value);
            token.claims.insert(path.clone(), meant);
        }
        let mut key = TOKEN_KEYS[0];
        if !rules.is_empty() {
            if random.one_in(12) {
                claims.as_object_mut().unwrap().remove("iss");
                token.claims.remove(&vec!["iss".to_owned()]);
            }
            let (one, other) = (random.of(&audiences).clone(), random.of(&audiences).clone());
            let (value, meant) = match random.below(4) {
                0 => (json!(one), vec![one]),
                1 | 2 => (json!([one, other]), vec![one, other]),
                _ => (json!([]), Vec::new()),
            };
            claims["aud"] = value;
            token.claims.insert(vec!["aud".to_owned()], meant);
            key = TOKEN_KEYS[random.below(TOKEN_KEYS.len())];
            let expired = random.one_in(6);
            if expired {
                claims["exp"] = json!(1_000_000_000);
            }
            let fails = TOKEN_KEYS.iter().filter(|other| expired || **other != key);
            token.fails = fails.map(ToString::to_string).collect();
        }
        list.push((authority.sign(key, &claims), token));
    }
    list
}

fn nest(object: &mut Value, path: &[String], value: Value) {
    match path {
        [] => *object = value,
        [first, rest @ ..] => nest(&mut object[first.as_str()], rest, value),
    }
}
