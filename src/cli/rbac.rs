//! `castoff rbac`: the least role that reading a cluster needs, for `kubectl apply -f -`.
//!
//! In: for whom. Out: manifests. Invariant: names are checked, so that what is printed is YAML.

use clap::Args;

use super::CliError;
use crate::exit::Exit;
use crate::source::role::{self, RoleOptions, Subject};

/// Arguments of `rbac`.
#[derive(Debug, Args)]
pub struct RbacArguments {
    /// The ServiceAccount that gets the role; it is created too
    #[arg(
        long,
        value_name = "NAMESPACE/NAME",
        default_value = "castoff/castoff",
        conflicts_with_all = ["user", "group"]
    )]
    pub account: String,
    /// A user that gets the role instead
    #[arg(long, value_name = "USER", conflicts_with = "group")]
    pub user: Option<String>,
    /// A group that gets the role instead
    #[arg(long, value_name = "GROUP")]
    pub group: Option<String>,
    /// Permit reading in this namespace only; repeatable
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Vec<String>,
    /// A revision of istiod, whose ConfigMaps carry its name; repeatable
    #[arg(long, value_name = "REVISION")]
    pub revision: Vec<String>,
    /// Permit listing Secrets, by which remote clusters of the mesh are seen; RBAC then permits
    /// reading their data, too, although castoff never asks for it
    #[arg(long)]
    pub secrets: bool,
}

/// Runs the command.
///
/// # Errors
/// Wrong usage, for names that no object can have.
pub fn run(arguments: &RbacArguments) -> Result<Exit, CliError> {
    let subject = match (&arguments.user, &arguments.group) {
        (Some(user), _) => Subject::User(user.clone()),
        (None, Some(group)) => Subject::Group(group.clone()),
        (None, None) => {
            let (namespace, name) = arguments.account.split_once('/').ok_or_else(|| {
                CliError::Usage(format!("`{}` is no NAMESPACE/NAME", arguments.account))
            })?;
            Subject::ServiceAccount {
                namespace: checked(namespace)?,
                name: checked(name)?,
            }
        }
    };
    let all = |names: &[String]| -> Result<Vec<String>, CliError> {
        names.iter().map(|name| checked(name)).collect()
    };
    let options = RoleOptions {
        subject,
        namespaces: all(&arguments.namespace)?,
        revisions: all(&arguments.revision)?,
        secrets: arguments.secrets,
    };
    super::print(role::manifests(&options).as_bytes())?;
    Ok(Exit::Nothing)
}

/// A DNS name in lower case, as namespaces, accounts and revisions have.
fn checked(name: &str) -> Result<String, CliError> {
    let plain = |character: char| {
        character.is_ascii_lowercase() || character.is_ascii_digit() || character == '-'
    };
    if name.is_empty()
        || name.len() > 63
        || !name.chars().all(plain)
        || name.starts_with('-')
        || name.ends_with('-')
    {
        return Err(CliError::Usage(format!(
            "`{name}` is no name of an object: lower-case letters, digits and `-`, at most 63"
        )));
    }
    Ok(name.to_owned())
}
