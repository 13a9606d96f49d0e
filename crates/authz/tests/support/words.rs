//! Short words to build policies, points and requests in tests.
#![allow(clippy::unwrap_used, missing_docs, dead_code, unreachable_pub)]

use std::collections::BTreeMap;
use std::sync::Arc;

use castoff_authz::path::{
    Address, AddressKind, EnforcementPath, Point, PointKind, Protocol, Proxy,
};
use castoff_authz::policy::{Action, Condition, Key, Operation, Policy, Rule, Source};
use castoff_authz::request::{Http, Request};
use castoff_authz::settings::{Release, Settings};

pub fn http() -> PointKind {
    PointKind::Envoy {
        proxy: Proxy::Sidecar,
        protocol: Protocol::Http,
    }
}

pub fn tcp() -> PointKind {
    PointKind::Envoy {
        proxy: Proxy::Sidecar,
        protocol: Protocol::Tcp,
    }
}

pub fn settings(change: impl FnOnce(&mut Settings)) -> Arc<Settings> {
    let mut settings = Settings::of(Release {
        minor: 31,
        patch: 0,
    });
    change(&mut settings);
    Arc::new(settings)
}

pub fn point(kind: PointKind, policies: &[Policy]) -> Point {
    let mut point = Point::new(kind, "shop/orders");
    point.policies = policies.iter().cloned().map(Arc::new).collect();
    point
}

pub fn path(points: Vec<Point>) -> EnforcementPath {
    EnforcementPath {
        address: Address {
            kind: AddressKind::Service,
            name: "shop/orders".to_owned(),
            port: 8080,
        },
        in_use: true,
        settings: settings(|_| {}),
        points,
    }
}

/// `GET orders.shop` from `shop/web` at 10.0.0.1, to port 8080.
pub fn get(path: &str) -> Request {
    Request {
        principal: Some("cluster.local/ns/shop/sa/web".to_owned()),
        source_ip: "10.0.0.1".parse().unwrap(),
        forwarded_ip: "10.0.0.1".parse().unwrap(),
        destination_ip: "10.96.0.1".parse().unwrap(),
        destination_port: 8080,
        sni: None,
        http: Some(Http::new("GET", "orders.shop", path)),
        surroundings: BTreeMap::new(),
        answers: BTreeMap::new(),
    }
}

pub fn policy(action: Action, rules: Vec<Rule>) -> Policy {
    Policy::new("shop", "policy", action, rules)
}

pub fn rule(source: &[(&str, &str)], operation_fields: &[(&str, &str)]) -> Rule {
    Rule {
        from: if source.is_empty() {
            vec![]
        } else {
            vec![self::source(source)]
        },
        to: if operation_fields.is_empty() {
            vec![]
        } else {
            vec![operation(operation_fields)]
        },
        when: vec![],
    }
}

pub fn from(fields: &[(&str, &str)]) -> Rule {
    rule(fields, &[])
}

pub fn to(fields: &[(&str, &str)]) -> Rule {
    rule(&[], fields)
}

pub fn when(key: Key, value: &str) -> Rule {
    Rule {
        when: vec![Condition {
            key,
            values: vec![value.to_owned()],
            not_values: vec![],
        }],
        ..Rule::default()
    }
}

pub fn source(fields: &[(&str, &str)]) -> Source {
    let mut source = Source::default();
    for (field, value) in fields {
        let values = match *field {
            "principals" => &mut source.principals,
            "notPrincipals" => &mut source.not_principals,
            "requestPrincipals" => &mut source.request_principals,
            "notRequestPrincipals" => &mut source.not_request_principals,
            "namespaces" => &mut source.namespaces,
            "notNamespaces" => &mut source.not_namespaces,
            "serviceAccounts" => &mut source.service_accounts,
            "notServiceAccounts" => &mut source.not_service_accounts,
            "trustDomains" => &mut source.trust_domains,
            "notTrustDomains" => &mut source.not_trust_domains,
            "ipBlocks" => &mut source.ip_blocks,
            "notIpBlocks" => &mut source.not_ip_blocks,
            "remoteIpBlocks" => &mut source.remote_ip_blocks,
            "notRemoteIpBlocks" => &mut source.not_remote_ip_blocks,
            other => panic!("no source field {other}"),
        };
        values.push((*value).to_owned());
    }
    source
}

pub fn operation(fields: &[(&str, &str)]) -> Operation {
    let mut operation = Operation::default();
    for (field, value) in fields {
        let values = match *field {
            "hosts" => &mut operation.hosts,
            "notHosts" => &mut operation.not_hosts,
            "ports" => &mut operation.ports,
            "notPorts" => &mut operation.not_ports,
            "methods" => &mut operation.methods,
            "notMethods" => &mut operation.not_methods,
            "paths" => &mut operation.paths,
            "notPaths" => &mut operation.not_paths,
            other => panic!("no operation field {other}"),
        };
        values.push((*value).to_owned());
    }
    operation
}
