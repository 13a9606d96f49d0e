//! Matching of one string, as the proxies do it.
//!
//! In comes what a proxy was configured with (exact, prefix, suffix, presence, or a sequence of
//! literals and wildcards), out comes yes or no for one string. Invariant: this file holds every shape
//! that an AuthorizationPolicy can produce, so no general regular expression is needed; `.` and `.*`
//! match any character (header values, paths and identities hold no line breaks, see `world`).

use std::borrow::Cow;

/// What one string is compared with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text<'a> {
    /// How.
    pub shape: Shape<'a>,
    /// Compare ASCII letters without case (`hosts`).
    pub ignore_case: bool,
}

/// How a string is compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shape<'a> {
    /// Equal to.
    Exact(Cow<'a, str>),
    /// Starts with.
    Prefix(Cow<'a, str>),
    /// Ends with.
    Suffix(Cow<'a, str>),
    /// Not empty (the regular expression `.+`).
    NotEmpty,
    /// There, even if empty (Envoy's `present_match` of a header).
    There,
    /// One of these sequences, from the first to the last character.
    Sequences(Vec<Vec<Piece<'a>>>),
}

/// A part of a sequence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Piece<'a> {
    /// These characters.
    Literal(Cow<'a, str>),
    /// One character of the set.
    One(Set),
    /// Any number of characters of the set, none included.
    Many(Set),
}

/// A set of characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Set {
    /// Every character.
    Any,
    /// Every character but `/`.
    NotSlash,
    /// What `{*}` of a path template matches: Envoy's `kLiteral` in `uri_template_internal.cc`.
    Segment,
    /// What `{**}` of a path template matches: the same and `/`.
    Segments,
    /// Letters, digits, `.`, `_` and `-`: a part of an identity.
    Name,
    /// Visible ASCII but `?` and `#`: a path without its query.
    Path,
    /// Visible ASCII.
    Visible,
    /// Visible ASCII but capitals: a server name, which Envoy keeps in lower case
    /// (`source/common/network/listen_socket_impl.h:setRequestedServerName`).
    ServerName,
}

impl Set {
    /// All sets, in a fixed order.
    pub const ALL: [Self; 8] = [
        Self::Any,
        Self::NotSlash,
        Self::Segment,
        Self::Segments,
        Self::Name,
        Self::Path,
        Self::Visible,
        Self::ServerName,
    ];

    /// Whether the character is in the set.
    #[must_use]
    pub fn holds(self, character: char) -> bool {
        let segment = |c: char| {
            c.is_ascii_alphanumeric()
                || matches!(
                    c,
                    '-' | '.'
                        | '_'
                        | '~'
                        | '%'
                        | '!'
                        | '$'
                        | '&'
                        | '\''
                        | '('
                        | ')'
                        | '+'
                        | ','
                        | ';'
                        | ':'
                        | '@'
                        | '='
                )
        };
        match self {
            Self::Any => true,
            Self::NotSlash => character != '/',
            Self::Segment => segment(character),
            Self::Segments => segment(character) || character == '/',
            Self::Name => character.is_ascii_alphanumeric() || matches!(character, '-' | '.' | '_'),
            Self::Path => character.is_ascii_graphic() && character != '?' && character != '#',
            Self::Visible => character.is_ascii_graphic(),
            Self::ServerName => character.is_ascii_graphic() && !character.is_ascii_uppercase(),
        }
    }
}

impl<'a> Text<'a> {
    /// The same, apart from what it was read from.
    #[must_use]
    pub fn detached(&self) -> Text<'static> {
        let text = |text: &Cow<'_, str>| Cow::Owned(text.clone().into_owned());
        let piece = |piece: &Piece<'_>| match piece {
            Piece::Literal(literal) => Piece::Literal(text(literal)),
            Piece::One(set) => Piece::One(*set),
            Piece::Many(set) => Piece::Many(*set),
        };
        let shape = match &self.shape {
            Shape::Exact(one) => Shape::Exact(text(one)),
            Shape::Prefix(one) => Shape::Prefix(text(one)),
            Shape::Suffix(one) => Shape::Suffix(text(one)),
            Shape::NotEmpty => Shape::NotEmpty,
            Shape::There => Shape::There,
            Shape::Sequences(sequences) => {
                let sequences = sequences.iter();
                Shape::Sequences(
                    sequences
                        .map(|pieces| pieces.iter().map(piece).collect())
                        .collect(),
                )
            }
        };
        Text {
            shape,
            ignore_case: self.ignore_case,
        }
    }

    /// With case.
    #[must_use]
    pub fn new(shape: Shape<'a>) -> Self {
        Self {
            shape,
            ignore_case: false,
        }
    }

    /// Equal to this text.
    #[must_use]
    pub fn exact(text: impl Into<Cow<'a, str>>) -> Self {
        Self::new(Shape::Exact(text.into()))
    }

    /// Istio's general syntax (`pilot/pkg/security/authz/matcher/string.go:StringMatcher`): `*` is not
    /// empty, `*x` a suffix, `x*` a prefix, all else exact; a `*` elsewhere is itself.
    #[must_use]
    pub fn wildcard(text: &'a str) -> Self {
        Self::new(if text == "*" {
            Shape::NotEmpty
        } else if let Some(suffix) = text.strip_prefix('*') {
            Shape::Suffix(suffix.into())
        } else if let Some(prefix) = text.strip_suffix('*') {
            Shape::Prefix(prefix.into())
        } else {
            Shape::Exact(text.into())
        })
    }

    /// As [`Text::wildcard`], but `*` also matches an empty string, as long as there is one
    /// (`matcher/header.go:HeaderMatcher`).
    #[must_use]
    pub fn header(text: &'a str) -> Self {
        match Self::wildcard(text) {
            Self {
                shape: Shape::NotEmpty,
                ..
            } => Self::new(Shape::There),
            other => other,
        }
    }

    /// The same without case (ASCII, as Envoy does).
    #[must_use]
    pub fn without_case(mut self) -> Self {
        self.ignore_case = true;
        self
    }

    /// Whether the string matches.
    ///
    /// ```
    /// use castoff_authz::text::Text;
    /// assert!(Text::wildcard("/api/*").matches("/api/"));
    /// assert!(!Text::wildcard("*").matches(""));
    /// assert!(Text::wildcard("*.Example.com").without_case().matches("WWW.example.COM"));
    /// ```
    #[must_use]
    pub fn matches(&self, string: &str) -> bool {
        if self.ignore_case {
            let string = string.to_ascii_lowercase();
            return match &self.shape {
                Shape::Exact(text) => string == text.to_ascii_lowercase(),
                Shape::Prefix(text) => string.starts_with(&text.to_ascii_lowercase()),
                Shape::Suffix(text) => string.ends_with(&text.to_ascii_lowercase()),
                _ => self.shape.matches(&string),
            };
        }
        self.shape.matches(string)
    }
}

