//! What istiod makes of policies for an Envoy: sidecar, waypoint or gateway.
//!
//! In come policies, out comes the chain. Written from istio/istio `pilot/pkg/security/authz`
//! (`model/model.go`, `model/generator.go`, `matcher/*.go`, `builder/builder.go`) and
//! `pilot/pkg/security/trustdomain/bundle.go`. Invariant: a value that istiod cannot translate takes
//! its whole ALLOW rule with it, and only itself out of a DENY or CUSTOM rule (`model.go:checkError`).

mod forms;
mod stages;

use std::borrow::Cow;

use crate::enforced::{Clause, EnforcedRule, Entry, Part, Predicate, Test, Value, port};
use crate::ip::IpBlock;
use crate::policy::{Action, Condition, Key, Operation, Policy, Rule, Source};
use crate::settings::Settings;
use crate::text::{Piece, Set, Shape, Text};

use forms::{identity, literal, template, trust_domain, with_aliases};
pub(crate) use stages::{custom, decides};

/// One rule of a policy as enforced; `None`: istiod drops it.
pub(crate) fn rule<'a>(
    policy: &'a Policy,
    index: usize,
    settings: &'a Settings,
    tcp: bool,
) -> Option<EnforcedRule<'a>> {
    let translation = Translation {
        policy,
        settings,
        tcp,
    };
    let clauses = translation.clauses(&policy.rules[index]).ok()?;
    Some(EnforcedRule { index, clauses })
}

/// Why a value cannot be translated; what follows depends on the action.
struct Untranslatable;

/// Why a rule is not enforced.
struct RuleDropped;

struct Translation<'a> {
    policy: &'a Policy,
    settings: &'a Settings,
    tcp: bool,
}

type Translator<'a> = fn(&Translation<'a>, &'a str) -> Result<Predicate<'a>, Untranslatable>;

impl<'a> Translation<'a> {
    /// `model.go:New`: from entries are ORed, to entries are ORed, every `when` is folded into each
    /// of them; that is the AND of a from clause, a to clause and one clause for each when.
    fn clauses(&self, rule: &'a Rule) -> Result<Vec<Clause<'a>>, RuleDropped> {
        let mut clauses = Vec::new();
        let mut add = |part, entries: Vec<Entry<'a>>| {
            if entries.iter().all(|entry| !entry.tests.is_empty()) && !entries.is_empty() {
                clauses.push(Clause { part, entries });
            }
        };
        let from = rule.from.iter().enumerate();
        let from = from.map(|(index, source)| Ok(entry(index, self.source(source)?)));
        add(Part::From, from.collect::<Result<_, _>>()?);
        let to = rule.to.iter().enumerate();
        let to = to.map(|(index, operation)| Ok(entry(index, self.operation(operation)?)));
        add(Part::To, to.collect::<Result<_, _>>()?);
        for (index, condition) in rule.when.iter().enumerate() {
            add(
                Part::When(index),
                vec![entry(0, self.condition(condition)?)],
            );
        }
        Ok(clauses)
    }

