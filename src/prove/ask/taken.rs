//! The path that proxies take a request's path for, before they ask their policies.
//!
//! In: a path without its query, and `meshConfig.pathNormalization`. Out: the path that Envoy makes of
//! it, or that this is not known. Invariant: what is said follows from Istio's own table
//! (istio.io/latest/docs/reference/config/security/normalization) and from the tests of Envoy's
//! `normalize_path` (test/common/http/path_utility_test.cc); all else is not known.

/// What a path is taken for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Taken {
    /// This path.
    As(String),
    /// Not known, with the reason.
    Unknown(String),
}

/// Reads a path as Envoy does with a mesh's setting (istio pilot/pkg/networking/core/listener_builder.go
/// `buildHTTPConnectionManager`): escaped slashes are decoded first, adjacent ones merged last.
pub(super) fn taken(path: &str, normalization: &str) -> Taken {
    let (decodes, merges) = match normalization {
        "NONE" if path.contains('#') => return fragment(),
        "NONE" => return Taken::As(path.to_owned()),
        "" | "DEFAULT" | "BASE" => (false, false),
        "MERGE_SLASHES" => (false, true),
        "DECODE_AND_MERGE_SLASHES" => (true, true),
        other => {
            return Taken::Unknown(format!(
                "meshConfig.pathNormalization {other}, which Istio does not have"
            ));
        }
    };
    if path.contains('#') {
        return fragment();
    }
    let Some(decoded) = decoded(path, decodes) else {
        return Taken::Unknown(
            "path normalization of characters of which it is not known what becomes".to_owned(),
        );
    };
    let mut segments: Vec<&str> = Vec::new();
    let mut parts = decoded.split('/').skip(1).peekable();
    while let Some(part) = parts.next() {
        let is_last = parts.peek().is_none();
        match part {
            "." | ".." => {
                if part == ".." {
                    segments.pop();
                }
                if is_last {
                    segments.push("");
                }
            }
            // Releases of Envoy differ in whether `..;a=b` is a `..`.
            _ if part.starts_with(".;") || part.starts_with("..;") => {
                return Taken::Unknown("path normalization of dots with parameters".to_owned());
            }
            _ => segments.push(part),
        }
    }
    let mut taken = format!("/{}", segments.join("/"));
    while merges && taken.contains("//") {
        taken = taken.replace("//", "/");
    }
    Taken::As(taken)
}

/// Envoy refuses such a request or cuts the fragment off, as a runtime feature says
/// (source/common/http/conn_manager_utility.cc `maybeNormalizePath`).
fn fragment() -> Taken {
    Taken::Unknown("what becomes of a path with a fragment".to_owned())
}

/// The path with unreserved characters decoded and `/` for `\`; none where it holds others than are
/// known to be left alone.
fn decoded(path: &str, slashes: bool) -> Option<String> {
    let mut out = String::new();
    let mut rest = path;
    while let Some(next) = rest.chars().next() {
        rest = &rest[next.len_utf8()..];
        match next {
            '\\' => out.push('/'),
            '%' => {
                let digits = rest.get(..2)?;
                if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                    return None;
                }
                rest = &rest[2..];
                match char::from(u8::from_str_radix(digits, 16).ok()?) {
                    // Refused with 400.
                    '\0' => return None,
                    '/' | '\\' if slashes => out.push('/'),
                    code if unreserved(code) => out.push(code),
                    _ => {
                        out.push('%');
                        out.push_str(digits);
                    }
                }
            }
            _ if unreserved(next) || "/!$&()*+,;:=@".contains(next) => out.push(next),
            _ => return None,
        }
    }
    Some(out)
}

/// RFC 3986, section 2.3.
fn unreserved(character: char) -> bool {
    character.is_ascii_alphanumeric() || "-._~".contains(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: &str, normalization: &str) -> Option<String> {
        match taken(path, normalization) {
            Taken::As(path) => Some(path),
            Taken::Unknown(_) => None,
        }
    }

    #[test]
    fn the_default_resolves_dots_and_decodes_what_needs_no_escape() {
        for (sent, normal) in [
            ("/x/../admin", "/admin"),
            ("/./admin", "/admin"),
            ("/%61dmin", "/admin"),
            ("/x/%2E%2e/admin", "/admin"),
            ("/x\\..\\admin", "/admin"),
            ("/../../admin", "/admin"),
            ("/admin/x/..", "/admin/"),
            ("/admin/.", "/admin/"),
            ("/..", "/"),
            ("/", "/"),
            ("//admin", "//admin"),
            ("/a//../admin", "/a/admin"),
            ("/x/..%2Fadmin", "/x/..%2Fadmin"),
            ("/%2561dmin", "/%2561dmin"),
            ("/%c0%af", "/%c0%af"),
            ("/a;b=c/d", "/a;b=c/d"),
        ] {
            for name in ["", "DEFAULT", "BASE"] {
                assert_eq!(path(sent, name).as_deref(), Some(normal), "{sent}");
            }
        }
    }

    #[test]
    fn slashes_are_merged_and_decoded_where_the_mesh_says_so() {
        let merged = |sent| path(sent, "MERGE_SLASHES");
        assert_eq!(merged("//x///../admin").as_deref(), Some("/x/admin"));
        assert_eq!(merged("/x%2Fadmin").as_deref(), Some("/x%2Fadmin"));
        let decoded = |sent| path(sent, "DECODE_AND_MERGE_SLASHES");
        assert_eq!(decoded("/x%2f..%5Cadmin").as_deref(), Some("/admin"));
        assert_eq!(decoded("/%2F/admin").as_deref(), Some("/admin"));
        assert_eq!(decoded("/x%252Fadmin").as_deref(), Some("/x%252Fadmin"));
    }

    #[test]
    fn without_normalization_a_path_stays() {
        assert_eq!(path("/x/../%61", "NONE").as_deref(), Some("/x/../%61"));
    }

    #[test]
    fn what_is_not_known_is_said() {
        for odd in [
            "/%00",
            "/%zz",
            "/%6",
            "/a b",
            "/ä",
            "/..;a=b/c",
            "/a#b",
            "/{x}",
        ] {
            assert_eq!(path(odd, ""), None, "{odd}");
        }
        assert_eq!(path("/a#b", "NONE"), None);
        assert_eq!(path("/a", "SOME"), None);
    }
}
