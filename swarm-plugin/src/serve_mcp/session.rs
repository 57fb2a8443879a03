//! One client, or with newer versions of the protocol one of its requests.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::{Either, select};
use futures::{Stream, StreamExt};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorData, Extensions,
    ListToolsResult, PaginatedRequestParams, ProgressNotificationParam, ProgressToken, ServerCapabilities,
    ServerConfig, SubscriptionFilter, Tool,
};
use rmcp::service::{NotificationContext, Peer, RequestContext, SubscriptionContext};
use rmcp::{RoleServer, ServerHandler};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::{McpClient, McpServer};
use crate::call::{CallOptions, Progress};
use crate::contained::Contained;
use crate::error::{Error, ErrorKind};
use crate::event::EventKind;
use crate::info::PluginInfo;
use crate::manager::PluginManager;
use crate::plugin::PluginError;

/// Tools of one page of a list.
const PAGE: usize = 256;
/// Progress that the client has not read yet; more of it is left out.
const PROGRESS: usize = 64;

pub(super) struct Session {
    server: McpServer,
    /// Tells the client what changes, as long as the session lasts.
    telling: Mutex<Option<AbortOnDropHandle<()>>>,
}

impl Session {
    pub(super) fn new(server: McpServer) -> Session {
        Session { server, telling: Mutex::default() }
    }

    async fn allows(&self, client: &McpClient, info: &PluginInfo) -> bool {
        let asked = Contained::new(self.server.authorizer.allows(client, info.manifest()));
        asked.await.unwrap_or_else(|payload| {
            let failure = PluginError::panicked(payload);
            tracing::error!(plugin = info.manifest().name(), %failure, "the authorizer allows nothing");
            false
        })
    }
}

