//! `plan.md`: the plan for people who will carry it out, and for those who must agree to it.
//!
//! In: the plan and its report. Out: Markdown. Invariant: everything that the scripts do stands here
//! too, with its reason and its proof.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::kustomize::not_in_git;
use super::{ON_GAP, PlanReport, StateReport, WaveReport, ends_with_sidecars};
use crate::plan::wave::EditChange;
use crate::plan::{Plan, Wave};
use crate::report::access::{self, ServerAccess};

/// The document.
pub fn render(plan: &Plan, report: &PlanReport) -> String {
    let mut page = String::new();
    let _ = writeln!(page, "# Migration plan\n");
    let _ = writeln!(
        page,
        "Read: {}. Every state below is compared with: {}.\n",
        report.input, report.baseline
    );
    overview(&mut page, report);
    problems(&mut page, report);
    for (wave, data) in report.waves.iter().zip(&plan.waves) {
        section(&mut page, wave, data);
    }
    page
}

fn overview(page: &mut String, report: &PlanReport) {
    if report.waves.is_empty() {
        let _ = writeln!(
            page,
            "{}\n",
            if report.unread.is_empty() {
                "There is nothing to carry out."
            } else {
                "Nothing was planned, and not everything was read, as said below."
            }
        );
        return;
    }
    let _ = writeln!(
        page,
        "| wave | what changes | workloads | proof | way back |"
    );
    let _ = writeln!(page, "|---|---|---|---|---|");
    for wave in &report.waves {
        let _ = writeln!(
            page,
            "| [{0}]({0}/) | {1} | {2} | {3} {4}{5} | {6} |",
            wave.folder,
            wave.title,
            wave.affected.len(),
            access::symbol(wave.verdict, false),
            access::words(wave.verdict),
            if wave.differs_already {
                ", as before the first wave"
            } else {
                ""
            },
            wave.way_back
        );
    }
    let _ = writeln!(
        page,
        "\nCarry the waves out in order. Each folder holds `apply.sh`, `rollback.sh`, the manifests, and a kustomize \
         component with the same changes for those who deploy from Git. To go back, run the `rollback.sh` of the \
         last wave first. *Same* means: no request is accepted that the baseline refused, and none is refused that \
         it accepted by an address in use, for every caller and every mixture of old and new pods.\n"
    );
}

fn problems(page: &mut String, report: &PlanReport) {
    if !report.reasons.is_empty() {
        let heading = match report.ending {
            "partial" => "What people must change first",
            _ => "Why nothing more is planned",
        };
        let _ = writeln!(page, "## {heading}\n");
        for reason in &report.reasons {
            let _ = writeln!(page, "- {reason}");
        }
        page.push('\n');
    }
    if !report.gaps.is_empty() {
        let _ = writeln!(page, "## Gaps\n");
        for gap in &report.gaps {
            let _ = writeln!(
                page,
                "- ⛔ `{}` {} {}",
                gap.server,
                gap.direction,
                gap.span()
            );
            for line in &gap.witness {
                let _ = writeln!(page, "  - {line}");
            }
        }
        page.push('\n');
    }
    if !report.unread.is_empty() {
        let _ = writeln!(
            page,
            "## Not read\n\nAccess may differ there unseen; nothing below is proved of it.\n"
        );
        for unread in &report.unread {
            let _ = writeln!(page, "- ❔ {unread}");
        }
        page.push('\n');
    }
    let undecided = report.undecided();
    if !undecided.is_empty() {
        let _ = writeln!(page, "## Undecided\n");
        for (server, callers, lines) in undecided {
            let _ = writeln!(page, "- ❔ `{server}` for {callers}: {}", lines.join("; "));
        }
        page.push('\n');
    }
    if !report.left_out.is_empty() {
        let _ = writeln!(page, "## Left out\n");
        for left_out in &report.left_out {
            let _ = writeln!(page, "- {}: {}", left_out.what, left_out.why);
            for line in &left_out.witness {
                let _ = writeln!(page, "  - {line}");
            }
        }
        page.push('\n');
    }
    if !report.held.is_empty() {
        let _ = writeln!(page, "## Workloads that keep their sidecars\n");
        for held in report.held_together() {
            let _ = writeln!(page, "- `{}`: {}", held.workloads.join("`, `"), held.why);
            for line in held.witness {
                let _ = writeln!(page, "  - {line}");
            }
            for way in &held.ways_out {
                let _ = writeln!(page, "  - Way out: {way}.");
            }
        }
        page.push('\n');
    }
    if report.holds_by_proof() {
        let _ = writeln!(page, "{ON_GAP}\n");
    }
    if !report.remains.is_empty() {
        let _ = writeln!(page, "## What stays as it is\n");
        for remains in &report.remains {
            let _ = writeln!(page, "- {remains}");
        }
        page.push('\n');
    }
    ends_with_sidecars::section(page, &report.ends_with_sidecars);
    if !report.assumptions.is_empty() {
        let _ = writeln!(page, "## What this rests on\n");
        for assumption in &report.assumptions {
            let _ = writeln!(page, "- {assumption}");
        }
        page.push('\n');
    }
}

