//! The README's first screen is what the binary prints (`CASTOFF_BLESS=1` writes it anew), and its
//! table names every command.
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

#[test]
fn the_table_of_features_names_every_command() {
    let output = Command::new(env!("CARGO_BIN_EXE_castoff"))
        .arg("--help")
        .output()
        .unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let (_, commands) = help.split_once("Commands:\n").unwrap();
    let commands = commands.split("\n\n").next().unwrap().lines();
    let names: Vec<&str> = commands
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(names.contains(&"migrate") && names.len() > 5, "{names:?}");
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let table: Vec<&str> = readme
        .lines()
        .filter(|line| line.starts_with('|'))
        .collect();
    for name in names {
        let wanted = format!("`castoff {name}");
        assert!(
            table.iter().any(|line| line.contains(&wanted)),
            "{wanted} is in no row of the table"
        );
    }
}
