//! Quantities of Kubernetes: `100m`, `0.5`, `128Mi`, `1e9`.
//!
//! In: text of a request or limit. Out: thousandths of a core, or bytes. Invariant: what is no quantity is `None`,
//! never 0 (k8s.io/apimachinery `pkg/api/resource/quantity.go`).

/// Suffixes, each with its factor in thousandths; the longer ones first.
const SUFFIXES: [(&str, f64); 16] = [
    ("Ki", 1024e3),
    ("Mi", 1_048_576e3),
    ("Gi", 1_073_741_824e3),
    ("Ti", 1_099_511_627_776e3),
    ("Pi", 1_125_899_906_842_624e3),
    ("Ei", 1_152_921_504_606_847e6),
    ("n", 1e-6),
    ("u", 1e-3),
    ("m", 1.0),
    ("k", 1e6),
    ("M", 1e9),
    ("G", 1e12),
    ("T", 1e15),
    ("P", 1e18),
    ("E", 1e21),
    ("", 1e3),
];

/// Thousandths of what is counted, rounded up as the API server does.
fn thousandths(text: &str) -> Option<u128> {
    let (suffix, factor) = SUFFIXES
        .into_iter()
        .find(|(suffix, _)| text.ends_with(suffix))?;
    let number = &text[..text.len() - suffix.len()];
    let plain = |one: char| one.is_ascii_digit() || matches!(one, '.' | 'e' | 'E' | '+' | '-');
    if number.is_empty() || !number.chars().all(plain) {
        return None;
    }
    let value: f64 = number.parse().ok()?;
    let scaled = (value * factor).ceil();
    (0.0..1e30).contains(&scaled).then_some(scaled as u128)
}

/// Processor time in thousandths of a core.
pub fn millicores(text: &str) -> Option<u64> {
    thousandths(text)?.try_into().ok()
}

/// Memory in bytes.
pub fn bytes(text: &str) -> Option<u64> {
    thousandths(text)?.div_ceil(1000).try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        for (text, expected) in [
            ("100m", Some(100)),
            ("2", Some(2000)),
            ("0.5", Some(500)),
            ("1500u", Some(2)),
            ("1e1", Some(10_000)),
            ("", None),
            ("m", None),
            ("lots", None),
            ("-1", None),
            ("inf", None),
        ] {
            assert_eq!(millicores(text), expected, "{text}");
        }
        for (text, expected) in [
            ("128Mi", Some(134_217_728)),
            ("1Gi", Some(1_073_741_824)),
            ("1G", Some(1_000_000_000)),
            ("64k", Some(64_000)),
            ("1e9", Some(1_000_000_000)),
            ("1000m", Some(1)),
            ("1Xi", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }
}
