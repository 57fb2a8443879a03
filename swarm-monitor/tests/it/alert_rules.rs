use std::error::Error;
use std::time::Duration;

use swarm_monitor::{Adwin, AlertEngine, AlertRule, Condition, ErrorKind, PerformanceMonitor, Severity};

#[test]
fn rules_from_a_file_are_those_written_in_code() {
    let rules = AlertRule::from_toml(
        r#"
        [[rule]]
        name = "slow"
        metric = "request_seconds"
        tags = { region = "eu" }
        each = ["route", "agent"]
        quantile = 0.99
        above = 0.5
        window = "1m30s"
        least = 20
        for = "2m"
        keep_firing_for = "1h"
        resolve_without_data_after = "1d"
        severity = "critical"
        labels = { team = "payments" }
        annotations = { summary = "slow" }

        [[rule]]
        name = "fell"
        metric = "test_coverage"
        drifts = 0.05
        window = "10m"

        [[rule]]
        name = "gone"
        metric = "heartbeats"
        absent = true
        severity = "page"

        [[rule]]
        name = "moved"
        metric = "queue"
        measure = "max"
        changes = "adwin"

        [[rule]]
        name = "low"
        metric = "workers"
        measure = "last"
        below = 2
        "#,
    )
    .unwrap();
    let seconds = Duration::from_secs;
    let slow = Condition::of("request_seconds").tag("region", "eu").quantile(0.99).above(0.5);
    let expected = [
        AlertRule::new("slow", slow.window(seconds(90)).least(20))
            .each("route")
            .each("agent")
            .lasting(seconds(120))
            .keep_firing_for(seconds(3_600))
            .resolve_without_data_after(seconds(86_400))
            .severity(Severity::Critical)
            .label("team", "payments")
            .summary("slow"),
        AlertRule::new("fell", Condition::of("test_coverage").drifts(0.05).window(seconds(600))),
        AlertRule::new("gone", Condition::of("heartbeats").absent()).severity(Severity::from_word("page")),
        AlertRule::new("moved", Condition::of("queue").max().changes(Adwin::default)),
        AlertRule::new("low", Condition::of("workers").last().below(2.0)),
    ];
    assert_eq!(format!("{rules:#?}"), format!("{expected:#?}"));
}

#[test]
fn a_critical_rule_is_critical_in_whatever_case() {
    for (word, severity) in [
        ("critical", Severity::Critical),
        ("Critical", Severity::Critical),
        ("WARNING", Severity::Warning),
        ("info", Severity::Info),
        ("Page", Severity::Custom("Page".to_owned())),
    ] {
        let toml = format!("[[rule]]\nname = \"a\"\nmetric = \"m\"\nabove = 1\nseverity = \"{word}\"");
        let expected = AlertRule::new("a", Condition::of("m").above(1.0)).severity(severity);
        assert_eq!(format!("{:?}", AlertRule::from_toml(&toml).unwrap()), format!("[{expected:?}]"));
    }
}

#[test]
fn what_is_wrong_with_a_file_is_told_with_its_place_or_all_at_once() {
    for (text, part) in [
        ("[[rule]]\nname = \"a\"", "metric"),
        ("[[rule]]\nname = \"a\"\nmetric = \"x\"\nlimit = 1", "limit"),
        ("[[rule]]\nname = \"a\"\nmetric = \"x\"\nabove = 1\nfor = \"soon\"", "\"soon\" is no duration"),
        (
            "[[rule]]\nname = \"a\"\nmetric = \"x\"\nabove = 1\nfor = \"99999999999999999999d\"",
            "is no duration",
        ),
        ("no TOML", "TOML"),
    ] {
        let error = AlertRule::from_toml(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let source = error.source().unwrap().to_string();
        assert!(source.contains("line") && source.contains(part), "{source}");
    }
    let error = AlertRule::from_toml(
        "[[rule]]
        name = \"a\"
        metric = \"x\"
        above = 1
        drifts = 0.1
        quantile = 0.5
        measure = \"mean\"
        [[rule]]
        name = \"b\"
        metric = \"x\"
        [[rule]]
        name = \"c\"
        metric = \"x\"
        quantile = 1.5
        above = nan
        window = \"0s\"
        labels = { alertname = \"d\" }",
    )
    .unwrap_err()
    .to_string();
    for part in [
        "has one test: above",
        "either quantile",
        "\"b\": the condition says nothing",
        "not 1.5",
        "NaN",
        "at least a second",
        "\"alertname\"",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(AlertRule::from_toml("").unwrap().is_empty());
}

#[test]
fn a_condition_means_the_same_in_whatever_order_it_is_said() {
    let day = Duration::from_secs(86_400);
    for (one, other) in [
        (
            Condition::of("x").window(day).least(5).drifts(0.1),
            Condition::of("x").drifts(0.1).least(5).window(day),
        ),
        (Condition::of("x").above(1.0).max().window(day), Condition::of("x").window(day).max().above(1.0)),
    ] {
        assert_eq!(format!("{one:?}"), format!("{other:?}"));
        assert!(format!("{one:?}").contains("window: 86400s"), "{one:?}");
    }
    for usual in ["window: 3600s", "least: 30"] {
        assert!(format!("{:?}", Condition::of("x").drifts(0.1)).contains(usual), "{usual}");
    }
}

#[test]
fn a_condition_that_is_not_looked_at_as_it_was_said_is_refused() {
    let monitor = PerformanceMonitor::new();
    for (condition, says) in [
        (Condition::of("x").above(1.0).below(2.0), "has one test"),
        (Condition::of("x").absent().drifts(0.1), "has one test"),
        (Condition::of("x").quantile(0.99).drifts(0.1), "Quantile(0.99)"),
        (Condition::of("x").rate().absent(), "Rate"),
        (Condition::of("x").drifts(f64::NAN), "above 0, not NaN"),
        (Condition::of("x").drifts(-0.2), "above 0, not -0.2"),
    ] {
        let refused =
            AlertEngine::builder(&monitor).rule(AlertRule::new("r", condition)).build().unwrap_err();
        assert!(refused.to_string().contains(says), "{refused}");
    }
}
