//! A server that is there when it is called: connected, and started again when it ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ClientConfig, ClientRequest, Implementation,
    JsonObject, PingRequest, Tool,
};
use rmcp::service::{Peer, RunningService, ServiceError};
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::{RoleClient, serve_client};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::child::{Program, Running};
use crate::discovery::Found;
use crate::plugin::PluginError;

/// How long a program may take to end once its input is closed.
const PATIENCE: Duration = Duration::from_secs(2);
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A program that was up for so long may be started again at once.
const STAYED_UP: Duration = Duration::from_secs(10);
const TOOLS_LIMIT: usize = 1024;

pub(super) struct Server {
    program: Program,
    _copy: Found,
    /// Whom to talk to; `None` before the first start and after the end.
    peer: ArcSwapOption<Peer<RoleClient>>,
    /// Held over the awaits of a start or an end, so that one starts at a time.
    state: Mutex<State>,
    /// Plugins that were not cleaned up yet.
    users: AtomicUsize,
}

struct State {
    link: Option<Link>,
    /// When it was started last, and how long to wait before the next time.
    started: Instant,
    wait: Duration,
    is_over: bool,
}

/// One run of the program, and the talk with it.
struct Link {
    service: RunningService<RoleClient, ClientConfig>,
    running: Running,
}

impl Link {
    async fn start(program: &Program) -> Result<Link, PluginError> {
        let failed = |error| PluginError::new(format_args!("{} could not be started: {error}", program.name));
        let (running, stdout, stdin) = program.start().await.map_err(failed)?;
        let mut client = ClientConfig::default();
        client.client_info = Implementation::new("swarm-plugin", env!("CARGO_PKG_VERSION"));
        match serve_client(client, AsyncRwTransport::new_client(stdout, stdin)).await {
            Ok(service) => Ok(Link { service, running }),
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
        let link = Link::start(&program).await?;
        let peer = ArcSwapOption::from_pointee(link.service.peer().clone());
        let state = State { link: Some(link), started: Instant::now(), wait: Duration::ZERO, is_over: false };
        Ok(Server { program, _copy: copy, peer, state: Mutex::new(state), users: AtomicUsize::new(0) })
    }

    /// All tools, of however many pages.
    pub(super) async fn tools(&self) -> Result<Vec<Tool>, PluginError> {
        let peer = self.peer().await?;
        let mut tools = Vec::new();
        let mut cursor = None;
        loop {
            let params = rmcp::model::PaginatedRequestParams::default().with_cursor(cursor);
            let page = peer.list_tools(Some(params)).await.map_err(|error| self.failed(error))?;
            tools.extend(page.tools);
            if tools.len() > TOOLS_LIMIT {
                return Err(PluginError::new(format_args!("the server has over {TOOLS_LIMIT} tools")));
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(tools);
            }
        }
    }

    pub(super) async fn call(
        &self,
        tool: String,
        arguments: JsonObject,
    ) -> Result<CallToolResult, PluginError> {
        let peer = self.peer().await?;
        let params = CallToolRequestParams::new(tool).with_arguments(arguments);
        // Tells the server to stop, where this is dropped.
        match peer.call_tool_once(params).await.map_err(|error| self.failed(error))? {
            CallToolResponse::Complete(result) => Ok(result),
            _ => Err(PluginError::new("the tool asks for what this host does not offer: input, or a task")),
        }
    }

    pub(super) async fn ping(&self) -> Result<(), PluginError> {
        let peer = self.peer().await?;
        let ping = ClientRequest::PingRequest(PingRequest::default());
        peer.send_request(ping).await.map(drop).map_err(|error| self.failed(error))
    }

    /// Says how many plugins will call [`end`](Server::end).
    pub(super) fn begin(&self, users: usize) {
        self.users.store(users, Ordering::Release);
    }

    /// Ends the program with the last of its plugins.
    pub(super) async fn end(&self) {
        if self.users.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.stop().await;
        }
    }

    pub(super) async fn stop(&self) {
        let mut state = self.state.lock().await;
        state.is_over = true;
        self.peer.store(None);
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

    /// Whom to talk to. Starts the program anew if it ended.
    async fn peer(&self) -> Result<Arc<Peer<RoleClient>>, PluginError> {
        if let Some(peer) = self.peer.load_full().filter(|peer| !peer.is_transport_closed()) {
            return Ok(peer);
        }
        let mut state = self.state.lock().await;
        if let Some(peer) = self.peer.load_full().filter(|peer| !peer.is_transport_closed()) {
            return Ok(peer);
        }
        if state.is_over {
            return Err(PluginError::new(format_args!("{} was stopped", self.program.name)));
        }
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
        state.started = Instant::now();
        state.wait = (state.wait * 2).clamp(FIRST_WAIT, LONGEST_WAIT);
        let link = Link::start(&self.program).await.map_err(PluginError::temporary)?;
        tracing::warn!(program = self.program.name, "started again");
        let peer = Arc::new(link.service.peer().clone());
        state.link = Some(link);
        self.peer.store(Some(peer.clone()));
        Ok(peer)
    }
}
