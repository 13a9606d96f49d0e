//! The README's first screen is what the binary prints. `CASTOFF_BLESS=1` writes it anew.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs;

use assert_cmd::Command;

#[test]
fn the_readme_shows_what_the_demo_prints() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_castoff"))
        .args(["migrate", "--demo"])
        .env("NO_COLOR", "1")
        .current_dir(folder.path())
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = fs::read_to_string(path).unwrap();
    let start = "```console\n$ cargo run --release -- migrate --demo\n";
    let (before, rest) = readme.split_once(start).unwrap();
    let (shown, after) = rest.split_once("```\n").unwrap();
    if std::env::var_os("CASTOFF_BLESS").is_some() {
        fs::write(path, format!("{before}{start}{printed}```\n{after}")).unwrap();
    } else {
        assert_eq!(shown, printed, "run the tests with CASTOFF_BLESS=1");
    }
}
