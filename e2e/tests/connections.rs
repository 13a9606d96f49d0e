//! What a user sees who cannot connect, and a credential plugin that can.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use crate::cluster::Cluster;

/// The folder with the control plane's certificates; only `cargo xtask e2e` knows one.
fn certificates() -> Option<PathBuf> {
    let folder = std::env::var_os("CASTOFF_E2E_PKI").map(PathBuf::from);
    if folder.is_none() {
        crate::cluster::skip("needs the certificates of the control plane");
    }
    folder
}

#[test]
fn a_wrong_authority_and_an_expired_certificate_are_told_with_the_remedy() {
    let (Some(cluster), Some(folder)) = (Cluster::of_environment(), certificates()) else {
        return;
    };
    for (name, expected) in [
        (
            "wrong-ca",
            "the server's certificate is not signed by the authority that the kubeconfig names (`certificate-authority`)",
        ),
        (
            "expired",
            "does not accept the credentials (401): log in again, or see whether the client certificate or token has expired",
        ),
    ] {
        let kubeconfig = folder.join(format!("{name}.kubeconfig"));
        for arguments in [&["migrate"][..], &["collect"], &["verify", "live", "live"]] {
            let run = cluster.castoff_with(&kubeconfig, arguments);
            assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{run:?}");
            assert!(run.stderr.contains(expected), "{run:?}");
            assert_eq!(run.stderr.lines().count(), 1, "{run:?}");
            assert!(run.took.as_secs() < 30, "{run:?}");
        }
    }
}

#[test]
fn a_credential_plugin_may_give_a_client_certificate() {
    let (Some(cluster), Some(certificates)) = (Cluster::of_environment(), certificates()) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let plugin = folder.path().join("plugin");
    let read = |name: &str| {
        serde_json::Value::from(std::fs::read_to_string(certificates.join(name)).unwrap())
    };
    let credential = serde_json::json!({
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {
            "clientCertificateData": read("admin.crt"),
            "clientKeyData": read("admin.key"),
        },
    });
    std::fs::write(
        &plugin,
        format!("#!/bin/sh\ncat <<'EOF'\n{credential}\nEOF\n"),
    )
    .unwrap();
    std::fs::set_permissions(&plugin, std::fs::Permissions::from_mode(0o755)).unwrap();
    let kubeconfig = folder.path().join("config");
    let config = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "plugin",
        "clusters": [{"name": "e2e", "cluster": {
            "server": std::env::var("CASTOFF_E2E_SERVER").unwrap(),
            "certificate-authority": certificates.join("ca.crt"),
        }}],
        "users": [{"name": "plugin", "user": {"exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "interactiveMode": "Never",
            "command": plugin,
        }}}],
        "contexts": [{"name": "plugin", "context": {"cluster": "e2e", "user": "plugin"}}],
    });
    std::fs::write(&kubeconfig, config.to_string()).unwrap();
    let run = cluster.castoff_with(&kubeconfig, &["collect", "-q"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{run:?}");
}
