//! The shape of the source: modules in the order of the flow, small files, no panics by accident.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// A module may name those before it. `api` holds only serde types; `prove` and `plan` stand side
/// by side with phases.
const ORDER: [&str; 18] = [
    "api", "snapshot", "source", "mesh", "finding", "manifest", "needs", "convert", "phases",
    "estimate", "prove", "simulate", "plan", "exit", "waiver", "report", "demo", "cli",
];

/// Files that were longer than the limit when it was set, with their length; they may only shrink.
const LONGER: [(&str, usize); 0] = [];

const MOST_LINES: usize = 600;

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    rust_files(&root().join("src"), &mut found);
    assert!(found.len() > 20, "the source was not found");
    found
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(root().join("src")).unwrap();
            (
                name.display().to_string(),
                fs::read_to_string(&path).unwrap(),
            )
        })
        .collect()
}

/// The text without its test module, which by habit is the last item.
fn without_tests(text: &str) -> &str {
    text.find("#[cfg(test)]\n#[expect")
        .or_else(|| text.find("#[cfg(test)]\nmod tests"))
        .map_or(text, |end| &text[..end])
}

#[test]
fn a_module_names_only_those_before_it() {
    // The types of objects and the labels that they carry know each other.
    let place = |module: &str| {
        let module = if module == "api" { "snapshot" } else { module };
        ORDER.iter().position(|one| *one == module)
    };
    let mut wrong = Vec::new();
    for (name, text) in sources() {
        let module = name.split(['/', '.']).next().unwrap();
        let Some(own) = place(module) else {
            assert!(
                matches!(module, "lib" | "main"),
                "{name} is in no place of the order"
            );
            continue;
        };
        for line in without_tests(&text).lines() {
            let line = line.trim();
            if line.starts_with("//") {
                continue;
            }
            for (start, _) in line.match_indices("crate::") {
                let used = line[start + 7..]
                    .split(|character: char| !character.is_alphanumeric() && character != '_')
                    .next()
                    .unwrap();
                if place(used).is_some_and(|used| used > own) {
                    wrong.push(format!("{name} uses {used}"));
                }
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn no_file_is_longer_than_a_reader_can_hold() {
    let long: Vec<String> = sources()
        .into_iter()
        .filter(|(name, text)| {
            let most = LONGER
                .iter()
                .find(|(known, _)| known == name)
                .map_or(MOST_LINES, |(_, lines)| *lines);
            text.lines().count() > most
        })
        .map(|(name, text)| format!("{name}: {} lines", text.lines().count()))
        .collect();
    assert_eq!(long, Vec::<String>::new());
}

#[test]
fn no_file_is_called_mod() {
    let mut found = Vec::new();
    for folder in ["src", "crates", "xtask", "tests"] {
        rust_files(&root().join(folder), &mut found);
    }
    let wrong: Vec<_> = found
        .iter()
        .filter(|path| path.file_name().is_some_and(|name| name == "mod.rs"))
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn nothing_is_unwrapped_outside_tests() {
    let wrong: Vec<String> = sources()
        .into_iter()
        .filter(|(name, _)| !name.ends_with("tests.rs") && !name.ends_with("testing.rs"))
        .filter(|(_, text)| {
            without_tests(text)
                .lines()
                .any(|line| !line.trim().starts_with("//") && line.contains(".unwrap()"))
        })
        .map(|(name, _)| name)
        .collect();
    assert_eq!(wrong, Vec::<String>::new());
}
