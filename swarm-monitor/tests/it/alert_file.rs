use std::path::{Path, PathBuf};

use swarm_monitor::testing::RecordingNotifier;
use swarm_monitor::{
    AlertEngine, AlertRule, AlertState, Condition, ErrorKind, Matcher, Measurement, Result, Route, Severity,
};

use crate::Timed;
use crate::alerts::seconds;

/// A life of a process: a monitor whose clock goes on, and an engine with a file.
struct Life {
    timed: Timed,
    ops: RecordingNotifier,
    alerts: AlertEngine,
}

fn rule(name: &str) -> AlertRule {
    AlertRule::new(name, Condition::of("load").last().above(5.0)).each("agent").severity(Severity::Critical)
}

fn open(timed: &Timed, path: &Path, ops: &RecordingNotifier, rules: &[AlertRule]) -> Result<AlertEngine> {
    let route = Route::new("ops", ops.clone()).repeat_interval(seconds(86_400));
    AlertEngine::builder(&timed.monitor).rules(rules.iter().cloned()).route(route).file(path).build()
}

impl Life {
    fn new(path: &Path) -> Life {
        let (timed, ops) = (Timed::new(), RecordingNotifier::new());
        let alerts = open(&timed, path, &ops, &[rule("over")]).unwrap();
        Life { timed, ops, alerts }
    }

    /// Ends it as a crash would, and begins the next.
    fn again(self, path: &Path, rules: &[AlertRule]) -> Life {
        drop(self.alerts);
        let timed = Timed::new();
        timed.clock.set(self.timed.monitor.now());
        timed.pass(1);
        let alerts = open(&timed, path, &self.ops, rules).unwrap();
        Life { timed, ops: self.ops, alerts }
    }

    fn load(&self, agent: &str, load: f64) {
        self.timed.monitor.record("load", Measurement::Gauge(load), &[("agent", agent)]);
    }

    async fn pass(&self, seconds: u64) -> Vec<String> {
        self.timed.pass(seconds);
        let evaluation = self.alerts.evaluate();
        assert!(evaluation.not_stored.is_none(), "{evaluation:?}");
        self.alerts.deliver().await;
        self.ops.take().iter().map(swarm_monitor::Notification::title).collect()
    }
}

fn file() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alerts");
    (folder, path)
}

#[tokio::test]
async fn what_fires_still_does_after_a_restart_and_is_not_told_again() {
    let (_folder, path) = file();
    let life = Life::new(&path);
    life.load("a", 9.0);
    life.load("b", 9.0);
    assert_eq!(life.pass(1).await, ["2 firing · over"]);
    let alert = life.alerts.alerts()[0].clone();
    life.alerts.acknowledge(&alert.id, "ann", "on it").unwrap();
    life.alerts.silence([Matcher::is("agent", "c")], seconds(3_600), "ann", "moved").unwrap();
    let silences = life.alerts.silences();
    let before = life.alerts.alerts();
    let life = life.again(&path, &[rule("over")]);
    assert_eq!((life.alerts.recovery().alerts, life.alerts.recovery().silences), (2, 1));
    assert_eq!((life.alerts.alerts(), life.alerts.silences()), (before, silences.clone()));
    life.alerts.unsilence(silences[0].id).unwrap();
    // Without numbers nothing moves.
    assert_eq!(life.pass(600).await, [""; 0]);
    life.load("a", 1.0);
    life.load("b", 9.0);
    assert_eq!(life.pass(300).await, ["1 firing, 1 resolved · over"]);
    let life = life.again(&path, &[rule("over")]);
    assert_eq!(life.alerts.alerts().len(), 1, "a was resolved, and stays so");
    assert_eq!(life.alerts.silences(), [], "and c is silenced no more");
    life.load("a", 1.0);
    assert_eq!(life.pass(600).await, [""; 0]);
}

