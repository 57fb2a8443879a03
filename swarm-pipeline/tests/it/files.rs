//! Pipelines from files: what they say, that they are the same as those of code, and how wrong ones are told.

mod refused;
#[cfg(unix)]
mod shell;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use swarm_pipeline::*;

/// Answers with what it was configured with, and the outputs of its dependencies.
struct Echo(Value);

#[async_trait]
impl PipelineStep for Echo {
    async fn run(&self, cx: &StepContext) -> Result<Value, StepError> {
        match (&self.0["fail"], cx.item_value::<Value>()) {
            (Value::Bool(true), _) => Err(StepError::new("told to")),
            (_, Ok(item)) => Ok(json!({ "item": *item, "index": cx.item() })),
            _ => Ok(self.0.get("value").cloned().unwrap_or(Value::Null)),
        }
    }
}

/// Adds what its dependencies gave.
struct Sum(&'static [&'static str]);

#[async_trait]
impl PipelineStep for Sum {
    async fn run(&self, cx: &StepContext) -> Result<Value, StepError> {
        let numbers = self.0.iter().map(|name| Ok(cx.output::<Value>(name)?.as_i64().unwrap_or(0)));
        Ok(numbers.sum::<Result<i64, StepError>>()?.into())
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct NoConfig {}

type Log = Arc<Mutex<Vec<String>>>;

struct Note(Log, String);

#[async_trait]
impl PipelineStep for Note {
    async fn run(&self, cx: &StepContext) -> Result<Value, StepError> {
        let output = cx.output::<Value>(cx.step()).ok();
        self.0.lock().unwrap().push(format!("{} {} {output:?}", self.1, cx.step()));
        Ok(Value::Null)
    }
}

pub(crate) fn registry() -> StepRegistry {
    let mut registry = StepRegistry::with_shell();
    registry.register("echo", |config: Value| Ok::<_, String>(Echo(config)));
    registry.register("sum", |_: NoConfig| Ok::<_, String>(Sum(&["one", "two"])));
    registry
}

pub(crate) fn toml(text: &str) -> Pipeline {
    registry().parse(text, Format::Toml).unwrap_or_else(|error| panic!("{error}"))
}

async fn run(pipeline: &Pipeline) -> RunReport {
    let engine = LocalEngine::with_store(MemoryStore::default());
    engine.run(pipeline, "r", ()).await.unwrap()
}

fn value(report: &RunReport, step: &str) -> Value {
    (*report.output_by_name::<Value>(step).unwrap()).clone()
}

fn edges(pipeline: &Pipeline) -> Vec<(String, Vec<String>)> {
    let graph = pipeline.graph();
    let names = |steps: &[u32]| {
        let mut names: Vec<String> = steps.iter().map(|step| graph.name(*step).to_owned()).collect();
        names.sort();
        names
    };
    (0..graph.len() as u32)
        .map(|step| (graph.name(step).to_owned(), names(graph.dependencies(step))))
        .collect()
}

const TOML: &str = r#"
name = "sum"
[steps.one]
uses = "echo"
with = { value = 1 }
[steps.two]
uses = "echo"
with.value = 2
after = ["one"]
[steps.sum]
uses = "sum"
after = ["one", "two"]
[steps.note]
uses = "echo"
after = ["sum"]
with = { value = ["done", 1.5, { deep = [true] }] }
"#;

const YAML: &str = r#"
name: sum
steps:
  one: { uses: echo, with: { value: 1 } }
  two:
    with: { value: 2 }
    uses: echo
    after: [one]
  sum: { uses: sum, after: [one, two] }
  note:
    uses: echo
    after: [sum]
    with:
      value:
        - done
        - 1.5
        - deep: [true]
"#;

const JSON: &str = r#"{
  "name": "sum",
  "steps": {
    "one": { "uses": "echo", "with": { "value": 1 } },
    "two": { "uses": "echo", "after": ["one"], "with": { "value": 2 } },
    "sum": { "after": ["one", "two"], "uses": "sum" },
    "note": { "uses": "echo", "after": ["sum"], "with": { "value": ["done", 1.5, { "deep": [true] }] } }
  }
}"#;

#[tokio::test]
async fn handles_names_and_the_three_formats_make_the_same_pipeline() {
    let done = || json!(["done", 1.5, { "deep": [true] }]);
    let typed = {
        let mut p = Pipeline::builder("sum");
        let one = p.step("one").run(|_cx, ()| async { Ok(1_i64) });
        let two = p.step("two").input(&one).run(|_cx, _| async { Ok(2_i64) });
        let sum = p.step("sum").input((&one, &two)).run(|_cx, (a, b)| async move { Ok(*a + *b) });
        p.step("note").input(&sum).run(move |_cx, _| async move { Ok(done()) });
        p.build().unwrap()
    };
    let named = {
        let mut p = Pipeline::builder("sum");
        p.step("one").run_step(Echo(json!({ "value": 1 })));
        p.step("two").after(["one"]).run_step(Echo(json!({ "value": 2 })));
        p.step("sum").after(["one", "two"]).run_step(Sum(&["one", "two"]));
        p.step("note").after(["sum"]).run_step(Echo(json!({ "value": done() })));
        p.build().unwrap()
    };
    let parse = |text, format| registry().parse(text, format).unwrap();
    let files = [parse(TOML, Format::Toml), parse(YAML, Format::Yaml), parse(JSON, Format::Json)];
    assert_eq!(files[0].fingerprint(), files[1].fingerprint());
    assert_eq!(files[0].fingerprint(), files[2].fingerprint());
    let mut reports = Vec::new();
    for pipeline in [&typed, &named].into_iter().chain(&files) {
        assert_eq!(pipeline.name(), "sum");
        assert_eq!(edges(pipeline), edges(&typed));
        assert_eq!(pipeline.graph().order(), typed.graph().order());
        let report = run(pipeline).await;
        assert!(report.is_success(), "{report}");
        reports.push(["one", "two", "sum", "note"].map(|step| value(&report, step)));
    }
    assert_eq!(reports, vec![[json!(1), json!(2), json!(3), done()]; 5]);
}

#[test]
fn the_fingerprint_follows_what_a_step_does_and_nothing_else() {
    let before = toml(TOML).fingerprint();
    let same = ["name = \"sum\"\nconcurrency = 2", "name = \"sum\"\ndescription = \"adds\" # a comment"];
    for name in same {
        assert_eq!(toml(&TOML.replace("name = \"sum\"", name)).fingerprint(), before);
    }
    assert_eq!(toml(&TOML.replace("with.value = 2", "retry = 3\nwith.value = 2")).fingerprint(), before);
    let changed = [
        ("with.value = 2", "with.value = 3"),
        ("with.value = 2", "with.value = \"2\""),
        ("with.value = 2", "with.value = 2\nversion = \"2\""),
        ("with.value = 2", "with.values = 2"),
        ("uses = \"sum\"", "uses = \"echo\""),
        ("after = [\"sum\"]", "after = [\"sum\", \"two\"]"),
        ("after = [\"sum\"]", "after = [\"sum\"]\nwhen = { step = \"sum\", equals = 3 }"),
    ];
    for (from, to) in changed {
        assert_ne!(toml(&TOML.replacen(from, to, 1)).fingerprint(), before, "{to}");
    }
    for waits in ["uses = \"signal\"", "uses = \"sleep\"\nfor = \"1s\""] {
        let with = |more: &str| toml(&format!("{TOML}\n[steps.wait]\n{waits}\n{more}")).fingerprint();
        let all = [
            "",
            "version = \"2\"",
            "when = { step = \"sum\", equals = 3 }",
            "when = { step = \"sum\", equals = 4 }",
        ];
        let all: std::collections::BTreeSet<_> =
            all.into_iter().map(|more| format!("{:?}", with(more))).collect();
        assert_eq!(all.len(), 4, "{waits}");
    }
}

#[tokio::test]
async fn conditions_gates_and_the_items_of_a_list() {
    let report = run(&toml(
        r#"
        name = "all"
        [groups]
        few = 1
        [steps.list]
        uses = "echo"
        with.value = { items = [1, 2], ok = true, coverage = 0.9, one = 1.0 }
        gates = [
            { name = "coverage", path = "/coverage", at_least = 0.82 },
            { name = "strict", path = "/coverage", at_least = 0.95, warn_only = true },
            { name = "absent", path = "/nothing", at_most = 1, warn_only = true },
            { name = "one", path = "/one", equals = 1 },
        ]
        [steps.items]
        uses = "echo"
        with.value = ["a", { b = 1 }]
        [steps.each]
        uses = "echo"
        group = "few"
        for_each = "items"
        gates = [{ name = "indexed", path = "/index", at_least = 0 }]
        [steps.again]
        uses = "echo"
        for_each = "each"
        [steps.yes]
        uses = "echo"
        when = { step = "list", path = "/ok", equals = true }
        [steps.no]
        uses = "echo"
        when = { step = "list", path = "/coverage", at_least = 1 }
        [steps.after_no]
        uses = "echo"
        after = ["no"]
        [steps.no_list]
        uses = "echo"
        for_each = "items"
        when = { step = "list", path = "/missing", not_equals = 0 }
        [steps.wait]
        uses = "sleep"
        for = "1ms"
        after = ["again"]
        [steps.waited]
        uses = "echo"
        when = { step = "wait", not_equals = 0 }
        with.value = "woke"
        [steps.until]
        uses = "sleep"
        until = 2020-01-01T00:00:00Z
        "#,
    ))
    .await;
    assert!(report.is_success(), "{report}");
    assert_eq!(value(&report, "each"), json!([{"item": "a", "index": 0}, {"item": {"b": 1}, "index": 1}]));
    assert_eq!(value(&report, "again")[1]["item"], json!({"item": {"b": 1}, "index": 1}));
    assert_eq!(report.why("no").unwrap(), Why::ConditionFalse);
    assert_eq!(report.step("after_no").unwrap().status, StepStatus::Skipped);
    assert_eq!(report.step("yes").unwrap().status, StepStatus::Succeeded);
    assert_eq!(value(&report, "no_list").as_array().unwrap().len(), 2);
    assert_eq!(value(&report, "waited"), "woke");
    let list = report.step("list").unwrap();
    let told: Vec<(&str, Verdict)> = list.attempts[0].gates.iter().map(|g| (&*g.gate, g.verdict)).collect();
    use Verdict::{Passed, Warned};
    assert_eq!(told, [("coverage", Passed), ("strict", Warned), ("absent", Warned), ("one", Passed)]);
}

#[tokio::test]
async fn a_failure_undoes_what_was_done_with_its_output() {
    let log = Log::default();
    let mut kinds = registry();
    let shared = Arc::clone(&log);
    kinds.register("note", move |text: String| Ok::<_, String>(Note(Arc::clone(&shared), text)));
    let text = r#"
        name = "undo"
        [steps.a]
        uses = "echo"
        with = { value = 7 }
        compensate = { uses = "note", with = "undo", retry = 2 }
        [steps.list]
        uses = "echo"
        with = { value = [1] }
        [steps.each]
        uses = "echo"
        after = ["a"]
        for_each = "list"
        compensate = { uses = "note", with = "undo each" }
        [steps.refused]
        uses = "echo"
        after = ["each"]
        with = { value = { coverage = 0.5 } }
        gates = [{ name = "coverage", path = "/coverage", at_least = 0.82 }]
    "#;
    let pipeline = kinds.parse(text, Format::Toml).unwrap();
    let report = run(&pipeline).await;
    assert_eq!(report.status(), RunStatus::Failed);
    assert_eq!(report.step("refused").unwrap().error().unwrap().kind(), StepErrorKind::GateRefused);
    let said = log.lock().unwrap().clone();
    // The order of the members is serde_json's, which a feature of that crate decides for the whole build.
    let item = serde_json::json!({ "item": 1, "index": 0 });
    assert_eq!(said, [format!("undo each each {:?}", Some(item)), "undo a Some(Number(7))".to_owned()]);

    log.lock().unwrap().clear();
    let manual = text.replace("name = \"undo\"", "name = \"undo\"\nrollback = \"manual\"");
    let _ = run(&kinds.parse(&manual, Format::Toml).unwrap()).await;
    assert_eq!(log.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn one_list_has_no_items_if_it_is_none() {
    let report = run(&toml(
        "name = \"n\"\n[steps.a]\nuses = \"echo\"\nwith.value = 3\n[steps.b]\nuses = \"echo\"\nfor_each = \"a\"",
    ))
    .await;
    let step = report.step("b").unwrap();
    let error = step.error().unwrap();
    assert_eq!(error.kind(), StepErrorKind::BadValue, "{error:?}");
}

#[tokio::test]
async fn a_signal_of_a_file_is_gated_and_brings_the_run_on() {
    let pipeline = toml(
        r#"
        name = "approval"
        on_failure = "carry_on"
        [steps.approve]
        uses = "signal"
        gates = [{ name = "by", path = "/by", not_equals = "author" }]
        [steps.live]
        uses = "echo"
        when = { step = "approve", path = "/ok", equals = true }
        with.value = "live"
        "#,
    );
    let engine = LocalEngine::with_store(MemoryStore::default());
    let options = RunOptions::new().return_when_suspended();
    let report = engine.run_with(&pipeline, "r", (), options.clone()).await.unwrap();
    assert_eq!(report.awaited_signals(), ["approve"]);
    engine.signal("r", "approve", json!({ "ok": true, "by": "reviewer" })).await.unwrap();
    let report = engine.run_with(&pipeline, "r", (), options).await.unwrap();
    assert!(report.is_success(), "{report}");
    assert_eq!(value(&report, "live"), "live");
}

#[tokio::test(start_paused = true)]
async fn policies_of_a_file_are_those_of_the_builder() {
    let pipeline = toml(
        r#"
        name = "policies"
        on_failure = "carry_on"
        [steps.flaky]
        uses = "echo"
        with.fail = true
        retry = { attempts = 3, base = "1s", factor = 10.0, max_delay = "5s", jitter = 0 }
        [steps.other]
        uses = "echo"
        "#,
    );
    let before = tokio::time::Instant::now();
    let report = run(&pipeline).await;
    assert_eq!(before.elapsed().as_secs(), 6);
    assert_eq!(report.step("flaky").unwrap().attempts.len(), 3);
    assert_eq!(report.step("other").unwrap().status, StepStatus::Succeeded);
    assert!(before.elapsed() < Duration::from_secs(7));
}

#[test]
fn a_file_is_read_by_the_end_of_its_name() {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [("a.toml", TOML), ("a.yaml", YAML), ("b.YML", YAML), ("a.json", JSON)] {
        let path = dir.path().join(name);
        std::fs::write(&path, format!("\u{feff}{}", text.replace('\n', "\r\n"))).unwrap();
        assert_eq!(registry().load(&path).unwrap_or_else(|e| panic!("{name}: {e}")).len(), 4);
    }
    let check = |name: &str, kind| {
        let path = dir.path().join(name);
        let error = registry().load(&path).unwrap_err();
        assert_eq!((error.kind(), error.path()), (kind, Some(&*path)), "{error}");
        assert!(error.to_string().contains(name), "{error}");
    };
    check("absent.toml", ErrorKind::Io);
    check("a.ini", ErrorKind::InvalidInput);
    std::fs::create_dir(dir.path().join("folder.json")).unwrap();
    check("folder.json", ErrorKind::Io);
    std::fs::write(dir.path().join("bytes.yaml"), b"name: a\nx: \xff").unwrap();
    check("bytes.yaml", ErrorKind::Definition);
    let error = registry().load(dir.path().join("bytes.yaml")).unwrap_err();
    assert!(error.to_string().ends_with("bytes.yaml:2:4: a byte that is not UTF-8"), "{error}");
    std::fs::write(dir.path().join("large.toml"), vec![b'\n'; 16 * 1024 * 1024 + 1]).unwrap();
    check("large.toml", ErrorKind::Definition);
}
