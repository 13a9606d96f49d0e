//! The report for people, line by line as the phases speak.
//!
//! In: a [`Report`] and a [`Style`]. Out: text. Invariant: the same lines whatever the style; a
//! style changes symbols, colour and how many names are listed, never what is said. `--quiet`
//! keeps what needs somebody: failures, recommendations, what could not be checked, the summary.

mod access;

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style as Ansi};

use super::Report;
use crate::exit::Exit;
use crate::finding::{
    CheckOutcome, CheckResult, Finding, Level, Phase, PhaseOutcome, PhaseResult, Remedy,
};
use crate::snapshot::ProblemLevel;

/// How to print.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Style {
    /// Letters instead of pictures.
    pub ascii: bool,
    /// Colours, as ANSI sequences.
    pub color: bool,
    /// Only what needs somebody.
    pub quiet: bool,
    /// All names and codes.
    pub verbose: bool,
}

/// What a line begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Symbol {
    Passed,
    Failed,
    Warning,
    Recommendation,
    Information,
    Unknown,
    Start,
}

impl Symbol {
    fn text(self, ascii: bool) -> &'static str {
        match (self, ascii) {
            (Self::Passed, false) => "✅",
            (Self::Failed, false) => "❌",
            (Self::Warning, false) => "⚠️",
            (Self::Recommendation, false) => "🔮",
            (Self::Information, false) => "ℹ️",
            (Self::Unknown, false) => "❓",
            (Self::Start, false) => "•",
            (Self::Passed, true) => "[ok]",
            (Self::Failed, true) => "[fail]",
            (Self::Warning, true) => "[warn]",
            (Self::Recommendation, true) => "[todo]",
            (Self::Information, true) => "[info]",
            (Self::Unknown, true) => "[unknown]",
            (Self::Start, true) => "*",
        }
    }

    fn ansi(self) -> Ansi {
        let color = |color: AnsiColor| Ansi::new().fg_color(Some(color.into()));
        match self {
            Self::Passed => color(AnsiColor::Green),
            Self::Failed => color(AnsiColor::Red).bold(),
            Self::Warning | Self::Unknown => color(AnsiColor::Yellow),
            Self::Recommendation => color(AnsiColor::Magenta),
            Self::Information => Ansi::new().dimmed(),
            Self::Start => Ansi::new().bold(),
        }
    }
}

/// The whole report as text.
pub fn render(report: &Report, style: Style) -> String {
    let mut page = Page {
        text: String::new(),
        style,
    };
    for phase in &report.phases {
        page.phase(report, phase);
    }
    if let Some(access) = &report.access {
        page.access(access);
    }
    page.summary(report);
    page.text
}

struct Page {
    text: String,
    style: Style,
}

impl Page {
    fn line(&mut self, symbol: Symbol, text: &str) {
        let picture = symbol.text(self.style.ascii);
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        if self.style.color {
            let ansi = symbol.ansi();
            self.push(&format!("{ansi}{picture} {first}{ansi:#}"));
        } else {
            self.push(&format!("{picture} {first}"));
        }
        for line in lines {
            self.push(&format!("  {line}"));
        }
    }

