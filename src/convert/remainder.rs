//! What a DENY from which a waypoint is excepted still says of it: at ports to which the waypoint does not lead.
//!
//! In: a rule as the user wrote it, its sources that except a waypoint, and the ports. Out: one more rule, which
//! stands behind the first. Invariant: both together deny whom the user's rule denies, but the waypoint at these ports.

use std::collections::BTreeSet;

use serde_json::{Value, json};

/// Whether a rule may mean one of these ports.
pub(super) fn means_any(rule: &Value, ports: &BTreeSet<u16>) -> bool {
    let operations = rule["to"].as_array().into_iter().flatten();
    let mut operations = operations.map(|one| &one["operation"]).peekable();
    let by_operation = |operation: &Value| {
        let meant = numbers(&operation["ports"]);
        let not_meant = numbers(&operation["notPorts"]);
        let is_meant = |port| meant.is_empty() || meant.contains(port);
        let mut ports = ports.iter();
        ports.any(|port| is_meant(port) && !not_meant.contains(port))
    };
    (operations.peek().is_none() || operations.any(by_operation))
        && !of_conditions(rule).is_some_and(|meant| meant.is_disjoint(ports))
}

/// What is left of a rule when these ports are taken out, for the sources named (none: the rule has none); `None`
/// where nothing is.
pub(super) fn of(rule: &Value, sources: &BTreeSet<usize>, ports: &BTreeSet<u16>) -> Option<Value> {
    if of_conditions(rule).is_some_and(|meant| meant.is_subset(ports)) {
        return None;
    }
    let mut rest = rule.clone();
    if let Some(Value::Array(from)) = rest.get_mut("from") {
        let mut at = 0..;
        from.retain(|_| at.next().is_some_and(|at| sources.contains(&at)));
    }
    let mut operations = match rule["to"].as_array() {
        Some(list) if !list.is_empty() => list.clone(),
        _ => vec![json!({"operation": {}})],
    };
    operations.retain_mut(|one| {
        let operation = &mut one["operation"];
        let Some(operation) = operation.as_object_mut() else {
            return false;
        };
        if let Some(Value::Array(named)) = operation.get_mut("ports")
            && !named.is_empty()
        {
            named.retain(|port| !number(port).is_some_and(|port| ports.contains(&port)));
            return !named.is_empty();
        }
        let list = operation.entry("notPorts").or_insert_with(|| json!([]));
        let known = numbers(list);
        let more = ports.iter().filter(|port| !known.contains(port));
        if let Value::Array(list) = list {
            list.extend(more.map(|port| Value::from(port.to_string())));
        }
        true
    });
    if operations.is_empty() {
        return None;
    }
    rest["to"] = Value::Array(operations);
    Some(rest)
}

/// The ports that conditions name alone, where they do.
fn of_conditions(rule: &Value) -> Option<BTreeSet<u16>> {
    let conditions = rule["when"].as_array()?.iter();
    let mut named = conditions
        .filter(|one| one["key"] == "destination.port")
        .map(|one| numbers(&one["values"]))
        .filter(|ports| !ports.is_empty());
    named.next()
}

fn numbers(list: &Value) -> BTreeSet<u16> {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(number).collect()
}

fn number(port: &Value) -> Option<u16> {
    port.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_rule_is_all_but_the_ports() {
        let web = json!({"source": {"namespaces": ["web"]}});
        let shop = json!({"source": {"namespaces": ["shop"]}});
        let to = |operation: Value| json!([{ "operation": operation }]);
        let when = |value: &str| json!([{"key": "destination.port", "values": [value]}]);
        for (rule, expected) in [
            (
                json!({"from": [web, shop]}),
                Some(json!({"from": [shop], "to": to(json!({"notPorts": ["8080"]}))})),
            ),
            (
                json!({"from": [web, shop], "to": to(json!({"methods": ["POST"], "notPorts": ["1"]}))}),
                Some(json!({
                    "from": [shop],
                    "to": to(json!({"methods": ["POST"], "notPorts": ["1", "8080"]})),
                })),
            ),
            (
                json!({"from": [web, shop], "to": to(json!({"ports": ["8080", "9090"]}))}),
                Some(json!({"from": [shop], "to": to(json!({"ports": ["9090"]}))})),
            ),
            (
                json!({"from": [web, shop], "to": to(json!({"ports": ["8080"]}))}),
                None,
            ),
            (json!({"from": [web, shop], "when": when("8080")}), None),
            (
                json!({"from": [web, shop], "when": when("9090")}),
                Some(json!({
                    "from": [shop],
                    "to": to(json!({"notPorts": ["8080"]})),
                    "when": when("9090"),
                })),
            ),
        ] {
            let ports = BTreeSet::from([8080]);
            assert_eq!(of(&rule, &BTreeSet::from([1]), &ports), expected, "{rule}");
            assert!(
                expected.is_none_or(|rest| !means_any(&rest, &ports)),
                "{rule}"
            );
        }
    }

    #[test]
    fn a_rule_means_a_port_that_nothing_of_it_leaves_out() {
        let to = |operation: Value| json!({"to": [{"operation": {"ports": ["9090"]}}, { "operation": operation }]});
        let ports = BTreeSet::from([8080]);
        assert!(means_any(&json!({}), &ports));
        assert!(means_any(&to(json!({"methods": ["POST"]})), &ports));
        assert!(!means_any(&to(json!({"notPorts": ["8080"]})), &ports));
        assert!(!means_any(&to(json!({"ports": ["9091"]})), &ports));
        let when = json!({"when": [{"key": "destination.port", "values": ["9090"]}]});
        assert!(!means_any(&when, &ports));
    }
}
