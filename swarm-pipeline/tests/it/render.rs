use std::sync::Arc;
use std::time::Duration;

use swarm_pipeline::*;
use tokio::time::sleep;

const HOSTILE: &str = r#"a"b\ --> <b>&amp; <script> ';%%{x}%% `é`#quot; 1. $$"#;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A release with every kind of step and every way to fare.
fn release() -> Pipeline {
    let mut build = Pipeline::builder("build");
    let source = build.step("fetch").run(|_cx, ()| async {
        sleep(seconds(1)).await;
        Ok(3_u64)
    });
    build.step("compile").input(&source).retry(Retry::fixed(3, seconds(1))).run(|cx, source| async move {
        sleep(seconds(2)).await;
        if cx.attempt() == 1 { Err(StepError::new("the linker ran out of memory")) } else { Ok(*source) }
    });
    let build = build.build().unwrap();

    let mut p = Pipeline::builder("release");
    let inner = p.nest("build", &build, []);
    let source = inner.handle(&source);
    let tests = p
        .step("test")
        .input(&source)
        .when(|source| **source > 100)
        .run(|_cx, source| async move { Ok(*source) });
    let hosts = p.step("hosts").after(["build.compile"]).run(|_cx, ()| async { Ok(vec![1_u64, 2, 3]) });
    let copied = p
        .step("copy")
        .input(&hosts)
        .compensate(|_cx, _output: Option<Arc<u64>>| async {
            sleep(seconds(1)).await;
            Ok(())
        })
        .run_each(|_cx, host| async move {
            sleep(seconds(host)).await;
            Ok(host)
        });
    p.step("settle").after(["copy"]).sleep(seconds(5));
    p.step("smoke")
        .input((&copied, tests.optional()))
        .after(["settle"])
        .gate(Gate::at_least("coverage", 0.82, |_: &u64| 0.79))
        .gate(Gate::at_most("warnings", 3.0, |_: &u64| 5.0).warn_only())
        .run(|_cx, (copied, _tests)| async move { Ok(copied.iter().map(|n| **n).sum::<u64>()) });
    p.step::<bool>("approval").after(["smoke"]).wait_for_signal();
    p.step(HOSTILE).after(["approval"]).run(|_cx, ()| async { Ok(()) });
    p.build().unwrap()
}

async fn failed_release() -> RunReport {
    LocalEngine::in_memory().run(&release(), "r1", ()).await.unwrap()
}

