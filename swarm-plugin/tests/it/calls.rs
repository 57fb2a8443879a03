use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use futures::FutureExt;
use serde_json::{Value, json};
use swarm_plugin::{
    CallContext, CallOptions, CancellationToken, ErrorKind, FnPlugin, Manifest, Plugin, PluginError,
    PluginManager, Progress,
};
use tokio::sync::{mpsc, oneshot};

use crate::tool::{Tool, plain};

fn named(name: &str) -> Manifest {
    Manifest::builder(name, "1.0.0").build().unwrap()
}

/// A manager with one plugin `tool`.
async fn with(plugin: impl Plugin) -> PluginManager {
    let plugins = PluginManager::new();
    plugins.register(plugin).await.unwrap();
    plugins
}

async fn kind(plugins: &PluginManager, params: Value) -> ErrorKind {
    plugins.call("tool", params).await.unwrap_err().kind()
}

#[tokio::test]
async fn every_problem_with_parameters_is_told_and_the_plugin_does_not_run() {
    let manifest = Manifest::builder("tool", "1.0.0")
        .required("file_path", json!({"type": "string"}))
        .required("mode", json!({"enum": ["fast", "deep"]}))
        .optional("limit", json!({"type": "integer", "minimum": 1}))
        .build()
        .unwrap();
    let plugins = with(FnPlugin::new(manifest, |_: Value, _| async { Ok("ran") })).await;

    let error = plugins.call("tool", json!({"mode": "slow", "limit": 0, "surplus": 1})).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidParams);
    let mut at: Vec<&str> = error.problems().iter().map(|problem| problem.at()).collect();
    at.sort_unstable();
    assert_eq!(at, ["", "", "/limit", "/mode"]);
    for word in ["file_path", "surplus", "plugin tool"] {
        assert!(error.to_string().contains(word), "{error}");
    }
    let stats = *plugins.get("tool").unwrap().stats();
    assert_eq!((stats.calls, stats.refused, stats.failed), (1, 1, 0));

    assert_eq!(plugins.call("tool", json!({"file_path": "a", "mode": "fast"})).await.unwrap(), "ran");
    assert_eq!(kind(&plugins, Value::Null).await, ErrorKind::InvalidParams);
    assert_eq!(kind(&plugins, json!([1])).await, ErrorKind::InvalidParams);
}

#[tokio::test]
async fn null_stands_for_no_parameters() {
    let plugins = with(FnPlugin::new(named("tool"), |params: Value, _| async { Ok(params) })).await;
    assert_eq!(plugins.call("tool", Value::Null).await.unwrap(), json!({}));
    assert_eq!(kind(&plugins, json!("text")).await, ErrorKind::InvalidParams);
}

#[tokio::test]
async fn failures_are_the_plugins_own_words() {
    let fail = |params: Value, _| async move {
        if params["temporary"] == true {
            return Err(PluginError::temporary("busy"));
        }
        let read = std::io::Error::new(std::io::ErrorKind::NotFound, "no such file");
        Err::<(), PluginError>(read.into())
    };
    let plugins = with(FnPlugin::new(named("tool"), fail)).await;
    let error = plugins.call("tool", json!({})).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Failed, false));
    assert_eq!(error.failure().unwrap().message(), "no such file");
    assert_eq!(error.to_string(), "plugin tool: no such file");
    let error = plugins.call("tool", json!({"temporary": true})).await.unwrap_err();
    assert!(error.is_retryable());
    assert_eq!(plugins.get("tool").unwrap().stats().failed, 2);
}

/// Panics before it makes a future, in it, or when that is dropped: while it waits, or once it has answered.
struct Explosive(Manifest);

struct Mine;

impl Drop for Mine {
    fn drop(&mut self) {
        panic!("stepped on");
    }
}

impl Plugin for Explosive {
    fn manifest(&self) -> &Manifest {
        &self.0
    }

    fn execute<'s, 'c, 'f>(
        &'s self,
        params: Value,
        _cx: &'c CallContext,
    ) -> Pin<Box<dyn Future<Output = Result<Value, PluginError>> + Send + 'f>>
    where
        's: 'f,
        'c: 'f,
        Self: 'f,
    {
        assert!(params["when"] != "before", "not yet");
        if params["when"] == "answered" {
            let mine = Mine;
            return Box::pin(poll_fn(move |_| {
                let _held_on = &mine;
                Poll::Ready(Ok(json!("all")))
            }));
        }
        Box::pin(async move {
            if params["when"] == "after" {
                let _mine = Mine;
                pending::<()>().await;
            }
            tokio::task::yield_now().await;
            panic!("{}", "in the middle")
        })
    }
}

