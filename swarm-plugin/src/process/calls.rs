//! Calls of tools, which go to the program and back without the loop in which `rmcp` does all else.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use rmcp::RoleClient;
use rmcp::model::{
    CallToolResult, ErrorData, JsonObject, JsonRpcMessage, NumberOrString, ProgressNotificationParam,
    ProgressToken, RequestId, ServerNotification, ServerResult,
};
use rmcp::service::RxJsonRpcMessage;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;

use crate::call::{CallContext, Progress};
use crate::contained;

/// The number of the first call. `rmcp` counts its own requests from zero: the greeting, lists and pings.
const FIRST: u64 = 1 << 30;

/// The calls that wait for an answer of one run of a program, and the way to it.
pub(super) struct Calls {
    /// Held while a line is written, so that lines stay whole. `None` once it is closed.
    out: tokio::sync::Mutex<Option<Box<dyn AsyncWrite + Send + Unpin>>>,
    next: AtomicU64,
    waiting: Mutex<Waiting>,
    /// Nothing more is to come.
    is_over: AtomicBool,
    /// Told when the tools changed, once for any number of times.
    changed: Arc<Notify>,
    /// That of the program: the one of a caller may go, or rest, in the middle of a line.
    runtime: Handle,
}

#[derive(Default)]
struct Waiting {
    calls: BTreeMap<u64, Call>,
    /// Calls for which the program had no room yet. In tasks, since one that is held up by its caller would hold up all others.
    sending: JoinSet<()>,
}

struct Call {
    /// Goes before the answer, after which its caller may hold nothing any more.
    observer: Option<Arc<Observer>>,
    answer: oneshot::Sender<Result<CallToolResult, Failure>>,
}

pub(super) enum Failure {
    /// The program ended, and may have got some of the call, or knows nothing of it.
    Gone { may_have_arrived: bool },
    /// It answered that it failed.
    Told(ErrorData),
    /// It answered something else than the result of a call.
    Odd,
}

/// How far it is with what is to be sent to the program.
#[derive(Clone, Default)]
pub(super) struct Sent(Arc<Sending>);

#[derive(Default)]
struct Sending {
    stage: AtomicU8,
    /// Told when it is given up, so that it waits no longer for its turn.
    given_up: Notify,
}

/// It waits for its turn.
const WAITS: u8 = 0;
/// The program may have got any of it.
const BEGUN: u8 = 1;
/// The program gets none of it.
const NEVER: u8 = 2;

impl Sent {
    fn begin(&self) -> bool {
        self.pass(WAITS, BEGUN)
    }

    /// Whether the program gets none of it.
    fn give_up(&self) -> bool {
        let is_given_up = self.pass(WAITS, NEVER);
        self.0.given_up.notify_one();
        is_given_up || !self.may_have_arrived()
    }

    fn pass(&self, from: u8, to: u8) -> bool {
        self.0.stage.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// It turned out that nobody was there to get it.
    fn never(&self) {
        self.0.stage.store(NEVER, Ordering::SeqCst);
    }

    fn may_have_arrived(&self) -> bool {
        self.0.stage.load(Ordering::SeqCst) == BEGUN
    }
}

/// Hears of the progress of one call.
pub(super) struct Observer {
    cx: CallContext,
    done: Mutex<f64>,
}

/// A call that was sent, or is about to be. Forgotten when it is dropped.
pub(super) struct Asked {
    calls: Arc<Calls>,
    id: u64,
    sent: Sent,
    answer: oneshot::Receiver<Result<CallToolResult, Failure>>,
}

#[derive(Serialize)]
struct Request<'c> {
    jsonrpc: &'static str,
    id: u64,
    method: &'static str,
    params: Params<'c>,
}

#[derive(Serialize)]
struct Params<'c> {
    #[serde(rename = "_meta", skip_serializing_if = "Option::is_none")]
    meta: Option<Meta>,
    name: &'c str,
    arguments: &'c JsonObject,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    progress_token: u64,
}

/// What nearly all answers look like. The types of `rmcp`, which understand whatever may come, take many times as long.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer<'a> {
    jsonrpc: &'a str,
    id: u64,
    result: CallToolResult,
}

