//! Waivers: recommendations that people declined, with a reason and, if they like, a last day.
//!
//! In: the text of a `castoff.yaml`. Out: [`Waivers`], which say whether a finding is declined on
//! a given day. Invariant: a failed check cannot be waived, and every waiver is accounted for:
//! used, expired or without a match.

use serde::Deserialize;

use crate::finding::{Finding, Level};
use crate::source::yaml::deserialize::FieldError;
use crate::source::yaml::load;

/// A calendar day as `YYYY-MM-DD`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(String);

impl Day {
    /// Reads `2027-03-31`; `None` for anything that is no day of the calendar.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let shaped = bytes.len() == 10
            && bytes.iter().enumerate().all(|(index, byte)| match index {
                4 | 7 => *byte == b'-',
                _ => byte.is_ascii_digit(),
            });
        if !shaped {
            return None;
        }
        let year: u32 = text[..4].parse().ok()?;
        let month: u32 = text[5..7].parse().ok()?;
        let day: u32 = text[8..].parse().ok()?;
        let leap = year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
        let last = match month {
            1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
            4 | 6 | 9 | 11 => 30,
            2 if leap => 29,
            2 => 28,
            _ => return None,
        };
        (1..=last).contains(&day).then(|| Self(text.to_owned()))
    }

    /// The day (UTC) that is this many seconds after 1970-01-01. The calendar arithmetic counts
    /// years from March, so that the leap day is the last of a year.
    pub fn from_unix_seconds(seconds: u64) -> Self {
        let days = seconds / 86_400 + 719_468;
        let era = days / 146_097;
        let day_of_era = days % 146_097;
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 {
            month_from_march + 3
        } else {
            month_from_march - 9
        };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        Self(format!("{year:04}-{month:02}-{day:02}"))
    }
}

impl std::fmt::Display for Day {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// One declined recommendation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Waiver {
    /// `Kind/namespace/name`, or `Kind/name` for an object of the whole cluster.
    pub object: String,
    /// Code of the finding: `CAST0301`.
    pub code: String,
    /// Why, for the people who read the report.
    pub reason: String,
    /// Last day on which it holds; `None`: for good.
    pub until: Option<Day>,
}

impl Waiver {
    fn covers(&self, finding: &Finding) -> bool {
        self.code == finding.code.0
            && finding.subject.as_ref().is_some_and(|subject| {
                let kind = subject.kind.row().name;
                self.object == format!("{kind}/{}", subject.name)
            })
    }

    fn expired(&self, today: &Day) -> bool {
        self.until.as_ref().is_some_and(|until| until < today)
    }
}

/// All waivers of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Waivers {
    entries: Vec<Waiver>,
}