#[tokio::test(start_paused = true)]
async fn panics_are_failures_of_one_call() {
    let plugins = with(Explosive(named("tool"))).await;
    for (when, kind, says) in [
        ("before", ErrorKind::Panicked, "panicked: not yet"),
        ("within", ErrorKind::Panicked, "panicked: in the middle"),
        ("after", ErrorKind::TimedOut, "took longer than 30s"),
    ] {
        let error = plugins.call("tool", json!({"when": when})).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{when}");
        assert!(error.to_string().contains(says), "{error}");
    }
    assert_eq!(plugins.call("tool", json!({"when": "answered"})).await.unwrap(), "all");
    let stats = *plugins.get("tool").unwrap().stats();
    assert_eq!((stats.calls, stats.panicked, stats.timed_out, stats.in_flight), (4, 2, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_callers_deadline_comes_before_the_plugins_before_the_managers() {
    let forever = |_: Value, _| pending::<Result<(), PluginError>>();
    let manifest = Manifest::builder("own", "1.0.0").timeout(Duration::from_secs(5)).build().unwrap();
    let plugins = PluginManager::builder().call_timeout(Duration::from_secs(9)).start().await.unwrap();
    plugins.register(FnPlugin::new(manifest, forever)).await.unwrap();
    plugins.register(FnPlugin::new(named("none"), forever)).await.unwrap();
    let second = CallOptions::new().timeout(Duration::from_secs(1));
    for (name, options, expected) in
        [("own", second.clone(), 1), ("own", CallOptions::new(), 5), ("none", CallOptions::new(), 9)]
    {
        let begun = tokio::time::Instant::now();
        let error = plugins.call_with(name, json!({}), options).await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::TimedOut, true));
        assert_eq!(begun.elapsed().as_secs(), expected, "{name}");
    }
    let longest = CallOptions::new().timeout(Duration::MAX);
    assert!(plugins.call_with("own", json!({}), longest).now_or_never().is_none());
}

#[tokio::test]
async fn a_deadline_holds_for_what_uses_up_its_budget() {
    let busy = FnPlugin::new(named("tool"), |_: Value, _| async {
        loop {
            tokio::task::coop::consume_budget().await;
        }
        #[expect(unreachable_code, reason = "what it would answer")]
        Ok::<_, PluginError>(())
    });
    let options = CallOptions::new().timeout(Duration::from_millis(20));
    let ended = with(busy).await.call_with("tool", json!({}), options).await;
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::TimedOut);
}

#[tokio::test]
async fn a_call_ends_when_its_token_is_cancelled_or_its_future_dropped() {
    struct Told(Option<oneshot::Sender<()>>);
    impl Drop for Told {
        fn drop(&mut self) {
            self.0.take().unwrap().send(()).unwrap();
        }
    }
    let (ended, mut each) = mpsc::unbounded_channel();
    let plugin = FnPlugin::new(named("tool"), move |_: Value, _| {
        let (sender, receiver) = oneshot::channel();
        ended.send(receiver).unwrap();
        async move {
            let _told = Told(Some(sender));
            pending::<Result<(), PluginError>>().await
        }
    });
    let plugins = with(plugin).await;
    let token = CancellationToken::new();
    let call = plugins.call_with("tool", json!({}), CallOptions::new().cancel(token.clone()));
    let (outcome, ()) = tokio::join!(call, async { token.cancel() });
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Cancelled);
    each.recv().await.unwrap().await.unwrap();

    // Cancelled before it began: the plugin does not run.
    let late = plugins.call_with("tool", json!({}), CallOptions::new().cancel(token)).await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(each.try_recv().is_err());

    assert!(plugins.call("tool", json!({})).now_or_never().is_none());
    each.recv().await.unwrap().await.unwrap();
    let stats = *plugins.get("tool").unwrap().stats();
    assert_eq!((stats.calls, stats.cancelled, stats.in_flight), (3, 3, 0));
}

