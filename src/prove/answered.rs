//! Questions that were asked before of another server, and whether their answer was *same*.
//!
//! In: a comparison. Out: its verdict. Invariant: two comparisons are taken for one only where they are
//! equal but for names (of servers, Services, waypoints, policies), for which identity is which, and for
//! numbers of ports that no policy reads, and where nothing on their paths reads a part of a name.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, PoisonError, RwLock};

use castoff_authz::path::{
    EnforcementPath, HttpSeen, IpSeen, Point, PointKind, PortSeen, PrincipalSeen, Seen, SniSeen,
};
use castoff_authz::policy::{Action, Condition, Key, Policy, Rule, Source};
use castoff_authz::settings::Settings;
use castoff_authz::verdict::{self, Comparison, Finding, Identities, Limits, Verdict};
use rustc_hash::FxBuildHasher;

/// Questions that are kept.
const MOST: usize = 100_000;

/// What was asked, without names, and whether the answer was *same*.
#[derive(Debug, Default)]
pub(super) struct Answered(RwLock<HashMap<Box<[u8]>, bool, FxBuildHasher>>);

impl Answered {
    /// The verdict of a comparison.
    pub(super) fn compare(&self, comparison: &Comparison, limits: Limits) -> Verdict {
        let shape = shape(comparison);
        let known = shape.as_ref().and_then(|shape| self.known(shape));
        if known == Some(true) {
            let same = Verdict {
                opens: Finding::Never,
                breaks: Finding::Never,
            };
            debug_assert_eq!(
                verdict::compare(comparison, limits),
                same,
                "a question of the same shape was answered otherwise"
            );
            return same;
        }
        let verdict = verdict::compare(comparison, limits);
        debug_assert!(known.is_none() || !verdict.is_same());
        self.learn(shape, verdict.is_same());
        verdict
    }

    /// Whether the verdict is *same*.
    pub(super) fn is_same(&self, comparison: &Comparison, limits: Limits) -> bool {
        let shape = shape(comparison);
        if let Some(known) = shape.as_ref().and_then(|shape| self.known(shape)) {
            debug_assert_eq!(verdict::compare(comparison, limits).is_same(), known);
            return known;
        }
        let is_same = verdict::compare(comparison, limits).is_same();
        self.learn(shape, is_same);
        is_same
    }

    fn known(&self, shape: &[u8]) -> Option<bool> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.get(shape).copied()
    }

    fn learn(&self, shape: Option<Vec<u8>>, is_same: bool) {
        if let Some(shape) = shape {
            let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
            if known.len() < MOST {
                known.insert(shape.into(), is_same);
            }
        }
    }
}

/// A comparison in bytes, with a number in the place of each name; `None` where names may be read in
/// part.
fn shape(comparison: &Comparison) -> Option<Vec<u8>> {
    let paths = || comparison.baseline.iter().chain(&comparison.present);
    let mut writer = Writer {
        bytes: Bytes(Vec::with_capacity(512)),
        names: Vec::new(),
        principals: Vec::new(),
        addresses: Vec::new(),
        ports: paths().all(reads_no_port).then(Vec::new),
        policies: Vec::new(),
        settings: paths().next().map(|path| &path.settings)?,
    };
    let Settings {
        trust_domain_aliases,
        ..
    } = &**writer.settings;
    if !trust_domain_aliases.is_empty() {
        return None;
    }
    comparison.http.hash(&mut writer.bytes);
    comparison.caller.addresses.hash(&mut writer.bytes);
    writer.settings.hash(&mut writer.bytes);
    for paths in [&comparison.baseline, &comparison.present] {
        paths.len().hash(&mut writer.bytes);
        for path in paths {
            writer.path(path)?;
        }
    }
    writer.identities(&comparison.caller.identity)?;
    Some(writer.bytes.0)
}

/// Whether no policy on a path says anything of ports: which one it is then decides nothing.
fn reads_no_port(path: &EnforcementPath) -> bool {
    let policies = path.points.iter().flat_map(|point| &point.policies);
    let mut rules = policies.flat_map(|policy| &policy.rules);
    rules.all(|rule| {
        let mut operations = rule.to.iter();
        let mut conditions = rule.when.iter();
        operations.all(|one| one.ports.is_empty() && one.not_ports.is_empty())
            && conditions.all(|one| one.key != Key::DestinationPort)
    })
}

