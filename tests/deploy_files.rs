//! What can be known of the image without building it: its files are there and reach the build,
//! and what it runs is what it copies.
#![allow(missing_docs, clippy::unwrap_used)]

use std::path::Path;

fn instructions<'a>(text: &'a str, name: &str) -> Vec<Vec<&'a str>> {
    text.lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .map(|rest| rest.split_whitespace().collect())
        .collect()
}

#[test]
fn the_image_runs_what_it_copies_and_the_build_sees_all_of_the_workspace() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("deploy/Dockerfile")).unwrap();
    let ignored = std::fs::read_to_string(root.join(".dockerignore")).unwrap();

    let copies = instructions(&text, "COPY");
    assert_eq!(
        copies,
        [
            vec![".", "."],
            vec![
                "--from=build",
                "/etc/ssl/certs/ca-certificates.crt",
                "/etc/ssl/certs/ca-certificates.crt",
            ],
            vec!["--from=build", "/src/target/release/castoff", "/castoff",],
        ]
    );
    // The binary lies where cargo puts it below the folder that the sources are copied to.
    assert_eq!(instructions(&text, "WORKDIR")[0], ["/src"]);
    assert_eq!(instructions(&text, "ENTRYPOINT"), [["[\"/castoff\"]"]]);
    assert_eq!(instructions(&text, "USER"), [["65532:65532"]]);

    // Every member of the workspace needs its manifest and its targets.
    let ignored: Vec<&str> = ignored.lines().collect();
    for needed in [
        "Cargo.toml",
        "Cargo.lock",
        "src/main.rs",
        "crates/authz/Cargo.toml",
        "xtask/Cargo.toml",
        "xtask/src/main.rs",
        "e2e/tests/main.rs",
        "deploy/rbac.yaml",
        "demo",
    ] {
        assert!(root.join(needed).exists(), "{needed}");
        let mut above = Path::new(needed).ancestors();
        let excluded = above.find(|path| ignored.iter().any(|line| Path::new(line) == *path));
        assert_eq!(excluded, None, "{needed} does not reach the build");
    }
    // The image that compiles has at least the toolchain that the workspace asks for.
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let minor = |text: &str, before: &str| -> u32 {
        let rest = text.split_once(before).unwrap().1;
        let digits = rest.split(|character: char| !character.is_ascii_digit());
        digits.into_iter().next().unwrap().parse().unwrap()
    };
    let image = minor(&text, "FROM rust:1.");
    assert!(image >= minor(&manifest, "rust-version = \"1."), "{image}");
}
