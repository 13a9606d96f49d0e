//! `commands.sh`: the label, restart and delete commands of a run, each with its way back.
//!
//! In: a [`Report`]. Out: the text of a shell script, or nothing. Invariant: every line that is
//! no comment is one `kubectl` command; what is no such command (installers, advice) is a comment.

use std::collections::BTreeSet;

use super::{Report, subject_path};
use crate::finding::{Level, Remedy};

/// The script's name in the output folder.
pub const FILE: &str = "commands.sh";

const HEADER: &str = "#!/bin/sh
# Commands that castoff recommends, in order. castoff ran none of them: read them first.
# `# undo:` gives the command that takes the one beneath it back; labels act on new pods, so restart
# after an undo as well.
set -eu
";

/// The script; `None` when no command is recommended.
pub fn render(report: &Report) -> Option<String> {
    let mut script = HEADER.to_owned();
    let mut commands = 0;
    let mut seen = BTreeSet::new();
    for phase in &report.phases {
        let mut heading = format!("\n# phase {}\n", phase.phase.name());
        for finding in phase.checks.iter().flat_map(|check| &check.findings) {
            if !matches!(finding.level, Level::Error | Level::Recommendation) {
                continue;
            }
            let mut reason = format!("# {}", finding.code.0);
            if let Some(subject) = &finding.subject {
                reason.push(' ');
                reason.push_str(&subject_path(subject));
            }
            reason.push('\n');
            for remedy in &finding.remedies {
                let Some((lines, is_command)) = lines(remedy) else {
                    continue;
                };
                if !seen.insert(lines.clone()) {
                    continue;
                }
                script.push_str(&std::mem::take(&mut heading));
                script.push_str(&std::mem::take(&mut reason));
                script.push_str(&lines);
                commands += usize::from(is_command);
            }
        }
    }
    (commands > 0).then_some(script)
}

/// The lines of one remedy, and whether one of them is a command.
fn lines(remedy: &Remedy) -> Option<(String, bool)> {
    match remedy {
        Remedy::Command { run, undo } if is_plain_kubectl(run) => {
            let undo = undo
                .as_ref()
                .map_or_else(String::new, |undo| comment("undo: ", undo));
            Some((format!("{undo}{run}\n"), true))
        }
        Remedy::Command { run, .. } => Some((comment("by hand: ", run), false)),
        Remedy::Advice(advice) => Some((comment("", advice), false)),
        Remedy::Apply { .. } => None,
    }
}

fn is_plain_kubectl(command: &str) -> bool {
    command.starts_with("kubectl ") && !command.contains('\n')
}

fn comment(lead: &str, text: &str) -> String {
    text.lines()
        .map(|line| format!("# {lead}{line}\n"))
        .collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::super::samples::{full, report_of};
    use super::*;

    #[test]
    fn every_command_stands_beneath_its_way_back() {
        let expected = "#!/bin/sh
# Commands that castoff recommends, in order. castoff ran none of them: read them first.
# `# undo:` gives the command that takes the one beneath it back; labels act on new pods, so restart
# after an undo as well.
set -eu

# phase cluster-setup
# CAST0203 Deployment/default/echo
kubectl rollout restart deployment -n default echo
# upgrade Istio first

# phase use-waypoints
# CAST0501 Namespace/app1
# undo: kubectl label namespace app1 istio.io/use-waypoint-
kubectl label namespace app1 istio.io/use-waypoint=waypoint
";
        assert_eq!(render(&full()).unwrap(), expected);
    }

    #[test]
    fn no_command_makes_no_script() {
        assert_eq!(render(&report_of(&[Level::Recommendation], false)), None);
    }
}
