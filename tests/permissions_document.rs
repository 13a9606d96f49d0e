//! The table of `docs/permissions.md`: what is said without a permission, and which checks need it.
//! What a real API server makes of it is seen by `e2e/tests/permissions.rs`.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fmt::Write as _;
use std::path::Path;

use castoff::finding::Phase;
use castoff::phases;
use castoff::snapshot::Kind;
use castoff::snapshot::kinds::KINDS;

#[test]
fn the_table_names_every_kind_and_the_checks_that_rest_on_it() {
    let mut table = String::from(
        "| verb | resource | what castoff says without it | checks that then could not be made |\n\
         |---|---|---|---|\n",
    );
    for row in KINDS {
        let resource = row.kind.resource();
        let (verb, named) = match row.kind {
            Kind::ConfigMap => ("get", " named `istio`"),
            _ => ("list", ""),
        };
        let checks: Vec<&str> = Phase::ALL
            .into_iter()
            .flat_map(phases::checks)
            .filter(|check| check.rests_on(row.kind))
            .map(|check| check.code.0)
            .collect();
        let _ = writeln!(
            table,
            "| `{verb}` | `{resource}` | forbidden: this account may not `{verb}` `{resource}`{named} | {} |",
            checks.join(", ")
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
    assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
}