/// A message as it is sent.
pub(super) fn line(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = Vec::with_capacity(256);
    serde_json::to_writer(&mut line, message)?;
    line.push(b'\n');
    Ok(line)
}

impl Calls {
    pub(super) fn new(out: impl AsyncWrite + Send + Unpin + 'static, changed: Arc<Notify>) -> Arc<Calls> {
        Arc::new(Calls {
            out: tokio::sync::Mutex::new(Some(Box::new(out))),
            next: AtomicU64::new(FIRST),
            waiting: Mutex::default(),
            is_over: AtomicBool::new(false),
            changed,
            runtime: Handle::current(),
        })
    }

    /// Calls a tool. What is not written at once is written by a task.
    pub(super) fn ask(
        self: &Arc<Self>,
        tool: &str,
        arguments: &JsonObject,
        observer: Option<Arc<Observer>>,
    ) -> Asked {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let meta = observer.is_some().then_some(Meta { progress_token: id });
        let params = Params { meta, name: tool, arguments };
        let line = line(&Request { jsonrpc: "2.0", id, method: "tools/call", params });
        let (sender, answer) = oneshot::channel();
        let asked = Asked { calls: self.clone(), id, sent: Sent::default(), answer };
        {
            let mut waiting = self.waiting();
            if self.is_over() {
                return asked;
            }
            waiting.calls.insert(id, Call { answer: sender, observer });
        }
        let mut sending = Box::pin(self.send(line, asked.sent.clone()));
        match sending.as_mut().now_or_never() {
            Some(Ok(())) => {}
            Some(Err(_)) => drop(self.take(id)),
            None => {
                let calls = self.clone();
                let sending = async move {
                    if sending.await.is_err() {
                        drop(calls.take(id));
                    }
                };
                let mut waiting = self.waiting();
                while waiting.sending.try_join_next().is_some() {}
                if !self.is_over() {
                    waiting.sending.spawn_on(sending, &self.runtime);
                }
            }
        }
        asked
    }