/// Collects what is hashed, so that equal bytes mean equal values.
struct Bytes(Vec<u8>);

impl Hasher for Bytes {
    fn finish(&self) -> u64 {
        0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

struct Writer<'c> {
    bytes: Bytes,
    /// Names by number, in the order of their occurrence.
    names: Vec<(&'c str, &'c str)>,
    principals: Vec<&'c str>,
    addresses: Vec<&'c IpSeen>,
    /// Ports by number, in the order of their occurrence, where no policy reads them.
    ports: Option<Vec<u16>>,
    policies: Vec<*const Policy>,
    settings: &'c Arc<Settings>,
}

impl<'c> Writer<'c> {
    fn name(&mut self, namespace: &'c str, name: &'c str) {
        number(&mut self.names, (namespace, name)).hash(&mut self.bytes);
    }

    fn port(&mut self, port: u16) {
        match &mut self.ports {
            Some(ports) => number(ports, port).hash(&mut self.bytes),
            None => port.hash(&mut self.bytes),
        }
    }

    /// An identity without anything that a proxy could read as a pattern.
    fn principal(&self, text: &str) -> Option<()> {
        let rest = text.strip_prefix(self.settings.trust_domain.as_str())?;
        let (namespace, account) = rest.strip_prefix("/ns/")?.split_once("/sa/")?;
        let plain = |part: &str| {
            let mut bytes = part.bytes();
            !part.is_empty() && bytes.all(|one| one.is_ascii_alphanumeric() || one == b'-')
        };
        (plain(namespace) && plain(account)).then_some(())
    }

    fn principals(&mut self, list: &'c [String]) -> Option<()> {
        list.len().hash(&mut self.bytes);
        for text in list {
            // Anybody who has one.
            if text != "*" {
                self.principal(text)?;
            }
            number(&mut self.principals, text.as_str()).hash(&mut self.bytes);
            (text == "*").hash(&mut self.bytes);
        }
        Some(())
    }

    /// The callers, last: which of them policies name is known then. One that none names is like any
    /// other that none names.
    fn identities(&mut self, identities: &'c Identities) -> Option<()> {
        let (kind, list): (u8, &[String]) = match identities {
            Identities::Only(list) => (0, list),
            Identities::OfTrustDomain { trust_domain, but } => {
                if *trust_domain != self.settings.trust_domain {
                    return None;
                }
                (1, but)
            }
            Identities::Nobody => (2, &[]),
            Identities::Anybody { but } => (3, but),
        };
        kind.hash(&mut self.bytes);
        let mut numbers: Vec<u32> = Vec::with_capacity(list.len());
        for text in list {
            self.principal(text)?;
            let known = self.principals.iter().position(|known| known == text);
            numbers.push(known.map_or(u32::MAX, |at| at as u32));
        }
        numbers.sort_unstable();
        numbers.dedup();
        numbers.hash(&mut self.bytes);
        Some(())
    }

    fn path(&mut self, path: &'c EnforcementPath) -> Option<()> {
        let EnforcementPath {
            address,
            in_use,
            settings,
            points,
        } = path;
        address.kind.hash(&mut self.bytes);
        self.name("", &address.name);
        self.port(address.port);
        in_use.hash(&mut self.bytes);
        if !Arc::ptr_eq(settings, self.settings) && settings != self.settings {
            return None;
        }
        points.len().hash(&mut self.bytes);
        for point in points {
            self.point(point)?;
        }
        Some(())
    }

    fn point(&mut self, point: &'c Point) -> Option<()> {
        let Point {
            name,
            kind,
            policies,
            seen,
            identity_required,
            token_rules,
        } = point;
        self.name("", name);
        if !matches!(kind, PointKind::Envoy { .. } | PointKind::Ztunnel) {
            return None;
        }
        kind.hash(&mut self.bytes);
        identity_required.hash(&mut self.bytes);
        token_rules.hash(&mut self.bytes);
        self.seen(seen)?;
        policies.len().hash(&mut self.bytes);
        for policy in policies {
            let known = self.policies.len() as u32;
            let at = number(&mut self.policies, Arc::as_ptr(policy));
            at.hash(&mut self.bytes);
            if at == known {
                self.policy(policy)?;
            }
        }
        Some(())
    }

