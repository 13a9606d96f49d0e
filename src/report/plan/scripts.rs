//! `apply.sh` and `rollback.sh` of a wave.
//!
//! In: a [`WaveReport`]. Out: shell scripts. Invariant: every command that changes the cluster is
//! preceded by what to look at and by the waits for what it relies on; the lines that change
//! something are exactly those that were played in memory.

use super::WaveReport;

/// Name of the script that carries a wave out.
pub const APPLY: &str = "apply.sh";
/// Name of the script that takes it back.
pub const ROLLBACK: &str = "rollback.sh";

/// The script that carries a wave out.
pub fn apply(wave: &WaveReport) -> String {
    let mut script = head(wave, "Carries out");
    for (index, step) in wave.steps.iter().enumerate() {
        comment(&mut script, &format!("\nstep {}: {}", index + 1, step.what));
        for look in &step.look {
            comment(&mut script, &format!("before it, see that {look}"));
        }
        lines(&mut script, &step.waits);
        lines(&mut script, &step.run);
        by_hand(&mut script, &step.by_hand);
        lines(&mut script, &step.settled);
    }
    script
}

/// The script that takes a wave back: its steps in reverse.
pub fn rollback(wave: &WaveReport) -> String {
    let mut script = head(wave, "Takes back");
    comment(
        &mut script,
        "Take later waves back first. What later waves deleted must be there again before sidecars return.",
    );
    for (index, step) in wave.steps.iter().enumerate().rev() {
        comment(
            &mut script,
            &format!("\nback from step {}: {}", index + 1, step.what),
        );
        for look in &step.undo_look {
            comment(&mut script, &format!("before it, see that {look}"));
        }
        if step.undo_look.is_empty() {
            comment(
                &mut script,
                "before it, see that everything it names is as the step left it",
            );
        }
        lines(&mut script, &step.undo);
        by_hand(&mut script, &step.undo_by_hand);
        lines(&mut script, &step.undo_settled);
    }
    script
}

fn head(wave: &WaveReport, what: &str) -> String {
    format!(
        "#!/bin/sh\n# {what} wave {}: {}.\n# castoff ran none of these commands. Read them first; each can be run by \
         itself.\nset -eu\ncd \"$(dirname \"$0\")\"\n",
        wave.folder, wave.title
    )
}

fn by_hand(script: &mut String, advice: &[String]) {
    for advice in advice {
        comment(script, &format!("by hand: {advice}"));
    }
}

fn lines<'a>(script: &mut String, lines: impl IntoIterator<Item = &'a String>) {
    for line in lines {
        script.push_str(line);
        script.push('\n');
    }
}

fn comment(script: &mut String, text: &str) {
    let text = match text.strip_prefix('\n') {
        Some(text) => {
            script.push('\n');
            text
        }
        None => text,
    };
    for line in text.lines() {
        script.push_str("# ");
        script.push_str(line);
        script.push('\n');
    }
}