    /// Writes a line after those that came before it, and none once all is over.
    pub(super) fn send(
        self: &Arc<Self>,
        line: io::Result<Vec<u8>>,
        sent: Sent,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let calls = self.clone();
        async move {
            let line = line?;
            let mut out = tokio::select! {
                biased;
                out = calls.out.lock() => out,
                () = sent.0.given_up.notified() => return Err(io::ErrorKind::NotConnected.into()),
            };
            let out = out.as_mut().ok_or(io::ErrorKind::NotConnected)?;
            if calls.is_over() || !sent.begin() {
                return Err(io::ErrorKind::NotConnected.into());
            }
            // Whoever is told that all is over looks at the stage after that.
            if calls.is_over() {
                sent.never();
                return Err(io::ErrorKind::NotConnected.into());
            }
            let written = async {
                out.write_all(&line).await?;
                out.flush().await
            };
            let written = written.await;
            // Nobody reads the other end, so that nobody has read this. Less than a line means nothing to a reader.
            if written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
                sent.never();
            }
            written
        }
    }

    /// Takes what is for a call, and answers what is for `rmcp`, in the order in which it comes.
    pub(super) fn hear(&self, text: &[u8]) -> Option<RxJsonRpcMessage<RoleClient>> {
        const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";
        if let Ok(Answer { jsonrpc: "2.0", id, result }) = serde_json::from_slice(text)
            && let Some(call) = self.take(id)
        {
            call.finish(Ok(result));
            return None;
        }
        match serde_json::from_slice(text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)) {
            Ok(message) => self.sort(message),
            Err(error) => {
                tracing::debug!(%error, "passed over what is no message");
                None
            }
        }
    }

    /// An answer was too long to be read.
    pub(super) fn hear_failure(&self, id: u64, failure: ErrorData) -> Option<RxJsonRpcMessage<RoleClient>> {
        let id = RequestId::Number(i64::try_from(id).ok()?);
        self.sort(JsonRpcMessage::error(failure, Some(id)))
    }

    fn sort(&self, message: RxJsonRpcMessage<RoleClient>) -> Option<RxJsonRpcMessage<RoleClient>> {
        match message {
            JsonRpcMessage::Response(mut response) => {
                if let Some(call) = number(&response.id).and_then(|id| self.take(id)) {
                    call.finish(match response.result {
                        ServerResult::CallToolResult(result) => Ok(result),
                        _ => Err(Failure::Odd),
                    });
                    return None;
                }
                if let ServerResult::InitializeResult(about) = &mut response.result {
                    // Nobody reads them, and they would be kept and written to the log, however long they are.
                    (about.instructions, about.server_info) = (None, Default::default());
                }
                Some(JsonRpcMessage::Response(response))
            }
            JsonRpcMessage::Error(error) => {
                match error.id.as_ref().and_then(number).and_then(|id| self.take(id)) {
                    Some(call) => call.finish(Err(Failure::Told(error.error))),
                    None => return Some(JsonRpcMessage::Error(error)),
                }
                None
            }
            JsonRpcMessage::Notification(notification) => {
                match notification.notification {
                    ServerNotification::ProgressNotification(told) => self.observe(told.params),
                    ServerNotification::ToolListChangedNotification(_) => self.changed.notify_one(),
                    // Nobody asked for the rest: the log, resources, prompts.
                    _ => {}
                }
                None
            }
            JsonRpcMessage::Request(_) => Some(message),
        }
    }

    fn observe(&self, told: ProgressNotificationParam) {
        let ProgressToken(token) = &told.progress_token;
        // Told without the lock, since whoever hears it may drop calls.
        let observer = number(token).and_then(|id| self.waiting().calls.get(&id)?.observer.clone());
        if let Some(observer) = observer {
            observer.tell(told);
            contained::dropped(observer);
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    /// Nothing more comes: whoever waits is told so, nothing more is sent, and the program's input is closed, if nobody writes.
    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
        let Waiting { calls, sending } = std::mem::take(&mut *self.waiting());
        calls.into_values().for_each(contained::dropped);
        drop(sending);
        // Whoever waits for its turn sees that it is over.
        if let Ok(mut out) = self.out.try_lock() {
            out.take();
        }
    }

    /// Closes the program's input, which asks it to end.
    pub(super) async fn close(&self) {
        self.end();
        self.out.lock().await.take();
    }

    /// The number of the next call.
    pub(super) fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// The number of the first call that is under way.
    pub(super) fn first(&self) -> Option<u64> {
        self.waiting().calls.first_key_value().map(|(&id, _)| id)
    }

    fn take(&self, id: u64) -> Option<Call> {
        self.waiting().calls.remove(&id)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Some answer the number of a request as a text.
fn number(id: &NumberOrString) -> Option<u64> {
    match id {
        NumberOrString::Number(id) => u64::try_from(*id).ok(),
        NumberOrString::String(id) => id.parse().ok(),
    }
}

impl Call {
    fn finish(self, answer: Result<CallToolResult, Failure>) {
        let Call { observer, answer: waits } = self;
        contained::dropped(observer);
        // Where nobody waits any more, nobody cares.
        let _ = waits.send(answer);
    }
}

impl Asked {
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Answers whether the program knows nothing of it, and never will.
    pub(super) fn give_up(&self) -> bool {
        self.sent.give_up()
    }

    pub(super) async fn answer(&mut self) -> Result<CallToolResult, Failure> {
        let gone = |_| Failure::Gone { may_have_arrived: self.sent.may_have_arrived() };
        (&mut self.answer).await.map_err(gone)?
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.give_up();
        drop(self.calls.take(self.id));
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

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use serde_json::{Value, json};
    use tokio::io::{AsyncBufReadExt, BufReader, DuplexStream, duplex};

    use super::*;

    /// Cannot be written to.
    struct Fails(io::ErrorKind);

    impl AsyncWrite for Fails {
        fn poll_write(
            self: Pin<&mut Self>,
            _task: &mut Context<'_>,
            _text: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(self.0.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _task: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _task: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn ask(calls: &Arc<Calls>, argument: &str) -> Asked {
        let Value::Object(arguments) = json!({ "a": argument }) else { unreachable!("an object") };
        calls.ask("tool", &arguments, None)
    }

    /// Calls, and where they are written.
    fn calls(bytes: usize) -> (Arc<Calls>, BufReader<DuplexStream>) {
        let (ours, theirs) = duplex(bytes);
        (Calls::new(ours, Arc::default()), BufReader::new(theirs))
    }

    async fn may_have_arrived(asked: &mut Asked) -> bool {
        match asked.answer().await {
            Err(Failure::Gone { may_have_arrived }) => may_have_arrived,
            _ => panic!("it was answered"),
        }
    }

    #[tokio::test]
    async fn a_call_may_have_arrived_once_it_is_written_to_somebody() {
        for (kind, may_have) in [(io::ErrorKind::BrokenPipe, false), (io::ErrorKind::ConnectionReset, true)] {
            let calls = Calls::new(Fails(kind), Arc::default());
            assert_eq!(may_have_arrived(&mut ask(&calls, "")).await, may_have, "{kind}");
        }
        // The first fills the pipe, and the second waits for it.
        let (calls, _theirs) = calls(16);
        let (mut begun, mut waits) = (ask(&calls, ""), ask(&calls, ""));
        calls.end();
        assert!(may_have_arrived(&mut begun).await);
        assert!(!may_have_arrived(&mut waits).await);
        assert!(!may_have_arrived(&mut ask(&calls, "")).await, "it is over already");
    }

    #[tokio::test]
    async fn a_caller_that_goes_or_waits_holds_nobody_up() {
        let (calls, theirs) = calls(16);
        let (begun, unsent) = (ask(&calls, "begun"), ask(&calls, "unsent"));
        let (_still, next) = (ask(&calls, "still"), ask(&calls, "next"));
        drop((begun, unsent));
        let mut lines = theirs.lines();
        // What was begun is a whole line in any case, and what was not is not sent for nobody.
        for argument in ["begun", "still", "next"] {
            let line: Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
            assert_eq!(line["params"]["arguments"]["a"], argument, "{line}");
        }
        let answer = json!({"jsonrpc": "2.0", "id": next.id(), "result": {"content": []}});
        assert!(calls.hear(answer.to_string().as_bytes()).is_none());
        assert!({ next }.answer().await.is_ok());
    }

    #[tokio::test]
    async fn an_answer_is_understood_however_it_is_written() {
        let (calls, _theirs) = calls(1 << 16);
        let result = r#""result":{"content":[{"type":"text","text":"hi"}]}"#;
        for text in [
            r#"{"jsonrpc":"2.0","id":ID,RESULT}"#,
            "{\"jsonrpc\":\"2.0\",\"id\":ID,RESULT}\r\n",
            r#"{RESULT, "id" : ID, "jsonrpc" : "2.0"}"#,
            r#"{"jsonrpc":"2.0","id":"ID",RESULT}"#,
            r#"{"jsonrpc":"2.0","id":ID.0,RESULT}"#,
            r#"{"\u006asonrpc":"2.0","id":ID,RESULT,"more":1}"#,
            "\u{feff}{\"jsonrpc\":\"2.0\",\"id\":ID,RESULT}",
        ] {
            let mut asked = ask(&calls, "");
            let text = text.replace("ID", &asked.id().to_string()).replace("RESULT", result);
            assert!(calls.hear(text.as_bytes()).is_none(), "{text}");
            let answer = asked.answer().now_or_never();
            assert!(matches!(answer, Some(Ok(result)) if result.content.len() == 1), "{text}");
        }
        let mut asked = ask(&calls, "");
        for (text, is_passed_on) in [
            (r#"{"jsonrpc":"2.0","id":1,RESULT}"#, true),
            (r#"{"jsonrpc":"2.0","id":ID,"method":"ping"}"#, true),
            (r#"{"jsonrpc":"2.0","id":ID,RESULT,"method":"ping"}"#, false),
            (r#"{"jsonrpc":"1.0","id":ID,RESULT}"#, false),
            (r#"{"jsonrpc":"2.0","id":ID,RESULT"#, false),
            (r#"[{"jsonrpc":"2.0","id":ID,RESULT}]"#, false),
            ("", false),
        ] {
            let text = text.replace("ID", &asked.id().to_string()).replace("RESULT", result);
            assert_eq!(calls.hear(text.as_bytes()).is_some(), is_passed_on, "{text}");
            assert!(asked.answer().now_or_never().is_none(), "{text}");
        }
        let odd = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, asked.id());
        assert!(calls.hear(odd.as_bytes()).is_none());
        assert!(matches!(asked.answer().await, Err(Failure::Odd)));
    }
}
