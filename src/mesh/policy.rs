//! Security and extension policies: where they attach, what they mean, what needs a proxy.

use std::sync::Arc;

use serde_json::Value;
use smol_str::SmolStr;

use crate::snapshot::{Kind, Labels, ObjectName, Origin};

/// What a policy applies to, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attachment {
    /// Neither selector nor targetRefs: the namespace, or the mesh from the root namespace.
    Namespace,
    /// `selector` without labels (`{}`): a sidecar takes it for all pods of the namespace, ztunnel
    /// never enforces it; with `matchLabels: {}` both take it for all.
    EmptySelector {
        /// Whether `matchLabels` is written out (`matchLabels: {}`).
        match_labels_written: bool,
    },
    /// `selector.matchLabels`.
    Selector(Labels),
    /// `targetRef` or `targetRefs`.
    Targets(Vec<TargetReference>),
}

/// One entry of `targetRefs`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TargetReference {
    /// API group; empty for core.
    pub group: SmolStr,
    /// `Service`, `ServiceEntry`, `Gateway`, `GatewayClass`.
    pub kind: SmolStr,
    /// Name; the namespace is the policy's own (but for a GatewayClass).
    pub name: SmolStr,
}

/// One AuthorizationPolicy.
#[derive(Debug, Clone, PartialEq)]
pub struct AuthorizationPolicy {
    /// Namespace and name.
    pub name: ObjectName,
    /// Labels (`istio.io/rev` restricts it to a revision; provenance).
    pub labels: Labels,
    /// Annotations (`istio.io/dry-run`).
    pub annotations: Labels,
    /// Where it was read.
    pub origin: Origin,
    /// What it applies to.
    pub attachment: Attachment,
    /// What it decides, or why that could not be understood.
    pub meaning: Result<Arc<castoff_authz::policy::Policy>, Vec<Misunderstanding>>,
    /// Fields that only an HTTP proxy can check, with their paths (`rules[0].to[0].operation.methods`).
    pub http_fields: Vec<HttpField>,
    /// The object as read, for copying.
    pub raw: Arc<Value>,
}

/// A field that ztunnel cannot check.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HttpField {
    /// `methods`, `paths`, `requestPrincipals`, `request.headers[x]` …
    pub name: SmolStr,
    /// Where in the object.
    pub path: SmolStr,
}

/// Something in a policy that castoff does not understand, so that nothing is claimed about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Misunderstanding {
    /// Where in the object.
    pub path: SmolStr,
    /// Why.
    pub reason: String,
}

/// One RequestAuthentication.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestAuthentication {
    /// Namespace and name.
    pub name: ObjectName,
    /// Labels.
    pub labels: Labels,
    /// Where it was read.
    pub origin: Origin,
    /// What it applies to.
    pub attachment: Attachment,
    /// Its rules.
    pub rules: Vec<JwtRule>,
    /// The object as read, for copying.
    pub raw: Arc<Value>,
}

impl RequestAuthentication {
    /// Headers that its rules make from tokens, in lower case, and how: equal words, equal values.
    pub fn headers_set(&self) -> Vec<(String, String)> {
        let words = |rule: &JwtRule, from: &str| {
            let JwtRule {
                issuer, validation, ..
            } = rule;
            format!("{from} of a token of {issuer} ({validation})")
        };
        let rules = self.rules.iter();
        rules
            .flat_map(|rule| {
                let made = rule.output_headers.iter();
                made.map(move |(header, from)| (header.to_string(), words(rule, from)))
            })
            .collect()
    }

    /// Its rules, for the evaluator.
    pub fn token_rules(&self) -> Vec<castoff_authz::path::TokenRule> {
        self.rules.iter().map(JwtRule::token_rule).collect()
    }
}

/// One JWT rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtRule {
    /// Issuer.
    pub issuer: SmolStr,
    /// Accepted audiences; empty: any.
    pub audiences: Vec<SmolStr>,
    /// Whether the token is passed on (`forwardOriginalToken`, default false).
    pub forwards_token: bool,
    /// All else of the rule that decides whether a token is valid and where it is looked for, as
    /// text: equal texts validate alike.
    pub validation: SmolStr,
    /// Headers that it makes from the token, in lower case, and which part: `payload`, `claim NAME`.
    pub output_headers: Vec<(SmolStr, SmolStr)>,
}

