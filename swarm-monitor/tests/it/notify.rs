//! Notifiers against real sockets, of good will and of ill.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use swarm_monitor::testing::conformance;
use swarm_monitor::{
    AlertEngine, AlertRule, Alertmanager, Condition, Discord, Endpoint, ErrorKind, Matcher, Notifier, Route,
    Severity, Slack, Webhook,
};

use crate::Timed;

/// A request as it came in.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) line: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The values of every header of this name.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// A server that does with each connection what it is told to, until the test is over.
pub(crate) struct Server {
    address: SocketAddr,
    requests: Receiver<Request>,
}

/// Answers a request, and tells whether the connection is good for another.
pub(crate) type Answer = fn(&mut TcpStream) -> bool;

pub(crate) fn ok(stream: &mut TcpStream) -> bool {
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_ok()
}

impl Server {
    /// Answers the first connections like this, and then the last way for ever.
    pub(crate) fn answering(answers: &'static [Answer]) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, requests) = channel();
        std::thread::spawn(move || {
            for (at, stream) in listener.incoming().enumerate() {
                let (Ok(stream), sender) = (stream, sender.clone()) else { return };
                let answer = answers[at.min(answers.len() - 1)];
                std::thread::spawn(move || serve(stream, answer, &sender));
            }
        });
        Server { address, requests }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn next(&self) -> Request {
        self.requests.recv_timeout(Duration::from_secs(60)).unwrap()
    }

    fn had_no_more(&self) -> bool {
        self.requests.try_recv().is_err()
    }
}

fn serve(stream: TcpStream, answer: Answer, sender: &Sender<Request>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    while let Some(request) = read(&mut reader) {
        let _ = sender.send(request);
        if !answer(&mut stream) {
            return;
        }
    }
}

fn read(reader: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    if reader.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let len =
        headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, len)| len.parse().unwrap());
    let mut body = vec![0; len];
    reader.read_exact(&mut body).ok()?;
    Some(Request { line: line.trim_end().to_owned(), headers, body })
}

/// On this machine.
pub(crate) fn here(url: &str) -> Endpoint {
    Endpoint::new(url).unwrap().allow_private()
}

#[tokio::test]
async fn a_webhook_posts_what_alertmanager_would_and_signs_it() {
    let server = Server::answering(&[ok]);
    let webhook = Webhook::new(here(&server.url("/hook?key=1")).bearer("token").unwrap()).key("secret");
    let told = conformance::notifier(&webhook).await;
    let requests: Vec<Request> = told.iter().map(|_| server.next()).collect();
    assert!(server.had_no_more());
    let first = &requests[0];
    assert_eq!(first.line, "POST /hook?key=1 HTTP/1.1");
    assert_eq!(first.header("content-type"), Some("application/json"));
    assert_eq!(first.header("authorization"), Some("Bearer token"));
    assert_eq!(first.header("webhook-id"), Some(told[0].id.as_str()));
    assert_eq!(first.header("webhook-timestamp"), Some("1728000000"));
    assert!(first.header("webhook-signature").unwrap().starts_with("v1,"));
    assert_eq!(first.header("webhook-signature"), requests[1].header("webhook-signature"));
    assert_ne!(first.header("webhook-signature"), requests[2].header("webhook-signature"));
    assert_eq!(
        first.json(),
        serde_json::json!({
            "version": "4",
            "groupKey": "{}:{alertname=\"conformance\"}",
            "truncatedAlerts": 0,
            "status": "firing",
            "receiver": "conformance",
            "groupLabels": { "alertname": "conformance" },
            "commonLabels": { "alertname": "conformance", "agent": "Agent-1", "severity": "critical" },
            "commonAnnotations": { "summary": "fires" },
            "externalURL": "",
            "alerts": [{
                "status": "firing",
                "labels": { "alertname": "conformance", "agent": "Agent-1", "severity": "critical" },
                "annotations": { "summary": "fires" },
                "startsAt": "2024-10-04T00:00:00Z",
                "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": "",
                "fingerprint": "0000000000000001",
            }],
        })
    );
    let second = requests[2].json();
    assert_eq!(second["alerts"][0]["status"], "resolved");
    assert_eq!(second["alerts"][0]["endsAt"], "2024-10-04T00:05:00Z");
    assert_eq!(
        second["commonLabels"],
        serde_json::json!({ "alertname": "conformance", "severity": "critical" })
    );
    assert_eq!(requests[4].json()["alerts"].as_array().unwrap().len(), 500);
}