    fn push(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn star(&mut self, text: &str) {
        for (index, line) in text.lines().enumerate() {
            let lead = if index == 0 { "  * " } else { "    " };
            self.push(&format!("{lead}{line}"));
        }
    }

    fn phase(&mut self, report: &Report, phase: &PhaseResult) {
        if self.style.quiet && phase.outcome == PhaseOutcome::Succeeded {
            return;
        }
        let name = phase.phase.name();
        self.line(Symbol::Start, &format!("Starting phase {name}..."));
        match phase.outcome {
            PhaseOutcome::Succeeded => {
                self.line(Symbol::Passed, &format!("Phase {name} succeeded!"));
            }
            PhaseOutcome::Recommends => {
                self.line(
                    Symbol::Warning,
                    &format!("Phase {name} has recommendations!"),
                );
            }
            PhaseOutcome::Failed => self.line(Symbol::Failed, &format!("Phase {name} failed!")),
            PhaseOutcome::CouldNotCheck => {
                self.line(
                    Symbol::Unknown,
                    &format!("Phase {name} could not be checked!"),
                );
            }
        }
        if phase.checks.is_empty() {
            self.line(
                Symbol::Unknown,
                "could not check: this build of castoff has no check of this phase",
            );
        }
        for check in &phase.checks {
            if check.name.is_empty() {
                self.unnamed(check);
            } else {
                self.named(check);
            }
        }
        for artefact in &phase.artefacts {
            if let Some(folder) = &report.output_folder {
                let line = format!("{} {folder}/{}", artefact.announced_as, artefact.file);
                self.line(Symbol::Information, &line);
            }
        }
        self.remedies(phase);
        self.unproved_errors(phase);
    }

    /// A check with a line of its own; its errors beneath it, everything else after it.
    fn named(&mut self, check: &CheckResult) {
        let errors: Vec<&Finding> = check
            .findings
            .iter()
            .filter(|finding| finding.level == Level::Error)
            .collect();
        let name = self.named_with_code(check);
        match &check.outcome {
            CheckOutcome::CouldNotCheck(reasons) => {
                self.line(
                    Symbol::Unknown,
                    &format!("{name}: could not check: {}", reasons.join("; ")),
                );
            }
            _ if !errors.is_empty() => {
                let occurred = if errors.len() == 1 {
                    "1 error occurred:".to_owned()
                } else {
                    format!("{} errors occurred:", errors.len())
                };
                self.line(Symbol::Failed, &format!("{name}: failed. {occurred}"));
            }
            CheckOutcome::Failed => self.line(Symbol::Failed, &format!("{name}: failed.")),
            CheckOutcome::Warned => {
                self.line(Symbol::Warning, &format!("{name}: passed with warnings"));
            }
            CheckOutcome::Passed if self.style.quiet => {}
            CheckOutcome::Passed => self.line(Symbol::Passed, &format!("{name}: passed")),
        }
        for finding in errors {
            self.star(&finding.message);
            self.beneath(finding);
        }
        for finding in &check.findings {
            if finding.level != Level::Error {
                self.finding(finding);
            }
        }
    }

    fn named_with_code(&self, check: &CheckResult) -> String {
        if self.style.verbose {
            format!("{} ({})", check.name, check.code.0)
        } else {
            check.name.to_owned()
        }
    }

    /// A check that speaks only through its findings.
    fn unnamed(&mut self, check: &CheckResult) {
        if let CheckOutcome::CouldNotCheck(reasons) = &check.outcome {
            self.line(
                Symbol::Unknown,
                &format!("{}: could not check: {}", check.code.0, reasons.join("; ")),
            );
        }
        for finding in &check.findings {
            self.finding(finding);
        }
    }

    fn finding(&mut self, finding: &Finding) {
        let symbol = match finding.level {
            Level::Error => Symbol::Failed,
            Level::Recommendation => Symbol::Recommendation,
            Level::Warning | Level::Undecided => Symbol::Warning,
            Level::Note => Symbol::Information,
        };
        if self.style.quiet && finding.level > Level::Recommendation {
            return;
        }
        self.line(symbol, &finding.message);
        self.beneath(finding);
        if finding.level == Level::Recommendation {
            self.proof(finding);
        }
    }

    fn beneath(&mut self, finding: &Finding) {
        for detail in &finding.details {
            self.star(detail);
        }
        if self.style.verbose {
            for name in &finding.names {
                self.push(&format!("    - {name}"));
            }
            let place = finding
                .subject
                .as_ref()
                .and_then(|subject| subject.origin.as_ref())
                .map(|origin| format!(" at {origin}"));
            self.push(&format!(
                "    [{}{}]",
                finding.code.0,
                place.unwrap_or_default()
            ));
        }
    }

    /// Commands and advice that the lines above do not already show, each once.
    fn remedies(&mut self, phase: &PhaseResult) {
        let findings: Vec<&Finding> = phase
            .checks
            .iter()
            .flat_map(|check| &check.findings)
            .filter(|finding| !self.style.quiet || finding.level <= Level::Recommendation)
            .collect();
        let mut lines: Vec<String> = Vec::new();
        for finding in &findings {
            for remedy in &finding.remedies {
                let line = match remedy {
                    Remedy::Command { run, .. } if shown(finding, run) => continue,
                    Remedy::Command { run, .. } => {
                        let continued = run.replace('\n', "\n      ");
                        format!("    $ {continued}")
                    }
                    Remedy::Advice(advice) if shown(finding, advice) => continue,
                    Remedy::Advice(advice) => format!("  * {advice}"),
                    Remedy::Apply { .. } => continue,
                };
                if !lines.contains(&line) {
                    lines.push(line);
                }
            }
        }
        if !lines.is_empty() {
            self.line(Symbol::Information, "What to do:");
            for line in restarts_together(lines) {
                self.push(&line);
            }
        }
    }

    fn summary(&mut self, report: &Report) {
        let counts = report.counts;
        self.push("");
        let mut sentence = format!(
            "Read {}. {}: {}, {}, {}, {} could not be checked, {} waived, {}.",
            report.input,
            count(counts.phases, "phase"),
            count(counts.recommendations, "recommendation"),
            count(counts.errors, "error"),
            count(counts.warnings, "warning"),
            counts.could_not_check,
            counts.waived,
            count(counts.input_problems, "input problem"),
        );
        if let (Some(last), false) = (report.phases.last(), report.reached_the_end()) {
            let _ = write!(
                sentence,
                " Stopped at {}; {} not run yet.",
                last.phase.name(),
                match count_after(last.phase) {
                    1 => "1 phase was".to_owned(),
                    many => format!("{many} phases were"),
                }
            );
        }
        self.push(&sentence);
        for (phase, check, reasons) in report.unchecked() {
            let name = if check.name.is_empty() {
                check.code.0
            } else {
                check.name
            };
            self.line(
                Symbol::Unknown,
                &format!("{}: {name}: {}", phase.name(), reasons.join("; ")),
            );
        }
        for gap in &report.gaps {
            let within = gap
                .namespace
                .as_ref()
                .map_or_else(String::new, |name| format!(" in namespace {name}"));
            self.line(
                Symbol::Unknown,
                &format!("not read: {}{within}: {}", gap.kind.resource(), gap.reason),
            );
        }
        for problem in &report.problems {
            let symbol = match problem.level {
                ProblemLevel::Error => Symbol::Failed,
                ProblemLevel::Warning => Symbol::Warning,
            };
            self.line(symbol, &format!("input: {problem}"));
        }
        for waived in &report.waived {
            let until = waived
                .waiver
                .until
                .as_ref()
                .map_or_else(String::new, |day| format!(" until {day}"));
            self.line(
                Symbol::Information,
                &format!(
                    "waived{until}: {} {}: {}",
                    waived.waiver.code, waived.waiver.object, waived.waiver.reason
                ),
            );
        }
        for waiver in &report.expired_waivers {
            if let Some(until) = &waiver.until {
                self.line(
                    Symbol::Warning,
                    &format!(
                        "waiver expired on {until}: {} {}: {}",
                        waiver.code, waiver.object, waiver.reason
                    ),
                );
            }
        }
        for waiver in &report.unmatched_waivers {
            self.line(
                Symbol::Warning,
                &format!(
                    "waiver matches nothing: {} {}: {}; correct its object or take it out",
                    waiver.code, waiver.object, waiver.reason
                ),
            );
        }
        for file in &report.put_aside {
            self.line(
                Symbol::Information,
                &format!("put aside, because this run did not write it: {file}"),
            );
        }
        self.next(report);
    }

    fn next(&mut self, report: &Report) {
        let commands = report.next_commands();
        if commands.is_empty() {
            let line = match report.exit {
                Exit::Nothing if report.reached_the_end() => "Nothing is left to do.".to_owned(),
                _ if report.demo => "The demo has no cluster to apply this to. With your own \
                                     manifests: castoff migrate --from-files FOLDER"
                    .to_owned(),
                Exit::Nothing => return,
                _ => format!(
                    "Next: see what is said above, then run again: {}",
                    report.invocation
                ),
            };
            self.push(&line);
            return;
        }
        if report.has_commands_by_hand() {
            self.push(
                "Next, after what is to be done by hand above, and after a look at the files:",
            );
        } else {
            self.push("Next, after a look at the files:");
        }
        for command in commands {
            self.push(&format!("    $ {command}"));
        }
    }
}

/// How many owners one printed restart names.
const RESTARTED_AT_ONCE: usize = 8;

/// Restarts of one kind in one namespace that stand one after the other, as one command: `kubectl
/// rollout restart` takes many names.
fn restarts_together(lines: Vec<String>) -> Vec<String> {
    const RESTART: &str = "    $ kubectl rollout restart ";
    let mut together: Vec<String> = Vec::with_capacity(lines.len());
    let mut named = 0;
    for line in lines {
        let split = line
            .strip_prefix(RESTART)
            .and_then(|_| line.rsplit_once(' '));
        if let (Some((command, name)), Some(last)) = (split, together.last_mut())
            && named > 0
            && named < RESTARTED_AT_ONCE
            && last
                .strip_prefix(command)
                .is_some_and(|names| names.starts_with(' '))
        {
            last.push(' ');
            last.push_str(name);
            named += 1;
            continue;
        }
        named = usize::from(split.is_some());
        together.push(line);
    }
    together
}

fn shown(finding: &Finding, text: &str) -> bool {
    finding.message.contains(text) || finding.details.iter().any(|detail| detail.contains(text))
}

fn count(number: usize, noun: &str) -> String {
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{number} {noun}s")
    }
}

