//! One GET with a deadline and retries.
//!
//! Invariant: the deadline covers a request with all its retries, so that a server that hangs or
//! keeps refusing costs a known time.

use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::header::{ACCEPT, RETRY_AFTER};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;

use super::{ClusterError, connect};

/// Attempts a request gets; none after the first once the server has gone silent.
const ATTEMPTS: u32 = 6;

/// The first pause between attempts; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// The longest pause, whatever `Retry-After` asks for.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A cluster that requests can be sent to.
pub(super) struct Connection {
    client: Client,
    pub(super) context: String,
    pub(super) server: String,
    deadline: Duration,
    /// Whether the server has been silent so far, or fell silent for all attempts of a request:
    /// then it is not asked again and again.
    silent: AtomicBool,
}

/// Why a request gave nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The server answered with an error.
    Status {
        /// HTTP status.
        code: u16,
        /// The server's own words, shortened.
        message: String,
    },
    /// No answer, or half of one.
    NoAnswer(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status { code, message } if message.is_empty() => {
                write!(formatter, "the server answered {code}")
            }
            Self::Status { code, message } => {
                write!(formatter, "the server answered {code}: {message}")
            }
            Self::NoAnswer(reason) => formatter.write_str(reason),
        }
    }
}

impl Connection {
    pub(super) fn new(client: Client, context: String, server: String, deadline: Duration) -> Self {
        Self {
            client,
            context,
            server,
            deadline,
            silent: AtomicBool::new(true),
        }
    }

    /// Finds out early, with one small request, whether there is a server that knows this client.
    pub(super) async fn check(&self) -> Result<(), ClusterError> {
        match self.get("/version", "application/json").await {
            Ok(_) => Ok(()),
            Err(Failure::Status { code: 401, .. }) => Err(ClusterError::Unauthorized {
                context: self.context.clone(),
                server: self.server.clone(),
            }),
            // The version may be hidden from this account; what may be read is seen later.
            Err(Failure::Status { code: 403, .. }) => Ok(()),
            Err(failure) => Err(ClusterError::Unreachable {
                context: self.context.clone(),
                server: self.server.clone(),
                reason: failure.to_string(),
            }),
        }
    }

    /// Gets a path. Retried on 429, on 5xx and on connections that break.
    pub(super) async fn get(&self, path: &str, accept: &str) -> Result<Vec<u8>, Failure> {
        let last = std::sync::Mutex::new(None);
        let attempts = async {
            let mut pause = FIRST_PAUSE;
            let mut attempt = 1;
            loop {
                let (failure, wish) = match self.once(path, accept).await {
                    Ok(bytes) => {
                        self.silent.store(false, Ordering::Relaxed);
                        return Ok(bytes);
                    }
                    Err(refused) => refused,
                };
                let silent = matches!(failure, Failure::NoAnswer(_));
                let patient = !silent || !self.silent.load(Ordering::Relaxed);
                if !may_pass(&failure) || attempt >= ATTEMPTS || !patient {
                    if silent {
                        self.silent.store(true, Ordering::Relaxed);
                    }
                    return Err(failure);
                }
                if let Ok(mut last) = last.lock() {
                    *last = Some(failure);
                }
                tokio::time::sleep(wish.unwrap_or(pause).min(LONGEST_PAUSE)).await;
                pause *= 2;
                attempt += 1;
            }
        };
        match tokio::time::timeout(self.deadline, attempts).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => {
                self.silent.store(true, Ordering::Relaxed);
                let before = match last.into_inner() {
                    Ok(Some(failure)) => format!(" (before that: {failure})"),
                    _ => String::new(),
                };
                Err(Failure::NoAnswer(format!(
                    "no whole answer within {} s, the `--request-timeout`{before}",
                    self.deadline.as_secs_f64()
                )))
            }
        }
    }

    /// One attempt; with a failure goes the pause that the server asks for.
    async fn once(&self, path: &str, accept: &str) -> Result<Vec<u8>, (Failure, Option<Duration>)> {
        let no_answer = |reason: String| (Failure::NoAnswer(reason), None);
        let request = http::Request::get(path)
            .header(ACCEPT, accept)
            .body(Body::empty())
            .map_err(|error| no_answer(error.to_string()))?;
        let response = self
            .client
            .send(request)
            .await
            .map_err(|error| no_answer(explain(&error)))?;
        let code = response.status().as_u16();
        let wish = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let body = response
            .into_body()
            .collect()
            .await
            .map_err(|error| {
                no_answer(format!(
                    "the connection broke off in the middle of an answer: {}",
                    innermost(&error)
                ))
            })?
            .to_bytes();
        if code < 400 {
            return Ok(body.into());
        }
        let message = message_of(&body);
        Err((Failure::Status { code, message }, wish))
    }
}

/// Whether the same request may succeed a little later.
fn may_pass(failure: &Failure) -> bool {
    match failure {
        Failure::Status { code, .. } => *code == 429 || *code >= 500,
        Failure::NoAnswer(reason) => !reason.contains(CERTIFICATE),
    }
}

/// Part of every sentence about certificates, which do not get better by trying again.
const CERTIFICATE: &str = "certificate";

/// `message` of a `Status`, or the first line of whatever a proxy sent.
fn message_of(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Status {
        #[serde(default)]
        message: String,
    }
    let text = match serde_json::from_slice::<Status>(body) {
        Ok(status) => status.message,
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    let line = text.lines().next().unwrap_or_default().trim();
    line.chars().take(300).collect()
}

/// The cause of a failed connection, with the remedy where it is plain.
fn explain(error: &kube::Error) -> String {
    if matches!(error, kube::Error::Auth(_)) {
        return connect::login_failure(error);
    }
    let cause = innermost(error);
    let all = chain(error).join(": ");
    let is_one_of = |words: &[&str]| words.iter().any(|word| all.contains(word));
    if is_one_of(&["UnknownIssuer", "BadSignature"]) {
        return format!(
            "the server's {CERTIFICATE} is not signed by the authority that the kubeconfig names \
             (`certificate-authority`)"
        );
    }
    if is_one_of(&["NotValidForName", "certificate not valid for name"]) {
        return format!("the server's {CERTIFICATE} is for another name: {cause}");
    }
    if is_one_of(&["CertificateExpired", "certificate expired"]) {
        return format!("a {CERTIFICATE} has expired: {cause}");
    }
    cause
}

fn chain(error: &dyn Error) -> Vec<String> {
    let mut texts = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        texts.push(cause.to_string());
        next = cause.source();
    }
    texts
}

/// The last cause: what lies at the bottom says most, and the layers above repeat it.
pub(super) fn innermost(error: &dyn Error) -> String {
    chain(error).pop().unwrap_or_default()
}
