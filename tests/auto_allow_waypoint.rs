//! `PILOT_AUTO_ALLOW_WAYPOINT_POLICY`: istiod tells the ztunnels of pods behind a waypoint to let in the
//! waypoint, and so nobody else.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use castoff::mesh::{Mesh, MeshOverrides};
use castoff::plan::both::with_ambient_generations;
use castoff::prove::rows::{RowVerdict, States, rows};
use castoff::source::{Collector, Place};
use castoff_authz::verdict::Limits;

/// The demo with a waypoint for the Service storefront, which has no policy.
fn demo(allows_waypoints: bool) -> Mesh {
    let mut collector = Collector::new();
    for (file, text) in &castoff::demo::FILES {
        let bound = "metadata:\n  name: storefront\n  namespace: bookshop\n  labels:\n    istio.io/use-waypoint: \
                     waypoint\nspec:\n  type: ClusterIP";
        let plain =
            "metadata:\n  name: storefront\n  namespace: bookshop\nspec:\n  type: ClusterIP";
        collector.add_text(&Place::Demo(file), &text.replace(plain, bound));
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
