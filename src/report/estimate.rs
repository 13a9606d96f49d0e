//! What proxies reserve, as text and as data.
//!
//! In: an [`Estimate`]. Out: [`EstimateReport`], versioned like every report; `schemas/estimate.v1.json` is generated from
//! these types. Invariant: what the sums rest on, and what is missing in them, stands beneath them.

use schemars::JsonSchema;
use serde::Serialize;

use super::wire;
use crate::estimate::{Amount, Estimate, Reserved};
use crate::exit::Exit;
use crate::phases::wording::count;

/// `castoff estimate`, complete and sorted.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(title = "castoff estimate, version 1")]
pub struct EstimateReport {
    /// `castoff/v1`.
    pub api_version: &'static str,
    /// `Estimate`.
    pub kind: &'static str,
    /// What was read.
    pub input: String,
    /// The exit code of the run.
    pub exit_code: u8,
    /// What is reserved now.
    pub now: Sums,
    /// What is reserved when every workload has left its sidecar.
    pub then: Sums,
    /// What is freed: now less then; negative where more is reserved then. `null` where something is missing.
    pub freed: Option<Difference>,
    /// Sidecars by namespace.
    pub sidecars: Vec<OfNamespace>,
    /// Waypoints that are recommended: `namespace/name`.
    pub new_waypoints: Vec<String>,
    /// What was assumed.
    pub assumptions: Vec<String>,
    /// What is missing: the sums are too small by it.
    pub missing: Vec<String>,
}

/// Proxies at one time.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sums {
    /// Sidecars.
    pub sidecars: ReservedReport,
    /// Pods of ztunnel, one a node; `null` where the number of nodes is not known.
    pub ztunnel: Option<ReservedReport>,
    /// Pods of waypoints.
    pub waypoints: ReservedReport,
}

/// Sidecars of one namespace.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OfNamespace {
    /// Its name.
    pub namespace: String,
    /// What they reserve.
    #[serde(flatten)]
    pub reserved: ReservedReport,
}

/// What some pods reserve.
#[derive(Debug, Clone, Copy, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReservedReport {
    /// How many.
    pub count: usize,
    /// Requests of processor time, in thousandths of a core.
    pub millicores: u64,
    /// Requests of memory, in bytes.
    pub bytes: u64,
    /// Of how many no request is set: they reserve nothing.
    pub without_requests: usize,
}

/// A difference of two sums.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// In thousandths of a core.
    pub millicores: i64,
    /// In bytes.
    pub bytes: i64,
}

impl From<&Reserved> for ReservedReport {
    fn from(one: &Reserved) -> Self {
        Self {
            count: one.count,
            millicores: one.requests.millicores,
            bytes: one.requests.bytes,
            without_requests: one.without_requests,
        }
    }
}

impl EstimateReport {
    /// Makes the report; `unread` is what could not be read.
    pub fn new(estimate: &Estimate, input: String, unread: Vec<String>) -> Self {
        let mut all = Reserved::default();
        for reserved in estimate.sidecars.values() {
            all.count += reserved.count;
            all.requests = all.requests.plus(reserved.requests);
            all.without_requests += reserved.without_requests;
        }
        let sum = |parts: &[&Reserved]| {
            (parts.iter()).fold(Amount::default(), |sum, one| sum.plus(one.requests))
        };
        let missing: Vec<String> = unread.into_iter().chain(estimate.missing.clone()).collect();
        let now = sum(&[&all, &estimate.ztunnel_now, &estimate.waypoints_now]);
        let then = estimate.ztunnel_then.as_ref();
        let then = then.map(|ztunnel| sum(&[ztunnel, &estimate.waypoints_then]));
        let less = |left: u64, right: u64| {
            let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
            signed(left) - signed(right)
        };
        let freed = then.filter(|_| missing.is_empty()).map(|then| Difference {
            millicores: less(now.millicores, then.millicores),
            bytes: less(now.bytes, then.bytes),
        });
        let mut report = Self {
            api_version: wire::API_VERSION,
            kind: "Estimate",
            input,
            exit_code: 0,
            now: Sums {
                sidecars: (&all).into(),
                ztunnel: Some((&estimate.ztunnel_now).into()),
                waypoints: (&estimate.waypoints_now).into(),
            },
            then: Sums {
                sidecars: ReservedReport::default(),
                ztunnel: estimate.ztunnel_then.as_ref().map(Into::into),
                waypoints: (&estimate.waypoints_then).into(),
            },
            freed,
            sidecars: (estimate.sidecars.iter())
                .map(|(namespace, reserved)| OfNamespace {
                    namespace: namespace.to_string(),
                    reserved: reserved.into(),
                })
                .collect(),
            new_waypoints: estimate
                .new_waypoints
                .iter()
                .map(ToString::to_string)
                .collect(),
            assumptions: estimate.assumptions.clone(),
            missing,
        };
        report.exit_code = report.exit().code();
        report
    }

