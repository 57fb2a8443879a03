//! What comes from a program beside answers: progress of calls, and word that its tools changed.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rmcp::RoleClient;
use rmcp::model::{
    ClientRequest, GetMeta, JsonRpcMessage, ProgressNotificationParam, ProgressToken, ServerNotification,
    ServerResult,
};
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::call::{CallContext, Progress};

/// Hears of the progress of one call. The call holds it; who else has one has a weak one, so that nothing holds the call up.
pub(super) struct Observer {
    cx: CallContext,
    done: Mutex<f64>,
}

/// Goes with a request to the wire, which knows the token that the request got.
#[derive(Clone)]
pub(super) struct Watched(pub(super) Weak<Observer>);

/// Goes with a call to the wire, which notes there whether the program may have got any of it.
#[derive(Clone, Default)]
pub(super) struct Sent(Arc<AtomicBool>);

impl Sent {
    /// Where this is false, the program knows nothing of the call.
    pub(super) fn may_have_arrived(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Observer {
    pub(super) fn new(cx: &CallContext) -> Arc<Observer> {
        Arc::new(Observer { cx: cx.clone(), done: Mutex::new(f64::NEG_INFINITY) })
    }

    fn tell(&self, params: ProgressNotificationParam) {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        // Also refuses what is no number.
        if params.progress > *done {
            *done = params.progress;
            let message = params.message.as_deref().map(super::legible);
            self.cx.progress(Progress { done: params.progress, total: params.total, message });
        }
    }
}

/// What a program may ask without having read the answers.
const UNREAD: usize = 64;

/// The transport, with what is not an answer taken out in the order in which it comes.
///
/// What passes it and is not an answer costs a task, of which a program could cause any number otherwise.
pub(super) struct Wire<T> {
    inner: T,
    observers: HashMap<ProgressToken, Weak<Observer>>,
    changed: Arc<Notify>,
    /// Came, and is not passed on yet.
    held: Option<RxJsonRpcMessage<RoleClient>>,
    room: Arc<Semaphore>,
    /// Held while something is sent: what waits for it is not sent yet, and never is where the other end goes meanwhile.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Cancelled when nothing more is to come, whoever holds the other end.
    ended: CancellationToken,
}

impl<T> Wire<T> {
    /// `changed` is told when the tools changed, once for any number of times.
    pub(super) fn new(inner: T, changed: Arc<Notify>, ended: CancellationToken) -> Self {
        let room = Arc::new(Semaphore::new(UNREAD));
        Wire { inner, observers: HashMap::new(), changed, held: None, room, turn: Arc::default(), ended }
    }

    fn watch(&mut self, request: &ClientRequest) {
        /// Those that are gone are looked for when there are so many.
        const MANY: usize = 64;
        let ClientRequest::CallToolRequest(call) = request else { return };
        let Some(Watched(observer)) = call.extensions.get() else { return };
        if self.observers.len() >= MANY {
            self.observers.retain(|_, observer| observer.strong_count() > 0);
        }
        if let Some(token) = request.get_meta().get_progress_token() {
            self.observers.insert(token, observer.clone());
        }
    }

    /// Passes on what is for the client.
    fn sort(&mut self, mut message: RxJsonRpcMessage<RoleClient>) -> Option<RxJsonRpcMessage<RoleClient>> {
        if let JsonRpcMessage::Response(response) = &mut message
            && let ServerResult::InitializeResult(about) = &mut response.result
        {
            // Nobody reads them, and they would be kept and written to the log, however long they are.
            (about.instructions, about.server_info) = (None, Default::default());
        }
        let JsonRpcMessage::Notification(notification) = message else { return Some(message) };
        match notification.notification {
            ServerNotification::ProgressNotification(told) => {
                match self.observers.get(&told.params.progress_token).map(Weak::upgrade) {
                    Some(Some(observer)) => observer.tell(told.params),
                    Some(None) => drop(self.observers.remove(&told.params.progress_token)),
                    None => {}
                }
            }
            ServerNotification::ToolListChangedNotification(_) => self.changed.notify_one(),
            // Nobody asked for the rest: the log, resources, prompts.
            _ => {}
        }
        None
    }
}

impl<T: Transport<RoleClient, Error = io::Error>> Transport<RoleClient> for Wire<T> {
    type Error = io::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        if let JsonRpcMessage::Request(request) = &item {
            self.watch(&request.request);
        }
        let is_answer = matches!(item, JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_));
        let mark = match &item {
            JsonRpcMessage::Request(request) => match &request.request {
                ClientRequest::CallToolRequest(call) => call.extensions.get::<Sent>().cloned(),
                _ => None,
            },
            _ => None,
        };
        let sent = self.inner.send(item);
        let room = is_answer.then(|| self.room.clone());
        let turn = self.turn.clone();
        async move {
            let _turn = turn.lock().await;
            let mark = mark.unwrap_or_default();
            mark.0.store(true, Ordering::Release);
            let outcome = sent.await;
            // Nobody reads the other end, so that nobody has read this, or ours was closed before. Less than a line means nothing
            // to a reader.
            let unread = [io::ErrorKind::BrokenPipe, io::ErrorKind::NotConnected];
            if outcome.as_ref().is_err_and(|error| unread.contains(&error.kind())) {
                mark.0.store(false, Ordering::Release);
            }
            if let Some(room) = room {
                room.add_permits(1);
            }
            outcome
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        // Dropped at any await, it loses nothing.
        while self.held.is_none() {
            let message = self.ended.run_until_cancelled(self.inner.receive()).await??;
            self.held = self.sort(message);
        }
        if let Some(JsonRpcMessage::Request(_)) = &self.held {
            self.ended.run_until_cancelled(self.room.acquire()).await?.ok()?.forget();
        }
        self.held.take()
    }

    fn close(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send {
        self.inner.close()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use rmcp::model::{CallToolRequest, CallToolRequestParams, RequestId};

    use super::*;

    /// Fails to send, or never has sent.
    struct Ends(Option<io::ErrorKind>);

    impl Transport<RoleClient> for Ends {
        type Error = io::Error;

        fn send(
            &mut self,
            _item: TxJsonRpcMessage<RoleClient>,
        ) -> impl Future<Output = io::Result<()>> + Send + 'static {
            let kind = self.0;
            async move {
                match kind {
                    Some(kind) => Err(kind.into()),
                    None => std::future::pending().await,
                }
            }
        }

        async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
            None
        }

        async fn close(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn wire(ends: Option<io::ErrorKind>) -> Wire<Ends> {
        Wire::new(Ends(ends), Arc::default(), CancellationToken::new())
    }

    fn call() -> (TxJsonRpcMessage<RoleClient>, Sent) {
        let sent = Sent::default();
        let mut call = CallToolRequest::new(CallToolRequestParams::new("tool"));
        call.extensions.insert(sent.clone());
        (JsonRpcMessage::request(ClientRequest::CallToolRequest(call), RequestId::Number(1)), sent)
    }

    #[tokio::test]
    async fn a_call_may_have_arrived_once_it_is_sent_to_somebody() {
        for (kind, may_have) in [
            (io::ErrorKind::BrokenPipe, false),
            (io::ErrorKind::NotConnected, false),
            (io::ErrorKind::ConnectionReset, true),
        ] {
            let (call, sent) = call();
            wire(Some(kind)).send(call).await.unwrap_err();
            assert_eq!(sent.may_have_arrived(), may_have, "{kind}");
        }
        let mut wire = wire(None);
        let ((first, begun), (second, waits)) = (call(), call());
        let (mut first, mut second) = (Box::pin(wire.send(first)), Box::pin(wire.send(second)));
        assert!(first.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none());
        assert_eq!((begun.may_have_arrived(), waits.may_have_arrived()), (true, false));
    }
}
