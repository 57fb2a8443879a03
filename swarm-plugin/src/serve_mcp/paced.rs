//! A client that asks more than it reads.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use rmcp::RoleServer;
use rmcp::model::{ClientNotification, JsonRpcMessage, RequestId};
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use tokio::sync::Notify;

/// Requests that are not answered yet. The next is read once one of them is, or was cancelled.
const UNANSWERED: usize = 64;

/// The transport, held up while too much of what was asked is not answered: each request costs a task, and its answer has to be
/// kept until the client reads it.
pub(super) struct Paced<T> {
    inner: T,
    /// Came, and is not passed on yet.
    held: Option<RxJsonRpcMessage<RoleServer>>,
    asked: Arc<Asked>,
}

#[derive(Default)]
struct Asked {
    ids: Mutex<HashSet<RequestId>>,
    room: Notify,
}

impl Asked {
    /// Whether there was room for it. There is none for another of the same number, which could not be counted.
    fn begin(&self, id: &RequestId) -> bool {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        ids.len() < UNANSWERED && ids.insert(id.clone())
    }

    fn end(&self, id: &RequestId) {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        self.room.notify_one();
    }
}

impl<T> Paced<T> {
    pub(super) fn new(inner: T) -> Self {
        Paced { inner, held: None, asked: Arc::default() }
    }
}

impl<T: Transport<RoleServer>> Transport<RoleServer> for Paced<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let answered = match &item {
            JsonRpcMessage::Response(response) => Some(response.id.clone()),
            JsonRpcMessage::Error(error) => error.id.clone(),
            _ => None,
        };
        let sent = self.inner.send(item);
        let asked = self.asked.clone();
        async move {
            let outcome = sent.await;
            if let Some(id) = answered {
                asked.end(&id);
            }
            outcome
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        // Dropped at any await, it loses nothing.
        if self.held.is_none() {
            self.held = Some(self.inner.receive().await?);
        }
        match &self.held {
            Some(JsonRpcMessage::Request(request)) => {
                while !self.asked.begin(&request.id) {
                    self.asked.room.notified().await;
                }
            }
            Some(JsonRpcMessage::Notification(told)) => {
                if let ClientNotification::CancelledNotification(cancelled) = &told.notification
                    && let Some(id) = &cancelled.params.request_id
                {
                    self.asked.end(id);
                }
            }
            _ => {}
        }
        self.held.take()
    }

    fn close(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send {
        self.inner.close()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_waits_for_another_of_the_same_number() {
        let (asked, number) = (Asked::default(), RequestId::Number(1));
        assert!(asked.begin(&number) && !asked.begin(&number));
        asked.end(&number);
        assert!(asked.begin(&number));
        assert!((2..=64).all(|number| asked.begin(&RequestId::Number(number))));
        assert!(!asked.begin(&RequestId::Number(65)));
    }
}
