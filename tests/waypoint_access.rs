//! What waypoints let in. `PILOT_AUTO_ALLOW_WAYPOINT_POLICY`: istiod tells the ztunnels of pods behind a waypoint to let in the
//! waypoint, and so nobody else.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use castoff::mesh::{Mesh, MeshOverrides, WorkloadId};
use castoff::plan::both::with_ambient_generations;
use castoff::prove::rows::{RowVerdict, States, rows};
use castoff::prove::{Attachments, Caller, CallerMode, Content, Dial, Server, hops};
use castoff::source::{Collector, Place};
use castoff_authz::path::IpSeen;
use castoff_authz::verdict::Limits;

/// The demo with a waypoint for the Service storefront, which has no policy.
fn demo(allows_waypoints: bool) -> Mesh {
    let mut collector = Collector::new();
    for (file, text) in &castoff::demo::FILES {
        let bound = "metadata:\n  name: storefront\n  namespace: bookshop\n  labels:\n    istio.io/use-waypoint: \
                     waypoint\nspec:\n  type: ClusterIP";
        let plain =
            "metadata:\n  name: storefront\n  namespace: bookshop\nspec:\n  type: ClusterIP";
        let text = text.replace(plain, bound).replace(
            "clusterIP: 10.96.0.11\n",
            "clusterIP: 10.96.0.11\n  clusterIPs: [10.96.0.11, 'fd00::11']\n",
        );
        collector.add_text(&Place::Demo(file), &text);
    }
    let gateway = "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, namespace: bookshop, labels: {istio.io/waypoint-for: service}}
spec:
  gatewayClassName: istio-waypoint
  listeners: [{name: mesh, port: 15008, protocol: HBONE}]
status:
  addresses: [{type: IPAddress, value: 10.96.0.200}]
  conditions: [{type: Programmed, status: 'True'}]
";
    collector.add_text(&Place::File("more.yaml".into()), gateway);
    let snapshot = collector.finish();
    assert!(snapshot.problems.is_empty(), "{:?}", snapshot.problems);
    let mut mesh = Mesh::build(&snapshot, &MeshOverrides::default());
    if allows_waypoints {
        for istiod in &mut mesh.control_planes {
            let flag = "PILOT_AUTO_ALLOW_WAYPOINT_POLICY";
            istiod.environment.insert(flag.into(), "true".into());
        }
    }
    with_ambient_generations(&mesh, |name| name.name == "storefront")
}

fn storefront(present: &Mesh) -> RowVerdict {
    let mut collector = Collector::new();
    for (file, text) in &castoff::demo::FILES {
        collector.add_text(&Place::Demo(file), text);
    }
    let baseline = Mesh::build(&collector.finish(), &MeshOverrides::default());
    let states = States {
        baseline: &baseline,
        present,
    };
    let rows = rows(&states, Limits::default());
    let mut found = rows.iter().filter(|row| row.server.name == "storefront");
    found.next().unwrap().verdict()
}

#[test]
fn whoever_arrives_past_the_waypoint_is_refused() {
    assert_eq!(storefront(&demo(false)), RowVerdict::Same);
    assert_eq!(storefront(&demo(true)), RowVerdict::Breaks);
}

/// A waypoint has a listener's chain for each address of a Service.
#[test]
fn a_service_of_two_families_is_dialled_at_either_address() {
    let mesh = demo(false);
    let index = mesh
        .workloads
        .iter()
        .position(|one| one.name.name == "storefront");
    let server = Server {
        workload: WorkloadId(index.unwrap()),
        generation: 1,
        port: 8080,
    };
    let (service, _) = mesh.services_of(server.workload).next().unwrap();
    let caller = Caller {
        workload: None,
        mode: CallerMode::Ambient,
        principal: Some("cluster.local/ns/bookshop/sa/web".to_owned()),
    };
    let dial = Dial::Service { service, port: 0 };
    let attachments = Attachments::of(&mesh);
    let hops = hops(&mesh, &attachments, &caller, dial, server, Content::Http);
    assert!(hops[0].is_waypoint);
    assert_eq!(
        hops[0].point.seen.destination_ip,
        IpSeen::Of {
            owner: "Service bookshop/storefront".to_owned(),
            among: vec!["10.96.0.11".parse().unwrap(), "fd00::11".parse().unwrap()],
        }
    );
}
