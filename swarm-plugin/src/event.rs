use std::fmt;
use std::sync::Arc;

use futures::Stream;
use futures::stream;
use semver::{Version, VersionReq};
use tokio::sync::broadcast;

/// Something that happened to a plugin, for logs, dashboards and tests.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// The plugin; of a file that was refused before its plugin had a name, the file's.
    pub name: Arc<str>,
    /// The version it is about, where it got so far as to have one.
    pub version: Option<Version>,
    /// The instance it is about: numbered from 1 in the order in which they were loaded, over all plugins. 0 where there is
    /// none.
    pub generation: u64,
    /// What happened.
    pub kind: EventKind,
}

/// What an [`Event`] tells. Those of a reload come in the order in which they stand here.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// An instance was made, and its manifest read.
    Loaded,
    /// Its check succeeded.
    Checked,
    /// New calls wait, until those under way have ended and the state is handed over. Only of a version with state.
    Held,
    /// The instance took over the state of the version before.
    StateTaken {
        /// Calls of the version before that took longer than the time to drain; what they still change is lost.
        late_calls: u64,
    },
    /// The instance serves calls from now on.
    Activated,
    /// The instance serves no new calls: another version took its place, or it was removed.
    Retired,
    /// No call is under way on the retired instance.
    Drained {
        /// Whether calls were cut off, because the time to drain was over.
        cut_off: bool,
    },
    /// The cleanup of the instance is over. It is told once for each instance, whatever became of it.
    CleanedUp {
        /// What the cleanup failed on, if it did.
        failure: Option<String>,
    },
    /// The instance is not used. The version before, if there was one, still serves.
    Refused {
        /// How far it got.
        stage: Stage,
        /// Why.
        reason: String,
    },
    /// The plugin waits for others that it requires.
    Waiting {
        /// For what.
        reason: String,
    },
    /// The plugin was enabled again.
    Enabled,
    /// The plugin was disabled.
    Disabled,
    /// Which versions a call may get that asks for none is another now: those in the range, or any.
    Pinned(Option<VersionReq>),
    /// So many events were not told, because this reader was too slow.
    Missed(u64),
}

/// How far a version got that is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// A file or folder is no plugin that may be used. It goes by the name of the file.
    Discover,
    /// It could not be loaded.
    Load,
    /// Its name, its version or what it requires does not fit into the catalogue.
    Admit,
    /// Its check failed.
    Check,
    /// The version before did not export its state.
    ExportState,
    /// It did not take over the state.
    ImportState,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Discover => "discovery",
            Stage::Load => "load",
            Stage::Admit => "admission",
            Stage::Check => "check",
            Stage::ExportState => "export of the state",
            Stage::ImportState => "import of the state",
        })
    }
}

/// Where events are told. A reader may fall so far behind.
pub(crate) fn sender() -> broadcast::Sender<Event> {
    const EVENTS: usize = 1024;
    broadcast::Sender::new(EVENTS)
}

/// What is told from now on.
pub(crate) fn heard(events: &broadcast::Sender<Event>) -> impl Stream<Item = Event> + Send + Unpin + use<> {
    Box::pin(stream::unfold(events.subscribe(), |mut receiver| async move {
        let event = match receiver.recv().await {
            Ok(event) => event,
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                Event { name: "".into(), version: None, generation: 0, kind: EventKind::Missed(missed) }
            }
            Err(broadcast::error::RecvError::Closed) => return None,
        };
        Some((event, receiver))
    }))
}