fn section(page: &mut String, wave: &WaveReport, data: &Wave) {
    let _ = writeln!(page, "## {}: {}\n", wave.folder, wave.title);
    for why in &wave.why {
        let _ = writeln!(page, "{why}\n");
    }
    if !wave.affected.is_empty() {
        let _ = writeln!(page, "Affected: {}.\n", wave.affected.join(", "));
    }
    for (index, step) in wave.steps.iter().enumerate() {
        let _ = writeln!(page, "{}. {}", index + 1, step.what);
        for look in &step.look {
            let _ = writeln!(page, "   - first see that {look}");
        }
        let changing: Vec<&String> = step.waits.iter().chain(&step.run).collect();
        if step.by_hand.is_empty() {
            commands(page, changing.into_iter().chain(&step.settled).collect());
            continue;
        }
        // As the script has it: after what changes something, before what waits for it.
        commands(page, changing);
        page.push('\n');
        for advice in &step.by_hand {
            let _ = writeln!(page, "   - by hand: {advice}");
        }
        commands(page, step.settled.iter().collect());
    }
    let _ = writeln!(page, "\nProof:\n");
    for state in &wave.states {
        proof(page, state);
    }
    let _ = writeln!(page, "\nWay back (`rollback.sh`): {}.\n", wave.way_back);
    in_git(page, data);
}

fn commands(page: &mut String, commands: Vec<&String>) {
    if commands.is_empty() {
        return;
    }
    let _ = writeln!(page, "\n   ```sh");
    for command in commands {
        let _ = writeln!(page, "   {command}");
    }
    let _ = writeln!(page, "   ```");
}

fn proof(page: &mut String, state: &StateReport) {
    let _ = writeln!(
        page,
        "- {} {}: {} ({} comparisons)",
        access::symbol(state.verdict, false),
        state.when,
        access::words(state.verdict),
        state.compared
    );
    for server in state.differing.iter().filter(|one| !one.is_unmatched()) {
        differing(page, server);
    }
    for note in &state.notes {
        let _ = writeln!(
            page,
            "  - {}: {}",
            note.text,
            crate::phases::wording::first_few(&note.servers, 5)
        );
    }
    for trusted in &state.newly_trusted {
        let _ = writeln!(
            page,
            "  - newly trusted: `{}`, by {}",
            trusted.waypoint,
            crate::phases::wording::first_few(&trusted.servers, 5)
        );
    }
    for one in &state.shares_trust {
        let _ = writeln!(
            page,
            "  - ⚠️ `{one}` runs under the identity of a waypoint and shares its trust"
        );
    }
}

fn differing(page: &mut String, server: &ServerAccess) {
    let _ = writeln!(
        page,
        "  - {} `{}`: {}",
        access::symbol(server.verdict, false),
        server.server,
        access::words(server.verdict)
    );
    let mut told: BTreeSet<(&str, &[String])> = BTreeSet::new();
    let mut hangs_on: BTreeSet<&str> = BTreeSet::new();
    for difference in &server.differences {
        let is_new = match difference
            .lines
            .first()
            .and_then(|line| line.split_once(": "))
        {
            // What it hangs on, whoever asks; `plan.json` has them all.
            Some((reason, _)) if difference.direction == "undecided" => hangs_on.insert(reason),
            _ => told.insert((difference.direction, &difference.lines)),
        };
        if !is_new {
            continue;
        }
        let _ = writeln!(page, "    - {}", difference.told());
    }
}

/// Where the same changes belong in the user's own sources.
fn in_git(page: &mut String, wave: &Wave) {
    if wave.edits.is_empty() {
        return;
    }
    if !wave.temporary.is_empty() {
        page.push_str(
            "What this wave needs only on the way is not among the following: carry `apply.sh` out with the \
             synchronization of these objects suspended, then commit this and resume it.\n\n",
        );
    }
    let in_patches = wave
        .edits
        .iter()
        .any(|edit| !matches!(edit.change, EditChange::Replace(_)));
    let patches = if in_patches {
        "; `patches.yaml` holds the same"
    } else {
        ""
    };
    let _ = writeln!(
        page,
        "In Git (what is set by hand is reverted by Argo CD or Flux{patches}):\n"
    );
    for edit in &wave.edits {
        let place = edit
            .origin
            .as_ref()
            .map_or_else(String::new, |origin| format!(" at `{origin}`"));
        let change = match &edit.change {
            EditChange::Labels(labels) => format!("labels {}", label_words(labels)),
            EditChange::TemplateLabels(labels) => {
                format!("pod template labels {}", label_words(labels))
            }
            EditChange::Replace(file) => format!("as in `{file}`"),
            EditChange::Delete => "remove it".to_owned(),
        };
        let _ = writeln!(page, "- {} `{}`{place}: {change}", edit.kind, edit.name);
    }
    let restarts: Vec<String> = not_in_git(wave).map(|run| format!("`{run}`")).collect();
    if !restarts.is_empty() {
        let _ = writeln!(
            page,
            "\nLabels change new pods only, so when Git is synchronized run: {}",
            restarts.join(", ")
        );
    }
    page.push('\n');
}

fn label_words(labels: &std::collections::BTreeMap<String, Option<String>>) -> String {
    let words: Vec<String> = labels
        .iter()
        .map(|(key, value)| match value {
            Some(value) => format!("`{key}: \"{value}\"`"),
            None => format!("without `{key}`"),
        })
        .collect();
    words.join(", ")
}
