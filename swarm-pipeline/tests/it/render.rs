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
      "hosts" [label="✓ hosts\n0 s", fillcolor="#dafbe1", color="#1a7f37", penwidth=3];
      "copy" [label="✓↺ copy\n×3 · 3 s", fillcolor="#dafbe1", color="#1a7f37", penwidth=3, shape=box3d, style=filled];
      "settle" [label="✓ settle\nwaited 5 s", fillcolor="#dafbe1", color="#1a7f37", shape=ellipse, style=filled];
      "smoke" [label="✗ smoke\n0 s", fillcolor="#ffebe9", color="#cf222e"];
      "approval" [label="○ approval", fillcolor="#f6f8fa", color="#6e7781", shape=hexagon, style=filled];
      "a\"b\\ --> <b>&amp; <script> ';%%{x}%% `é`#quot; 1. $$" [label="○ a\"b\\ --> <b>&amp;amp; <script> ';%%{x}%% `é`#quot; 1. $$", fillcolor="#f6f8fa", color="#6e7781"];
      "build.fetch" -> "build.compile" [penwidth=3, color="#bc4c00"];
      "build.fetch" -> "test";
      "build.compile" -> "hosts" [penwidth=3, color="#bc4c00"];
      "hosts" -> "copy" [penwidth=3, color="#bc4c00"];
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
      linkStyle 0,2,3 stroke:#bc4c00,stroke-width:4px
      classDef idle fill:#f6f8fa,stroke:#6e7781,color:#1f2328
      classDef done fill:#dafbe1,stroke:#1a7f37,color:#1f2328
      classDef skipped fill:#eaeef2,stroke:#6e7781,color:#1f2328
      classDef failed fill:#ffebe9,stroke:#cf222e,color:#1f2328
      style s0 stroke-width:4px
      style s1 stroke-width:4px
      style s3 stroke-width:4px
      style s4 stroke-width:4px
    "###);
}

/// What parses as XML and asks for nothing from elsewhere.
fn check(text: &str) -> roxmltree::Document<'_> {
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
    let document = roxmltree::Document::parse_with_options(text, options).unwrap();
    for node in document.descendants().filter(roxmltree::Node::is_element) {
        let name = node.tag_name().name();
        assert!(!["img", "link", "iframe", "object", "image", "use"].contains(&name), "<{name}>");
        for attribute in node.attributes() {
            assert!(!attribute.name().starts_with("on"), "<{name} {}>", attribute.name());
            let local = attribute.value().starts_with('#');
            assert!(local || !["href", "src"].contains(&attribute.name()), "{}", attribute.value());
        }
    }
    let elsewhere = text.replace("http://www.w3.org/2000/svg", "");
    assert!(!elsewhere.contains("http:") && !elsewhere.contains("https:") && !elsewhere.contains("@import"));
    document
}

/// Every text that a user can choose is as hostile as it may be.
async fn hostile_run() -> RunReport {
    let mut p = Pipeline::builder("</title><script>alert(1)</script>");
    let bad = "</pre><img src=x onerror=alert(1)> ]]> --> \u{1b}[31m \u{0} \u{202e}\u{fffe}";
    p.step(HOSTILE)
        .retry(Retry::fixed(2, seconds(1)))
        .gate(Gate::check("</svg><b onclick=x>", move |_: &u64| Err(bad.to_owned())).warn_only())
        .compensate(move |_cx, _output: Option<Arc<u64>>| async move { Err(StepError::permanent(bad)) })
        .run(|_cx, ()| async { Ok(1) });
    p.step::<()>("次の\u{200b}ステップ<text>")
        .after([HOSTILE])
        .run(move |_cx, ()| async move { Err(StepError::from(std::io::Error::other(bad))) });
    p.step("x".repeat(256)).after(["次の\u{200b}ステップ<text>"]).run(|_cx, ()| async { Ok(()) });
    LocalEngine::in_memory().run(&p.build().unwrap(), "r", ()).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_page_has_a_row_a_box_and_a_bar_for_every_step() {
    let report = failed_release().await;
    let page = report.to_html();
    let document = check(&page);
    let count = |tag: &str, class: &str| {
        let classes = |node: &roxmltree::Node<'_, '_>| node.attribute("class").unwrap_or("").to_owned();
        let found = document.descendants().filter(|node| node.tag_name().name() == tag);
        found.filter(|node| classes(node).split(' ').any(|other| other == class)).count()
    };
    let links = document.descendants().filter_map(|node| node.attribute("href")).collect::<Vec<_>>();
    for step in 0..report.pipeline().len() {
        let id = format!("step-{step}");
        assert!(document.descendants().any(|node| node.attribute("id") == Some(&*id)), "{id}");
        assert!(links.iter().filter(|link| **link == format!("#{id}")).count() >= 2, "{id}");
    }
    assert_eq!(count("g", "row"), report.pipeline().len());
    // 2 attempts that failed, 6 that did not, 3 undos; the legend has one of each, and one without an end.
    assert_eq!((count("rect", "failed"), count("rect", "done"), count("rect", "undo")), (3, 7, 4));
    let text: String =
        document.descendants().filter(|node| node.is_text()).filter_map(|n| n.text()).collect();
    for expected in [
        "\"coverage\" refused: measured 0.79, limit 0.82",
        "the linker ran out of memory",
        "waited 5 s",
        "3 undo",
    ] {
        assert!(text.contains(expected), "{expected}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_a_user_wrote_gets_out_of_its_place() {
    let report = hostile_run().await;
    let (page, timeline) = (report.to_html(), report.timeline_svg());
    let document = check(&page);
    assert_eq!(document.descendants().filter(|node| node.tag_name().name() == "script").count(), 1);
    let names: Vec<_> = document.descendants().filter(|node| node.has_tag_name("bdi")).collect();
    assert!(names.iter().any(|name| name.text() == Some(HOSTILE)));
    check(&timeline);
    assert!(!report.to_mermaid().replace("<br/>", "").contains('<'));
    assert_eq!(report.to_dot().lines().count(), report.pipeline().to_dot().lines().count());
}

#[tokio::test(start_paused = true)]
async fn pages_are_written_of_runs_without_steps_and_of_runs_under_way() {
    let empty = Pipeline::builder("empty").build().unwrap();
    let empty = LocalEngine::in_memory().run(&empty, "r", ()).await.unwrap();
    check(&empty.to_html());
    check(&empty.timeline_svg());

    let mut p = Pipeline::builder("waits");
    p.step::<bool>("approval").wait_for_signal();
    let options = RunOptions::new().return_when_suspended();
    let report = LocalEngine::in_memory().run_with(&p.build().unwrap(), "r", (), options).await.unwrap();
    let page = report.to_html();
    check(&page);
    assert!(page.contains("waits for its signal"));
}

#[tokio::test(start_paused = true)]
async fn a_report_is_always_drawn_the_same() {
    let report = failed_release().await;
    assert_eq!(report.to_html(), report.to_html());
    assert_eq!(report.timeline_svg(), report.timeline_svg());
}
