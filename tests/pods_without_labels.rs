//! A pod without any label takes every selector policy at ztunnel; a Job's pods have labels of the Job.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use castoff::mesh::{Mesh, MeshOverrides, WorkloadId};
use castoff::prove::{Attachments, Caller, CallerMode, Content, Dial, Server, hops};
use castoff::source::{Collector, Place};

/// The policies at the ztunnel of the pods of one workload without labels of its own.
fn policies(object: &str) -> usize {
    let mut collector = Collector::new();
    for (file, text) in &castoff::demo::FILES[..2] {
        collector.add_text(&Place::Demo(file), text);
    }
    let text = format!(
        "apiVersion: v1
kind: Namespace
metadata: {{name: modern, labels: {{istio.io/dataplane-mode: ambient}}}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: others, namespace: modern}}
spec:
  selector: {{matchLabels: {{app: other}}}}
---
{object}"
    );
    collector.add_text(&Place::File("more.yaml".into()), &text);
    let snapshot = collector.finish();
    assert!(snapshot.problems.is_empty(), "{:?}", snapshot.problems);
    let mesh = Mesh::build(&snapshot, &MeshOverrides::default());
    let index = mesh
        .workloads
        .iter()
        .position(|one| one.name.name == "lonely")
        .unwrap();
    let server = Server {
        workload: WorkloadId(index),
        generation: 0,
        port: 8080,
    };
    let caller = Caller {
        workload: None,
        mode: CallerMode::Ambient,
        principal: Some("cluster.local/ns/modern/sa/web".to_owned()),
    };
    let attachments = Attachments::of(&mesh);
    let hops = hops(
        &mesh,
        &attachments,
        &caller,
        Dial::Pod,
        server,
        Content::Bytes,
    );
    hops.iter().map(|hop| hop.point.policies.len()).sum()
}

/// istio pkg/kube/krt/filter.go `Matches`: a nil map of labels is no filter.
#[test]
fn only_a_pod_of_its_own_can_be_without_labels() {
    let pod = "apiVersion: v1
kind: Pod
metadata: {name: lonely, namespace: modern}
spec: {containers: [{name: app, image: app}]}
";
    assert_eq!(policies(pod), 1);
    let job = "apiVersion: batch/v1
kind: Job
metadata: {name: lonely, namespace: modern}
spec: {template: {spec: {containers: [{name: app, image: app}]}}}
---
apiVersion: v1
kind: Pod
metadata:
  name: lonely-x7k2p
  namespace: modern
  labels: {job-name: lonely, controller-uid: '1'}
  ownerReferences: [{apiVersion: batch/v1, kind: Job, name: lonely, controller: true}]
spec: {containers: [{name: app, image: app}]}
";
    assert_eq!(policies(job), 0);
}
