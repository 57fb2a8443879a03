//! A server that is there when it is called: connected, and started again when it ended.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures::FutureExt;
use futures::future::BoxFuture;
use rmcp::model::{
    CallToolRequest, CallToolRequestParams, CallToolResult, CancelledNotification,
    CancelledNotificationParam, ClientConfig, ClientNotification, ClientRequest, Implementation, JsonObject,
    PaginatedRequestParams, PingRequest, RequestId, ServerResult, Tool,
};
use rmcp::service::{Peer, PeerRequestOptions, RunningService, ServiceError};
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::{ClientCacheConfig, RoleClient, serve_client};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::child::{Program, Running};
use super::wire::{Observer, Watched, Wire};
use crate::call::CallContext;
use crate::discovery::Found;
use crate::plugin::PluginError;

/// How long a program may take to end once its input is closed.
const PATIENCE: Duration = Duration::from_secs(2);
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A program that was up for so long may be started again at once.
const STAYED_UP: Duration = Duration::from_secs(10);
/// A ping that is not answered for so long is a sign that nothing will be.
const SILENCE: Duration = Duration::from_secs(5);
const TOOLS_LIMIT: usize = 1024;

pub(super) struct Server {
    program: Program,
    _copy: Found,
    /// Whom to talk to; `None` before the first start and after the end.
    peer: ArcSwapOption<Peer<RoleClient>>,
    /// Held over the awaits of a start or an end, so that one starts at a time.
    state: tokio::sync::Mutex<State>,
    /// Plugins that were not cleaned up yet.
    users: AtomicUsize,
    calls: AtomicUsize,
    /// Sent when a call was given up, and not answered yet.
    probe: Mutex<Option<Probe>>,
    /// Told when the tools may have changed.
    changed: Arc<Notify>,
    over: CancellationToken,
}

struct Probe {
    sent: Instant,
    answer: oneshot::Receiver<Result<ServerResult, ServiceError>>,
}

struct State {
    link: Option<Link>,
    /// Goes on with the next caller, where the one that waits for it gives up.
    starting: Option<BoxFuture<'static, Result<Link, PluginError>>>,
    /// When it was started last, and how long to wait before the next time.
    started: Instant,
    wait: Duration,
}

/// One run of the program, and the talk with it.
struct Link {
    service: RunningService<RoleClient, ClientConfig>,
    running: Running,
}

impl Link {
    async fn start(program: Program, changed: Arc<Notify>) -> Result<Link, PluginError> {
        let failed = |error| PluginError::new(format_args!("{} could not be started: {error}", program.name));
        let (running, stdout, stdin) = program.start().await.map_err(failed)?;
        let mut client = ClientConfig::default();
        client.client_info = Implementation::new("swarm-plugin", env!("CARGO_PKG_VERSION"));
        let wire = Wire::new(AsyncRwTransport::new_client(stdout, stdin), changed);
        match serve_client(client, wire).await {
            Ok(service) => {
                // It forgets a list by the notifications that the wire takes out before it sees them.
                service.peer().set_response_cache_config(ClientCacheConfig::disabled()).await;
                Ok(Link { service, running })
            }
            Err(error) => {
                running.end(Duration::ZERO).await;
                Err(PluginError::new(format_args!("{} does not speak MCP: {error}", program.name)))
            }
        }
    }

    async fn end(mut self) {
        // Closes the program's input, which asks it to end.
        let _ = self.service.close_with_timeout(PATIENCE).await;
        self.running.end(PATIENCE).await;
    }
}

impl Server {
    pub(super) async fn start(program: Program, copy: Found) -> Result<Server, PluginError> {
        let changed = Arc::new(Notify::new());
        let link = Link::start(program.clone(), changed.clone()).await?;
        let peer = ArcSwapOption::from_pointee(link.service.peer().clone());
        let state = State { link: Some(link), starting: None, started: Instant::now(), wait: Duration::ZERO };
        Ok(Server {
            program,
            _copy: copy,
            peer,
            state: tokio::sync::Mutex::new(state),
            users: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
            probe: Mutex::default(),
            changed,
            over: CancellationToken::new(),
        })
    }

    pub(super) async fn tools(&self) -> Result<Vec<Tool>, PluginError> {
        let peer = self.peer().await?;
        let tools = listed(&peer).await.map_err(|error| self.failed(error))?;
        tools.ok_or_else(|| PluginError::new(format_args!("the server has over {TOOLS_LIMIT} tools")))
    }

    /// All tools, once they may have changed. `None` when the server was stopped.
    pub(super) async fn changed_tools(&self) -> Option<Result<Vec<Tool>, PluginError>> {
        let listed = pin!(async {
            self.changed.notified().await;
            tokio::time::timeout(SILENCE, self.tools()).await
        });
        let listed = self.over.run_until_cancelled(listed).await?;
        Some(listed.unwrap_or_else(|_| Err(PluginError::temporary("the server does not tell its tools"))))
    }

    pub(super) async fn call(
        &self,
        tool: String,
        arguments: JsonObject,
        cx: &CallContext,
    ) -> Result<CallToolResult, PluginError> {
        let peer = self.peer().await?;
        let mut call = CallToolRequest::new(CallToolRequestParams::new(tool).with_arguments(arguments));
        let observer = cx.is_heard().then(|| Observer::new(cx));
        if let Some(observer) = &observer {
            call.extensions.insert(Watched(Arc::downgrade(observer)));
        }
        let request = ClientRequest::CallToolRequest(call);
        let mut under_way = UnderWay::begin(self, &peer);
        let sent = peer.send_request_with_option(request, PeerRequestOptions::no_options()).await;
        let handle = sent.map_err(|error| self.failed(error))?;
        under_way.id = Some(handle.id);
        let answer = handle.rx.await;
        under_way.id = None;
        match answer.unwrap_or(Err(ServiceError::TransportClosed)).map_err(|error| self.failed(error))? {
            ServerResult::CallToolResult(result) => Ok(result),
            _ => Err(PluginError::new("the tool asks for what this host does not offer: input, or a task")),
        }
    }

