//! The HTTP service, which answers what was asked before it ends.

use std::pin::Pin;
use std::sync::{Arc, Once};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tower_service::Service;

use crate::manager::PluginManager;

/// How long answers may take to be read once all calls are over.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A service whose answers are counted until they were read.
#[derive(Clone)]
pub(super) struct Counted<S> {
    inner: S,
    plugins: PluginManager,
    answers: TaskTracker,
    /// Ends what the service holds open.
    over: CancellationToken,
    begun: Arc<Once>,
}

impl<S> Counted<S> {
    /// `over` is cancelled when the manager was shut down, and what was asked is answered.
    pub(super) fn new(inner: S, plugins: PluginManager, over: CancellationToken) -> Counted<S> {
        Counted { inner, plugins, answers: TaskTracker::new(), over, begun: Arc::new(Once::new()) }
    }

    fn begin(&self) {
        self.begun.call_once(|| {
            let (closed, answers) = (self.plugins.closed().clone(), self.answers.clone());
            let over = self.over.clone();
            self.plugins.spawn(async move {
                closed.cancelled().await;
                answers.close();
                // Who does not read is not waited for any longer.
                let _ = tokio::time::timeout(LAST_WORDS, answers.wait()).await;
                over.cancel();
            });
        });
    }
}

impl<S, B, D> Service<Request<B>> for Counted<S>
where
    S: Service<Request<B>, Response = Response<D>, Future: Send + 'static>,
    D: Body<Data = Bytes> + Unpin,
{
    type Response = Response<Answer<D>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(task)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.begin();
        // What a client gets without having asked has no end of its own.
        let counted = (request.method() == Method::POST).then(|| self.answers.token());
        let ends = request.method() == Method::DELETE;
        let answer = self.inner.call(request);
        Box::pin(async move {
            let mut answer = answer.await?.map(|body| Answer { body, _counted: counted });
            // The session is over by now, and the official client for Python takes "accepted" for a failure.
            if ends && answer.status() == StatusCode::ACCEPTED {
                *answer.status_mut() = StatusCode::OK;
            }
            Ok(answer)
        })
    }
}

/// What the service answers, counted as long as it is there.
pub(super) struct Answer<D> {
    body: D,
    _counted: Option<TaskTrackerToken>,
}

impl<D: Body<Data = Bytes> + Unpin> Body for Answer<D> {
    type Data = Bytes;
    type Error = D::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, D::Error>>> {
        Pin::new(&mut self.body).poll_frame(task)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
