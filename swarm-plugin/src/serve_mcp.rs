//! The plugins of a manager as tools of an MCP server.

mod http;
mod paced;
mod session;
mod sessions;

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::http::{Request, Response};
use async_trait::async_trait;
use bytes::Bytes;
use http_body::Body;
use rmcp::model::Implementation;
use rmcp::service::serve_server_with_ct;
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tower_service::Service;

use self::http::Counted;
use self::paced::Paced;
use self::session::Session;
use self::sessions::Sessions;
use crate::error::{Error, ErrorKind, Result};
use crate::manager::PluginManager;
use crate::manifest::Manifest;

/// Offers the plugins of a manager to [MCP](https://modelcontextprotocol.io) clients, each as a tool.
///
/// Comes with the feature `serve_mcp`. A client sees what can be called at the moment: the default version of each name, with
/// its description and the schema of its parameters. It is told when that changes, so that a tool that is dropped in a folder is
/// in an agent's hands a moment later. Progress is passed to a client that asks for it, and a call that the client cancels is
/// cancelled.
///
/// # Results
/// An object is passed as `structuredContent` and as its JSON text; a string as text; a list of MCP content blocks as it is; all
/// else as its JSON text. A call that fails is a result with `isError` and the message, parameters that are not valid included,
/// so that an agent can mend them. A name that is not there, or that the client may not call, is an error of the protocol.
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use swarm_plugin::{McpServer, PluginManager};
///
/// let plugins = PluginManager::builder().folder("tools/plugins").watch().start().await?;
/// let server = McpServer::new(plugins.clone());
/// server.serve(tokio::io::stdin(), tokio::io::stdout()).await?; // until the client closes its end
/// plugins.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct McpServer {
    plugins: PluginManager,
    about: Implementation,
    instructions: Option<String>,
    authorizer: Arc<dyn Authorizer>,
    hosts: Option<Vec<String>>,
    origins: Vec<String>,
    body_limit: usize,
    sessions: usize,
    idle: Duration,
}

/// Decides which plugins a client may see and call.
///
/// Implemented by you. Asked for every plugin that is listed, and again for every call. What it was asked about is what is called:
/// where another took its place meanwhile, also one of the same version, it is asked about that one.
#[async_trait]
pub trait Authorizer: Send + Sync + 'static {
    /// Whether the client may see and call the plugin. To one that may not, it is as if it were not there; a panic says no.
    async fn allows(&self, client: &McpClient, plugin: &Manifest) -> bool;
}

/// Who asks, as far as it is known.
#[derive(Clone)]
pub struct McpClient {
    name: Option<String>,
    version: Option<String>,
    request: Option<::http::request::Parts>,
}

impl McpClient {
    /// What it calls itself, which proves nothing.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The version that it tells.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// The HTTP request that the message came with: its headers, and the extensions in which a layer before the service may have
    /// left who it is. `None` over standard streams.
    pub fn request(&self) -> Option<&::http::request::Parts> {
        self.request.as_ref()
    }
}

/// Without the request, whose headers may be secrets.
impl fmt::Debug for McpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("McpClient")
            .field("name", &self.name)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

struct Everybody;

#[async_trait]
impl Authorizer for Everybody {
    async fn allows(&self, _client: &McpClient, _plugin: &Manifest) -> bool {
        true
    }
}

impl McpServer {
    /// A server of all plugins for everybody who reaches it.
    pub fn new(plugins: PluginManager) -> Self {
        McpServer {
            plugins,
            about: Implementation::new("swarm-plugin", env!("CARGO_PKG_VERSION")),
            instructions: None,
            authorizer: Arc::new(Everybody),
            hosts: None,
            origins: Vec::new(),
            body_limit: 4 * 1024 * 1024,
            sessions: 1024,
            idle: Duration::from_secs(300),
        }
    }

    /// What the server calls itself.
    pub fn name(mut self, name: impl Into<String>, version: impl Into<String>) -> Self {
        self.about = Implementation::new(name, version);
        self
    }

    /// What an agent should know of the tools as a whole.
    pub fn instructions(mut self, text: impl Into<String>) -> Self {
        self.instructions = Some(text.into());
        self
    }

    /// Who may see and call what.
    pub fn authorizer(mut self, authorizer: impl Authorizer) -> Self {
        self.authorizer = Arc::new(authorizer);
        self
    }