impl ServerHandler for Session {
    fn get_info(&self) -> ServerConfig {
        let tools = ServerCapabilities::builder().enable_tools().enable_tool_list_changed().build();
        let info = ServerConfig::new(tools).with_server_info(self.server.about.clone());
        match &self.server.instructions {
            Some(text) => info.with_instructions(text),
            None => info,
        }
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let after = request.and_then(|request| request.cursor).unwrap_or_default();
        let client = client(&context);
        let mut page = ListToolsResult::default();
        for info in callable(&self.server.plugins).filter(|info| *info.manifest().name() > *after) {
            if !self.allows(&client, &info).await {
                continue;
            }
            if page.tools.len() == PAGE {
                page.next_cursor = page.tools.last().map(|tool| tool.name.to_string());
                break;
            }
            page.tools.push(tool(&info));
        }
        Ok(page)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let unknown = || ErrorData::invalid_params(format!("there is no tool {:?}", request.name), None);
        let (plugins, client) = (&self.server.plugins, client(&context));
        let options = CallOptions::new().cancel(context.ct.clone());
        let params = Value::Object(request.arguments.unwrap_or_default());
        let outcome = loop {
            let info = plugins.get(&request.name).filter(PluginInfo::is_default).ok_or_else(unknown)?;
            if !self.allows(&client, &info).await {
                return Err(unknown());
            }
            let mut options = options.clone().generation(info.generation());
            let outcome = match context.meta.get_progress_token() {
                None => plugins.call_with(&request.name, params.clone(), options).await,
                Some(token) => {
                    let (sender, receiver) = mpsc::channel(PROGRESS);
                    options = options.on_progress(move |progress| drop(sender.try_send(progress)));
                    let call = plugins.call_with(&request.name, params.clone(), options);
                    with_progress(call, receiver, &context.peer, token).await
                }
            };
            match outcome {
                // Another took its place meanwhile, which nobody was asked about.
                Err(error) if error.is_behind().is_some() => {}
                outcome => break outcome,
            }
        };
        match outcome {
            Ok(value) => Ok(CallToolResponse::Complete(result(value))),
            Err(error) if error.kind() == ErrorKind::Closed => {
                Err(ErrorData::internal_error(error.to_string(), None))
            }
            Err(error) => {
                let said = ContentBlock::text(message(&error));
                Ok(CallToolResponse::Complete(CallToolResult::error(vec![said])))
            }
        }
    }

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        let plugins = self.server.plugins.clone();
        let telling = AbortOnDropHandle::new(tokio::spawn(async move {
            let mut changes = pin!(changes(&plugins));
            while changes.next().await.is_some() {
                if context.peer.notify_tool_list_changed().await.is_err() {
                    return;
                }
            }
        }));
        *self.telling.lock().unwrap_or_else(PoisonError::into_inner) = Some(telling);
    }

    fn accepted_subscription_filter(&self, _requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(SubscriptionFilter::builder().tools_list_changed().build())
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let mut changes = pin!(changes(&self.server.plugins));
        loop {
            tokio::select! {
                () = context.cancelled() => return Ok(()),
                changed = changes.next() => {
                    if changed.is_none() || context.sink().notify_tool_list_changed().await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }
}

/// What a call by name gets, by name.
fn callable(plugins: &PluginManager) -> impl Iterator<Item = PluginInfo> + use<> {
    plugins.list().into_iter().filter(PluginInfo::is_default)
}

fn tool(info: &PluginInfo) -> Tool {
    let manifest = info.manifest();
    let schema = manifest.parameters().as_object().cloned().unwrap_or_default();
    let description = Some(manifest.description()).filter(|text| !text.is_empty());
    let description = description.map(|text| text.to_owned().into());
    Tool::new_with_raw(manifest.name().to_owned(), description, Arc::new(schema))
}

/// One item for any number of changes of the list, until the manager is shut down.
fn changes(plugins: &PluginManager) -> impl Stream<Item = ()> + use<> {
    // Subscribed before the first look, so that nothing is missed between.
    let events = plugins.events();
    let known = generations(plugins);
    futures::stream::unfold((plugins.clone(), events, known), |(plugins, mut events, known)| async move {
        loop {
            let event = plugins.closing().run_until_cancelled(events.next()).await??;
            let matters = matches!(
                event.kind,
                EventKind::Activated
                    | EventKind::Retired
                    | EventKind::Waiting { .. }
                    | EventKind::Enabled
                    | EventKind::Disabled
                    | EventKind::Pinned(_)
                    | EventKind::Missed(_)
            );
            let now = if matters { generations(&plugins) } else { continue };
            if now != known {
                return Some(((), (plugins, events, now)));
            }
        }
    })
}

fn generations(plugins: &PluginManager) -> Vec<u64> {
    callable(plugins).map(|info| info.generation()).collect()
}

fn client(context: &RequestContext<RoleServer>) -> McpClient {
    let about = context.client_info();
    let (name, version) = about.map(|about| (about.name, about.version)).unzip();
    McpClient { name, version, request: request(&context.extensions) }
}

fn request(extensions: &Extensions) -> Option<http::request::Parts> {
    extensions.get::<http::request::Parts>().cloned()
}

/// Runs a call and tells its progress, all of it before the outcome.
async fn with_progress<T>(
    call: impl Future<Output = T>,
    mut progress: mpsc::Receiver<Progress>,
    peer: &Peer<RoleServer>,
    token: ProgressToken,
) -> T {
    let tell = async |told: Progress| {
        let mut params = ProgressNotificationParam::new(token.clone(), told.done);
        (params.total, params.message) = (told.total, told.message);
        // A client that is gone cancels the call.
        let _ = peer.notify_progress(params).await;
    };
    let mut call = pin!(call);
    let outcome = {
        let telling = pin!(async {
            while let Some(told) = progress.recv().await {
                tell(told).await;
            }
        });
        match select(&mut call, telling).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right(((), call)) => return call.await,
        }
    };
    while let Ok(told) = progress.try_recv() {
        tell(told).await;
    }
    outcome
}

fn result(value: Value) -> CallToolResult {
    match value {
        Value::Object(_) => CallToolResult::structured(value),
        Value::String(text) => CallToolResult::success(vec![ContentBlock::text(text)]),
        Value::Array(blocks) if !blocks.is_empty() => {
            match serde_json::from_value::<Vec<ContentBlock>>(Value::Array(blocks.clone())) {
                Ok(blocks) => CallToolResult::success(blocks),
                Err(_) => CallToolResult::success(vec![ContentBlock::text(Value::Array(blocks).to_string())]),
            }
        }
        other => CallToolResult::success(vec![ContentBlock::text(other.to_string())]),
    }
}

fn message(error: &Error) -> String {
    match error.failure() {
        Some(failure) => failure.to_string(),
        None => error.to_string(),
    }
}