#[test]
fn the_number_of_a_silence_that_ended_is_given_to_no_other() {
    let (_folder, path) = file();
    let mut life = Life::new(&path);
    let silence = |life: &Life| {
        life.alerts.silence([Matcher::is("agent", "c")], seconds(3_600), "ann", "moved").unwrap().id
    };
    let (first, second) = (silence(&life), silence(&life));
    life.alerts.unsilence(second).unwrap();
    for _ in 0..3 {
        life = life.again(&path, &[rule("over")]);
    }
    assert_eq!(life.alerts.silences()[0].id, first);
    assert!(silence(&life) > second);
}

#[tokio::test]
async fn what_was_not_told_before_a_crash_is_told_after_it() {
    let (_folder, path) = file();
    let life = Life::new(&path);
    life.ops.fail(1);
    life.load("a", 9.0);
    assert_eq!(life.pass(1).await, [""; 0]);
    let life = life.again(&path, &[rule("over")]);
    assert_eq!(life.pass(1).await, ["1 firing · over"]);
    life.ops.fail(1);
    life.load("a", 1.0);
    assert_eq!(life.pass(300).await, [""; 0]);
    let life = life.again(&path, &[rule("over")]);
    assert_eq!(life.alerts.alerts()[0].state, AlertState::Resolved);
    assert_eq!(life.pass(1).await, ["1 resolved · over"]);
    assert_eq!(life.alerts.alerts(), []);
}

#[tokio::test]
async fn a_pending_alert_goes_on_being_pending() {
    let (_folder, path) = file();
    let lasting = [rule("over").lasting(seconds(100))];
    let life = Life::new(&path).again(&path, &lasting);
    life.load("a", 9.0);
    assert_eq!(life.pass(1).await, [""; 0]);
    let life = life.again(&path, &lasting);
    life.load("a", 9.0);
    assert_eq!(life.pass(98).await, [""; 0]);
    assert_eq!(life.pass(1).await, ["1 firing · over"]);
}

#[tokio::test]
async fn alerts_of_rules_that_are_gone_or_look_different_are_resolved() {
    let (_folder, path) = file();
    let life = Life::new(&path);
    life.load("a", 9.0);
    assert_eq!(life.pass(1).await, ["1 firing · over"]);
    let life = life.again(&path, &[rule("over").label("team", "payments")]);
    life.load("a", 9.0);
    assert_eq!(life.pass(300).await, ["1 firing, 1 resolved · over"]);
    assert_eq!(life.alerts.alerts().len(), 1);
    let life = life.again(&path, &[]);
    assert_eq!(life.pass(300).await, ["1 resolved · over"]);
}

#[tokio::test]
async fn the_end_of_an_alert_that_nobody_could_be_told_of_for_a_day_is_forgotten() {
    let (_folder, path) = file();
    let life = Life::new(&path);
    life.load("a", 9.0);
    assert_eq!(life.pass(1).await, ["1 firing · over"]);
    life.ops.fail(1_000);
    life.load("a", 1.0);
    assert_eq!(life.pass(300).await, [""; 0]);
    assert_eq!(life.pass(86_000).await, [""; 0]);
    assert_eq!(life.alerts.alerts().len(), 1);
    assert_eq!(life.pass(400).await, [""; 0]);
    assert_eq!(life.alerts.alerts(), []);
    assert_eq!(life.alerts.routes()[0].expired, 1);
}

#[tokio::test]
async fn the_file_is_written_anew_when_most_of_it_is_overtaken() {
    let (_folder, path) = file();
    let life = Life::new(&path);
    let mut longest = 0;
    for round in 0..800 {
        life.load("a", if round % 2 == 0 { 9.0 } else { 1.0 });
        life.pass(300).await;
        longest = longest.max(std::fs::metadata(&path).unwrap().len());
    }
    let len = std::fs::metadata(&path).unwrap().len();
    assert!(longest <= (1 << 18) + 10_000 && longest > 250_000 && len < longest, "{len} {longest}");
}