fn count_after(phase: Phase) -> usize {
    Phase::ALL.iter().filter(|other| **other > phase).count()
}

#[cfg(test)]
mod tests {
    use super::super::samples::full;
    use super::*;

    #[test]
    fn a_report_reads_as_the_phases_speak() {
        let text = render(&full(), Style::default());
        let expected = r#"• Starting phase pre-reqs...
✅ Phase pre-reqs succeeded!
✅ Istio version compatibility: passed
• Starting phase cluster-setup...
❌ Phase cluster-setup failed!
❌ DaemonSets deployed: failed. 1 error occurred:
  * ztunnel not found
❌ Sidecars support ambient mode: failed. 1 error occurred:
  * Sidecars of Deployment default/echo (2 pods) are missing 'ENABLE_HBONE'.
❓ Required CRDs installed: could not check: customresourcedefinitions.apiextensions.k8s.io: not among the input
⚠️ Versions: passed with warnings
⚠️ a <tag> & "quotes" | pipes
ℹ️ for your information
ℹ️ What to do:
    $ kubectl rollout restart deployment -n default echo
  * upgrade Istio first
• Starting phase deploy-waypoints...
⚠️ Phase deploy-waypoints has recommendations!
🔮 Namespace "app1" may require a waypoint for the following services:
  * Service "app1/echo" depends on VirtualService "app1/echo"
• Starting phase use-waypoints...
⚠️ Phase use-waypoints has recommendations!
🔮 Detected namespace app1 requires a waypoint, but not configured to use one. Configure it with: kubectl label namespace app1 istio.io/use-waypoint=waypoint

Read files manifests. 4 phases: 2 recommendations, 2 errors, 1 warning, 1 could not be checked, 0 waived, 1 input problem. Stopped at use-waypoints; 2 phases were not run yet.
❓ cluster-setup: Required CRDs installed: customresourcedefinitions.apiextensions.k8s.io: not among the input
❓ not read: pods in namespace secret: forbidden: cannot list pods
❌ input: manifests/pods.yaml:12:3: a key without a value; close the bracket
Next: see what is said above, then run again: castoff migrate --from-files manifests
"#;
        assert_eq!(text, expected);
    }