#[test]
fn a_definition_is_drawn_in_dot() {
    insta::assert_snapshot!(release().to_dot(), @r###"
    digraph "release" {
      graph [rankdir=LR, label="release", labelloc=t, fontname="sans-serif"];
      node [shape=box, style="rounded,filled", fillcolor=white, fontname="sans-serif"];
      edge [color="#6e7781"];
      subgraph cluster_0 {
        label="build"; style=rounded; color="#6e7781";
        "build.fetch" [label="fetch"];
        "build.compile" [label="compile"];
      }
      "test" [label="test"];
      "hosts" [label="hosts"];
      "copy" [label="copy", shape=box3d, style=filled];
      "settle" [label="settle", shape=ellipse, style=filled];
      "smoke" [label="smoke"];
      "approval" [label="approval", shape=hexagon, style=filled];
      "a\"b\\ --> <b>&amp; <script> ';%%{x}%% `é`#quot; 1. $$" [label="a\"b\\ --> <b>&amp;amp; <script> ';%%{x}%% `é`#quot; 1. $$"];
      "build.fetch" -> "build.compile";
      "build.fetch" -> "test";
      "build.compile" -> "hosts";
      "hosts" -> "copy";
      "copy" -> "settle";
      "copy" -> "smoke";
      "test" -> "smoke" [style=dashed];
      "settle" -> "smoke";
      "smoke" -> "approval";
      "approval" -> "a\"b\\ --> <b>&amp; <script> ';%%{x}%% `é`#quot; 1. $$";
    }
    "###);
}

#[test]
fn a_definition_is_drawn_in_mermaid() {
    insta::assert_snapshot!(release().to_mermaid(), @r###"
    flowchart LR
      subgraph g0["build"]
        s0["fetch"]
        s1["compile"]
      end
      s2["test"]
      s3["hosts"]
      s4[["copy"]]
      s5(["settle"])
      s6["smoke"]
      s7{{"approval"}}
      s8["a#34;b#92; #45;#45;#62; #60;b#62;#38;amp#59; #60;script#62; #39;#59;#37;#37;#123;x#125;#37;#37; #96;é#96;#35;quot#59; 1#46; #36;#36;"]
      s0 --> s1
      s0 --> s2
      s1 --> s3
      s3 --> s4
      s4 --> s5
      s4 --> s6
      s2 -.-> s6
      s5 --> s6
      s6 --> s7
      s7 --> s8
    "###);
}

#[tokio::test(start_paused = true)]
async fn a_run_is_drawn_in_dot() {
    insta::assert_snapshot!(failed_release().await.to_dot(), @r###"
    digraph "release" {
      graph [rankdir=LR, label="release: run r1 failed", labelloc=t, fontname="sans-serif"];
      node [shape=box, style="rounded,filled", fillcolor=white, fontname="sans-serif"];
      edge [color="#6e7781"];
      subgraph cluster_0 {
        label="build"; style=rounded; color="#6e7781";
        "build.fetch" [label="✓ fetch\n1 s", fillcolor="#dafbe1", color="#1a7f37", penwidth=3];
        "build.compile" [label="✓ compile\n4 s · 2 attempts", fillcolor="#dafbe1", color="#1a7f37", penwidth=3];
      }
      "test" [label="» test", fillcolor="#eaeef2", color="#6e7781"];
      "hosts" [label="✓ hosts\n0 s", fillcolor="#dafbe1", color="#1a7f37"];
      "copy" [label="✓↺ copy\n×3 · 3 s", fillcolor="#dafbe1", color="#1a7f37", penwidth=3, shape=box3d, style=filled];
      "settle" [label="✓ settle\nwaited 5 s", fillcolor="#dafbe1", color="#1a7f37", shape=ellipse, style=filled];
      "smoke" [label="✗ smoke\n0 s", fillcolor="#ffebe9", color="#cf222e"];
      "approval" [label="○ approval", fillcolor="#f6f8fa", color="#6e7781", shape=hexagon, style=filled];
      "a\"b\\ --> <b>&amp; <script> ';%%{x}%% `é`#quot; 1. $$" [label="○ a\"b\\ --> <b>&amp;amp; <script> ';%%{x}%% `é`#quot; 1. $$", fillcolor="#f6f8fa", color="#6e7781"];
      "build.fetch" -> "build.compile" [penwidth=3, color="#bc4c00"];
      "build.fetch" -> "test";
      "build.compile" -> "hosts";
      "hosts" -> "copy";
      "copy" -> "settle";
      "copy" -> "smoke";
      "test" -> "smoke" [style=dashed];
      "settle" -> "smoke";
      "smoke" -> "approval";
      "approval" -> "a\"b\\ --> <b>&amp; <script> ';%%{x}%% `é`#quot; 1. $$";
    }
    "###);
}

#[tokio::test(start_paused = true)]
async fn a_run_is_drawn_in_mermaid() {
    insta::assert_snapshot!(failed_release().await.to_mermaid(), @r###"
    flowchart LR
      subgraph g0["build"]
        s0["✓ fetch<br/>1 s"]:::done
        s1["✓ compile<br/>4 s · 2 attempts"]:::done
      end
      s2["» test"]:::skipped
      s3["✓ hosts<br/>0 s"]:::done
      s4[["✓↺ copy<br/>×3 · 3 s"]]:::done
      s5(["✓ settle<br/>waited 5 s"]):::done
      s6["✗ smoke<br/>0 s"]:::failed
      s7{{"○ approval"}}:::idle
      s8["○ a#34;b#92; #45;#45;#62; #60;b#62;#38;amp#59; #60;script#62; #39;#59;#37;#37;#123;x#125;#37;#37; #96;é#96;#35;quot#59; 1#46; #36;#36;"]:::idle
      s0 --> s1
      s0 --> s2
      s1 --> s3
      s3 --> s4
      s4 --> s5
      s4 --> s6
      s2 -.-> s6
      s5 --> s6
      s6 --> s7
      s7 --> s8
      linkStyle 0 stroke:#bc4c00,stroke-width:4px
      classDef idle fill:#f6f8fa,stroke:#6e7781,color:#1f2328
      classDef done fill:#dafbe1,stroke:#1a7f37,color:#1f2328
      classDef skipped fill:#eaeef2,stroke:#6e7781,color:#1f2328
      classDef failed fill:#ffebe9,stroke:#cf222e,color:#1f2328
      style s0 stroke-width:4px
      style s1 stroke-width:4px
      style s4 stroke-width:4px
    "###);
}