impl Shape<'_> {
    fn matches(&self, string: &str) -> bool {
        match self {
            Self::Exact(text) => string == text,
            Self::Prefix(text) => string.starts_with(text.as_ref()),
            Self::Suffix(text) => string.ends_with(text.as_ref()),
            Self::NotEmpty => !string.is_empty(),
            Self::There => true,
            Self::Sequences(sequences) => sequences
                .iter()
                .any(|pieces| sequence_matches(pieces, string)),
        }
    }
}

/// Whether the pieces cover the whole string. Keeps the set of places reached after each piece, so
/// the work is at most pieces times length.
fn sequence_matches(pieces: &[Piece<'_>], string: &str) -> bool {
    let mut reached = vec![false; string.len() + 1];
    reached[0] = true;
    for piece in pieces {
        let mut next = vec![false; string.len() + 1];
        match piece {
            Piece::Literal(literal) => {
                for place in 0..=string.len() {
                    if reached[place] && string.as_bytes()[place..].starts_with(literal.as_bytes())
                    {
                        next[place + literal.len()] = true;
                    }
                }
            }
            Piece::One(set) => {
                for (place, character) in string.char_indices() {
                    if reached[place] && set.holds(character) {
                        next[place + character.len_utf8()] = true;
                    }
                }
            }
            Piece::Many(set) => {
                next.clone_from(&reached);
                for (place, character) in string.char_indices() {
                    if next[place] && set.holds(character) {
                        next[place + character.len_utf8()] = true;
                    }
                }
            }
        }
        reached = next;
    }
    reached[string.len()]
}
