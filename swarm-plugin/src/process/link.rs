//! One run of a program, and the talk with it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{ClientConfig, Implementation, PaginatedRequestParams, ProtocolVersion, Tool};
use rmcp::service::{ClientInitializeError, Peer, RunningService, ServiceError};
use rmcp::{ClientCacheConfig, RoleClient, serve_client};
use tokio::sync::Notify;

use super::calls::Calls;
use super::child::{Program, Running};
use super::frames::{Frames, MESSAGE_LIMIT};
use super::health::Health;
use super::legible;
use super::wire::Wire;
use crate::plugin::PluginError;

/// How long a program may take to end once its input is closed.
const PATIENCE: Duration = Duration::from_secs(2);
const TOOLS_LIMIT: usize = 1024;
/// Of all tools of a server, as JSON.
const TOOLS_BYTES: usize = 16 * 1024 * 1024;

pub(super) struct Link {
    service: RunningService<RoleClient, ClientConfig>,
    calls: Arc<Calls>,
    running: Running,
}

/// Whom to talk to: for calls, and for all else.
pub(super) struct Talk {
    pub(super) calls: Arc<Calls>,
    pub(super) peer: Peer<RoleClient>,
    pub(super) health: Health,
}

impl Link {
    /// Starts the program, and ends it where it does not speak MCP in time. `changed` is told when its tools changed.
    pub(super) async fn start(program: Program, changed: Arc<Notify>) -> Result<Link, PluginError> {
        let name = &program.name;
        let failed = |error: io::Error| {
            let file = program.program.file_name().unwrap_or_default().to_string_lossy();
            let missing = match error.kind() {
                io::ErrorKind::NotFound => ", or the interpreter that its first line names",
                _ => "",
            };
            PluginError::new(format_args!(
                "{name} could not be started: {}{missing}: {error}",
                legible(&file)
            ))
        };
        let (running, stdout, stdin) = program.start().await.map_err(failed)?;
        let mut client = ClientConfig::default();
        client.client_info = Implementation::new("swarm-plugin", env!("CARGO_PKG_VERSION"));
        // Later ones have no greeting, and want in every request what calls do not carry.
        client.protocol_version = ProtocolVersion::LATEST_WITH_INITIALIZE;
        let calls = Calls::new(stdin, changed);
        let wire = Wire::new(Frames::new(stdout, MESSAGE_LIMIT), calls.clone(), running.ended());
        let failure = match tokio::time::timeout(program.patience, serve_client(client, wire)).await {
            Ok(Ok(service)) => {
                // It forgets a list by the notifications that the wire takes out before it sees them.
                service.peer().set_response_cache_config(ClientCacheConfig::disabled()).await;
                return Ok(Link { service, calls, running });
            }
            Ok(Err(
                ClientInitializeError::ConnectionClosed(_) | ClientInitializeError::TransportError { .. },
            )) => {
                format!(
                    "{name} ended, or closed its streams, before it spoke MCP: what it wrote to standard error is in the \
                     log, target swarm_plugin::process"
                )
            }
            Ok(Err(error)) => format!("{name} does not speak MCP: {}", legible(&error.to_string())),
            Err(_) => format!("{name} did not speak MCP within {:?} of its start", program.patience),
        };
        running.end(Duration::ZERO).await;
        Err(PluginError::new(failure))
    }

    pub(super) fn talk(&self) -> Arc<Talk> {
        let peer = self.service.peer().clone();
        Arc::new(Talk { calls: self.calls.clone(), peer, health: Health::default() })
    }

    pub(super) async fn end(mut self) {
        // Closes the program's input, which asks it to end.
        let _ = self.service.close_with_timeout(PATIENCE).await;
        self.running.end(PATIENCE).await;
    }

    pub(super) async fn kill(self) {
        self.running.end(Duration::ZERO).await;
    }
}

/// Why there is no list of tools.
pub(super) enum Unlisted {
    Failed(ServiceError),
    TooMany(String),
}

/// All tools, of however many pages.
pub(super) async fn listed(peer: &Peer<RoleClient>) -> Result<Vec<Tool>, Unlisted> {
    let mut tools = Vec::new();
    let mut cursor = None;
    let mut left = TOOLS_BYTES;
    for _page in 0..TOOLS_LIMIT {
        let params = PaginatedRequestParams::default().with_cursor(cursor);
        let page = peer.list_tools(Some(params)).await.map_err(Unlisted::Failed)?;
        let bytes = serde_json::to_vec(&page).map_or(usize::MAX, |text| text.len());
        left = left.checked_sub(bytes).ok_or_else(|| {
            Unlisted::TooMany(format!("the tools of the server are over {TOOLS_BYTES} bytes"))
        })?;
        tools.extend(page.tools);
        if tools.len() > TOOLS_LIMIT {
            return Err(Unlisted::TooMany(format!("the server has over {TOOLS_LIMIT} tools")));
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(tools);
        }
    }
    Err(Unlisted::TooMany(format!("the list of the server's tools has over {TOOLS_LIMIT} pages")))
}
