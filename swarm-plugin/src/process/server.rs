//! A server that is there when it is called: connected, and started again when it ended.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures::FutureExt;
use futures::future::BoxFuture;
use rmcp::model::{
    CallToolResult, CancelledNotification, CancelledNotificationParam, ClientNotification, ClientRequest,
    ErrorData, JsonObject, PingRequest, RequestId, Tool,
};
use rmcp::service::{PeerRequestOptions, ServiceError};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::calls::{Asked, Failure, Observer};
use super::child::Program;
use super::health::SILENCE;
use super::legible;
use super::link::{Link, Talk, Unlisted, listed};
use super::wire::TOO_LARGE;
use crate::brake::Brake;
use crate::call::CallContext;
use crate::discovery::Found;
use crate::plugin::PluginError;

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A program may be started again at once when so much more has passed since its last start than was waited before that.
const STAYED_UP: Duration = Duration::from_secs(10);

pub(super) struct Server {
    program: Program,
    _copy: Found,
    /// Whom to talk to; `None` before the first start, after the end, and when nobody is there any more.
    talk: ArcSwapOption<Talk>,
    /// Held over the awaits of a start or an end, so that one starts at a time.
    state: tokio::sync::Mutex<State>,
    /// Starts that failed. Who waited for one of them does not wait for another.
    failures: AtomicU64,
    /// Plugins that were not cleaned up yet.
    users: AtomicUsize,
    /// Told when the tools may have changed.
    changed: Arc<Notify>,
    over: CancellationToken,
}

struct State {
    link: Option<Link>,
    /// Goes on with the next caller, where the one that waits for it gives up.
    starting: Option<BoxFuture<'static, Result<Link, PluginError>>>,
    /// Why the last start failed, if it did.
    failure: Option<PluginError>,
    /// When it was started last, and how long to wait before the next time.
    started: Instant,
    wait: Duration,
}

impl Server {
    pub(super) async fn start(program: Program, copy: Found) -> Result<Server, PluginError> {
        let changed = Arc::new(Notify::new());
        // The first start takes as long as a load may take.
        let first = Program { patience: Duration::MAX, ..program.clone() };
        let link = Link::start(first, changed.clone()).await?;
        let talk = ArcSwapOption::from(Some(link.talk()));
        let (started, wait) = (Instant::now(), Duration::ZERO);
        let state = State { link: Some(link), starting: None, failure: None, started, wait };
        Ok(Server {
            program,
            _copy: copy,
            talk,
            state: tokio::sync::Mutex::new(state),
            failures: AtomicU64::new(0),
            users: AtomicUsize::new(0),
            changed,
            over: CancellationToken::new(),
        })
    }

    pub(super) async fn tools(&self) -> Result<Vec<Tool>, PluginError> {
        let talk = self.talk(LONGEST_WAIT).await?;
        listed(&talk.peer).await.map_err(|why| match why {
            Unlisted::Failed(error) => self.failed(error),
            Unlisted::TooMany(why) => PluginError::new(why),
        })
    }

    /// All tools, once they may have changed and the brake lets that through. `None` when the server was stopped.
    pub(super) async fn changed_tools(&self, brake: &mut Brake) -> Option<Result<Vec<Tool>, PluginError>> {
        let listed = pin!(async {
            self.changed.notified().await;
            let mut is_told = false;
            while let Err(wait) = brake.pass() {
                if !std::mem::replace(&mut is_told, true) {
                    tracing::warn!(program = self.program.name, "its tools change without end");
                }
                tokio::time::sleep(wait).await;
            }
            tokio::time::timeout(SILENCE, self.tools()).await
        });
        let listed = self.over.run_until_cancelled(listed).await?;
        Some(listed.unwrap_or_else(|_| Err(PluginError::temporary("the server does not tell its tools"))))
    }