#[tokio::test]
async fn every_notifier_does_what_the_kit_asks() {
    let server = Server::answering(&[ok]);
    let url = server.url("/in/TOKEN");
    conformance::notifier(&Slack::new(here(&url))).await;
    let slack = server.next().json();
    assert!(slack["text"].as_str().unwrap().starts_with("*1 firing · conformance*\n"), "{slack}");
    while server.requests.try_recv().is_ok() {}
    conformance::notifier(&Discord::new(here(&url))).await;
    assert!(server.next().json()["content"].as_str().unwrap().starts_with("**1 firing · conformance**\n"));
    while server.requests.try_recv().is_ok() {}
    conformance::notifier(&Alertmanager::new(here(&server.url("/prefix/")))).await;
    let request = server.next();
    assert_eq!(request.line, "POST /prefix/api/v2/alerts HTTP/1.1");
    assert_eq!(request.json()[0]["endsAt"], "2024-10-04T16:00:00Z");
}

/// A receiver behaves badly, is survived within its time-out, and gets everything when it behaves again.
#[tokio::test]
async fn a_hostile_receiver_is_survived_and_told_when_it_is_good_again() {
    let hostile: [(&str, Answer, &str); 7] = [
        ("closes at once", |_| false, "no connection to 127.0.0.1"),
        ("says nothing", |stream| stream.read(&mut [0; 1]).is_err(), "no answer from 127.0.0.1 in 2s"),
        ("answers a byte a moment", |stream| drip(stream), "no answer from 127.0.0.1 in 2s"),
        (
            "is broken",
            |stream| answer(stream, "500 Internal Server Error\r\ncontent-length: 0"),
            "answers 500",
        ),
        (
            "is busy",
            |stream| answer(stream, "429 Too Many Requests\r\nretry-after: 7\r\ncontent-length: 0"),
            "answers 429",
        ),
        (
            "sends to the cloud's secrets",
            |stream| {
                answer(stream, "302 Found\r\nlocation: http://169.254.169.254/latest/\r\ncontent-length: 0")
            },
            "redirects are not followed",
        ),
        ("speaks no HTTP", |stream| stream.write_all(&[0xff; 1_000]).is_err(), "does not speak HTTP"),
    ];
    for (what, bad, says) in hostile {
        let answers: &'static [Answer] = Box::leak(Box::new([bad, ok as Answer]));
        let server = Server::answering(answers);
        // A machine that is busy is no receiver that is slow.
        let time_out = Duration::from_secs(if says.contains("no answer") { 2 } else { 30 });
        let (timed, alerts) = watching(&server, time_out);
        timed.monitor.record("x", 9.0, &[]);
        alerts.evaluate();
        let started = Instant::now();
        let delivery = alerts.deliver().await;
        assert!(started.elapsed() < Duration::from_secs(20), "{what}");
        assert_eq!(delivery.delivered, 0, "{what}");
        let error = delivery.failed[0].1.to_string();
        assert!(error.contains(says) && !error.contains("TOKEN"), "{what}: {error}");
        let first = server.next();
        timed.pass(8);
        assert_eq!(alerts.deliver().await.delivered, 1, "{what}");
        let again = server.next();
        assert_eq!(first.header("webhook-id"), again.header("webhook-id"), "{what}");
        assert!(server.had_no_more());
        timed.pass(1);
        assert_eq!(alerts.deliver().await.delivered, 0, "{what}: once");
    }
}

fn watching(server: &Server, time_out: Duration) -> (Timed, AlertEngine) {
    let timed = Timed::new();
    let webhook = Webhook::new(here(&server.url("/TOKEN")).time_out(time_out));
    let alerts = AlertEngine::builder(&timed.monitor)
        .rule(
            AlertRule::new("over", Condition::of("x").above(5.0).window(Duration::from_secs(60)))
                .severity(Severity::Critical),
        )
        .route(Route::new("hook", webhook))
        .build()
        .unwrap();
    (timed, alerts)
}

/// Answers, and closes, which it says: else the next request may go where nobody reads any more.
pub(crate) fn answer(stream: &mut TcpStream, head: &str) -> bool {
    stream.write_all(format!("HTTP/1.1 {head}\r\nconnection: close\r\n\r\n").as_bytes()).is_err()
}

/// Sends headers without an end, until the other side has had enough.
fn drip(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
    // Reading is how it waits: it ends when the other side closes.
    while !matches!(stream.read(&mut [0; 1]), Ok(0)) {
        if stream.write_all(b"x: y\r\n").is_err() {
            break;
        }
    }
    false
}

/// How much of it was taken.
static FLOOD: AtomicU64 = AtomicU64::new(0);

/// Says that ten gigabytes come, and sends as many as are taken.
fn flood(stream: &mut TcpStream) -> bool {
    answer(stream, "200 OK\r\ncontent-length: 10000000000");
    let block = vec![b'x'; 1 << 16];
    while FLOOD.load(Ordering::SeqCst) < 10_000_000_000 && stream.write_all(&block).is_ok() {
        FLOOD.fetch_add(block.len() as u64, Ordering::SeqCst);
    }
    false
}

