//! Who called whom, asked of a Prometheus server.
//!
//! In: the server's address and how far back to look. Out: the text of its answer, as
//! [`CallGraph`](crate::plan::traffic::CallGraph) reads it. Invariant: one GET request; an answer that
//! is no success is an error with what the server said, never an empty call graph.

use std::time::Duration;

use ureq::tls::{RootCerts, TlsConfig};

/// More than this is no answer to one query: in bytes.
const MOST: u64 = 256 << 20;

/// Asks which workloads were seen calling which, by `istio_requests_total` and
/// `istio_tcp_connections_opened_total` (istio.io, "Istio Standard Metrics"). `window` is a duration of
/// Prometheus (`7d`); `token` goes into the `Authorization` header.
///
/// # Errors
/// What went wrong, with the address, in a sentence.
pub fn calls(
    address: &str,
    window: &str,
    token: Option<&str>,
    timeout: Duration,
) -> Result<String, String> {
    let labels = "source_workload, source_workload_namespace, destination_workload, destination_workload_namespace";
    // A counter that was born with its last value never increases: that it was there at all counts.
    let query = ["istio_requests_total", "istio_tcp_connections_opened_total"]
        .map(|metric| format!("sum by ({labels}) (max_over_time({metric}[{window}]))"))
        .join(" or ");
    let failed = |why: &str| format!("cannot ask Prometheus at `{address}`: {why}");
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::PlatformVerifier)
        .build();
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global((!timeout.is_zero()).then_some(timeout))
        .http_status_as_error(false)
        .tls_config(tls)
        .user_agent(concat!("castoff/", env!("CARGO_PKG_VERSION")))
        .build()
        .into();
    let url = format!("{}/api/v1/query", address.trim_end_matches('/'));
    let mut request = agent.get(&url).query("query", &query);
    if let Some(token) = token {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    let mut response = request.call().map_err(|error| failed(&error.to_string()))?;
    let status = response.status();
    let body = response
        .body_mut()
        .with_config()
        .limit(MOST)
        .read_to_string()
        .map_err(|error| failed(&error.to_string()))?;
    if status.is_success() {
        return Ok(body);
    }
    let said: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
    Err(failed(&match said["error"].as_str() {
        Some(reason) => format!("it answered {status}: {reason}"),
        None => format!("it answered {status}; is this the address of the Prometheus API?"),
    }))
}

/// Whether a text is a duration of Prometheus: `90m`, `12h`, `7d`, `1w2d`.
///
/// # Errors
/// The form it should have.
pub fn parse_window(text: &str) -> Result<String, String> {
    let wrong = || "write it as 12h, 7d or 2w".to_owned();
    let mut digits = 0;
    let mut complete = false;
    for character in text.chars() {
        match character {
            '0'..='9' => {
                digits += 1;
                complete = false;
            }
            's' | 'm' | 'h' | 'd' | 'w' | 'y' if digits > 0 => {
                digits = 0;
                complete = true;
            }
            _ => return Err(wrong()),
        }
    }
    if complete {
        Ok(text.to_owned())
    } else {
        Err(wrong())
    }
}