    fn seen(&mut self, seen: &'c Seen) -> Option<()> {
        let Seen {
            principal,
            source_ip,
            remote_ip,
            destination_ip,
            destination_port,
            sni,
            http,
            headers_removed,
            headers_set,
        } = seen;
        std::mem::discriminant(principal).hash(&mut self.bytes);
        if let PrincipalSeen::Fixed(text) = principal {
            self.principal(text)?;
            number(&mut self.principals, text.as_str()).hash(&mut self.bytes);
        }
        for (ip, is_destination) in [
            (source_ip, false),
            (remote_ip, false),
            (destination_ip, true),
        ] {
            match ip {
                IpSeen::Of { owner, among } => {
                    u8::MAX.hash(&mut self.bytes);
                    self.name("", owner);
                    among.hash(&mut self.bytes);
                }
                // No policy looks at it, see below, but that two are one address counts.
                IpSeen::Fixed(_) if is_destination => {
                    (u8::MAX - 1).hash(&mut self.bytes);
                    number(&mut self.addresses, ip).hash(&mut self.bytes);
                }
                other => other.hash(&mut self.bytes),
            }
        }
        std::mem::discriminant(destination_port).hash(&mut self.bytes);
        if let PortSeen::Fixed(port) = destination_port {
            self.port(*port);
        }
        match sni {
            SniSeen::Fixed(text) => {
                u8::MAX.hash(&mut self.bytes);
                self.name("sni", text);
            }
            other => other.hash(&mut self.bytes),
        }
        if *http != HttpSeen::AsSent {
            return None;
        }
        headers_removed.hash(&mut self.bytes);
        headers_set.hash(&mut self.bytes);
        Some(())
    }

    fn policy(&mut self, policy: &'c Policy) -> Option<()> {
        let Policy {
            name,
            action,
            dry_run,
            rules,
        } = policy;
        self.name(&name.namespace, &name.name);
        if matches!(action, Action::Custom { .. }) {
            return None;
        }
        action.hash(&mut self.bytes);
        dry_run.hash(&mut self.bytes);
        rules.len().hash(&mut self.bytes);
        for rule in rules {
            let Rule { from, to, when } = rule;
            from.len().hash(&mut self.bytes);
            for source in from {
                self.source(source)?;
            }
            to.hash(&mut self.bytes);
            when.len().hash(&mut self.bytes);
            for condition in when {
                self.condition(condition)?;
            }
        }
        Some(())
    }

    fn source(&mut self, source: &'c Source) -> Option<()> {
        let Source {
            principals,
            not_principals,
            request_principals,
            not_request_principals,
            namespaces,
            not_namespaces,
            service_accounts,
            not_service_accounts,
            trust_domains,
            not_trust_domains,
            ip_blocks,
            not_ip_blocks,
            remote_ip_blocks,
            not_remote_ip_blocks,
        } = source;
        let of_parts = [
            namespaces,
            not_namespaces,
            service_accounts,
            not_service_accounts,
            trust_domains,
            not_trust_domains,
        ];
        if of_parts.iter().any(|list| !list.is_empty()) {
            return None;
        }
        self.principals(principals)?;
        self.principals(not_principals)?;
        for list in [
            request_principals,
            not_request_principals,
            ip_blocks,
            not_ip_blocks,
            remote_ip_blocks,
            not_remote_ip_blocks,
        ] {
            list.hash(&mut self.bytes);
        }
        Some(())
    }