/// Why a waiver file is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}:{line}:{column}: {message}")]
pub struct WaiverError {
    /// The file.
    pub path: String,
    /// 1-based.
    pub line: u32,
    /// 1-based.
    pub column: u32,
    /// One sentence with the remedy.
    pub message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WaiverFile {
    api_version: String,
    kind: String,
    #[serde(default)]
    waivers: Vec<WaiverEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WaiverEntry {
    object: String,
    code: String,
    reason: String,
    until: Option<String>,
}

/// `apiVersion` of a waiver file.
pub const API_VERSION: &str = "castoff/v1";
/// `kind` of a waiver file.
pub const KIND: &str = "Waivers";

impl Waivers {
    /// Reads the text of a waiver file. `known_code` tells the codes that exist.
    ///
    /// # Errors
    /// A [`WaiverError`] for text that is no YAML, has unknown fields or a wrong kind, names an
    /// unknown code, gives no reason, or has an `until` that is no day.
    pub fn parse(
        path: &str,
        text: &str,
        known_code: impl Fn(&str) -> bool,
    ) -> Result<Self, WaiverError> {
        let error = |line: u32, column: u32, message: String| WaiverError {
            path: path.to_owned(),
            line,
            column,
            message,
        };
        let loaded = load::load(text).map_err(|problem| {
            error(
                problem.place.line,
                problem.place.column,
                problem.message.clone(),
            )
        })?;
        let [root] = loaded.roots.as_slice() else {
            return Err(error(
                1,
                1,
                format!("expected one YAML document with `kind: {KIND}`"),
            ));
        };
        let place = root.place;
        let file = WaiverFile::deserialize(root).map_err(|problem: FieldError| {
            let place = problem.place.unwrap_or(place);
            error(place.line, place.column, problem.to_string())
        })?;
        let whole = |message: String| error(place.line, place.column, message);
        if file.api_version != API_VERSION || file.kind != KIND {
            return Err(whole(format!(
                "`{}` `{}` is no waiver file: write `apiVersion: {API_VERSION}` and `kind: {KIND}`",
                file.api_version, file.kind
            )));
        }
        let mut entries = Vec::new();
        for (index, entry) in file.waivers.into_iter().enumerate() {
            let number = index + 1;
            if !known_code(&entry.code) {
                return Err(whole(format!(
                    "waiver {number} names the unknown code `{}`; `castoff explain --list` shows all",
                    entry.code
                )));
            }
            if entry.reason.trim().is_empty() {
                return Err(whole(format!(
                    "waiver {number} has an empty `reason`; say why the recommendation is declined"
                )));
            }
            let until = match entry.until {
                None => None,
                Some(text) => Some(Day::parse(&text).ok_or_else(|| {
                    whole(format!(
                        "`until` of waiver {number} is `{text}`, which is no day; write YYYY-MM-DD"
                    ))
                })?),
            };
            entries.push(Waiver {
                object: entry.object,
                code: entry.code,
                reason: entry.reason,
                until,
            });
        }
        entries.sort();
        entries.dedup();
        Ok(Self { entries })
    }

    /// The waiver that declines a finding on this day. Errors cannot be declined.
    pub fn find(&self, finding: &Finding, today: &Day) -> Option<&Waiver> {
        if !matches!(finding.level, Level::Recommendation | Level::Warning) {
            return None;
        }
        self.entries
            .iter()
            .find(|waiver| waiver.covers(finding) && !waiver.expired(today))
    }

    /// Waivers that hold on this day.
    pub fn holding(&self, today: &Day) -> impl Iterator<Item = &Waiver> {
        self.entries.iter().filter(|waiver| !waiver.expired(today))
    }

    /// Waivers whose last day is over.
    pub fn expired(&self, today: &Day) -> Vec<Waiver> {
        self.entries
            .iter()
            .filter(|waiver| waiver.expired(today))
            .cloned()
            .collect()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;
    use crate::finding::Code;
    use crate::snapshot::{Kind, ObjectName};

    const FILE: &str = "apiVersion: castoff/v1\nkind: Waivers\nwaivers:\n- object: Namespace/shop\n  \
                        code: CAST0301\n  reason: retired in spring\n  until: \"2027-03-31\"\n";

    fn finding(level: Level) -> Finding {
        Finding::new(Code("CAST0301"), level, "x").about(
            Kind::Namespace,
            &ObjectName::new("", "shop"),
            None,
        )
    }

    fn day(text: &str) -> Day {
        Day::parse(text).unwrap()
    }

    #[test]
    fn a_waiver_holds_through_its_last_day_and_returns_after_it() {
        let waivers = Waivers::parse("castoff.yaml", FILE, |_| true).unwrap();
        let found = finding(Level::Recommendation);
        assert!(waivers.find(&found, &day("2027-03-31")).is_some());
        assert!(waivers.find(&found, &day("2027-04-01")).is_none());
        assert_eq!(waivers.expired(&day("2027-04-01")).len(), 1);
    }

    #[test]
    fn a_failed_check_cannot_be_waived() {
        let waivers = Waivers::parse("castoff.yaml", FILE, |_| true).unwrap();
        assert_eq!(
            waivers.find(&finding(Level::Error), &day("2027-01-01")),
            None
        );
    }

    #[test]
    fn bad_files_say_where_and_what_to_write() {
        let table = [
            (FILE.replace("Namespace/shop", "[shop"), "castoff.yaml:"),
            (FILE.replace("reason", "because"), "because"),
            (FILE.replace("Waivers", "Waiver"), "kind: Waivers"),
            (FILE.replace("2027-03-31", "2027-02-29"), "YYYY-MM-DD"),
            (FILE.replace("retired in spring", "''"), "empty `reason`"),
            (String::new(), "one YAML document"),
        ];
        for (text, expected) in table {
            let message = Waivers::parse("castoff.yaml", &text, |_| true)
                .unwrap_err()
                .to_string();
            assert!(message.contains(expected), "{message}");
        }
        let message = Waivers::parse("castoff.yaml", FILE, |_| false)
            .unwrap_err()
            .to_string();
        assert!(message.contains("unknown code `CAST0301`"), "{message}");
    }

    #[test]
    fn days_are_counted_as_the_calendar_does() {
        let table = [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_767_225_599, "2025-12-31"),
            (1_767_225_600, "2026-01-01"),
        ];
        for (seconds, expected) in table {
            assert_eq!(Day::from_unix_seconds(seconds), day(expected));
        }
    }
}
