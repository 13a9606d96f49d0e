//! Port numbers of pods to port numbers of a Service.
//!
//! In: the rules of an AuthorizationPolicy and a Service. Out: rules that say the same at the
//! Service's waypoint, where the port is the one that the client dialled
//! (istio pilot/pkg/networking/core/listener_waypoint.go `buildWaypointInternal`), and at a
//! sidecar the pod's. Invariant: a number that cannot be translated without doubt is an error, and
//! numbers that mean the same in both worlds stay as written.

use serde_json::{Map, Value, json};

use super::Trap;
use crate::mesh::Service;

/// Rules for a Service's waypoint.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Translated {
    /// The whole `spec`, ports translated.
    pub(super) spec: Map<String, Value>,
    /// Whether anything had to be changed.
    pub(super) changed: bool,
    /// Whether rules were there and none is left: none can match at this Service.
    pub(super) no_rule_left: bool,
    /// Fields with ports that no port of this Service leads to.
    pub(super) elsewhere: Vec<(String, String)>,
}

/// Why ports could not be translated.
#[derive(Debug, PartialEq)]
pub(super) struct PortProblem {
    pub(super) trap: Trap,
    pub(super) field: String,
    pub(super) reason: String,
}

/// Translates the ports of a policy's `spec`.
pub(super) fn translate(spec: &Value, service: &Service) -> Result<Translated, PortProblem> {
    let mut result = Translated {
        spec: spec.as_object().cloned().unwrap_or_default(),
        ..Translated::default()
    };
    let Some(rules) = spec["rules"].as_array() else {
        return Ok(result);
    };
    let mut kept = Vec::with_capacity(rules.len());
    for (index, rule) in rules.iter().enumerate() {
        match rule_for(service, rule, index, &mut result)? {
            Some(rule) => kept.push(rule),
            None => result.changed = true,
        }
    }
    result.no_rule_left = !rules.is_empty() && kept.is_empty();
    if result.changed {
        result.spec.insert("rules".to_owned(), Value::Array(kept));
    }
    Ok(result)
}

/// The rule for this Service; `None` when it can match none of its ports.
fn rule_for(
    service: &Service,
    rule: &Value,
    index: usize,
    result: &mut Translated,
) -> Result<Option<Value>, PortProblem> {
    let mut rule = rule.clone();
    if let Some(operations) = rule.get_mut("to").and_then(Value::as_array_mut) {
        let had_any = !operations.is_empty();
        let mut kept = Vec::with_capacity(operations.len());
        for (at, mut entry) in std::mem::take(operations).into_iter().enumerate() {
            let path = format!("spec.rules[{index}].to[{at}].operation");
            if let Some(operation) = entry.get_mut("operation").and_then(Value::as_object_mut)
                && !fields_for(service, operation, ("ports", "notPorts"), &path, result)?
            {
                result.changed = true;
                continue;
            }
            kept.push(entry);
        }
        let none_left = kept.is_empty();
        *operations = kept;
        if had_any && none_left {
            return Ok(None);
        }
    }
    for (at, condition) in rule
        .get_mut("when")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
        .enumerate()
    {
        if condition["key"] != "destination.port" {
            continue;
        }
        let path = format!("spec.rules[{index}].when[{at}]");
        if let Some(condition) = condition.as_object_mut()
            && !fields_for(service, condition, ("values", "notValues"), &path, result)?
        {
            return Ok(None);
        }
    }
    Ok(Some(rule))
}

/// Puts Service ports in place of pod ports; `false` when no port of the Service is meant.
fn fields_for(
    service: &Service,
    fields: &mut Map<String, Value>,
    (positive, negative): (&str, &str),
    path: &str,
    result: &mut Translated,
) -> Result<bool, PortProblem> {
    let wanted = numbers(fields.get(positive), path, positive)?;
    let excluded = numbers(fields.get(negative), path, negative)?;
    if wanted.is_empty() && excluded.is_empty() {
        return Ok(true);
    }
    let at_pods =
        |port: u16| (wanted.is_empty() || wanted.contains(&port)) && !excluded.contains(&port);
    let mut meant = Vec::new();
    let mut same = true;
    for (index, port) in service.ports.iter().enumerate() {
        let mut answers: Vec<bool> = service
            .backends
            .iter()
            .filter_map(|backend| *backend.target_ports.get(index)?)
            .map(at_pods)
            .collect();
        answers.sort_unstable();
        answers.dedup();
        let matches = match answers[..] {
            [] => false,
            [one] => one,
            _ => {
                return Err(PortProblem {
                    trap: Trap::AmbiguousPort,
                    field: path.to_owned(),
                    reason: format!(
                        "port {} of Service {} leads to different ports of its pods, and the policy \
                         names only some of them",
                        port.port, service.name
                    ),
                });
            }
        };
        if matches {
            meant.push(port.port);
        }
        same &= matches == at_pods(port.port);
    }
    for port in &wanted {
        let reached = service
            .backends
            .iter()
            .any(|backend| backend.target_ports.contains(&Some(*port)));
        if !reached {
            result
                .elsewhere
                .push((format!("{path}.{positive}"), port.to_string()));
        }
    }
    if same && !meant.is_empty() {
        return Ok(true);
    }
    if meant.is_empty() {
        return Ok(false);
    }
    meant.sort_unstable();
    meant.dedup();
    let meant: Vec<String> = meant.iter().map(u16::to_string).collect();
    fields.remove(negative);
    fields.insert(positive.to_owned(), json!(meant));
    result.changed = true;
    Ok(true)
}

fn numbers(list: Option<&Value>, path: &str, field: &str) -> Result<Vec<u16>, PortProblem> {
    list.and_then(Value::as_array)
        .into_iter()
        .flatten()
        .enumerate()
        .map(|(index, value)| {
            let number = match value {
                Value::String(text) => text.parse().ok(),
                Value::Number(number) => number.as_u64().and_then(|one| u16::try_from(one).ok()),
                _ => None,
            };
            number.ok_or_else(|| PortProblem {
                trap: Trap::NotUnderstood,
                field: format!("{path}.{field}[{index}]"),
                reason: format!("`{value}` is no port number"),
            })
        })
        .collect()
}