    /// The names, with or without a port, under which the HTTP service is reached. Requests with another `Host` are refused,
    /// since a web page can send them to a server on the machine of whoever looks at it. Those of the machine itself, unless
    /// they are set. Without names all are refused.
    pub fn hosts(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.hosts = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// The origins, such as `https://app.example.com:443` or `http://localhost:*`, of web pages that may send requests.
    /// None, unless they are set; what is no browser sends no `Origin`.
    pub fn origins(mut self, origins: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.origins = origins.into_iter().map(Into::into).collect();
        self
    }

    /// How large a request over HTTP may be, in bytes. 4 MiB.
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.body_limit = bytes;
        self
    }

    /// How many sessions over HTTP there may be at a time; more are refused. 1,024. Clients of the newest protocol need none.
    pub fn sessions(mut self, most: usize) -> Self {
        self.sessions = most;
        self
    }

    /// How long a session over HTTP lasts in which its client asks nothing and has no stream open. 5 minutes. To go on after
    /// that, a client begins another.
    pub fn session_idle(mut self, time: Duration) -> Self {
        self.idle = time;
        self
    }

    /// Serves one client over two streams, such as standard input and output, until it closes its end or the manager is shut
    /// down, which ends the calls under way as it ends those of others: drained first. A message is read up to 16 MiB, and no
    /// other while 64 requests are not answered, or their answers not read.
    ///
    /// # Errors
    /// [`ErrorKind::Failed`] if the client does not speak MCP.
    pub async fn serve<R, W>(&self, input: R, output: W) -> Result<()>
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let closed = self.plugins.closed().child_token();
        let transport = Paced::new(AsyncRwTransport::new_server(input, output));
        let serving = serve_server_with_ct(Session::new(self.clone()), transport, closed.clone());
        let running = match serving.await {
            Ok(running) => running,
            Err(_) if closed.is_cancelled() => return Ok(()),
            Err(error) => {
                return Err(Error::new(ErrorKind::Failed, "the client does not speak MCP").because(error));
            }
        };
        match running.waiting().await {
            Ok(_) => Ok(()),
            Err(error) => Err(Error::new(ErrorKind::Closed, "the runtime is shutting down").because(error)),
        }
    }

    /// A service for streamable HTTP, to be mounted in the application's own server, behind its own layers, with axum for
    /// example as `Router::new().route_service("/mcp", server.http())`. It ends when the manager was shut down, and calls under
    /// way were drained.
    ///
    /// It asks nobody who they are: put that before it, and tell an [`Authorizer`] through the extensions of the request.
    pub fn http<B>(
        &self,
    ) -> impl Service<
        Request<B>,
        Response = Response<impl Body<Data = Bytes, Error = Infallible> + Send + Sync + use<B>>,
        Error = Infallible,
        Future: Send,
    >
    + Clone
    + Send
    + Sync
    + 'static
    + use<B>
    where
        B: Body<Data: Send, Error: fmt::Display> + Send + 'static,
    {
        let over = CancellationToken::new();
        let mut config = StreamableHttpServerConfig::default()
            .with_cancellation_token(over.clone())
            .with_max_request_body_bytes(self.body_limit)
            .with_allowed_origins(&self.origins)
            .enforce_origin_validation();
        match self.hosts.as_deref() {
            None => {}
            // There an empty list would allow all, and no host has an empty name.
            Some([]) => config = config.with_allowed_hosts([""]),
            Some(hosts) => config = config.with_allowed_hosts(hosts),
        }
        let server = self.clone();
        let sessions = Arc::new(Sessions::new(self.sessions, self.idle));
        let service = StreamableHttpService::new(move || Ok(Session::new(server.clone())), sessions, config);
        Counted::new(service, self.plugins.clone(), over)
    }
}

impl fmt::Debug for McpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("McpServer").field("plugins", &self.plugins).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_a_client_are_not_shown() {
        let request = Request::builder().header("authorization", "Bearer hunter2").body(()).unwrap();
        let request = Some(request.into_parts().0);
        let client = McpClient { name: Some("agent".into()), version: None, request };
        let shown = format!("{client:?}");
        assert!(shown.contains("agent") && !shown.contains("hunter2"), "{shown}");
    }
}