    pub(super) async fn ping(&self) -> Result<(), PluginError> {
        let peer = self.peer().await?;
        let ping = ClientRequest::PingRequest(PingRequest::default());
        peer.send_request(ping).await.map(drop).map_err(|error| self.failed(error))
    }

    pub(super) async fn stop(&self) {
        self.over.cancel();
        let mut state = self.state.lock().await;
        self.peer.store(None);
        state.starting = None;
        if let Some(link) = state.link.take() {
            link.end().await;
        }
    }

    fn failed(&self, error: ServiceError) -> PluginError {
        match error {
            ServiceError::McpError(error) => PluginError::new(error.message),
            ServiceError::TransportClosed | ServiceError::TransportSend(_) => {
                PluginError::temporary(format_args!("{} ended during the call", self.program.name))
            }
            other => PluginError::new(other),
        }
    }

    /// Whom to talk to. Starts the program anew if it ended, or answers nothing any more.
    async fn peer(&self) -> Result<Arc<Peer<RoleClient>>, PluginError> {
        let alive = || self.peer.load_full().filter(|peer| !peer.is_transport_closed());
        if let Some(peer) = alive().filter(|_| !self.is_silent()) {
            return Ok(peer);
        }
        let mut state = self.state.lock().await;
        if let Some(peer) = alive().filter(|_| !self.is_silent()) {
            return Ok(peer);
        }
        if self.over.is_cancelled() {
            return Err(PluginError::new(format_args!("{} was stopped", self.program.name)));
        }
        let starting = match &mut state.starting {
            Some(starting) => starting,
            None => self.start_again(&mut state).await?,
        };
        let started = starting.await;
        state.starting = None;
        let link = started.map_err(PluginError::temporary)?;
        tracing::warn!(program = self.program.name, "started again");
        let peer = Arc::new(link.service.peer().clone());
        state.link = Some(link);
        self.peer.store(Some(peer.clone()));
        // It may have other tools than before.
        self.changed.notify_one();
        Ok(peer)
    }

    async fn start_again<'s>(
        &self,
        state: &'s mut State,
    ) -> Result<&'s mut BoxFuture<'static, Result<Link, PluginError>>, PluginError> {
        if state.started.elapsed() > STAYED_UP {
            state.wait = Duration::ZERO;
        }
        let left = state.wait.saturating_sub(state.started.elapsed());
        if !left.is_zero() {
            let message =
                format_args!("{} ended, and is not started again before {left:.1?}", self.program.name);
            return Err(PluginError::temporary(message));
        }
        if let Some(link) = state.link.take() {
            link.running.end(Duration::ZERO).await;
        }
        *self.probe() = None;
        state.started = Instant::now();
        state.wait = (state.wait * 2).clamp(FIRST_WAIT, LONGEST_WAIT);
        let start = Link::start(self.program.clone(), self.changed.clone());
        Ok(state.starting.insert(Box::pin(start)))
    }

    fn probe(&self) -> std::sync::MutexGuard<'_, Option<Probe>> {
        self.probe.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a ping is not answered, and nobody waits for anything else.
    fn is_silent(&self) -> bool {
        let mut probe = self.probe();
        let Some(Probe { sent, answer }) = &mut *probe else { return false };
        if !matches!(answer.try_recv(), Err(oneshot::error::TryRecvError::Empty)) {
            *probe = None;
            return false;
        }
        sent.elapsed() > SILENCE && self.calls.load(Ordering::Acquire) == 0
    }
}

/// All tools, of however many pages; `None` if there are too many.
async fn listed(peer: &Peer<RoleClient>) -> Result<Option<Vec<Tool>>, ServiceError> {
    let mut tools = Vec::new();
    let mut cursor = None;
    loop {
        let params = PaginatedRequestParams::default().with_cursor(cursor);
        let page = peer.list_tools(Some(params)).await?;
        tools.extend(page.tools);
        if tools.len() > TOOLS_LIMIT {
            return Ok(None);
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(Some(tools));
        }
    }
}

/// A call that was sent. Dropped before it is answered, it tells the server, and asks whether it is still there.
struct UnderWay<'s> {
    server: &'s Server,
    peer: &'s Peer<RoleClient>,
    id: Option<RequestId>,
}

impl<'s> UnderWay<'s> {
    fn begin(server: &'s Server, peer: &'s Peer<RoleClient>) -> Self {
        server.calls.fetch_add(1, Ordering::AcqRel);
        UnderWay { server, peer, id: None }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.server.calls.fetch_sub(1, Ordering::AcqRel);
        let Some(id) = self.id.take() else { return };
        let params = CancelledNotificationParam::new(Some(id), Some("given up by the caller".into()));
        let cancelled = ClientNotification::CancelledNotification(CancelledNotification::new(params));
        // Polled once, which puts it into the queue; where that is full, the server reads nothing anyway.
        let _ = self.peer.send_notification(cancelled).now_or_never();
        let mut probe = self.server.probe();
        if probe.is_none() {
            let ping = ClientRequest::PingRequest(PingRequest::default());
            let sent = self.peer.send_request_with_option(ping, PeerRequestOptions::no_options());
            if let Some(Ok(handle)) = sent.now_or_never() {
                *probe = Some(Probe { sent: Instant::now(), answer: handle.rx });
            }
        }
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
