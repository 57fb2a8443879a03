use crate::authorizer::Action;
use crate::error::{Error, ErrorKind, Result};
use crate::rollout::ramped;
use crate::signature::Signature;
use crate::state::State;
use crate::traffic::named;
use crate::wire::{Cause, Change, StoredStep};

use super::VersionRegistry;

/// Signatures (feature `signatures`).
impl VersionRegistry {
    /// Keeps `signature` with the version `id`, once it was found to be of its id, digest and metadata. One that is there
    /// already is kept as it is.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] where the signature is of something else; [`ErrorKind::NotFound`];
    /// [`ErrorKind::Denied`]; [`ErrorKind::Store`].
    pub async fn add_signature(&self, id: &str, signature: &Signature) -> Result<()> {
        let signed = self.commit(Action::Sign, id, |state| {
            let version = state.version(id)?;
            if !signature.is_of(version) {
                let message = format!("the signature by {} is not of version {id:?}", signature.key());
                return Err(Error::new(ErrorKind::InvalidInput, message).of_version(id));
            }
            let key = signature.key().to_string();
            if version.signatures.contains_key(&key) {
                return Ok(None);
            }
            let (version, signature) = (version.id.clone(), signature.to_string());
            Ok(Some(Change::Signed { version, key, signature }))
        });
        signed.await.map(drop)
    }

    /// Whether the policy trusts all that a change puts into traffic. Every mutation is checked here, so that no verb can be
    /// forgotten.
    pub(super) fn trust(&self, state: &State, change: &Change) -> Result<()> {
        let Some(policy) = &self.shared.policy else { return Ok(()) };
        let deployed = match change {
            Change::Deployed(deployed) => Some(deployed),
            Change::RolloutMoved(moved) => moved.deployed.as_ref(),
            Change::RolloutStarted(started) => {
                policy.check(state.version(&started.candidate)?)?;
                let weight = started.plan.steps.iter().find_map(|step| match step {
                    StoredStep::Weight(points) => Some(*points),
                    _ => None,
                });
                // What its first weight will serve besides, or else its driver would be refused. Later ones serve no others.
                let Some(points) = weight else { return Ok(()) };
                let now = state.channel(&started.channel)?.current.split();
                let split = ramped(&now, &started.candidate, points)?;
                return split.versions().iter().try_for_each(|version| policy.check(state.version(version)?));
            }
            _ => None,
        };
        // One that restores what was served before is never refused.
        let Some(deployed) = deployed.filter(|made| !matches!(made.cause, Cause::RolledBack(_))) else {
            return Ok(());
        };
        named(&deployed.weights, deployed.mirror.as_ref(), &deployed.pins)
            .try_for_each(|version| policy.check(state.version(version)?))
    }
}