impl JwtRule {
    /// Reads an item of `spec.jwtRules`, as lenient as the API server is strict: it was admitted.
    pub fn read(rule: &Value) -> Self {
        let audiences = rule["audiences"].as_array().into_iter().flatten();
        let mut others: Vec<(&String, &Value)> = rule
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(name, value)| {
                let apart = ["issuer", "audiences", "forwardOriginalToken"];
                // What it puts into headers decides nothing about the token.
                let output = ["outputPayloadToHeader", "outputClaimToHeaders"];
                !value.is_null()
                    && !apart.contains(&name.as_str())
                    && !output.contains(&name.as_str())
            })
            .collect();
        others.sort_unstable_by_key(|(name, _)| *name);
        let validation: Vec<String> = others
            .into_iter()
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        Self {
            issuer: rule["issuer"].as_str().unwrap_or_default().into(),
            audiences: audiences
                .filter_map(Value::as_str)
                .map(SmolStr::from)
                .collect(),
            forwards_token: rule["forwardOriginalToken"].as_bool().unwrap_or(false),
            validation: validation.join(", ").into(),
            output_headers: output_headers(rule),
        }
    }

    /// The rule, for the evaluator.
    pub fn token_rule(&self) -> castoff_authz::path::TokenRule {
        castoff_authz::path::TokenRule {
            issuer: self.issuer.to_string(),
            audiences: self.audiences.iter().map(ToString::to_string).collect(),
            forward: self.forwards_token,
            validation: self.validation.to_string(),
        }
    }
}

/// `outputPayloadToHeader` and `outputClaimToHeaders` of an item of `spec.jwtRules`.
fn output_headers(rule: &Value) -> Vec<(SmolStr, SmolStr)> {
    let lower = |name: &str| SmolStr::from(name.to_ascii_lowercase());
    let payload = rule["outputPayloadToHeader"].as_str().into_iter();
    let payload = payload.map(|name| (lower(name), "payload".into()));
    let claims = rule["outputClaimToHeaders"]
        .as_array()
        .into_iter()
        .flatten();
    let claims = claims.filter_map(|one| {
        let claim = one["claim"].as_str().unwrap_or_default();
        Some((
            lower(one["header"].as_str()?),
            format!("claim {claim}").into(),
        ))
    });
    payload.chain(claims).collect()
}

/// mTLS mode of a PeerAuthentication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MtlsMode {
    /// Inherit.
    Unset,
    /// Plaintext only (as sidecars see it; ztunnel takes it for permissive).
    Disable,
    /// Both.
    Permissive,
    /// mTLS only.
    Strict,
}

/// One PeerAuthentication.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerAuthentication {
    /// Namespace and name.
    pub name: ObjectName,
    /// Where it was read.
    pub origin: Origin,
    /// RFC 3339: the oldest wins at each level.
    pub created: Option<SmolStr>,
    /// Labels of the pods it selects; `None` for the namespace or the mesh.
    pub selector: Option<Labels>,
    /// Mode.
    pub mode: MtlsMode,
    /// Mode by pod port, sorted.
    pub port_modes: Vec<(u16, MtlsMode)>,
    /// The object as read, for edits.
    pub raw: Arc<Value>,
}

/// Telemetry, WasmPlugin, TrafficExtension or EnvoyFilter.
#[derive(Debug, Clone, PartialEq)]
pub struct ExtensionPolicy {
    /// Which kind.
    pub kind: Kind,
    /// Namespace and name.
    pub name: ObjectName,
    /// Labels.
    pub labels: Labels,
    /// Where it was read.
    pub origin: Origin,
    /// What it applies to (`selector`, `workloadSelector` or targetRefs).
    pub attachment: Attachment,
    /// For an EnvoyFilter: contexts of its patches (`SIDECAR_INBOUND`, `GATEWAY`, `ANY` …).
    pub contexts: Vec<SmolStr>,
    /// The object as read, for copying.
    pub raw: Arc<Value>,
}

/// Whether labels of pods in `pod_namespace` are selected by a policy of `policy_namespace` at a
/// *sidecar*: targetRefs never select there, an empty selector selects all
/// (istio pilot/pkg/model/policyattachment.go `ShouldAttachPolicy`).
pub fn selects_at_sidecar(
    attachment: &Attachment,
    policy_namespace: &str,
    root_namespace: &str,
    pod_namespace: &str,
    pod_labels: &Labels,
) -> bool {
    if policy_namespace != pod_namespace && policy_namespace != root_namespace {
        return false;
    }
    match attachment {
        Attachment::Namespace | Attachment::EmptySelector { .. } => true,
        Attachment::Selector(labels) => pod_labels.selected_by(labels),
        Attachment::Targets(_) => false,
    }
}
