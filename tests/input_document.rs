//! Holds `docs/input.md` to the table of kinds. `UPDATE_DOCS=1 cargo test --test input_document`
//! writes it anew.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::fmt::Write as _;
use std::path::Path;

use castoff::snapshot::Kind;
use castoff::snapshot::kinds::KINDS;

fn kinds() -> String {
    let mut text = String::from("| kind | group | versions | namespaced |\n|---|---|---|---|\n");
    for row in KINDS {
        let group = if row.group.is_empty() {
            "core"
        } else {
            row.group
        };
        let namespaced = if row.namespaced { "yes" } else { "no" };
        writeln!(
            text,
            "| {} | {group} | {} | {namespaced} |",
            row.name,
            row.versions.join(", ")
        )
        .unwrap();
    }
    text
}

fn command() -> String {
    let mut text = String::from("```sh\nmkdir -p dump && for kind in \\\n");
    for row in KINDS.iter().filter(|row| row.kind != Kind::Secret) {
        writeln!(text, "  {} \\", row.kind.resource()).unwrap();
    }
    text.push_str("; do kubectl get \"$kind\" -A -o json > \"dump/$kind.json\" || rm \"dump/$kind.json\"; done\n```\n");
    text
}

fn with_section(document: &str, name: &str, content: &str) -> String {
    let begin = format!("<!-- {name}: begin -->\n");
    let end = format!("<!-- {name}: end -->");
    let start = document.find(&begin).unwrap() + begin.len();
    let stop = document.find(&end).unwrap();
    format!("{}{content}{}", &document[..start], &document[stop..])
}

#[test]
fn the_document_lists_the_kinds_that_are_read_and_the_command_that_dumps_them() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/input.md");
    let document = std::fs::read_to_string(&path).unwrap();
    let expected = with_section(&document, "kinds", &kinds());
    let expected = with_section(&expected, "command", &command());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &expected).unwrap();
        return;
    }
    assert_eq!(document, expected);
}