    pub(super) async fn call(
        &self,
        tool: &str,
        arguments: &JsonObject,
        cx: &CallContext,
    ) -> Result<CallToolResult, PluginError> {
        let observer = cx.is_heard().then(|| Observer::new(cx));
        loop {
            let talk = self.talk(cx.remaining()).await?;
            match Self::ask(&talk, tool, arguments, observer.clone()).await {
                Ok(result) => return Ok(result),
                Err(Failure::Odd) => {
                    let message = "the result has neither content nor structuredContent, or asks for what this host does not \
                                   offer: input, or a task";
                    return Err(PluginError::new(message));
                }
                // Nobody was there to hear of it: as good as not called.
                Err(Failure::Gone { may_have_arrived: false }) => self.forget(&talk),
                Err(Failure::Gone { may_have_arrived: true }) => return Err(self.ended()),
                Err(Failure::Told(error)) => return Err(told(&error)),
            }
        }
    }

    async fn ask(
        talk: &Talk,
        tool: &str,
        arguments: &JsonObject,
        observer: Option<Arc<Observer>>,
    ) -> Result<CallToolResult, Failure> {
        let asked = talk.calls.ask(tool, arguments, observer);
        let mut under_way = UnderWay { talk, asked, is_over: false };
        let answer = under_way.asked.answer().await;
        under_way.is_over = true;
        if !matches!(answer, Err(Failure::Gone { .. })) {
            talk.health.heard();
        }
        answer
    }

    pub(super) async fn ping(&self) -> Result<(), PluginError> {
        let talk = self.talk(LONGEST_WAIT).await?;
        let ping = ClientRequest::PingRequest(PingRequest::default());
        talk.peer.send_request(ping).await.map(drop).map_err(|error| self.failed(error))
    }

    pub(super) async fn stop(&self) {
        self.over.cancel();
        let mut state = self.state.lock().await;
        self.talk.store(None);
        state.starting = None;
        if let Some(link) = state.link.take() {
            link.end().await;
        }
    }

    fn failed(&self, error: ServiceError) -> PluginError {
        match error {
            ServiceError::McpError(error) => told(&error),
            ServiceError::TransportClosed | ServiceError::TransportSend(_) => self.ended(),
            other => PluginError::new(legible(&other.to_string())),
        }
    }

    fn ended(&self) -> PluginError {
        PluginError::temporary(format_args!("{} ended during the call", self.program.name))
    }

    /// Whom to talk to, if it is there and answers.
    fn alive(&self) -> Option<Arc<Talk>> {
        let answers =
            |talk: &Arc<Talk>| !talk.calls.is_over() && !talk.health.is_silent(|| talk.calls.first());
        self.talk.load_full().filter(answers)
    }

    /// What is closed without having said so yet is not talked to again.
    fn forget(&self, gone: &Arc<Talk>) {
        self.talk.rcu(|talk| talk.clone().filter(|talk| !Arc::ptr_eq(talk, gone)));
    }

    /// Whom to talk to. Starts the program anew if it ended, or answers nothing any more, and waits until it may be, unless
    /// that is longer than the patience.
    async fn talk(&self, patience: Duration) -> Result<Arc<Talk>, PluginError> {
        let begun = Instant::now();
        let failures = self.failures.load(Ordering::Acquire);
        loop {
            if let Some(talk) = self.alive() {
                return Ok(talk);
            }
            let wait = match self.over.run_until_cancelled(self.again(failures)).await {
                Some(Ok(talk)) => return Ok(talk),
                Some(Err(NotYet::Failed(failure))) => return Err(failure),
                Some(Err(NotYet::Wait(wait))) => wait,
                None => return Err(self.stopped()),
            };
            if begun.elapsed() + wait >= patience {
                let name = &self.program.name;
                let message = format_args!("{name} ended, and is not started again before {wait:.1?}");
                return Err(PluginError::temporary(message));
            }
            self.over.run_until_cancelled(tokio::time::sleep(wait)).await.ok_or_else(|| self.stopped())?;
        }
    }

    fn stopped(&self) -> PluginError {
        PluginError::new(format_args!("{} was stopped", self.program.name))
    }

