//! What a program and `rmcp` say to each other.

use std::io;
use std::sync::Arc;

use rmcp::RoleClient;
use rmcp::model::{ErrorData, JsonRpcMessage};
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use tokio::io::AsyncRead;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::calls::{Calls, Sent, line};
use super::frames::{Frame, Frames};

/// The `data` of the failure of a call whose answer was too long.
pub(super) const TOO_LARGE: &str = "swarm-plugin: too large";
/// What a program may ask without having read the answers.
const UNREAD: usize = 64;

/// Reads for the calls and for `rmcp`, which asks for what is its own.
///
/// What passes it and is not an answer costs a task, of which a program could cause any number otherwise.
pub(super) struct Wire<R> {
    frames: Frames<R>,
    calls: Arc<Calls>,
    /// Came, and is not passed on yet.
    held: Option<RxJsonRpcMessage<RoleClient>>,
    room: Arc<Semaphore>,
    /// Cancelled when nothing more is to come, whoever holds the other end.
    ended: CancellationToken,
}

impl<R> Wire<R> {
    pub(super) fn new(frames: Frames<R>, calls: Arc<Calls>, ended: CancellationToken) -> Self {
        Wire { frames, calls, held: None, room: Arc::new(Semaphore::new(UNREAD)), ended }
    }
}

impl<R: AsyncRead + Send + Unpin + 'static> Transport<RoleClient> for Wire<R> {
    type Error = io::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let is_answer = matches!(item, JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_));
        let sent = self.calls.send(line(&item), Sent::default());
        let room = is_answer.then(|| self.room.clone());
        async move {
            let outcome = sent.await;
            if let Some(room) = room {
                room.add_permits(1);
            }
            outcome
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        let ended = self.ended.clone();
        let heard = ended.run_until_cancelled(self.hear()).await.flatten();
        if heard.is_none() {
            self.calls.end();
        }
        heard
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.calls.close().await;
        Ok(())
    }
}

impl<R: AsyncRead + Unpin> Wire<R> {
    /// What is for `rmcp`. Dropped at any await, it loses nothing.
    async fn hear(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        while self.held.is_none() {
            let limit = self.frames.limit();
            self.held = match self.frames.next().await? {
                Frame::Message(text) => self.calls.hear(text),
                Frame::TooLong(id) => id.and_then(|id| {
                    let message = format!("the answer is over {limit} bytes");
                    self.calls.hear_failure(id, ErrorData::internal_error(message, Some(TOO_LARGE.into())))
                }),
            };
        }
        if let Some(JsonRpcMessage::Request(_)) = &self.held {
            self.room.acquire().await.ok()?.forget();
        }
        self.held.take()
    }
}

impl<R> Drop for Wire<R> {
    fn drop(&mut self) {
        self.calls.end();
    }
}
