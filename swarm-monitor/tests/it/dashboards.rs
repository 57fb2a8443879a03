use std::path::Path;
use std::process::Command;

use serde_json::Value;
use swarm_monitor::{
    Adwin, AlertEngine, AlertRule, Condition, Description, Direction, Measurement, PerformanceMonitor,
    Severity,
};

use crate::Timed;
use crate::alerts::seconds;
use crate::programs::{fed, program};

/// The metrics of an agent service, and some with names and texts that would break a careless writer.
fn recorded() -> Timed {
    let timed = Timed::new();
    let monitor = &timed.monitor;
    let worse = Direction::HigherIsWorse;
    let help = "Time for \"a task\": {{ $value }} # \\ \n\u{7f}é";
    monitor.describe("agent_cycle_time", Description::new(help).unit("minutes").direction(worse));
    monitor.describe(
        "test_coverage",
        Description::new("Share.").unit("percent").direction(Direction::LowerIsWorse),
    );
    for agent in ["Agent-7", "Agent-8"] {
        monitor.record("agent_cycle_time", 45.2, &[("agent", agent), ("task_type", "review")]);
        monitor.record("requests", Measurement::Count(1), &[("agent", agent)]);
    }
    monitor.record("test_coverage", Measurement::Gauge(85.5), &[]);
    monitor.record("deployed", Measurement::Event("v2.0"), &[]);
    for odd in ["a.b", "a:b", "9 lives", "yes", "\"\n'", "é"] {
        monitor.describe(odd, Description::new("").unit(odd).direction(worse));
        monitor.record(odd, Measurement::Gauge(1.0), &[(odd, odd)]);
    }
    timed
}

#[test]
fn promtool_takes_the_rule_file() {
    let Some(promtool) = program("promtool") else { return };
    for (monitor, rules) in [(recorded().monitor, 20), (PerformanceMonitor::new(), 0)] {
        let file = tempfile::NamedTempFile::with_suffix(".yml").unwrap();
        std::fs::write(file.path(), monitor.prometheus_rules()).unwrap();
        let output = Command::new(&promtool).args(["check", "rules"]).arg(file.path()).output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(output.status.success(), "{said}\n{}", monitor.prometheus_rules());
        assert!(said.contains(&format!("SUCCESS: {rules} rules found")), "{said}");
    }
}

/// Has promtool's own engine run a test of rules.
fn judge(promtool: &Path, rules: &str, test: &str) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rules.yml"), rules).unwrap();
    std::fs::write(folder.path().join("test.yml"), format!("rule_files: [rules.yml]{test}")).unwrap();
    let output = Command::new(promtool)
        .args(["test", "rules", "test.yml"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{said}");
}

/// Eight days of a mean that rises at the end, and promtool's own engine to judge the alert.
#[test]
fn the_drift_alert_fires_on_a_move_in_the_direction_that_is_worse() {
    let Some(promtool) = program("promtool") else { return };
    // One task an hour of 40 minutes and then of 50; coverage first 85 and then 90, which is not worse.
    let test = "
evaluation_interval: 10m
tests:
  - interval: 10m
    input_series:
      - { series: 'agent_cycle_time_minutes_sum{job=\"ours\"}', values: '0+40x1152 46130+50x12' }
      - { series: 'agent_cycle_time_minutes_count{job=\"ours\"}', values: '0+1x1164' }
      - { series: 'test_coverage_percent{job=\"ours\"}', values: '85x1152 98x12' }
    alert_rule_test:
      - { eval_time: 180h, alertname: AgentCycleTimeMinutesDrift }
      - { eval_time: 194h, alertname: TestCoveragePercentDrift }
      - eval_time: 194h
        alertname: AgentCycleTimeMinutesDrift
        exp_alerts:
          - exp_labels: { job: ours, severity: warning }
            exp_annotations:
              summary: agent_cycle_time_minutes of ours has risen by more than a tenth against the week before
              description: \"Time for \\\"a task\\\": { { $value }} # \\\\ \\n\\x7fé\"
";
    judge(&promtool, &recorded().monitor.prometheus_rules(), test);
}

/// Rules of an engine in PromQL, judged by promtool's own engine.
#[test]
fn an_engine_s_rules_fire_in_prometheus_too() {
    let timed = recorded();
    let slow = Condition::of("agent_cycle_time").tag("task_type", "review").quantile(0.9).above(30.0);
    let alerts = AlertEngine::builder(&timed.monitor)
        .rule(
            AlertRule::new("slow", slow.window(seconds(600)))
                .each("agent")
                .lasting(seconds(120))
                .keep_firing_for(seconds(90))
                .severity(Severity::Critical)
                .label("team", "{{{ $value }}")
                .summary("\"slow\""),
        )
        .rule(AlertRule::new("few", Condition::of("requests").rate().below(0.5)))
        .rule(AlertRule::new("none", Condition::of("requests").tag("agent", "Agent-8").absent()))
        .rule(AlertRule::new("low", Condition::of("test_coverage").last().below(80.0)))
        .rule(AlertRule::new("fell", Condition::of("test_coverage").drifts(0.05)))
        .rule(AlertRule::new("odd", Condition::of("\"\n'").max().above(1.0).window(std::time::Duration::MAX)))
        .rule(AlertRule::new("left_1", Condition::of("test_coverage").changes(Adwin::default)))
        .rule(AlertRule::new("left_2", Condition::of("agent_cycle_time").max().above(1.0)))
        .rule(AlertRule::new("left_3\n", Condition::of("not there yet").above(1.0)))
        .build()
        .unwrap();
    let rules = alerts.prometheus_rules();
    assert!(
        rules.starts_with(
            "# left out: \"left_1\"\n# left out: \"left_2\"\n# left out: \"left_3\\n\"\ngroups:\n"
        ),
        "{rules}"
    );
    let Some(promtool) = program("promtool") else { return };
    let said = fed(Command::new(&promtool).args(["check", "rules", "/dev/stdin"]), &rules);
    let said = String::from_utf8([said.stdout, said.stderr].concat()).unwrap();
    assert!(said.contains("SUCCESS: 26 rules found"), "{said}\n{rules}");
    // Agent-7 takes 40 minutes and Agent-8 10; half a request a second, and then none of Agent-8.
    let test = "
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - { series: 'agent_cycle_time_minutes_bucket{job=\"a\",agent=\"Agent-7\",task_type=\"review\",le=\"25\"}', values: '0+0x60' }
      - { series: 'agent_cycle_time_minutes_bucket{job=\"a\",agent=\"Agent-7\",task_type=\"review\",le=\"50\"}', values: '0+6x60' }
      - { series: 'agent_cycle_time_minutes_bucket{job=\"a\",agent=\"Agent-7\",task_type=\"review\",le=\"+Inf\"}', values: '0+6x60' }
      - { series: 'agent_cycle_time_minutes_bucket{job=\"a\",agent=\"Agent-8\",task_type=\"review\",le=\"25\"}', values: '0+6x60' }
      - { series: 'agent_cycle_time_minutes_bucket{job=\"a\",agent=\"Agent-8\",task_type=\"review\",le=\"+Inf\"}', values: '0+6x60' }
      - { series: 'requests_total{job=\"a\",agent=\"Agent-7\"}', values: '0+12x60' }
      - { series: 'requests_total{job=\"a\",agent=\"Agent-8\"}', values: '0+24x30 720+0x30' }
      - { series: 'test_coverage_percent{job=\"a\"}', values: '85x30 79x30' }
    alert_rule_test:
      - { eval_time: 2m, alertname: slow }
      - { eval_time: 20m, alertname: few }
      - { eval_time: 20m, alertname: none }
      - { eval_time: 20m, alertname: low }
      - { eval_time: 20m, alertname: fell }
      - eval_time: 20m
        alertname: slow
        exp_alerts:
          - exp_labels: { job: a, agent: Agent-7, severity: critical, team: '{ { { $value }}' }
            exp_annotations: { summary: '\"slow\"', description: 'agent_cycle_time is 47.5' }
      - eval_time: 40m
        alertname: few
        exp_alerts:
          - { exp_labels: { job: a, severity: warning }, exp_annotations: { summary: requests is 0.2 } }
      - eval_time: 40m
        alertname: none
        exp_alerts:
          - { exp_labels: { job: a, severity: warning }, exp_annotations: { summary: requests is 0 } }
      - eval_time: 40m
        alertname: low
        exp_alerts:
          - { exp_labels: { job: a, severity: warning }, exp_annotations: { summary: test_coverage is 79 } }
";
    judge(&promtool, &rules, test);
}

/// Every string of the dashboard below a key, in order.
fn strings<'a>(value: &'a Value, key: &str, into: &mut Vec<&'a str>) {
    match value {
        Value::Array(list) => list.iter().for_each(|one| strings(one, key, into)),
        Value::Object(table) => {
            for (name, one) in table {
                if let (true, Some(text)) = (name == key, one.as_str()) {
                    into.push(text);
                }
                strings(one, key, into);
            }
        }
        _ => {}
    }
}