    fn source(&self, source: &'a Source) -> Result<Vec<Test<'a>>, RuleDropped> {
        let mut tests = Vec::new();
        // Releases before 1.31 do not have the field: the schema prunes it.
        let none: &'a [String] = &[];
        let domains = self.settings.behaviour.trust_domains;
        let (trust_domains, not_trust_domains) = if domains {
            (
                source.trust_domains.as_slice(),
                source.not_trust_domains.as_slice(),
            )
        } else {
            (none, none)
        };
        self.principals(&mut tests, "principals", None, false, &source.principals)?;
        self.principals(
            &mut tests,
            "notPrincipals",
            None,
            true,
            &source.not_principals,
        )?;
        let fields: [(&'static str, bool, &'a [String], Translator<'a>); 10] = [
            (
                "requestPrincipals",
                false,
                &source.request_principals,
                Self::request_principal,
            ),
            (
                "notRequestPrincipals",
                true,
                &source.not_request_principals,
                Self::request_principal,
            ),
            (
                "serviceAccounts",
                false,
                &source.service_accounts,
                Self::service_account,
            ),
            (
                "notServiceAccounts",
                true,
                &source.not_service_accounts,
                Self::service_account,
            ),
            ("namespaces", false, &source.namespaces, Self::namespace),
            (
                "notNamespaces",
                true,
                &source.not_namespaces,
                Self::namespace,
            ),
            (
                "remoteIpBlocks",
                false,
                &source.remote_ip_blocks,
                Self::remote_ip,
            ),
            (
                "notRemoteIpBlocks",
                true,
                &source.not_remote_ip_blocks,
                Self::remote_ip,
            ),
            ("ipBlocks", false, &source.ip_blocks, Self::source_ip),
            ("notIpBlocks", true, &source.not_ip_blocks, Self::source_ip),
        ];
        for (field, negated, values, translate) in fields {
            self.test(&mut tests, field, None, negated, values, translate)?;
        }
        self.trust_domains(&mut tests, "trustDomains", None, false, trust_domains)?;
        self.trust_domains(&mut tests, "notTrustDomains", None, true, not_trust_domains)?;
        Ok(tests)
    }

    fn operation(&self, operation: &'a Operation) -> Result<Vec<Test<'a>>, RuleDropped> {
        let mut tests = Vec::new();
        let fields: [(&'static str, bool, &'a [String], Translator<'a>); 8] = [
            ("hosts", false, &operation.hosts, Self::host),
            ("notHosts", true, &operation.not_hosts, Self::host),
            ("methods", false, &operation.methods, Self::method),
            ("notMethods", true, &operation.not_methods, Self::method),
            ("paths", false, &operation.paths, Self::path),
            ("notPaths", true, &operation.not_paths, Self::path),
            ("ports", false, &operation.ports, Self::port),
            ("notPorts", true, &operation.not_ports, Self::port),
        ];
        for (field, negated, values, translate) in fields {
            self.test(&mut tests, field, None, negated, values, translate)?;
        }
        Ok(tests)
    }

    /// An unknown key makes the rule invalid (`model.go:New`, "unknown attribute"); a known key with a
    /// malformed name is a value that cannot be translated.
    fn condition(&self, condition: &'a Condition) -> Result<Vec<Test<'a>>, RuleDropped> {
        let key = &condition.key;
        let malformed: Translator<'a> = |_, _| Err(Untranslatable);
        let translate: Translator<'a> = match key {
            Key::Invalid(text)
                if text.starts_with("request.headers")
                    || text.starts_with("request.auth.claims") =>
            {
                malformed
            }
            Key::Invalid(_) => return Err(RuleDropped),
            Key::SourceTrustDomain if !self.settings.behaviour.trust_domains => {
                return Err(RuleDropped);
            }
            Key::Experimental(text) if !text.contains('[') => malformed,
            Key::RequestHeader(_) | Key::RequestAuthClaim(_) | Key::Experimental(_) => malformed,
            Key::SourceIp => Self::source_ip,
            Key::RemoteIp => Self::remote_ip,
            Key::SourceNamespace => Self::namespace,
            Key::SourceServiceAccount => Self::service_account,
            Key::SourcePrincipal | Key::SourceTrustDomain => malformed,
            Key::RequestAuthPrincipal => Self::request_principal,
            Key::RequestAuthAudiences => {
                |this, text| this.claim(vec!["aud".to_owned()].into(), text)
            }
            Key::RequestAuthPresenter => {
                |this, text| this.claim(vec!["azp".to_owned()].into(), text)
            }
            Key::DestinationIp => Self::destination_ip,
            Key::DestinationPort => Self::port,
            Key::ConnectionSni => |_, text| Ok(Predicate::Sni(Text::wildcard(text))),
        };
        let mut tests = Vec::new();
        for (field, negated, values) in [
            ("values", false, &condition.values),
            ("notValues", true, &condition.not_values),
        ] {
            match key {
                Key::SourcePrincipal => {
                    self.principals(&mut tests, field, Some(key), negated, values)?
                }
                Key::SourceTrustDomain => {
                    self.trust_domains(&mut tests, field, Some(key), negated, values)?
                }
                Key::RequestHeader(name) => {
                    let translate = |text| self.header(name, text);
                    self.test_with(&mut tests, field, Some(key), negated, values, translate)?;
                }
                Key::RequestAuthClaim(path) => {
                    let translate = |text| self.claim(Cow::Borrowed(path), text);
                    self.test_with(&mut tests, field, Some(key), negated, values, translate)?;
                }
                Key::Experimental(name) if name.contains('[') => {
                    let translate = |_| Ok(Predicate::Unknown(name.into()));
                    self.test_with(&mut tests, field, Some(key), negated, values, translate)?;
                }
                _ => self.test(&mut tests, field, Some(key), negated, values, translate)?,
            }
        }
        Ok(tests)
    }

    fn test(
        &self,
        tests: &mut Vec<Test<'a>>,
        field: &'static str,
        key: Option<&'a Key>,
        negated: bool,
        values: &'a [String],
        translate: Translator<'a>,
    ) -> Result<(), RuleDropped> {
        self.test_with(tests, field, key, negated, values, |text| {
            translate(self, text)
        })
    }

    fn test_with(
        &self,
        tests: &mut Vec<Test<'a>>,
        field: &'static str,
        key: Option<&'a Key>,
        negated: bool,
        values: &'a [String],
        translate: impl Fn(&'a str) -> Result<Predicate<'a>, Untranslatable>,
    ) -> Result<(), RuleDropped> {
        let mut translated = Vec::with_capacity(values.len());
        for text in values {
            match translate(text) {
                Ok(predicate) => translated.push(Value { text, predicate }),
                Err(Untranslatable) if self.policy.action == Action::Allow => {
                    return Err(RuleDropped);
                }
                Err(Untranslatable) => {}
            }
        }
        if !translated.is_empty() {
            tests.push(Test {
                field,
                key,
                negated,
                values: translated,
            });
        }
        Ok(())
    }

    /// `generator.go:srcPrincipalGenerator` after `bundle.go:ReplaceTrustDomainAliases`. Without TLS no
    /// identity matches (Envoy `rbac/matchers.cc:AuthenticatedMatcher`).
    fn principals(
        &self,
        tests: &mut Vec<Test<'a>>,
        field: &'static str,
        key: Option<&'a Key>,
        negated: bool,
        values: &'a [String],
    ) -> Result<(), RuleDropped> {
        let mut translated = Vec::with_capacity(values.len());
        for text in values {
            let behaviour = self.settings.behaviour;
            let own = |rest: &str| rest.starts_with('/');
            let no_aliases = self.settings.trust_domain_aliases.is_empty();
            if no_aliases
                && text
                    .strip_prefix(&self.settings.trust_domain)
                    .is_some_and(own)
            {
                // Most principals by far: there is nothing to expand.
                let predicate = identity(text.into(), behaviour, text);
                translated.push(Value { text, predicate });
                continue;
            }
            for principal in with_aliases(text, self.settings) {
                let predicate = identity(principal, behaviour, text);
                translated.push(Value { text, predicate });
            }
        }
        push(tests, field, key, negated, translated);
        Ok(())
    }

    /// `generator.go:srcTrustDomainGenerator` after `bundle.go:ExpandTrustDomainAliases`.
    fn trust_domains(
        &self,
        tests: &mut Vec<Test<'a>>,
        field: &'static str,
        key: Option<&'a Key>,
        negated: bool,
        values: &'a [String],
    ) -> Result<(), RuleDropped> {
        let mut translated = Vec::with_capacity(values.len());
        let settings = self.settings;
        let known: Vec<&'a str> = std::iter::once(&settings.trust_domain)
            .chain(&settings.trust_domain_aliases)
            .map(String::as_str)
            .collect();
        for text in values {
            let meant = if known.contains(&text.as_str()) {
                known.as_slice()
            } else {
                &[text.as_str()]
            };
            for domain in meant {
                let predicate = Predicate::Identity(trust_domain(domain));
                translated.push(Value { text, predicate });
            }
        }
        push(tests, field, key, negated, translated);
        Ok(())
    }

    /// `generator.go:srcNamespaceGenerator`: the regular expression `.*/ns/<value>/.*`, in which every
    /// `*` of the value is `.*`.
    fn namespace(&self, text: &'a str) -> Result<Predicate<'a>, Untranslatable> {
        let quoted = self.settings.behaviour.quotes_namespaces;
        let mut pieces = vec![Piece::Many(Set::Any), Piece::Literal("/ns/".into())];
        for (index, part) in text.split('*').enumerate() {
            if index > 0 {
                pieces.push(Piece::Many(Set::Any));
            }
            match literal(part, quoted) {
                Some(part) => pieces.extend(part),
                None => return Ok(Predicate::Unknown("namespaces".into())),
            }
        }
        pieces.extend([Piece::Literal("/".into()), Piece::Many(Set::Any)]);
        Ok(Predicate::Identity(Text::new(Shape::Sequences(vec![
            pieces,
        ]))))
    }

    /// `generator.go:serviceAccountRegex`: `spiffe://.+/ns/<ns>/(.+/|)sa/<sa>(/.+)?`.
    fn service_account(&self, text: &'a str) -> Result<Predicate<'a>, Untranslatable> {
        let quoted = self.settings.behaviour.quotes_service_accounts;
        let (namespace, account) = text
            .split_once('/')
            .unwrap_or((self.policy.name.namespace.as_str(), text));
        let (Some(namespace), Some(account)) =
            (literal(namespace, quoted), literal(account, quoted))
        else {
            return Ok(Predicate::Unknown("serviceAccounts".into()));
        };
        let some = || [Piece::One(Set::Any), Piece::Many(Set::Any)];
        let mut sequences = Vec::new();
        for between in [false, true] {
            for after in [false, true] {
                let mut pieces = vec![Piece::Literal("spiffe://".into())];
                pieces.extend(some());
                pieces.push(Piece::Literal("/ns/".into()));
                pieces.extend(namespace.clone());
                pieces.push(Piece::Literal("/".into()));
                if between {
                    pieces.extend(some());
                    pieces.push(Piece::Literal("/".into()));
                }
                pieces.push(Piece::Literal("sa/".into()));
                pieces.extend(account.clone());
                if after {
                    pieces.push(Piece::Literal("/".into()));
                    pieces.extend(some());
                }
                sequences.push(pieces);
            }
        }
        Ok(Predicate::Identity(Text::new(Shape::Sequences(sequences))))
    }

    /// `generator.go:srcIPGenerator`: `direct_remote_ip`, the peer of the connection whatever the headers
    /// say (Envoy `source/extensions/filters/common/rbac/matchers.cc:IPMatcher`).
    fn source_ip(&self, text: &'a str) -> Result<Predicate<'a>, Untranslatable> {
        block(text).map(Predicate::SourceIp)
    }

    /// `remote_ip`, by X-Forwarded-For or PROXY protocol where the proxy believes them. Allowed on TCP
    /// (`generator.go:remoteIPGenerator` does not look at `forTCP`).
    fn remote_ip(&self, text: &'a str) -> Result<Predicate<'a>, Untranslatable> {
        block(text).map(Predicate::RemoteIp)
    }

    /// `generator.go:destIPGenerator`: the local address of the connection.
    fn destination_ip(&self, text: &'a str) -> Result<Predicate<'a>, Untranslatable> {
        block(text).map(Predicate::DestinationIp)
    }

    /// `generator.go:destPortGenerator`: the local port (Envoy `rbac/matchers.cc:PortMatcher`), which is
    /// the container's at a sidecar.
    fn port(&self, text: &'a str) -> Result<Predicate<'a>, Untranslatable> {
        port(text)
            .map(Predicate::DestinationPort)
            .ok_or(Untranslatable)
    }

    /// `matcher/header.go:HostMatcher` on `:authority`, ignoring case. A port in it stays: istiod sets none
    /// of Envoy's `strip_*_host_port` (istio/istio `pilot/pkg/networking`).
    fn host(&self, text: &'a str) -> Result<Predicate<'a>, Untranslatable> {
        self.http_only()?;
        Ok(Predicate::Host(Text::header(text).without_case()))
    }

    /// `generator.go:methodGenerator`: the header `:method`, with case.
    fn method(&self, text: &'a str) -> Result<Predicate<'a>, Untranslatable> {
        self.http_only()?;
        Ok(Predicate::Method(Text::header(text)))
    }

    /// `generator.go:pathGenerator`: a template if it holds `{*}` or `{**}`. Both are matched without query
    /// and fragment (Envoy `source/common/common/matchers.cc:PathMatcher`).
    fn path(&self, text: &'a str) -> Result<Predicate<'a>, Untranslatable> {
        self.http_only()?;
        if !text.contains("{*}") && !text.contains("{**}") {
            return Ok(Predicate::Path(Text::wildcard(text)));
        }
        // Envoy refuses the configuration of a malformed one; what then holds is unknown.
        Ok(template(text).map_or_else(|| Predicate::Unknown("paths".into()), Predicate::Path))
    }

    /// `matcher/header.go:HeaderMatcher`. The name without case, the value with; several headers of one
    /// name are one value, joined by commas (Envoy `source/common/http/header_utility.cc`). Envoy keeps
    /// `host` as `:authority`, and `:path` with its query, which we do not model.
    fn header(&self, name: &'a str, text: &'a str) -> Result<Predicate<'a>, Untranslatable> {
        self.http_only()?;
        let text = Text::header(text);
        let lower: Cow<'a, str> = if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            name.to_ascii_lowercase().into()
        } else {
            name.into()
        };
        Ok(match lower.as_ref() {
            "host" | ":authority" => Predicate::Host(text),
            ":method" => Predicate::Method(text),
            ":path" => Predicate::Unknown("request.headers[:path]".into()),
            _ => Predicate::Header(lower, text),
        })
    }

    /// `generator.go:requestClaimGenerator`: the claim is a matching string or a list with one
    /// (`model/util.go:MetadataListValueMatcherForJWTClaims`); any other kind of value matches nothing
    /// (Envoy `source/common/common/matchers.cc`).
    fn claim(
        &self,
        path: Cow<'a, [String]>,
        text: &'a str,
    ) -> Result<Predicate<'a>, Untranslatable> {
        self.http_only()?;
        Ok(Predicate::Claim(path, Text::wildcard(text)))
    }

    /// `generator.go:requestPrincipalGenerator`: split at the last `/`, issuer and subject both match.
    fn request_principal(&self, text: &'a str) -> Result<Predicate<'a>, Untranslatable> {
        self.http_only()?;
        let some = || Text::new(Shape::NotEmpty);
        let suffix = |text: &'a str| Text::new(Shape::Suffix(text.into()));
        let prefix = |text: &'a str| Text::new(Shape::Prefix(text.into()));
        let split = text.rsplit_once('/');
        let (issuer, subject) = if text == "*" {
            (some(), some())
        } else if let Some(rest) = text.strip_prefix('*') {
            match split {
                Some(("*", subject)) => (some(), Text::exact(subject)),
                Some((issuer, subject)) => (
                    suffix(issuer.strip_prefix('*').unwrap_or(issuer)),
                    Text::exact(subject),
                ),
                None => (some(), suffix(rest)),
            }
        } else if let Some(rest) = text.strip_suffix('*') {
            match split {
                Some((issuer, "*")) => (Text::exact(issuer), some()),
                Some((issuer, subject)) => (
                    Text::exact(issuer),
                    prefix(subject.strip_suffix('*').unwrap_or(subject)),
                ),
                None => (prefix(rest), some()),
            }
        } else {
            let (issuer, subject) = split.unwrap_or((text, ""));
            (Text::exact(issuer), Text::exact(subject))
        };
        Ok(Predicate::RequestPrincipal { issuer, subject })
    }

    fn http_only(&self) -> Result<(), Untranslatable> {
        if self.tcp {
            Err(Untranslatable)
        } else {
            Ok(())
        }
    }
}

fn entry(index: usize, tests: Vec<Test<'_>>) -> Entry<'_> {
    Entry { index, tests }
}

fn push<'a>(
    tests: &mut Vec<Test<'a>>,
    field: &'static str,
    key: Option<&'a Key>,
    negated: bool,
    values: Vec<Value<'a>>,
) {
    if !values.is_empty() {
        tests.push(Test {
            field,
            key,
            negated,
            values,
        });
    }
}

fn block(text: &str) -> Result<IpBlock, Untranslatable> {
    IpBlock::parse(text).ok_or(Untranslatable)
}