    /// How it ends: what is missing makes it incomplete.
    pub fn exit(&self) -> Exit {
        if self.missing.is_empty() {
            Exit::Nothing
        } else {
            Exit::Undecided
        }
    }

    /// For people.
    pub fn text(&self, ascii: bool) -> String {
        let mut out = format!("What Istio's proxies reserve, by {}\n", self.input);
        let mut line = |name: &str, one: &ReservedReport| {
            let without = match one.without_requests {
                0 => String::new(),
                some => format!(" ({some} without requests)"),
            };
            out.push_str(&format!(
                "  {name:<36}{:>10} CPU {:>12} memory{without}\n",
                cores(one.millicores as i64),
                memory(one.bytes as i64)
            ));
        };
        line(
            &format!("now: {}", count(self.now.sidecars.count, "sidecar")),
            &self.now.sidecars,
        );
        for one in &self.sidecars {
            let name = format!("       {} of {}", one.reserved.count, one.namespace);
            line(&name, &one.reserved);
        }
        for (when, sums) in [("now", &self.now), ("then", &self.then)] {
            if let Some(ztunnel) = &sums.ztunnel {
                let name = format!("{when}: ztunnel on {}", count(ztunnel.count, "node"));
                line(&name, ztunnel);
            }
            let name = format!("{when}: {}", count(sums.waypoints.count, "waypoint pod"));
            line(&name, &sums.waypoints);
        }
        if let Some(freed) = self.freed {
            out.push_str(&format!(
                "  {:<36}{:>10} CPU {:>12} memory\n",
                "freed (less than 0: more is needed)",
                cores(freed.millicores),
                memory(freed.bytes)
            ));
        }
        if !self.new_waypoints.is_empty() {
            out.push_str(&format!(
                "New waypoints: {}\n",
                self.new_waypoints.join(", ")
            ));
        }
        out.push_str("These are requests, which the scheduler reserves, and not what is used.\n");
        for one in &self.assumptions {
            out.push_str(&format!("Assumed: {one}\n"));
        }
        let symbol = if ascii { "[?]" } else { "❔" };
        for one in &self.missing {
            out.push_str(&format!("{symbol} not known: {one}\n"));
        }
        out
    }
}

/// `2.4`, in cores.
fn cores(millicores: i64) -> String {
    format!("{:.2}", millicores as f64 / 1000.0)
}

/// `3.00 GiB`, `128 MiB`.
fn memory(bytes: i64) -> String {
    const MIB: f64 = 1_048_576.0;
    let mib = bytes as f64 / MIB;
    if mib.abs() >= 1024.0 {
        format!("{:.2} GiB", mib / 1024.0)
    } else {
        format!("{mib:.0} MiB")
    }
}

/// The schema of [`EstimateReport`], as committed.
pub fn schema() -> String {
    wire::pretty(&schemars::schema_for!(EstimateReport).to_value())
}