#[test]
fn the_dashboard_asks_for_the_names_that_are_exposed() {
    let timed = recorded();
    let body = timed.monitor.expose("").body;
    let dashboard: Value = serde_json::from_str(&timed.monitor.grafana_dashboard("Agents \"7\"")).unwrap();
    assert_eq!(dashboard["title"], "Agents \"7\"");
    let panels = dashboard["panels"].as_array().unwrap();
    assert_eq!(panels.len(), timed.monitor.metrics().len());
    let mut expressions = Vec::new();
    strings(&dashboard["panels"], "expr", &mut expressions);
    assert_eq!(expressions.len(), panels.len() + 2, "three of the histogram");
    for expression in &expressions {
        let name = expression.split("{job=~").next().unwrap().rsplit('(').next().unwrap();
        let name = name.trim_start();
        assert!(
            body.lines()
                .any(|line| line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name} "))),
            "{name}"
        );
    }
    let cycle = panels.iter().find(|panel| panel["title"] == "agent_cycle_time").unwrap();
    assert_eq!(cycle["fieldConfig"]["defaults"]["unit"], "m");
    assert_eq!(cycle["targets"][2]["legendFormat"], "{{agent}} p99");
    assert!(cycle["targets"][2]["expr"].as_str().unwrap().contains("sum by (agent, job, le)"));
}

/// The expressions as rules, which promtool parses; Grafana's variables have taken values then.
#[test]
fn prometheus_parses_every_expression_of_the_dashboard() {
    let Some(promtool) = program("promtool") else { return };
    let dashboard: Value = serde_json::from_str(&recorded().monitor.grafana_dashboard("Agents")).unwrap();
    let mut expressions = Vec::new();
    strings(&dashboard["panels"], "expr", &mut expressions);
    let rules: Vec<Value> = expressions
        .iter()
        .enumerate()
        .map(|(at, expression)| {
            let expression = expression.replace("$__rate_interval", "5m").replace("$job", ".+");
            serde_json::json!({ "record": format!("dashboard:{at}"), "expr": expression })
        })
        .collect();
    let file = serde_json::json!({ "groups": [{ "name": "dashboard", "rules": rules }] }).to_string();
    let output = fed(Command::new(promtool).args(["check", "rules", "/dev/stdin"]), &file);
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(
        output.status.success() && said.contains(&format!("{} rules found", expressions.len())),
        "{said}"
    );
}
