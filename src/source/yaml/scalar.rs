//! What an unquoted scalar means: the YAML 1.1 rules of the Go library behind `kubectl`
//! (`sigs.k8s.io/yaml`, `goyaml.v2/resolve.go`), followed by its way through JSON, where `1.0`
//! and `1` are the same number. The table in the tests was measured from kubectl.

/// The meaning of a plain scalar.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scalar {
    /// `null`, `~`, nothing.
    Null,
    /// `true`, `yes`, `on`, `y` …
    Bool(bool),
    /// A whole number that fits 64 bits, also if written `1.0` or `1e3`.
    Integer(i64),
    /// Any other number; not finite for `.inf` and `.nan`, which JSON cannot hold.
    Float(f64),
    /// Text: the scalar as it stands.
    Text,
}

/// Resolves a plain scalar.
pub fn resolve(text: &str) -> Scalar {
    let Some(first) = text.as_bytes().first() else {
        return Scalar::Null;
    };
    match first {
        b'y' | b'Y' | b'n' | b'N' | b't' | b'T' | b'f' | b'F' | b'o' | b'O' | b'~' => word(text),
        b'.' => special_float(text)
            .or_else(|| go_float(text))
            .map_or(Scalar::Text, number),
        b'+' | b'-' | b'0'..=b'9' => special_float(text).map_or_else(|| numeric(text), number),
        _ => Scalar::Text,
    }
}

/// Whether a plain scalar is null.
pub fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

fn word(text: &str) -> Scalar {
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Scalar::Bool(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Scalar::Bool(false)
        }
        "~" | "null" | "Null" | "NULL" => Scalar::Null,
        _ => Scalar::Text,
    }
}

fn special_float(text: &str) -> Option<f64> {
    match text {
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Some(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Some(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => Some(f64::NAN),
        _ => None,
    }
}

fn numeric(text: &str) -> Scalar {
    let without_underscores: String;
    let plain = if text.contains('_') {
        without_underscores = text.replace('_', "");
        without_underscores.as_str()
    } else {
        text
    };
    if let Some(integer) = go_integer(plain) {
        return match i64::try_from(integer) {
            Ok(integer) => Scalar::Integer(integer),
            #[expect(
                clippy::cast_precision_loss,
                reason = "Go reads it from JSON as a double"
            )]
            Err(_) => Scalar::Float(integer as f64),
        };
    }
    if looks_like_float(plain) {
        return go_float(plain).map_or(Scalar::Text, number);
    }
    Scalar::Text
}

/// Go's `ParseInt` with base 0, then `ParseUint`: `0x`, `0o`, `0b` and a leading `0` for octal.
fn go_integer(plain: &str) -> Option<i128> {
    let (negative, digits) = match plain.as_bytes().first()? {
        b'-' => (true, &plain[1..]),
        b'+' => (false, &plain[1..]),
        _ => (false, plain),
    };
    let signed = plain.len() != digits.len();
    let lower = |prefix: char| {
        digits
            .strip_prefix('0')
            .and_then(|rest| rest.strip_prefix([prefix, prefix.to_ascii_uppercase()]))
    };
    let (radix, digits) = if let Some(rest) = lower('x') {
        (16, rest)
    } else if let Some(rest) = lower('o') {
        (8, rest)
    } else if let Some(rest) = lower('b') {
        (2, rest)
    } else if digits.len() > 1 && digits.starts_with('0') {
        (8, &digits[1..])
    } else {
        (10, digits)
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let magnitude = i128::from_str_radix(digits, radix).ok()?;
    let value = if negative { -magnitude } else { magnitude };
    let fits = i64::try_from(value).is_ok() || (!signed && u64::try_from(value).is_ok());
    fits.then_some(value)
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn looks_like_float(plain: &str) -> bool {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let mut rest = plain.strip_prefix(['+', '-']).unwrap_or(plain);
    let whole = digits(rest);
    rest = &rest[whole..];
    if let Some(after) = rest.strip_prefix('.') {
        let fraction = digits(after);
        if whole == 0 && fraction == 0 {
            return false;
        }
        rest = &after[fraction..];
    } else if whole == 0 {
        return false;
    }
    if let Some(after) = rest.strip_prefix(['e', 'E']) {
        let after = after.strip_prefix(['+', '-']).unwrap_or(after);
        let exponent = digits(after);
        return exponent > 0 && exponent == after.len();
    }
    rest.is_empty()
}

/// Go's `ParseFloat`: out of range is an error, not infinity.
fn go_float(plain: &str) -> Option<f64> {
    if !looks_like_float(plain) {
        return None;
    }
    plain.parse::<f64>().ok().filter(|value| value.is_finite())
}

/// A double after its way through JSON: Go writes whole numbers below 1e21 with their shortest
/// digits and without a point, and reads what has no point as an integer when it fits.
fn number(value: f64) -> Scalar {
    if value.fract() == 0.0
        && value.abs() < 1e21
        && let Ok(integer) = (value + 0.0).to_string().parse::<i64>()
    {
        return Scalar::Integer(integer);
    }
    Scalar::Float(value)
}
