use std::error::Error;
use std::time::Duration;

use swarm_monitor::{Adwin, AlertRule, Condition, ErrorKind, Severity};

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
        "one of above",
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