    /// Starts the program, or goes on with a start that somebody else began.
    async fn again(&self, failures: u64) -> Result<Arc<Talk>, NotYet> {
        let mut state = self.state.lock().await;
        if let Some(talk) = self.alive() {
            return Ok(talk);
        }
        if self.failures.load(Ordering::Acquire) != failures
            && let Some(failure) = &state.failure
        {
            return Err(NotYet::Failed(failure.clone()));
        }
        let starting = match &mut state.starting {
            Some(starting) => starting,
            None => self.begin(&mut state).await?,
        };
        let started = starting.await;
        state.starting = None;
        match started {
            Ok(link) => {
                tracing::warn!(program = self.program.name, "started again");
                let talk = link.talk();
                state.link = Some(link);
                self.talk.store(Some(talk.clone()));
                // It may have other tools than before.
                self.changed.notify_one();
                Ok(talk)
            }
            Err(failure) => {
                let failure = PluginError::temporary(failure);
                state.failure = Some(failure.clone());
                self.failures.fetch_add(1, Ordering::AcqRel);
                Err(NotYet::Failed(failure))
            }
        }
    }

    async fn begin<'s>(
        &self,
        state: &'s mut State,
    ) -> Result<&'s mut BoxFuture<'static, Result<Link, PluginError>>, NotYet> {
        if state.started.elapsed() > state.wait + STAYED_UP {
            state.wait = Duration::ZERO;
        }
        let left = state.wait.saturating_sub(state.started.elapsed());
        if !left.is_zero() {
            return Err(NotYet::Wait(left));
        }
        self.talk.store(None);
        if let Some(link) = state.link.take() {
            link.kill().await;
        }
        state.started = Instant::now();
        state.wait = (state.wait * 2).clamp(FIRST_WAIT, LONGEST_WAIT);
        let start = Link::start(self.program.clone(), self.changed.clone());
        Ok(state.starting.insert(Box::pin(start)))
    }
}

/// Why there is nobody to talk to.
enum NotYet {
    Failed(PluginError),
    /// For so long it is not started again.
    Wait(Duration),
}

/// A call that was sent. Dropped before it is over, it tells the server, and asks whether it is still there.
struct UnderWay<'t> {
    talk: &'t Talk,
    asked: Asked,
    is_over: bool,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        if !self.asked.give_up() {
            let id = self.asked.id().try_into().ok().map(RequestId::Number);
            let params = CancelledNotificationParam::new(id, Some("given up by the caller".into()));
            let cancelled = ClientNotification::CancelledNotification(CancelledNotification::new(params));
            // Polled once, which puts it into the queue; where that is full, the server reads nothing anyway.
            let _ = self.talk.peer.send_notification(cancelled).now_or_never();
        }
        self.talk.health.ask(self.talk.calls.next(), || {
            let ping = ClientRequest::PingRequest(PingRequest::default());
            let sent = self.talk.peer.send_request_with_option(ping, PeerRequestOptions::no_options());
            Some(sent.now_or_never()?.ok()?.rx)
        });
    }
}

/// What a program says of why it failed.
fn told(error: &ErrorData) -> PluginError {
    let message = legible(&error.message);
    if error.data.as_ref().is_some_and(|data| data == TOO_LARGE) {
        PluginError::too_large(message)
    } else {
        PluginError::new(message)
    }
}

/// One plugin's share in a server, which ends with the last of them.
pub(super) struct User {
    server: Arc<Server>,
    has_ended: AtomicBool,
}

impl User {
    pub(super) fn of(server: Arc<Server>) -> User {
        server.users.fetch_add(1, Ordering::AcqRel);
        User { server, has_ended: AtomicBool::new(false) }
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    fn is_last(&self) -> bool {
        !self.has_ended.swap(true, Ordering::AcqRel) && self.server.users.fetch_sub(1, Ordering::AcqRel) == 1
    }

    pub(super) async fn end(&self) {
        if self.is_last() {
            self.server.stop().await;
        }
    }
}

impl Drop for User {
    fn drop(&mut self) {
        // Without a cleanup: the program is killed when nothing holds the server any more.
        if self.is_last() {
            self.server.over.cancel();
        }
    }
}