    #[test]
    fn restarts_of_one_kind_and_namespace_are_one_command() {
        let restart = |what: &str| format!("    $ kubectl rollout restart {what}");
        let mut lines: Vec<String> = (0..9)
            .map(|number| restart(&format!("deployment -n shop web-{number}")))
            .collect();
        lines.push(restart("deployment -n shop-2 web"));
        lines.push(restart("statefulset -n shop-2 db"));
        lines.push("  * something else".to_owned());
        assert_eq!(
            restarts_together(lines),
            [
                restart("deployment -n shop web-0 web-1 web-2 web-3 web-4 web-5 web-6 web-7"),
                restart("deployment -n shop web-8"),
                restart("deployment -n shop-2 web"),
                restart("statefulset -n shop-2 db"),
                "  * something else".to_owned(),
            ]
        );
    }

    #[test]
    fn ascii_output_is_ascii() {
        let style = Style {
            ascii: true,
            ..Style::default()
        };
        let text = render(&full(), style);
        assert!(text.is_ascii(), "{text}");
        assert!(text.contains("[fail] Phase cluster-setup failed!"));
    }

    #[test]
    fn colour_changes_no_word() {
        let style = Style {
            color: true,
            ..Style::default()
        };
        let coloured = render(&full(), style);
        assert!(coloured.contains('\u{1b}'));
        let plain = anstream::adapter::strip_str(&coloured).to_string();
        assert_eq!(plain, render(&full(), Style::default()));
    }

    #[test]
    fn quiet_keeps_failures_and_what_could_not_be_checked() {
        let style = Style {
            quiet: true,
            ..Style::default()
        };
        let text = render(&full(), style);
        assert!(!text.contains("passed\n"), "{text}");
        assert!(text.contains("ztunnel not found"));
        assert!(text.contains("Required CRDs installed: could not check"));
    }

    #[test]
    fn verbose_lists_every_name_and_the_place() {
        let style = Style {
            verbose: true,
            ..Style::default()
        };
        let text = render(&full(), style);
        assert!(text.contains("    - default/echo-2\n"));
        assert!(text.contains("    [CAST0203 at manifests/echo.yaml:7]\n"));
    }
}
