//! What the terminal shows of a wave, and the sentence at the end.
//!
//! In: a [`WaveReport`] and a style. Out: lines. Invariant: a wave that is not proved, or whose way back is not, is
//! shown whatever the style; nothing sounds like success where something was not read.

use super::{PlanReport, WaveReport, count, proved};
use crate::report::access::{self, Verdict};
use crate::report::text::Style;

/// A line, and with `-v` what is done and whom it concerns. With `-q` nothing of what is proved.
pub(super) fn push_wave(out: &mut String, wave: &WaveReport, style: Style) {
    let is_proved = wave.verdict == Verdict::Same && wave.way_back == "proved";
    if style.quiet && is_proved {
        return;
    }
    out.push_str(&format!(
        "{} {}: {} ({}{}{})\n",
        access::symbol(wave.verdict, style.ascii),
        wave.folder,
        wave.title,
        proved(&wave.states),
        if wave.way_back == "proved" {
            ", way back proved".to_owned()
        } else {
            format!(", way back: {}", wave.way_back)
        },
        if wave.differs_already {
            "; what differs is there before the first wave"
        } else {
            ""
        }
    ));
    if !style.verbose {
        return;
    }
    if !wave.affected.is_empty() {
        out.push_str(&format!("    affected: {}\n", wave.affected.join(", ")));
    }
    for (index, step) in wave.steps.iter().enumerate() {
        out.push_str(&format!("    {}. {}\n", index + 1, step.what));
    }
    for state in &wave.states {
        out.push_str(&format!(
            "    {} {} ({})\n",
            access::symbol(state.verdict, style.ascii),
            state.when,
            count(state.compared, "comparison")
        ));
    }
}

/// How it ends.
pub(super) fn ending(report: &PlanReport) -> String {
    let is_read = report.unread.is_empty();
    let all_remains = report.remains.is_empty();
    let sentence = match report.ending {
        "done" if report.waves.is_empty() && !is_read => {
            "Nothing was planned: no workload that was read has a sidecar, but not everything was read, as said above"
        }
        "done" if report.waves.is_empty() && report.namespaces.is_empty() => {
            "Nothing to do: no workload has a sidecar"
        }
        "done" if report.waves.is_empty() => {
            "Nothing to do: no workload of what was to be planned has a sidecar"
        }
        "done" if !is_read => {
            "At the end every workload that was read is in ambient mode; of what was not read nothing is proved"
        }
        "done" if all_remains => "At the end every workload is in ambient mode",
        "done" => "At the end every workload that was to leave its sidecar is in ambient mode",
        "undecided" if all_remains => {
            "At the end every workload is in ambient mode; what is undecided above is not proved"
        }
        "undecided" => {
            "At the end every workload that was to leave its sidecar is in ambient mode; what is undecided above is not \
             proved"
        }
        "partial" if report.held.is_empty() => {
            "At the end every workload that was to leave its sidecar is in ambient mode; what is left out above is not done"
        }
        "partial" => "At the end the workloads above keep their sidecars",
        "notReady" => {
            return "Nothing was planned: run `castoff migrate` and settle what it says first.\n"
                .to_owned();
        }
        _ => return "The plan ends there.\n".to_owned(),
    };
    let remains = report.remains.iter();
    let remains: String = remains.map(|one| format!("; {one}")).collect();
    format!("{sentence}{remains}.\n")
}
