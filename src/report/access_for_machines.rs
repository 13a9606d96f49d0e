//! The report of access as SARIF 2.1.0 and as JUnit XML, for code scanning and CI.
//!
//! In: an [`AccessReport`]. Out: text. Invariant: every server whose access differs fails, everything that is undecided
//! or could not be compared is an error, never a pass; what is intended passes, and is a suppressed result.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::access::{AccessReport, ServerAccess, Verdict};
use super::junit::{self, Told};
use super::sarif::{self, ACCESS, COULD_NOT_CHECK};

impl AccessReport {
    /// For code scanning.
    pub fn sarif(&self) -> String {
        let mut rules: BTreeMap<String, String> = BTreeMap::new();
        let mut results: Vec<Value> = Vec::new();
        for server in &self.servers {
            let level = match server.verdict {
                Verdict::Same => continue,
                Verdict::Undecided => "warning",
                _ => "error",
            };
            rules.insert(
                ACCESS.to_owned(),
                "Somebody gains or loses access, or it is not decided".to_owned(),
            );
            let message = format!("{}\n{}", headline(server), told(server));
            let subject = &server.server;
            let mut found = sarif::result(ACCESS, level, message.trim_end(), None, None, subject);
            if server.verdict == Verdict::Intended {
                found["suppressions"] =
                    json!([{"kind": "external", "justification": "named with --allow"}]);
            }
            results.push(found);
        }
        for one in &self.only_in_one {
            rules.insert(
                COULD_NOT_CHECK.to_owned(),
                "Something could not be compared".to_owned(),
            );
            results.push(sarif::result(
                COULD_NOT_CHECK,
                "warning",
                one,
                None,
                None,
                "",
            ));
        }
        sarif::log(rules, results)
    }

    /// For CI: a case a server, and one for all that could not be compared.
    pub fn junit(&self) -> String {
        let mut cases: Vec<(String, Option<Told>)> = Vec::new();
        for server in &self.servers {
            let element = match server.verdict {
                Verdict::Same | Verdict::Intended => None,
                Verdict::Undecided => Some("error"),
                _ => Some("failure"),
            };
            let failed = element.map(|element| Told {
                element,
                message: headline(server),
                text: told(server),
            });
            cases.push((server.server.clone(), failed));
        }
        cases.extend(self.only_in_one.iter().map(|one| {
            let error = Told {
                element: "error",
                message: "not comparable".to_owned(),
                text: one.clone(),
            };
            (one.clone(), Some(error))
        }));
        let mut page = String::from(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"castoff verify\">\n",
        );
        junit::suite(&cases, &mut page);
        page.push_str("</testsuites>\n");
        page
    }
}

fn headline(server: &ServerAccess) -> String {
    format!("{} {}", server.server, server.words())
}

fn told(server: &ServerAccess) -> String {
    let lines: Vec<String> = (server.differences.iter())
        .map(|difference| format!("* {}", difference.told()))
        .chain(server.notes.iter().map(|note| format!("* {note}")))
        .collect();
    lines.join("\n")
}
