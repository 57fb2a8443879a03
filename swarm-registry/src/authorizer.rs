use std::fmt;

/// Decides who may change what. Every mutation asks it, before anything is written.
///
/// Implemented by you. It is called synchronously and may be called several times for one mutation; it must not call
/// the registry.
///
/// ```
/// use std::sync::Arc;
/// use swarm_registry::{Action, Authorizer, ErrorKind, ObjectVersionStore, Split, Version, VersionRegistry};
///
/// /// Lets operators do everything, and others only register.
/// struct OperatorsDeploy;
///
/// impl Authorizer for OperatorsDeploy {
///     fn authorize(&self, actor: Option<&str>, action: Action, target: &str) -> Result<(), String> {
///         match (actor, action) {
///             (Some("ops"), _) | (_, Action::Register) => Ok(()),
///             _ => Err(format!("only ops may {action} {target}")),
///         }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), swarm_registry::Error> {
/// let store = ObjectVersionStore::memory();
/// let registry = VersionRegistry::builder().authorizer(Arc::new(OperatorsDeploy)).with_store(store).await?;
/// registry.register(Version::new("v1.0").artifact("bytes")).await?;
/// let refused = registry.acting_as("ci").deploy("production", Split::all("v1.0")).await.unwrap_err();
/// assert_eq!(refused.kind(), ErrorKind::Denied);
/// registry.acting_as("ops").deploy("production", Split::all("v1.0")).await?;
/// # Ok(())
/// # }
/// ```
pub trait Authorizer: Send + Sync + 'static {
    /// Allows the action, or says why not.
    ///
    /// `actor` is what [`acting_as`](crate::VersionRegistry::acting_as) was given; `target` is a version, an alias or a
    /// channel, and empty for the whole registry.
    ///
    /// # Errors
    /// The reason, which becomes part of the message of an [`ErrorKind::Denied`](crate::ErrorKind::Denied).
    fn authorize(&self, actor: Option<&str>, action: Action, target: &str) -> Result<(), String>;
}

/// What an [`Authorizer`] is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Action {
    /// Register the version.
    Register,
    /// Add a signature to the version.
    Sign,
    /// Set, move or remove the alias.
    MoveAlias,
    /// Protect the alias, or end its protection.
    ProtectAlias,
    /// Deploy to the channel.
    Deploy,
    /// Promote another channel's version to the channel.
    Promote,
    /// Roll the channel back.
    Rollback,
    /// Begin a rollout on the channel.
    StartRollout,
    /// Carry on the rollout of the channel, with what it deploys.
    DriveRollout,
    /// Pause the rollout of the channel.
    PauseRollout,
    /// Resume the rollout of the channel.
    ResumeRollout,
    /// Give the approval that the rollout of the channel waits for.
    ApproveRollout,
    /// Leave out a step of the rollout of the channel.
    SkipRolloutStep,
    /// End the rollout of the channel and restore what it served before.
    AbortRollout,
    /// Remove what nothing reaches and shorten the log.
    Compact,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Action::Register => "register",
            Action::Sign => "sign",
            Action::MoveAlias => "move the alias",
            Action::ProtectAlias => "protect the alias",
            Action::Deploy => "deploy to",
            Action::Promote => "promote to",
            Action::Rollback => "roll back",
            Action::StartRollout => "start a rollout on",
            Action::DriveRollout => "drive the rollout of",
            Action::PauseRollout => "pause the rollout of",
            Action::ResumeRollout => "resume the rollout of",
            Action::ApproveRollout => "approve the rollout of",
            Action::SkipRolloutStep => "skip a step of the rollout of",
            Action::AbortRollout => "abort the rollout of",
            Action::Compact => "compact",
        })
    }
}