#[tokio::test]
async fn parameters_and_results_are_bounded() {
    let manifest = Manifest::builder("tool", "1.0.0").params_bytes(1000).result_bytes(100).build().unwrap();
    let repeat = |params: Value, _| async move {
        let text = "x".repeat(params["times"].as_u64().unwrap_or(0) as usize);
        let deep = (0..params["depth"].as_u64().unwrap_or(0)).fold(Value::Null, |inner, _| json!([inner]));
        Ok((text, deep))
    };
    let plugins = with(FnPlugin::new(manifest, repeat)).await;
    assert!(plugins.call("tool", json!({"times": 50})).await.is_ok());
    assert_eq!(kind(&plugins, json!({"times": 101})).await, ErrorKind::TooLarge);
    assert_eq!(kind(&plugins, json!({"text": "x".repeat(1001)})).await, ErrorKind::TooLarge);
    let bomb = || (0..100_000).fold(Value::Null, |inner, _| Value::Array(vec![inner]));
    assert_eq!(kind(&plugins, bomb()).await, ErrorKind::TooLarge);
    let stats = *plugins.get("tool").unwrap().stats();
    assert_eq!((stats.calls, stats.refused, stats.failed), (4, 2, 1), "parameters are refused, results fail");
    let manifest =
        Manifest::builder("checked", "1.0.0").parameters(json!({"type": "object", "minProperties": 1}));
    let checked = FnPlugin::new(manifest.build().unwrap(), |_: Value, _| async { Ok(()) });
    plugins.register(checked).await.unwrap();
    assert_eq!(plugins.call("checked", bomb()).await.unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(plugins.call("nobody", bomb()).await.unwrap_err().kind(), ErrorKind::NotFound);
    // Not measured, and yet not dropped as usual, which would end the process.
    plugins.register(plain("any", "1.0.0")).await.unwrap();
    assert_eq!(plugins.call("any", bomb()).await.unwrap_err().kind(), ErrorKind::InvalidParams);
    let cancelled = CancellationToken::new();
    cancelled.cancel();
    let options = CallOptions::new().cancel(cancelled);
    let deep = Value::Object([("deep".to_owned(), bomb())].into_iter().collect());
    let outcome = plugins.call_with("any", deep, options).await;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Cancelled);
}

#[tokio::test]
async fn a_call_is_little_to_move_about() {
    // As it is into every future that awaits it, also where it is ready at once.
    let plugins = with(FnPlugin::new(named("tool"), |params: Value, _| async { Ok(params) })).await;
    let size = size_of_val(&plugins.call("tool", Value::Null));
    assert!(size <= 1200, "{size} bytes");
}

#[tokio::test]
async fn more_calls_than_allowed_wait() {
    let running = Arc::new(Mutex::new((0, 0)));
    let seen = running.clone();
    let manifest = Manifest::builder("tool", "1.0.0").concurrency(2).build().unwrap();
    let plugin = FnPlugin::new(manifest, move |_: Value, _| {
        let seen = seen.clone();
        async move {
            {
                let mut seen = seen.lock().unwrap();
                seen.0 += 1;
                seen.1 = seen.0.max(seen.1);
            }
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            seen.lock().unwrap().0 -= 1;
            Ok(())
        }
    });
    let plugins = with(plugin).await;
    let calls = (0..20).map(|_| plugins.call("tool", json!({})));
    assert!(futures::future::join_all(calls).await.iter().all(Result::is_ok));
    assert_eq!(*running.lock().unwrap(), (0, 2));
}

#[tokio::test]
async fn a_blocking_call_that_was_given_up_counts_until_it_returns() {
    let (go_on, goes_on) = std::sync::mpsc::channel::<()>();
    let (begun, mut begins) = mpsc::unbounded_channel();
    let goes_on = Mutex::new(goes_on);
    let manifest = Manifest::builder("tool", "1.0.0").concurrency(1).build().unwrap();
    let plugins = with(FnPlugin::blocking(manifest, move |_: Value, _| {
        begun.send(()).unwrap();
        // Ends as well when the test does.
        let _ = goes_on.lock().unwrap().recv();
        Ok(())
    }))
    .await;
    assert!(plugins.call("tool", json!({})).now_or_never().is_none());
    begins.recv().await.unwrap();
    let mut second = Box::pin(plugins.call("tool", json!({})));
    assert!(second.as_mut().now_or_never().is_none());
    tokio::task::spawn_blocking(|| {}).await.unwrap();
    assert!(begins.try_recv().is_err(), "it waits for the first to return");
    go_on.send(()).unwrap();
    let (outcome, ()) = tokio::join!(second, async {
        begins.recv().await.unwrap();
        go_on.send(()).unwrap();
    });
    outcome.unwrap();
}

