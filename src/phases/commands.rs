//! Commands to copy, as remedies: labels, restarts, patches of pod templates.
//!
//! In: objects of the mesh. Out: [`Remedy`] values. Invariant: a command that changes something
//! lasting comes with the command that takes exactly that back.

use serde_json::{Value, json};

use crate::finding::Remedy;
use crate::mesh::workload::{OwnerKind, Replacement, Workload};

/// One label to set, change or remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelChange {
    /// The label.
    pub key: String,
    /// Its value now; `None` when it is not set.
    pub now: Option<String>,
    /// Its value then; `None` to remove it.
    pub then: Option<String>,
}

impl LabelChange {
    /// Sets a label that has another value, or none, now.
    pub fn set(key: &str, now: Option<&str>, then: &str) -> Self {
        Self {
            key: key.to_owned(),
            now: now.map(str::to_owned),
            then: Some(then.to_owned()),
        }
    }

    /// Removes a label.
    pub fn remove(key: &str, now: &str) -> Self {
        Self {
            key: key.to_owned(),
            now: Some(now.to_owned()),
            then: None,
        }
    }

    /// The change that takes this one back.
    pub fn inverse(&self) -> Self {
        Self {
            key: self.key.clone(),
            now: self.then.clone(),
            then: self.now.clone(),
        }
    }

    fn argument(&self) -> String {
        match &self.then {
            Some(value) => format!("{}={value}", self.key),
            None => format!("{}-", self.key),
        }
    }
}

/// `kubectl label <target> …` and the command that takes it back. `target` is everything between
/// `label` and the labels: `ns app1`, `service -n app1 echo`.
pub fn label(target: &str, changes: &[LabelChange]) -> Remedy {
    let undo: Vec<LabelChange> = changes.iter().map(LabelChange::inverse).collect();
    Remedy::command(label_command(target, changes), label_command(target, &undo))
}

/// The command of [`label`] alone. `kubectl label` refuses to change a value without
/// `--overwrite`.
pub fn label_command(target: &str, changes: &[LabelChange]) -> String {
    let mut command = format!("kubectl label {target}");
    for change in changes {
        command.push(' ');
        command.push_str(&change.argument());
    }
    let overwrites = changes
        .iter()
        .any(|change| change.now.is_some() && change.then.is_some() && change.now != change.then);
    if overwrites {
        command.push_str(" --overwrite");
    }
    command
}

/// Replaces a workload's pods, in the way that its owner knows.
pub fn restart(workload: &Workload) -> Remedy {
    let namespace = &workload.name.namespace;
    let name = &workload.name.name;
    match &workload.replacement {
        Replacement::ByItself => {}
        Replacement::WhenDeleted { selector } => {
            return Remedy::command_without_undo(delete_pods(namespace, selector));
        }
        Replacement::Stopped(why) => return Remedy::Advice(why.to_string()),
    }
    match &workload.owner {
        OwnerKind::Deployment | OwnerKind::StatefulSet | OwnerKind::DaemonSet => {
            Remedy::command_without_undo(format!(
                "kubectl rollout restart {} -n {namespace} {name}",
                resource(&workload.owner).expect("these three kinds have a resource name")
            ))
        }
        OwnerKind::Rollout => Remedy::command_without_undo(format!(
            "kubectl argo rollouts restart -n {namespace} {name}"
        )),
        OwnerKind::ReplicaSet => {
            let pods: Vec<&str> = pod_names(workload).collect();
            if pods.is_empty() {
                Remedy::Advice(format!(
                    "delete the pods of ReplicaSet {namespace}/{name}; it makes new ones"
                ))
            } else {
                Remedy::command_without_undo(format!(
                    "kubectl delete pods -n {namespace} {}",
                    pods.join(" ")
                ))
            }
        }
        OwnerKind::Job => Remedy::Advice(format!(
            "let Job {namespace}/{name} end, or delete it and create it again from its manifest: \
             the pod template of a Job cannot be changed"
        )),
        OwnerKind::CronJob => Remedy::Advice(format!(
            "nothing to restart: the next run of CronJob {namespace}/{name} starts new pods"
        )),
        OwnerKind::Pod => Remedy::Advice(format!(
            "delete Pod {namespace}/{name} and create it again from its manifest (not from the \
             running pod, which holds the injected sidecar)"
        )),
        OwnerKind::Other(kind) => Remedy::Advice(format!(
            "have {kind} {namespace}/{name} replace its pods; castoff does not know how it does that"
        )),
    }
}

/// Deletes pods by their labels, so that their owner makes new ones.
pub fn delete_pods(namespace: &str, selector: &str) -> String {
    // A shell that people type in takes `!` for its own.
    let quote = if selector.contains('!') { "'" } else { "" };
    format!("kubectl delete pods -n {namespace} -l {quote}{selector}{quote}")
}

/// Changes labels of a workload's pod template by a patch of its owner, which lasts over restarts
/// and (but for a CronJob, whose next run takes it up, and for owners whose pods have to be deleted)
/// replaces the pods at once. `None` where the
/// template cannot be changed: Jobs, bare pods, unknown owners.
pub fn patch_template_labels(workload: &Workload, changes: &[LabelChange]) -> Option<Remedy> {
    let resource = resource(&workload.owner)?;
    let namespace = &workload.name.namespace;
    let name = &workload.name.name;
    let command = |changes: &[LabelChange]| {
        let labels = template_labels(changes);
        let template = json!({"spec": {"template": {"metadata": {"labels": labels}}}});
        let patch = if workload.owner == OwnerKind::CronJob {
            json!({"spec": {"jobTemplate": template}})
        } else {
            template
        };
        format!("kubectl patch {resource} -n {namespace} {name} --type=merge -p '{patch}'")
    };
    let undo: Vec<LabelChange> = changes.iter().map(LabelChange::inverse).collect();
    Some(Remedy::command(command(changes), command(&undo)))
}

