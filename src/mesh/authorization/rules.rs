//! `spec.rules` of an AuthorizationPolicy.
//!
//! In: one rule as JSON. Out: a [`Rule`]. Invariant: the lists of fields are those of istio/api
//! `security/v1beta1/authorization_policy.proto`, complete; an absent `source` or `operation` does
//! not restrict, as in `pilot/pkg/security/authz/model/model.go:New`.

use castoff_authz::policy::{Condition, Key, Operation, Rule, Source};
use serde_json::Value;

use super::fields::{Reader, join};

pub(super) fn rule(value: &Value, path: &str, reader: &mut Reader) -> Rule {
    reader.known_fields(value, path, &["from", "to", "when"]);
    Rule {
        from: reader.list(&value["from"], &join(path, "from"), source),
        to: reader.list(&value["to"], &join(path, "to"), operation),
        when: reader.list(&value["when"], &join(path, "when"), condition),
    }
}

fn source(entry: &Value, path: &str, reader: &mut Reader) -> Source {
    reader.known_fields(entry, path, &["source"]);
    let mut source = Source::default();
    let fields = [
        ("principals", &mut source.principals),
        ("notPrincipals", &mut source.not_principals),
        ("requestPrincipals", &mut source.request_principals),
        ("notRequestPrincipals", &mut source.not_request_principals),
        ("namespaces", &mut source.namespaces),
        ("notNamespaces", &mut source.not_namespaces),
        ("serviceAccounts", &mut source.service_accounts),
        ("notServiceAccounts", &mut source.not_service_accounts),
        ("trustDomains", &mut source.trust_domains),
        ("notTrustDomains", &mut source.not_trust_domains),
        ("ipBlocks", &mut source.ip_blocks),
        ("notIpBlocks", &mut source.not_ip_blocks),
        ("remoteIpBlocks", &mut source.remote_ip_blocks),
        ("notRemoteIpBlocks", &mut source.not_remote_ip_blocks),
    ];
    lists(&entry["source"], &join(path, "source"), reader, fields);
    source
}

fn operation(entry: &Value, path: &str, reader: &mut Reader) -> Operation {
    reader.known_fields(entry, path, &["operation"]);
    let mut operation = Operation::default();
    let fields = [
        ("hosts", &mut operation.hosts),
        ("notHosts", &mut operation.not_hosts),
        ("ports", &mut operation.ports),
        ("notPorts", &mut operation.not_ports),
        ("methods", &mut operation.methods),
        ("notMethods", &mut operation.not_methods),
        ("paths", &mut operation.paths),
        ("notPaths", &mut operation.not_paths),
    ];
    lists(
        &entry["operation"],
        &join(path, "operation"),
        reader,
        fields,
    );
    operation
}

/// Fills the fields of one source or operation.
fn lists<const N: usize>(
    value: &Value,
    path: &str,
    reader: &mut Reader,
    fields: [(&'static str, &mut Vec<String>); N],
) {
    let known = fields.each_ref().map(|(name, _)| *name);
    reader.known_fields(value, path, &known);
    for (name, texts) in fields {
        let numbers = matches!(name, "ports" | "notPorts");
        *texts = reader.texts(&value[name], &join(path, name), numbers);
    }
}

fn condition(entry: &Value, path: &str, reader: &mut Reader) -> Condition {
    reader.known_fields(entry, path, &["key", "values", "notValues"]);
    let key = reader.text(&entry["key"], &join(path, "key"));
    let key = Key::parse(&key.unwrap_or_default());
    let numbers = key == Key::DestinationPort;
    Condition {
        values: reader.texts(&entry["values"], &join(path, "values"), numbers),
        not_values: reader.texts(&entry["notValues"], &join(path, "notValues"), numbers),
        key,
    }
}