#[tokio::test]
async fn any_damage_costs_at_most_the_lines_that_it_is_in() {
    let (folder, path) = file();
    let life = Life::new(&path);
    for agent in ["a", "b", "c"] {
        life.load(agent, 9.0);
        life.pass(1).await;
    }
    drop(life.alerts);
    let whole = std::fs::read(&path).unwrap();
    let lines = whole.iter().filter(|byte| **byte == b'\n').count();
    assert!(lines >= 7, "{lines}");
    let read = |bytes: &[u8], what: &str| {
        std::fs::write(&path, bytes).unwrap();
        let alerts = open(&life.timed, &path, &life.ops, &[rule("over")]).unwrap();
        let found = alerts.recovery();
        assert!(found.error.is_none(), "{what}");
        if let Some(kept) = &found.kept {
            assert_eq!(std::fs::read(kept).unwrap(), bytes, "{what}");
            std::fs::remove_file(kept).unwrap();
        }
        assert_eq!(found.kept.is_some(), found.damaged > 0, "{what}");
        (found.damaged, found.alerts)
    };
    for at in (0..whole.len()).step_by(5).chain([whole.len() - 1]) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 7);
        let (damaged, alerts) = read(&bytes, &format!("bit of {at}"));
        // An end of line that is gone makes one line of two.
        assert!(damaged <= 2 && (alerts >= 2 || at + 1 == whole.len()), "{at}: {damaged} {alerts}");
        assert!(damaged >= 1 || at + 1 == whole.len(), "{at}");
    }
    for len in (0..whole.len()).step_by(7) {
        let (damaged, _) = read(&whole[..len], &format!("cut to {len}"));
        assert_eq!(damaged, 0, "a torn end is what a crash leaves");
    }
    assert_eq!(read(&whole, "whole"), (0, 3));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "the file and its lock");
}

#[tokio::test]
async fn a_file_of_a_later_format_is_kept_and_nothing_of_it_believed() {
    let (_folder, path) = file();
    let life = Life::new(&path);
    life.load("a", 9.0);
    life.pass(1).await;
    drop(life.alerts);
    let text = std::fs::read_to_string(&path).unwrap();
    let json = "{\"format\":2}";
    let (_, rest) = text.split_once('\n').unwrap();
    let newer = format!("{:08x} {json}\n{rest}", crc32fast::hash(json.as_bytes()));
    std::fs::write(&path, &newer).unwrap();
    let alerts = open(&life.timed, &path, &life.ops, &[rule("over")]).unwrap();
    let found = alerts.recovery();
    assert_eq!(found.error.as_ref().unwrap().kind(), ErrorKind::UnknownFormat);
    assert_eq!(std::fs::read_to_string(found.kept.as_ref().unwrap()).unwrap(), newer);
    assert_eq!(alerts.alerts(), []);
    assert_eq!(alerts.evaluate().fired.len(), 1, "what still holds fires again");
}

#[test]
fn a_file_belongs_to_one_engine() {
    let (_folder, path) = file();
    let life = Life::new(&path);
    let error = open(&life.timed, &path, &life.ops, &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse);
    drop(life.alerts);
    open(&life.timed, &path, &life.ops, &[]).unwrap();
}

/// What the first format looked like.
#[tokio::test]
async fn a_file_of_the_first_format_is_read() {
    let (_folder, path) = file();
    std::fs::write(&path, include_str!("../fixtures/alerts-1")).unwrap();
    let life = Life::new(&path);
    let alerts = life.alerts.alerts();
    let mut shown: Vec<String> = alerts.iter().map(ToString::to_string).collect();
    shown.sort();
    assert_eq!(
        shown,
        [
            "critical over firing agent=\"a\": load{agent=\"a\"} is 9, above 5",
            "critical over resolved agent=\"b\": load{agent=\"b\"} is 9, above 5"
        ]
    );
    let taken = alerts.iter().find_map(|alert| alert.acknowledged.clone()).unwrap();
    assert_eq!((&*taken.by, &*taken.note), ("ann", "on it"));
    assert_eq!(life.alerts.silences()[0].comment, "moved");
}