#[tokio::test]
async fn of_an_answer_of_ten_gigabytes_next_to_nothing_is_read() {
    let server = Server::answering(&[flood]);
    let (timed, alerts) = watching(&server, Duration::from_secs(30));
    timed.monitor.record("x", 9.0, &[]);
    alerts.evaluate();
    let started = Instant::now();
    assert_eq!(alerts.deliver().await.delivered, 1, "it said that it has it");
    assert!(started.elapsed() < Duration::from_secs(20));
    // What the system itself has room for.
    assert!(FLOOD.load(Ordering::SeqCst) < 100 << 20, "{FLOOD:?}");
    // Headers without an end are not read for ever either.
    let server = Server::answering(&[|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
        while stream.write_all(&b"x: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n".repeat(1_000)).is_ok()
        {
        }
        false
    }]);
    let webhook = Webhook::new(here(&server.url("/")));
    let (timed, started) = (Timed::new(), Instant::now());
    timed.monitor.record("x", 9.0, &[]);
    let alerts = AlertEngine::builder(&timed.monitor)
        .rule(AlertRule::new("over", Condition::of("x").above(5.0)).severity(Severity::Critical))
        .route(Route::new("hook", webhook))
        .build()
        .unwrap();
    alerts.evaluate();
    let delivery = alerts.deliver().await;
    assert_eq!(delivery.delivered, 0);
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", delivery.failed);
}

#[tokio::test]
async fn private_addresses_are_refused_unless_allowed_and_link_local_ones_always() {
    let server = Server::answering(&[ok]);
    let port = server.address.port();
    // By name too: what is checked is what the name leads to, and that is what is connected to.
    for host in ["127.0.0.1", "localhost", "0x7f000001", "[::ffff:127.0.0.1]"] {
        let webhook = Webhook::new(Endpoint::new(&format!("http://{host}:{port}/TOKEN")).unwrap());
        let error = told(&webhook).await.unwrap_err();
        let (shown, retryable) = (format!("{error} {error:?}"), error.is_retryable());
        assert!(!shown.contains("TOKEN"), "{shown}");
        assert!(shown.contains("private and was not allowed") && !retryable, "{host}: {shown}");
    }
    for host in ["169.254.169.254", "[fe80::1]", "0.0.0.0"] {
        let webhook = Webhook::new(here(&format!("http://{host}:{port}/")));
        let error = told(&webhook).await.unwrap_err();
        assert!(error.to_string().contains("nobody's to be told"), "{host}: {error}");
    }
    assert!(server.had_no_more());
    told(&Webhook::new(here(&format!("http://localhost:{port}/")))).await.unwrap();
    let error = Endpoint::new("https://user:TOKEN@example.com/").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

pub(crate) async fn told(notifier: &dyn Notifier) -> Result<(), swarm_monitor::NotifyError> {
    let timed = Timed::new();
    timed.monitor.record("x", 9.0, &[]);
    let recording = swarm_monitor::testing::RecordingNotifier::new();
    let alerts = AlertEngine::builder(&timed.monitor)
        .rule(AlertRule::new("over", Condition::of("x").above(5.0)).severity(Severity::Critical))
        .route(Route::new("hook", recording.clone()).only(Matcher::is("alertname", "over")))
        .build()
        .unwrap();
    alerts.evaluate();
    alerts.deliver().await;
    notifier.notify(&recording.told()[0]).await
}

#[tokio::test]
async fn a_receiver_that_is_not_there_is_told_when_it_is() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let timed = Timed::new();
    timed.monitor.record("x", 9.0, &[]);
    let alerts = AlertEngine::builder(&timed.monitor)
        .rule(AlertRule::new("over", Condition::of("x").above(5.0)).severity(Severity::Critical))
        .route(Route::new("hook", Webhook::new(here(&format!("http://{address}/")))))
        .build()
        .unwrap();
    alerts.evaluate();
    assert_eq!(alerts.deliver().await.failed.len(), 1);
    let listener = TcpListener::bind(address).unwrap();
    let (sender, requests) = channel();
    std::thread::spawn(move || serve(listener.accept().unwrap().0, ok, &sender));
    timed.pass(2);
    assert_eq!(alerts.deliver().await.delivered, 1);
    assert_eq!(requests.recv().unwrap().json()["status"], "firing");
}

/// Another test in a process whose environment has a proxy where nobody is.
#[test]
fn a_proxy_of_the_environment_is_not_used() {
    let mut again = std::process::Command::new(std::env::current_exe().unwrap());
    again.args(["notify::a_webhook_posts_what_alertmanager_would_and_signs_it", "--exact"]);
    for proxy in ["ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy"] {
        again.env(proxy, "http://127.0.0.1:9");
    }
    let output = again.env_remove("NO_PROXY").env_remove("no_proxy").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}
