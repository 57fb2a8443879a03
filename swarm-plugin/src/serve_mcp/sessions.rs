//! Sessions over HTTP: how many there are, and how long they last without their client.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{Stream, StreamExt};
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::streamable_http_server::session::local::{
    LocalSessionManager, LocalSessionManagerError,
};
use rmcp::transport::streamable_http_server::session::{ServerSseMessage, SessionId, SessionManager};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::call::after;

/// Those of `rmcp`, which lets any number live, and each as long as the server has something to say to it.
pub(super) struct Sessions {
    inner: Arc<LocalSessionManager>,
    most: usize,
    idle: Duration,
    known: Mutex<HashMap<SessionId, Known>>,
}

struct Known {
    client: Arc<Client>,
    /// Ends the session once its client is gone for long enough.
    _ending: AbortOnDropHandle<()>,
}

/// What is heard of the client of a session.
struct Client(Mutex<Heard>);

struct Heard {
    /// Streams that it reads.
    open: usize,
    last: Instant,
}

impl Client {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers once nothing was heard of it for so long.
    async fn gone(&self, idle: Duration) {
        loop {
            let due = {
                let heard = self.heard();
                if heard.open == 0 { heard.last } else { Instant::now() }
            };
            let due = after(due, idle);
            if due <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(due).await;
        }
    }
}

/// A stream that a client reads.
struct Reading(Arc<Client>);

impl Reading {
    fn begin(client: Arc<Client>) -> Reading {
        client.heard().open += 1;
        Reading(client)
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut heard = self.0.heard();
        heard.open -= 1;
        heard.last = Instant::now();
    }
}

impl Sessions {
    pub(super) fn new(most: usize, idle: Duration) -> Sessions {
        let mut inner = LocalSessionManager::default();
        // Counted anew with every word of the server, and whether or not the client listens.
        inner.session_config.keep_alive = None;
        Sessions { inner: Arc::new(inner), most, idle, known: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<SessionId, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn heard_of(&self, id: &SessionId) -> Result<Arc<Client>, Refused> {
        let client = self.known().get(id).map(|known| known.client.clone());
        let client = client.ok_or_else(|| LocalSessionManagerError::SessionNotFound(id.clone()))?;
        client.heard().last = Instant::now();
        Ok(client)
    }

    /// Counts a stream as long as it is read.
    fn reading<S: Stream>(client: Arc<Client>, stream: S) -> impl Stream<Item = S::Item> + use<S> {
        let reading = Reading::begin(client);
        stream.inspect(move |_| {
            let _held = &reading;
        })
    }
}

impl SessionManager for Sessions {
    type Error = Refused;
    type Transport = <LocalSessionManager as SessionManager>::Transport;

    async fn create_session(&self) -> Result<(SessionId, Self::Transport), Refused> {
        if self.known().len() >= self.most {
            return Err(Refused::TooMany(self.most));
        }
        let (id, transport) = self.inner.create_session().await?;
        let client = Arc::new(Client(Mutex::new(Heard { open: 0, last: Instant::now() })));
        let (inner, gone, ended, idle) = (self.inner.clone(), client.clone(), id.clone(), self.idle);
        let ending = tokio::spawn(async move {
            gone.gone(idle).await;
            // Whoever serves the session then closes it here as well.
            let _ = inner.close_session(&ended).await;
        });
        let known = Known { client, _ending: AbortOnDropHandle::new(ending) };
        let is_over = {
            let mut all = self.known();
            // Others may have begun at the same time.
            let is_over = all.len() >= self.most;
            if !is_over {
                all.insert(id.clone(), known);
            }
            is_over
        };
        if is_over {
            self.inner.close_session(&id).await?;
            return Err(Refused::TooMany(self.most));
        }
        Ok((id, transport))
    }

    async fn initialize_session(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<ServerJsonRpcMessage, Refused> {
        self.heard_of(id)?;
        Ok(self.inner.initialize_session(id, message).await?)
    }

    async fn has_session(&self, id: &SessionId) -> Result<bool, Refused> {
        Ok(self.inner.has_session(id).await? && self.heard_of(id).is_ok())
    }

    async fn close_session(&self, id: &SessionId) -> Result<(), Refused> {
        let known = self.known().remove(id);
        drop(known);
        Ok(self.inner.close_session(id).await?)
    }

    async fn create_stream(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Refused> {
        let client = self.heard_of(id)?;
        Ok(Sessions::reading(client, self.inner.create_stream(id, message).await?))
    }

    async fn accept_message(&self, id: &SessionId, message: ClientJsonRpcMessage) -> Result<(), Refused> {
        self.heard_of(id)?;
        Ok(self.inner.accept_message(id, message).await?)
    }

    async fn create_standalone_stream(
        &self,
        id: &SessionId,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Refused> {
        let client = self.heard_of(id)?;
        Ok(Sessions::reading(client, self.inner.create_standalone_stream(id).await?))
    }

    async fn resume(
        &self,
        id: &SessionId,
        last_event_id: String,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Refused> {
        let client = self.heard_of(id)?;
        Ok(Sessions::reading(client, self.inner.resume(id, last_event_id).await?))
    }
}

/// Why a session cannot be had.
#[derive(Debug)]
pub(super) enum Refused {
    TooMany(usize),
    Failed(LocalSessionManagerError),
}

impl From<LocalSessionManagerError> for Refused {
    fn from(error: LocalSessionManagerError) -> Self {
        Refused::Failed(error)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::TooMany(most) => write!(f, "there are {most} sessions, which is the limit"),
            Refused::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Refused {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Refused::TooMany(_) => None,
            Refused::Failed(error) => error.source(),
        }
    }
}
