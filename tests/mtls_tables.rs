//! What mutual TLS a ztunnel is told to ask for, row by row.
#![allow(missing_docs, clippy::unwrap_used)]

use castoff::mesh::{Mesh, MeshOverrides};
use castoff::snapshot::Labels;
use castoff::source::{Place, read_text};

fn mesh(text: &str) -> Mesh {
    let snapshot = read_text(&Place::Simulated, text).unwrap();
    assert!(snapshot.problems.is_empty(), "{:?}", snapshot.problems);
    Mesh::build(&snapshot, &MeshOverrides::default())
}

/// What ztunnel is told of a pod's mTLS, in one line: `strict`, `strict but on 80`, `strict on 80`.
fn mtls(policies: &[&str]) -> String {
    let text: String = policies
        .iter()
        .map(|policy| {
            let (namespace, spec) = policy.split_once(": ").unwrap();
            format!(
                "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: p, namespace: \
                 {namespace}}}\nspec: {{{spec}}}\n"
            )
        })
        .collect();
    // Policies of one namespace need names of their own.
    let text = text
        .split("name: p,")
        .enumerate()
        .map(|(index, part)| {
            if index == 0 {
                part.to_owned()
            } else {
                format!("name: p{index},{part}")
            }
        })
        .collect::<String>();
    let labels: Labels = [("app", "web")].into_iter().collect();
    let text = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop}}\n{text}");
    let told = mesh(&text).ztunnel_mtls_policies("shop", &labels);
    let lines: Vec<String> = told
        .iter()
        .flat_map(|policy| &policy.rules)
        .map(|rule| {
            assert_eq!(rule.from[0].not_principals, ["*"]);
            match rule.to.first() {
                None => "strict".to_owned(),
                Some(to) if !to.ports.is_empty() => format!("strict on {}", to.ports.join(", ")),
                Some(to) => format!("strict but on {}", to.not_ports.join(", ")),
            }
        })
        .collect();
    lines.join("; ")
}

/// istio pilot/pkg/serviceregistry/ambient/authorization.go: `convertedSelectorPeerAuthentications`,
/// `convertPeerAuthentication`.
#[test]
fn ztunnel_is_told_the_effective_mode_of_every_port() {
    const MESH: &str = "istio-system: mtls: {mode: STRICT}";
    const OPEN: &str = "shop: mtls: {mode: PERMISSIVE}";
    const STRICT: &str = "shop: mtls: {mode: STRICT}";
    let own = |rest: &str| format!("shop: selector: {{matchLabels: {{app: web}}}}, {rest}");
    let strict_open_port = own("mtls: {mode: STRICT}, portLevelMtls: {80: {mode: PERMISSIVE}}");
    let strict_off_port = own("mtls: {mode: STRICT}, portLevelMtls: {80: {mode: DISABLE}}");
    let open_strict_port = own("mtls: {mode: PERMISSIVE}, portLevelMtls: {80: {mode: STRICT}}");
    let off_strict_port = own("mtls: {mode: DISABLE}, portLevelMtls: {80: {mode: STRICT}}");
    let unset_off_port = own("portLevelMtls: {80: {mode: DISABLE}}");
    let unset_open_port = own("portLevelMtls: {80: {mode: PERMISSIVE}}");
    let strict = own("mtls: {mode: STRICT}");
    let off = own("mtls: {mode: DISABLE}");
    let other = "shop: selector: {matchLabels: {app: other}}, mtls: {mode: STRICT}";
    let table: [(&[&str], &str); 16] = [
        (&[], ""),
        (&[MESH], "strict"),
        (&[MESH, OPEN], ""),
        (
            &["istio-system: mtls: {mode: PERMISSIVE}", STRICT],
            "strict",
        ),
        (&["shop: mtls: {mode: DISABLE}"], ""),
        (&[OPEN, &strict], "strict"),
        (&[STRICT, &off], ""),
        (&[OPEN, other], ""),
        (&[&strict_open_port], "strict but on 80"),
        // DISABLE exempts a port like PERMISSIVE where the workload itself says STRICT …
        (&[&strict_off_port], "strict but on 80"),
        // … and not under a STRICT that it inherits.
        (&[STRICT, &unset_off_port], "strict"),
        (&[STRICT, &unset_open_port], "strict but on 80"),
        (&[MESH, &unset_open_port], "strict but on 80"),
        (&[&open_strict_port], "strict on 80"),
        (&[&off_strict_port], "strict on 80"),
        (&[&unset_off_port], ""),
    ];
    for (policies, expected) in table {
        assert_eq!(mtls(policies), expected, "{policies:?}");
    }
}