#[tokio::test]
async fn blocking_functions_see_that_nobody_waits_and_hold_up_the_cleanup() {
    let (told, ended) = std::sync::mpsc::channel();
    let plugin = FnPlugin::blocking(named("tool"), move |_: Value, cx| {
        while !cx.is_cancelled() {
            std::thread::yield_now();
        }
        told.send(()).unwrap();
        Ok(())
    });
    let plugins = with(plugin).await;
    assert!(plugins.call("tool", json!({})).now_or_never().is_none());
    assert_eq!(plugins.get("tool").unwrap().stats().cancelled, 1);
    plugins.shutdown().await;
    assert!(ended.try_recv().is_ok(), "it ended before the shutdown did");

    let plugins =
        with(FnPlugin::blocking(named("tool"), |_: Value, _| -> Result<(), _> { panic!("oh") })).await;
    assert_eq!(kind(&plugins, json!({})).await, ErrorKind::Panicked);
}

#[tokio::test]
async fn a_plugin_calls_what_it_requires_and_nothing_else() {
    let manifest = Manifest::builder("tool", "1.0.0").requires("words", "^1").build().unwrap();
    let plugin = FnPlugin::new(manifest, |params: Value, cx: CallContext| async move {
        let name = params["name"].as_str().unwrap_or_default();
        cx.call(name, Value::Null).await.map_err(PluginError::from)
    });
    let plugins = with(plugin).await;
    assert_eq!(kind(&plugins, json!({"name": "words"})).await, ErrorKind::Waiting);
    plugins.register(plain("words", "1.2.0")).await.unwrap();
    plugins.register(plain("words", "2.0.0")).await.unwrap();
    assert_eq!(plugins.call("tool", json!({"name": "words"})).await.unwrap(), "1.2.0");
    let error = plugins.call("tool", json!({"name": "tool"})).await.unwrap_err();
    assert!(error.to_string().contains("may not call it"), "{error}");
}

#[tokio::test]
async fn progress_reaches_the_caller() {
    let plugin = FnPlugin::new(named("tool"), |_: Value, cx: CallContext| async move {
        for (done, total) in [(1.0, 2.0), (f64::NAN, 2.0), (f64::INFINITY, 2.0), (2.0, f64::INFINITY)] {
            cx.progress(Progress { done, total: Some(total), message: None });
        }
        Ok(())
    });
    let plugins = with(plugin).await;
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ears = heard.clone();
    let options = CallOptions::new().on_progress(move |progress| {
        ears.lock().unwrap().push((progress.done, progress.total));
        panic!("an observer's panic is its own");
    });
    plugins.call_with("tool", json!({}), options).await.unwrap();
    assert_eq!(*heard.lock().unwrap(), [(1.0, Some(2.0)), (2.0, None)], "only what is a number");
}

#[tokio::test]
async fn parameters_that_do_not_fit_the_type_fail_without_showing_them() {
    #[derive(serde::Deserialize)]
    struct Params {
        #[allow(dead_code, reason = "only read")]
        count: u32,
    }
    let plugins = with(FnPlugin::new(named("tool"), |_: Params, _| async { Ok(()) })).await;
    let error = plugins.call("tool", json!({"count": "hunter2"})).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Failed);
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

#[tokio::test]
async fn counters_add_up() {
    let tool = Tool::new("tool", "1.0.0").failing("execute");
    let seen = tool.seen.clone();
    let plugins = with(tool).await;
    for _ in 0..5 {
        assert_eq!(kind(&plugins, json!({})).await, ErrorKind::Failed);
    }
    let stats = *plugins.get("tool").unwrap().stats();
    assert_eq!((stats.calls, stats.failed, stats.in_flight), (5, 5, 0));
    assert_eq!(seen.executed.load(SeqCst), 5);
    assert!(stats.slowest > Duration::ZERO && stats.busy >= stats.slowest);
}
