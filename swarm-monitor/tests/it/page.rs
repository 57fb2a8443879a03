use swarm_monitor::{
    AlertEngine, AlertRule, Condition, Description, Direction, Measurement, PerformanceMonitor, Severity,
};

use crate::{Timed, last};

/// Two hours of agents at work; in the last one, cycles take half as long again.
fn agents() -> Timed {
    let timed = Timed::new();
    let monitor = &timed.monitor;
    let help = Description::new("Time an agent takes for a task.").unit("minutes");
    monitor.describe("agent_cycle_time", help.direction(Direction::HigherIsWorse));
    for minute in 0..120 {
        let longer = if minute < 60 { 1.0 } else { 1.5 };
        for agent in 1..=3 {
            let minutes = longer * (40.0 + f64::from((minute * 7 + agent * 3) % 11));
            monitor.record("agent_cycle_time", minutes, &[("agent", &format!("Agent-{agent}"))]);
        }
        monitor.record("requests", Measurement::Count(30), &[]);
        monitor.record("test_coverage", Measurement::Gauge(85.5), &[]);
        if minute == 60 {
            monitor.record("deployed", Measurement::Event("v2.0_refactored"), &[]);
        }
        timed.pass(60);
    }
    timed
}

/// The page as a tree: what is not well-formed does not parse.
fn parse(html: &str) -> roxmltree::Document<'_> {
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
    roxmltree::Document::parse_with_options(html, options).unwrap()
}

fn texts<'a>(page: &'a roxmltree::Document<'_>, tag: &str) -> Vec<String> {
    let text = |node: roxmltree::Node<'a, '_>| {
        node.descendants().filter(|node| node.is_text()).filter_map(|node| node.text()).collect()
    };
    page.descendants().filter(|node| node.has_tag_name(tag)).map(text).collect()
}

#[test]
fn the_page_shows_every_metric_and_what_drifted_first() {
    let timed = agents();
    let html = timed.monitor.to_html("Agents", last(3 * 3_600));
    let page = parse(&html);
    assert_eq!(texts(&page, "h2"), ["agent_cycle_time", "deployed", "requests", "test_coverage"]);
    assert_eq!(texts(&page, "h1"), ["Agents"]);
    let drift = timed.monitor.detect_drift("agent_cycle_time", 0.1).unwrap().unwrap().to_string();
    assert!(texts(&page, "li").contains(&drift), "{:?}", texts(&page, "li"));
    let class =
        |class: &str| page.descendants().filter(|node| node.attribute("class") == Some(class)).count();
    assert_eq!(
        (class("moved"), class("base"), class("badge")),
        (1, 2, 1),
        "drift, and baselines of the two with values"
    );
    // The deployment stands in all four plots, and the curve of each agent in the table.
    assert_eq!(class("event"), 4);
    assert_eq!((class("mean"), class("mean dots")), (3 + 3, 1), "it is a dot in its own");
    assert_eq!(class("high"), 1);
}

#[test]
fn a_plot_says_what_was_recorded() {
    let timed = agents();
    let html = timed.monitor.to_html("Agents", last(3 * 3_600));
    let page = parse(&html);
    let figure = |name: &str| {
        page.descendants()
            .find(|node| node.has_tag_name("section") && node.descendants().any(|n| n.text() == Some(name)))
            .and_then(|section| section.descendants().find(|node| node.has_tag_name("figure")))
            .unwrap()
    };
    let said: Vec<&str> = figure("requests").attribute("data-said").unwrap().split('|').collect();
    assert_eq!(said.len(), 120);
    // Two thirds of the way through three hours; 30 a minute.
    assert_eq!(said[0], "12:00 rate 0.5 a second, 30 recorded");
    assert_eq!(said[119], "13:59 rate 0.5 a second, 30 recorded");
    let coverage = figure("test_coverage").attribute("data-said").unwrap();
    assert!(coverage.starts_with("12:00 mean 85.5, 1 recorded|"), "{coverage}");
}

#[test]
fn the_upper_line_is_a_percentile_only_of_many_values() {
    let timed = Timed::new();
    for _ in 0..5 {
        for value in 1..=200 {
            timed.monitor.record("many", f64::from(value), &[]);
        }
        timed.monitor.record("few", 1.0, &[]);
        timed.monitor.record("few", 3.0, &[]);
        timed.pass(60);
    }
    let html = timed.monitor.to_html("", last(600));
    assert!(html.contains("12:00 mean 2, greatest 3, 2 recorded"), "{html}");
    assert!(html.contains("12:00 mean 100, 99th percentile 19"), "within 1 % of 198");
}

