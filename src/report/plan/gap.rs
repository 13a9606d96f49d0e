//! Access that somebody gains or loses between two moments of a plan, for people and machines.
//!
//! In: a [`Gap`] of the plan. Out: [`GapReport`]. Invariant: what is there before the first wave is never said to begin with
//! a command of the plan.

use schemars::JsonSchema;
use serde::Serialize;

use crate::plan::Plan;
use crate::plan::wave::Gap;

/// Access gained or lost between two moments.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GapReport {
    /// Whose.
    pub server: String,
    /// `opens` or `breaks`.
    pub direction: &'static str,
    /// The request, and where it was decided before and then.
    pub witness: Vec<String>,
    /// From when.
    pub from: String,
    /// Until when; `null` when it lasts to the end of the plan.
    pub until: Option<String>,
    /// The command after which it begins.
    pub begins_after: Option<String>,
    /// The command after which it is over; `null` when it lasts to the end of the plan.
    pub ends_after: Option<String>,
    /// Whether it is there before the first wave: the state read differs from the baseline by itself.
    pub is_before_the_plan: bool,
}

impl GapReport {
    /// Tells a gap; `moment` tells where a state is.
    pub(super) fn new(gap: &Gap, moment: impl Fn(&(usize, String)) -> String) -> Self {
        Self {
            server: gap.server.to_string(),
            direction: gap.direction,
            witness: gap.lines.clone(),
            from: moment(&gap.from),
            until: gap.until.as_ref().map(&moment),
            begins_after: gap.begins_after.clone(),
            ends_after: gap.ends_after.clone(),
            is_before_the_plan: gap.from.0 == 0,
        }
    }

    /// `after this command (wave, state) until that command (wave, state)`; commands between ticks.
    pub(super) fn span(&self) -> String {
        let moment = |command: &Option<String>, place: &str| match command {
            Some(command) => format!("`{command}` ({place})"),
            None => place.to_owned(),
        };
        let already = if self.is_before_the_plan {
            ", by no doing of the plan: the state read differs from the baseline already,"
        } else {
            ""
        };
        let until = match &self.until {
            Some(until) => moment(&self.ends_after, until),
            None => "the end of the plan".to_owned(),
        };
        format!(
            "from {}{already} until {until}",
            moment(&self.begins_after, &self.from)
        )
    }
}

/// Whether every gap that lasts in a wave is there before the first one.
pub(super) fn differs_already(plan: &Plan, index: usize) -> bool {
    let wave = index + 1;
    let lasts = |gap: &&Gap| {
        gap.from.0 <= wave && gap.until.as_ref().is_none_or(|(until, _)| *until >= wave)
    };
    let mut gaps = plan.gaps.iter().filter(lasts).peekable();
    gaps.peek().is_some() && gaps.all(|gap| gap.from.0 == 0)
}
