//! A real Alertmanager takes our alerts, groups them, inhibits, and tells when they are over.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use serde_json::Value;
use swarm_monitor::{
    AlertEngine, AlertRule, Alertmanager, Condition, Endpoint, Measurement, PerformanceMonitor, Route,
    Severity,
};

use crate::notify::{Server, ok};

struct Running {
    child: Child,
    address: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Debian calls it otherwise than others do.
fn start(folder: &std::path::Path, config: &str) -> Option<Running> {
    std::fs::write(folder.join("config.yml"), config).unwrap();
    let mut child = ["prometheus-alertmanager", "alertmanager"].into_iter().find_map(|program| {
        Command::new(program)
            .arg(format!("--config.file={}", folder.join("config.yml").display()))
            .arg(format!("--storage.path={}", folder.join("data").display()))
            .args(["--web.listen-address=127.0.0.1:0", "--cluster.listen-address="])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .ok()
    })?;
    let (sender, addresses) = channel();
    let log = BufReader::new(child.stderr.take().unwrap());
    // Reads on to the end, so that it can go on writing.
    std::thread::spawn(move || {
        for line in log.lines().map_while(Result::ok) {
            if let Some((_, rest)) = line.split_once("127.0.0.1:") {
                let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
                let _ = sender.send(format!("127.0.0.1:{port}"));
            }
        }
    });
    let address = addresses.recv_timeout(Duration::from_secs(60));
    let mut running = Running { child, address: String::new() };
    running.address = address.expect("the Alertmanager says where it listens");
    Some(running)
}

fn get(address: &str, path: &str) -> Value {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("200 OK"), "{head}");
    serde_json::from_str(body).unwrap()
}

/// What it told its receiver: status and names, in order of agents.
fn told(server: &Server) -> Vec<String> {
    let body = server.next().json();
    let alerts = body["alerts"].as_array().unwrap();
    let one = |alert: &Value| {
        let word = |value: &Value| value.as_str().unwrap().to_owned();
        format!(
            "{} {} {}",
            word(&alert["status"]),
            word(&alert["labels"]["alertname"]),
            word(&alert["labels"]["agent"])
        )
    };
    let mut told: Vec<String> = alerts.iter().map(one).collect();
    told.sort();
    told
}

#[tokio::test]
async fn a_real_alertmanager_takes_groups_inhibits_and_resolves() {
    let server = Server::answering(&[ok]);
    let config = format!(
        "route: {{ receiver: here, group_by: [alertname], group_wait: 1s, group_interval: 1s, repeat_interval: 1h }}
receivers: [{{ name: here, webhook_configs: [{{ url: '{}' }}] }}]
inhibit_rules:
  - {{ source_matchers: [alertname = down], target_matchers: [alertname = slow], equal: [agent] }}
",
        server.url("/hook")
    );
    let folder = tempfile::tempdir().unwrap();
    let Some(running) = start(folder.path(), &config) else {
        eprintln!(
            "left out: a real Alertmanager, for neither `prometheus-alertmanager` nor `alertmanager` is here"
        );
        return;
    };
    let monitor = PerformanceMonitor::new();
    let above = |limit| Condition::of("load").last().above(limit);
    let alertmanager =
        Alertmanager::new(Endpoint::new(&format!("http://{}", running.address)).unwrap().allow_private());
    let alerts = AlertEngine::builder(&monitor)
        .rule(AlertRule::new("down", above(50.0)).each("agent").severity(Severity::Critical))
        .rule(AlertRule::new("slow", above(5.0)).each("agent").summary("\"slow\" \\ {{ it }} \n é"))
        .route(Route::relay("alertmanager", alertmanager))
        .build()
        .unwrap();
    let load = |agent, load| monitor.record("load", Measurement::Gauge(load), &[("agent", agent)]);
    let tell = async || {
        alerts.evaluate();
        let delivery = alerts.deliver().await;
        assert!(delivery.failed.is_empty(), "{:?}", delivery.failed);
        assert_eq!(delivery.delivered, 1);
    };
    load("a", 90.0);
    load("b", 90.0);
    tell().await;
    assert_eq!(told(&server), ["firing down a", "firing down b"], "grouped, and slow is inhibited");
    let known = get(&running.address, "/api/v2/alerts");
    let inhibited = |known: &Value| {
        let alerts = known.as_array().unwrap().clone();
        alerts.iter().filter(|alert| !alert["status"]["inhibitedBy"].as_array().unwrap().is_empty()).count()
    };
    assert_eq!((known.as_array().unwrap().len(), inhibited(&known)), (4, 2), "{known}");
    // It fingerprints labels as we do.
    for alert in alerts.alerts() {
        assert!(known.as_array().unwrap().iter().any(|other| other["fingerprint"] == alert.id), "{alert}");
    }
    let slow = known.as_array().unwrap().iter().find(|alert| alert["labels"]["alertname"] == "slow").unwrap();
    assert_eq!(slow["annotations"]["summary"], "\"slow\" \\ {{ it }} \n é");
    load("a", 9.0);
    tell().await;
    let mut seen = [told(&server), told(&server)];
    seen.sort();
    assert_eq!(seen, [vec!["firing down b", "resolved down a"], vec!["firing slow a"]]);
    load("a", 1.0);
    load("b", 1.0);
    tell().await;
    let mut seen = [told(&server), told(&server)];
    seen.sort();
    // That b was slow is over too, and may be mentioned now that it is not inhibited any more.
    assert_eq!(seen[0], ["resolved down b"]);
    assert!(
        seen[1][0] == "resolved slow a" && !seen[1].iter().any(|alert| alert.starts_with("firing")),
        "{seen:?}"
    );
    assert_eq!(get(&running.address, "/api/v2/alerts"), serde_json::json!([]));
    assert_eq!(alerts.alerts(), []);
}

#[tokio::test]
async fn a_real_alertmanager_takes_alerts_of_tags_that_are_no_names_of_labels() {
    let folder = tempfile::tempdir().unwrap();
    let config = "route: { receiver: here }\nreceivers: [{ name: here }]\n";
    let Some(running) = start(folder.path(), config) else {
        eprintln!("left out: names of labels, for there is no Alertmanager here");
        return;
    };
    let monitor = PerformanceMonitor::new();
    let endpoint = Endpoint::new(&format!("http://{}", running.address)).unwrap().allow_private();
    let over = AlertRule::new("over", Condition::of("load").last().above(1.0)).each("http.method");
    let alerts = AlertEngine::builder(&monitor)
        .rule(over.each("http_method").annotation("see also", "the runbook"))
        .route(Route::relay("alertmanager", Alertmanager::new(endpoint)))
        .build()
        .unwrap();
    monitor.record("load", Measurement::Gauge(9.0), &[("http.method", "GET"), ("http_method", "POST")]);
    alerts.evaluate();
    let delivery = alerts.deliver().await;
    assert!(delivery.failed.is_empty(), "{:?}", delivery.failed);
    let known = get(&running.address, "/api/v2/alerts");
    let labels = &known[0]["labels"];
    assert_eq!((&labels["http_method"], &labels["http_method_"]), (&"POST".into(), &"GET".into()), "{known}");
    assert_eq!(known[0]["annotations"]["see_also"], "the runbook");
}
