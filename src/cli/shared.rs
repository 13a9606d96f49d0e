//! Arguments that several commands share, in one place.
//!
//! In: words of the command line. Out: how a mesh is taken, and how text looks. Invariant: a flag means the same
//! in every command that has it.

use clap::{ArgAction, Args, ValueEnum};

use super::CliError;
use crate::mesh::{Distribution, Mesh, MeshOverrides, Version};
use crate::report::text::Style;

/// What is not read but said: which namespaces are meant, whose Istio it is.
#[derive(Debug, Clone, Args)]
pub struct MeshArguments {
    /// Only this namespace: what is migrated, or whose servers are reported; callers from elsewhere count all the
    /// same; repeatable
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Vec<String>,
    /// Whose build of Istio runs
    #[arg(long, value_enum, default_value = "auto", env = "CASTOFF_DISTRIBUTION")]
    pub distribution: DistributionArgument,
    /// Istio's version, where the input does not tell it: 1.30.3
    #[arg(long, value_name = "VERSION", value_parser = parse_version, env = "CASTOFF_ISTIO_VERSION")]
    pub istio_version: Option<Version>,
}

impl MeshArguments {
    /// What is said instead of found out.
    pub(super) fn overrides(&self) -> MeshOverrides {
        MeshOverrides {
            distribution: self.distribution.into(),
            istio_version: self.istio_version.clone(),
        }
    }

    /// Whether something of this namespace is meant.
    pub(super) fn includes(&self, namespace: &str) -> bool {
        self.namespace.is_empty() || self.namespace.iter().any(|one| one == namespace)
    }

    /// Namespaces that none of the meshes has would silently check nothing.
    ///
    /// # Errors
    /// Names the first one.
    pub(super) fn check(&self, meshes: &[&Mesh]) -> Result<(), CliError> {
        let known = |name: &&String| {
            let mut meshes = meshes.iter();
            meshes.any(|mesh| mesh.namespaces.contains_key(name.as_str()))
        };
        match self.namespace.iter().find(|name| !known(name)) {
            None => Ok(()),
            Some(namespace) => Err(CliError::Usage(format!(
                "namespace `{namespace}` is not among the input; check the spelling of `-n`"
            ))),
        }
    }
}

/// How text looks.
#[derive(Debug, Clone, Args)]
pub struct LookArguments {
    /// When to colour the text
    #[arg(long, value_enum, default_value = "auto", env = "CASTOFF_COLOR")]
    pub color: ColorArgument,
    /// Letters instead of pictures
    #[arg(long, env = "CASTOFF_ASCII", value_parser = clap::builder::FalseyValueParser::new())]
    pub ascii: bool,
}

/// How much text there is.
#[derive(Debug, Clone, Args)]
pub struct LengthArguments {
    /// Only what needs somebody
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,
    /// All names, codes and places
    #[arg(short, long, action = ArgAction::SetTrue)]
    pub verbose: bool,
}

impl LookArguments {
    /// The style of text of which there is as much as ever.
    pub(super) fn style(&self) -> Style {
        Style {
            ascii: self.ascii,
            color: self.color.is_wanted(),
            ..Style::default()
        }
    }

    /// The style of text.
    pub(super) fn style_of(&self, length: &LengthArguments) -> Style {
        Style {
            quiet: length.quiet,
            verbose: length.verbose,
            ..self.style()
        }
    }
}

/// Values of `--distribution`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DistributionArgument {
    /// As the images of istiod show
    Auto,
    /// istio.io
    Upstream,
    /// Solo.io
    Solo,
}

impl From<DistributionArgument> for Option<Distribution> {
    fn from(argument: DistributionArgument) -> Self {
        match argument {
            DistributionArgument::Auto => None,
            DistributionArgument::Upstream => Some(Distribution::Upstream),
            DistributionArgument::Solo => Some(Distribution::Solo),
        }
    }
}

/// Values of `--color`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColorArgument {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl ColorArgument {
    fn is_wanted(self) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => {
                anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never
            }
        }
    }
}

fn parse_version(text: &str) -> Result<Version, String> {
    let (numbers, suffix) = text.split_once('-').unwrap_or((text, ""));
    let parts: Option<Vec<u32>> = numbers
        .trim_start_matches('v')
        .split('.')
        .map(|part| part.parse().ok())
        .collect();
    let (major, minor, patch) = match parts.as_deref() {
        Some([major, minor]) => (*major, *minor, 0),
        Some([major, minor, patch]) => (*major, *minor, *patch),
        _ => return Err("write it as 1.30.3".to_owned()),
    };
    Ok(Version {
        major,
        minor,
        patch,
        suffix: suffix.to_owned(),
    })
}