#[test]
fn whatever_is_recorded_is_text_on_the_page() {
    let timed = Timed::new();
    let monitor = &timed.monitor;
    for hostile in
        ["<script>alert(1)</script>", "\"><img src=x>", "'&amp;", "]]>", "\u{0}\u{1b}\u{7f}", "\u{202e}", "|"]
    {
        monitor.describe(hostile, Description::new(hostile).unit(hostile));
        monitor.record(hostile, 1.0, &[(hostile, hostile)]);
        monitor.record(hostile, 2.0, &[("other", hostile)]);
        monitor.record("happened", Measurement::Event(hostile), &[]);
    }
    let html = monitor.to_html("</title><script>", last(60));
    let page = parse(&html);
    assert_eq!(texts(&page, "script").len(), 1, "only the page's own");
    assert_eq!(page.descendants().filter(|node| node.has_tag_name("img")).count(), 0);
    assert!(texts(&page, "h2").contains(&"<script>alert(1)</script>".to_owned()));
    assert!(
        !html.contains("http:") && !html.contains("https:") && !html.contains("url("),
        "nothing is fetched"
    );
}

#[test]
fn odd_values_are_drawn_without_odd_coordinates() {
    let timed = Timed::new();
    for (at, value) in [0.0, -0.0, 1e140, -1e140, 1e-300, 5.0].into_iter().enumerate() {
        timed.monitor.record(&format!("m{at}"), value, &[]);
        timed.monitor.record("all", value, &[]);
        timed.pass(1);
    }
    timed.monitor.record("only_refused", f64::NAN, &[]);
    for html in [timed.monitor.to_html("", last(60)), PerformanceMonitor::new().to_html("", last(60))] {
        parse(&html);
        let drawn = html.split("</style>").nth(1).unwrap().split("<script>").next().unwrap();
        for odd in ["NaN", "inf", "d=\"L"] {
            assert!(!drawn.contains(odd), "{odd}");
        }
    }
}

#[test]
fn a_page_of_a_thousand_metrics_is_bounded() {
    let timed = Timed::new();
    for metric in 0..1_000 {
        for series in 0..20 {
            timed.monitor.record(&format!("m{metric}"), Measurement::Count(1), &[("n", &series.to_string())]);
        }
    }
    let html = timed.monitor.to_html("Many", last(60));
    assert!(html.contains("800 more metrics are not drawn") && html.len() < 2_000_000, "{}", html.len());
}

#[test]
fn the_page_of_an_engine_shows_its_alerts() {
    let timed = agents();
    let coverage = Condition::of("test_coverage").last();
    let slow = Condition::of("agent_cycle_time").above(50.0);
    let alerts = AlertEngine::builder(&timed.monitor)
        .rule(AlertRule::new("low", coverage.clone().below(90.0)).severity(Severity::Critical))
        .rule(AlertRule::new("lower", coverage.below(95.0)).lasting(std::time::Duration::from_secs(600)))
        .rule(AlertRule::new("<slow>", slow).each("agent"))
        .build()
        .unwrap();
    alerts.evaluate();
    let first = alerts.alerts().remove(0);
    alerts.acknowledge(&first.id, "ann", "on <it>").unwrap();
    timed.pass(60);
    timed.monitor.record("test_coverage", Measurement::Gauge(95.0), &[]);

    let html = alerts.to_html("Agents", last(3 * 3_600));
    let page = parse(&html);
    let metrics = ["agent_cycle_time", "test_coverage", "deployed", "requests"];
    assert_eq!(texts(&page, "h2"), metrics, "what fires comes first");
    let list = page.descendants().find(|node| node.attribute("class") == Some("alerts")).unwrap();
    let states: Vec<_> = list.children().filter_map(|node| node.attribute("class")).collect();
    assert_eq!(states, ["firing", "firing", "firing", "firing", "pending"]);
    let said = texts(&page, "li");
    assert!(
        said[0].starts_with("low critical firing: test_coverage is 85.5, below 90 since Nov")
            && said[0].ends_with(", taken on by ann: on <it>"),
        "{said:?}"
    );
    assert!(
        said[1].starts_with("<slow> warning firing agent=\"Agent-1\": mean of agent_cycle_time{agent="),
        "{said:?}"
    );
    let link = list.descendants().find(|node| node.has_tag_name("a")).and_then(|node| node.attribute("href"));
    assert_eq!(link, Some("#m1"));
    let marks: Vec<_> = page.descendants().filter(|node| node.attribute("class") == Some("alert")).collect();
    assert_eq!(marks.len(), 4, "those that fire, in the plots of their metrics");
    assert!(html.contains("<dt>Alerts firing</dt><dd>4</dd>"), "{html}");

    alerts.evaluate();
    let html = alerts.to_html("Agents", last(3 * 3_600));
    assert!(html.contains("<dt>Alerts firing</dt><dd>3</dd>"), "coverage is high again");
    assert!(!timed.monitor.to_html("Agents", last(3_600)).contains("Alerts firing"), "nobody was asked");
}
