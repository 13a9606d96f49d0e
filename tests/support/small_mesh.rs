//! States of the mesh of the traps (`tests/fixtures/traps/mesh.yaml`), written as folders.

use std::path::Path;

use assert_cmd::Command;
use serde_json::Value;

/// A waypoint of namespace shop, ready.
pub(crate) const WAYPOINT: &str = "---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, namespace: shop, labels: {istio.io/waypoint-for: service}}
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
status:
  addresses: [{type: Hostname, value: waypoint.shop.svc.cluster.local}]
  conditions: [{type: Programmed, status: 'True'}]
";

/// Writes a state: the control plane of the demo, the mesh of the traps, and more. A Service that `more`
/// has takes the place of that of the mesh.
pub(crate) fn write(folder: &Path, state: &str, more: &[&str]) {
    let state = folder.join(state);
    std::fs::create_dir_all(&state).unwrap();
    for (name, text) in &castoff::demo::FILES[..2] {
        std::fs::write(state.join(name.replace('/', "-")), text).unwrap();
    }
    let more = more.concat();
    let mesh = std::fs::read_to_string("tests/fixtures/traps/mesh.yaml").unwrap();
    let head = |document: &str| -> Option<String> {
        let is_service = document.contains("\nkind: Service\n");
        let name = document.split_once("metadata: {name: ")?.1;
        is_service.then(|| name.split(',').next().unwrap_or_default().to_owned())
    };
    let given: Vec<String> = more.split("---\n").filter_map(head).collect();
    let kept: Vec<&str> = mesh
        .split("---\n")
        .filter(|document| head(document).is_none_or(|name| !given.contains(&name)))
        .collect();
    std::fs::write(state.join("mesh.yaml"), kept.join("---\n")).unwrap();
    std::fs::write(state.join("more.yaml"), more).unwrap();
}

/// What castoff prints as JSON.
pub(crate) fn json(folder: &Path, arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_castoff"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The report of `castoff verify` on two states.
pub(crate) fn verify(before: &[&str], after: &[&str]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "before", before);
    write(folder.path(), "after", after);
    json(folder.path(), &["verify", "before", "after", "-o", "json"])
}

/// The exit code of `castoff verify` on two states, and what it prints.
pub(crate) fn verified(before: &[&str], after: &[&str]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "before", before);
    write(folder.path(), "after", after);
    let output = Command::new(env!("CARGO_BIN_EXE_castoff"))
        .args(["verify", "before", "after", "--ascii"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), text)
}

/// What a report says of a server.
pub(crate) fn server<'a>(report: &'a Value, name: &str) -> &'a Value {
    let mut servers = report["servers"].as_array().unwrap().iter();
    servers.find(|one| one["server"] == name).unwrap()
}