/// Changes of labels as a JSON merge patch.
pub fn template_labels(changes: &[LabelChange]) -> Value {
    let pairs = changes.iter().map(|change| {
        let value = change
            .then
            .as_ref()
            .map_or(Value::Null, |value| Value::String(value.clone()));
        (change.key.clone(), value)
    });
    Value::Object(pairs.collect())
}

/// The resource name of an owner whose pod template can be changed.
fn resource(owner: &OwnerKind) -> Option<&'static str> {
    match owner {
        OwnerKind::Deployment => Some("deployment"),
        OwnerKind::StatefulSet => Some("statefulset"),
        OwnerKind::DaemonSet => Some("daemonset"),
        OwnerKind::ReplicaSet => Some("replicaset"),
        OwnerKind::CronJob => Some("cronjob"),
        OwnerKind::Rollout => Some("rollouts.argoproj.io"),
        OwnerKind::Job | OwnerKind::Pod | OwnerKind::Other(_) => None,
    }
}

fn pod_names(workload: &Workload) -> impl Iterator<Item = &str> {
    workload
        .generations
        .iter()
        .flat_map(|generation| &generation.pods)
        .map(|pod| pod.name.as_str())
        .filter(|name| !name.is_empty())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;
    use crate::phases::testing::{sidecar_pods, workload};

    fn command(remedy: &Remedy) -> (&str, Option<&str>) {
        match remedy {
            Remedy::Command { run, undo } => (run, undo.as_deref()),
            other => panic!("{other:?} is no command"),
        }
    }

    #[test]
    fn a_label_command_takes_itself_back() {
        let remedy = label(
            "ns app1",
            &[
                LabelChange::remove("istio-injection", "enabled"),
                LabelChange::set("istio.io/dataplane-mode", None, "ambient"),
            ],
        );
        assert_eq!(
            command(&remedy),
            (
                "kubectl label ns app1 istio-injection- istio.io/dataplane-mode=ambient",
                Some("kubectl label ns app1 istio-injection=enabled istio.io/dataplane-mode-")
            )
        );
    }

    #[test]
    fn another_value_is_overwritten_in_both_directions() {
        let remedy = label(
            "service -n app1 echo",
            &[LabelChange::set(
                "istio.io/use-waypoint",
                Some("old"),
                "waypoint",
            )],
        );
        assert_eq!(
            command(&remedy),
            (
                "kubectl label service -n app1 echo istio.io/use-waypoint=waypoint --overwrite",
                Some("kubectl label service -n app1 echo istio.io/use-waypoint=old --overwrite")
            )
        );
    }

    #[test]
    fn every_owner_is_restarted_in_its_own_way() {
        let table = [
            (
                OwnerKind::Deployment,
                "kubectl rollout restart deployment -n app1 echo",
            ),
            (
                OwnerKind::StatefulSet,
                "kubectl rollout restart statefulset -n app1 echo",
            ),
            (
                OwnerKind::DaemonSet,
                "kubectl rollout restart daemonset -n app1 echo",
            ),
            (
                OwnerKind::Rollout,
                "kubectl argo rollouts restart -n app1 echo",
            ),
            (
                OwnerKind::ReplicaSet,
                "kubectl delete pods -n app1 echo-0 echo-1",
            ),
        ];
        for (owner, expected) in table {
            let mut one = workload(owner, "app1", "echo");
            one.generations = vec![sidecar_pods(&["echo-0", "echo-1"])];
            assert_eq!(command(&restart(&one)), (expected, None));
        }
        for owner in [
            OwnerKind::Job,
            OwnerKind::CronJob,
            OwnerKind::Pod,
            OwnerKind::Other("Service.serving.knative.dev".into()),
        ] {
            let one = workload(owner, "app1", "echo");
            assert!(
                matches!(restart(&one), Remedy::Advice(_)),
                "{:?}",
                one.owner
            );
        }
    }

    #[test]
    fn the_template_of_a_cron_job_is_one_level_deeper() {
        let one = workload(OwnerKind::CronJob, "app1", "nightly");
        let remedy = patch_template_labels(
            &one,
            &[LabelChange::remove("sidecar.istio.io/inject", "true")],
        )
        .unwrap();
        assert_eq!(
            command(&remedy),
            (
                "kubectl patch cronjob -n app1 nightly --type=merge -p \
                 '{\"spec\":{\"jobTemplate\":{\"spec\":{\"template\":{\"metadata\":{\"labels\":\
                 {\"sidecar.istio.io/inject\":null}}}}}}}'",
                Some(
                    "kubectl patch cronjob -n app1 nightly --type=merge -p \
                     '{\"spec\":{\"jobTemplate\":{\"spec\":{\"template\":{\"metadata\":{\"labels\":\
                     {\"sidecar.istio.io/inject\":\"true\"}}}}}}}'"
                )
            )
        );
    }

    #[test]
    fn the_template_of_a_job_cannot_be_patched() {
        let one = workload(OwnerKind::Job, "app1", "import");
        let change = LabelChange::remove("sidecar.istio.io/inject", "true");
        assert_eq!(patch_template_labels(&one, &[change]), None);
    }
}
