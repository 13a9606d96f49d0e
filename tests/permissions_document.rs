//! The table of `docs/permissions.md`: what is said without a permission. What a real API server makes of it is seen by `e2e/tests/permissions.rs`.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fmt::Write as _;
use std::path::Path;

use castoff::snapshot::Kind;
use castoff::snapshot::kinds::KINDS;

#[test]
fn the_table_names_every_kind() {
    let mut table = String::from(
        "| verb | resource | what castoff says without it |\n\
         |---|---|---|\n",
    );
    for row in KINDS {
        let resource = row.kind.resource();
        let (verb, named) = match row.kind {
            Kind::ConfigMap => ("get", " named `istio`"),
            _ => ("list", ""),
        };
        let _ = writeln!(
            table,
            "| `{verb}` | `{resource}` | forbidden: this account may not `{verb}` `{resource}`{named} |"
        );
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/permissions.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- table: begin -->\n", "<!-- table: end -->");
    let (before, rest) = text.split_once(begin).unwrap();
    let (_, after) = rest.split_once(end).unwrap();
    let expected = format!("{before}{begin}{table}{end}{after}");
    if std::env::var_os("CASTOFF_BLESS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(&path).unwrap(),
        expected,
        "write the table anew with CASTOFF_BLESS=1"
    );
}