    fn condition(&mut self, condition: &'c Condition) -> Option<()> {
        let Condition {
            key,
            values,
            not_values,
        } = condition;
        key.hash(&mut self.bytes);
        match key {
            Key::SourcePrincipal => {
                self.principals(values)?;
                self.principals(not_values)
            }
            Key::SourceNamespace
            | Key::SourceServiceAccount
            | Key::SourceTrustDomain
            | Key::DestinationIp
            | Key::ConnectionSni
            | Key::Experimental(_)
            | Key::Invalid(_) => None,
            Key::RequestHeader(_)
            | Key::SourceIp
            | Key::RemoteIp
            | Key::RequestAuthPrincipal
            | Key::RequestAuthAudiences
            | Key::RequestAuthPresenter
            | Key::RequestAuthClaim(_)
            | Key::DestinationPort => {
                values.hash(&mut self.bytes);
                not_values.hash(&mut self.bytes);
                Some(())
            }
        }
    }
}

/// The place of a value in a list of what occurred, put there if it is new.
fn number<T: PartialEq>(list: &mut Vec<T>, value: T) -> u32 {
    let known = list.iter().position(|known| *known == value);
    let at = known.unwrap_or_else(|| {
        list.push(value);
        list.len() - 1
    });
    at as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use castoff_authz::path::{Address, AddressKind, Protocol, Proxy};
    use castoff_authz::policy::Operation;
    use castoff_authz::settings::Release;
    use castoff_authz::verdict::Caller;

    /// A server whose sidecar lets somebody in, and whose ztunnel then does.
    fn question(server: &str, source: Source, caller: &str) -> Comparison {
        let rule = Rule {
            from: vec![source],
            ..Rule::default()
        };
        let policy = Arc::new(Policy::new("shop", server, Action::Allow, vec![rule]));
        let release = Release {
            minor: 30,
            patch: 0,
        };
        let settings = Arc::new(Settings::of(release));
        let path = |kind| {
            let mut point = Point::new(kind, server);
            point.policies = vec![Arc::clone(&policy)];
            vec![EnforcementPath {
                address: Address {
                    kind: AddressKind::Service,
                    name: server.to_owned(),
                    port: 80,
                },
                in_use: true,
                settings: Arc::clone(&settings),
                points: vec![point],
            }]
        };
        Comparison {
            caller: Caller::workload(caller),
            http: true,
            baseline: path(PointKind::Envoy {
                proxy: Proxy::Sidecar,
                protocol: Protocol::Http,
            }),
            present: path(PointKind::Ztunnel),
        }
    }

    fn from(principal: &str) -> Source {
        Source {
            principals: vec![principal.to_owned()],
            ..Source::default()
        }
    }

    const WEB: &str = "cluster.local/ns/shop/sa/web";
    const BATCH: &str = "cluster.local/ns/jobs/sa/batch";

    #[test]
    fn servers_that_differ_in_names_alone_are_one_question() {
        let known = shape(&question("orders", from(WEB), WEB));
        assert!(known.is_some());
        assert_eq!(known, shape(&question("cart", from(BATCH), BATCH)));
        assert_ne!(known, shape(&question("orders", from(WEB), BATCH)));
        assert_ne!(known, shape(&question("orders", from("*"), WEB)));
    }

    #[test]
    fn what_reads_a_part_of_a_name_is_asked_each_time() {
        let namespace = Source {
            namespaces: vec!["shop".to_owned()],
            ..Source::default()
        };
        assert_eq!(shape(&question("orders", namespace, WEB)), None);
        for pattern in [
            "cluster.local/ns/shop/*",
            "*/sa/web",
            "cluster.local/ns/s.p/sa/web",
        ] {
            assert_eq!(shape(&question("orders", from(pattern), WEB)), None);
        }
    }

    #[test]
    fn which_port_it_is_is_part_of_a_question_where_a_policy_reads_it() {
        let at = |port: u16, rule: Rule| {
            let mut asked = question("orders", Source::default(), WEB);
            let policy = Arc::new(Policy::new("shop", "orders", Action::Allow, vec![rule]));
            for path in asked.baseline.iter_mut().chain(&mut asked.present) {
                path.address.port = port;
                for point in &mut path.points {
                    point.seen.destination_port = PortSeen::Fixed(port);
                    point.policies = vec![Arc::clone(&policy)];
                }
            }
            shape(&asked).expect("a question of that kind has a shape")
        };
        let whichever = Rule::default();
        assert_eq!(at(80, whichever.clone()), at(8080, whichever));
        let to = Rule {
            to: vec![Operation {
                ports: vec!["8080".to_owned()],
                ..Operation::default()
            }],
            ..Rule::default()
        };
        assert_ne!(at(80, to.clone()), at(8080, to));
        let when = Rule {
            when: vec![Condition {
                key: Key::DestinationPort,
                values: vec!["8080".to_owned()],
                not_values: Vec::new(),
            }],
            ..Rule::default()
        };
        assert_ne!(at(80, when.clone()), at(8080, when));
    }

    #[test]
    fn a_known_answer_is_given_again() {
        let answered = Answered::default();
        let limits = Limits::default();
        let first = answered.compare(&question("orders", from(WEB), WEB), limits);
        assert!(first.is_same());
        assert_eq!(answered.0.read().map(|known| known.len()).ok(), Some(1));
        let second = answered.compare(&question("cart", from(BATCH), BATCH), limits);
        assert_eq!(first, second);
        assert_eq!(answered.0.read().map(|known| known.len()).ok(), Some(1));
    }
}
