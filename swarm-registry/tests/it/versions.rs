use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use swarm_registry::testing::FakeClock;
use swarm_registry::{
    Action, Authorizer, Digest, ErrorKind, Measure, MetricSource, ObjectVersionStore, Observed, Query,
    Retention, Rollout, Split, Version, VersionRegistry, VersionStore, Window,
};

use crate::registry_with;

fn ids(versions: Vec<Arc<swarm_registry::VersionInfo>>) -> Vec<String> {
    versions.iter().map(|version| version.id().to_owned()).collect()
}

#[tokio::test]
async fn a_version_is_read_back_as_it_was_registered() {
    let store = ObjectVersionStore::memory();
    let registry = VersionRegistry::with_store(store.clone()).await.unwrap().acting_as("Agent-8");
    registry.register(Version::new("v1.0_current").artifact("one")).await.unwrap();
    let version = Version::new("v2.0_refactored")
        .artifact("two")
        .digest("sha256:3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3")
        .metric("v2_violations", 3.0)
        .metric("cycle", vec![0.1, 0.2, 1e-300])
        .metric("tests", Measure::Proportion { successes: 88, trials: 100 })
        .metadata("built_by", serde_json::json!({"host": "ci", "attempt": 2}))
        .label("team", "agents")
        .parent("v1.0_current");
    let answered = registry.register(version).await.unwrap().version;
    let read = VersionRegistry::with_store(store).await.unwrap();
    let version = read.version("v2.0_refactored").await.unwrap();
    assert_eq!(answered, version, "who wrote it has what others read");
    assert_eq!(version.creator(), Some("Agent-8"));
    assert_eq!(version.parent(), Some("v1.0_current"));
    assert_eq!(version.digest(), Digest::of(b"two"));
    assert_eq!(version.artifact_size(), Some(3));
    assert_eq!(version.metrics()["cycle"], Measure::Samples(vec![0.1, 0.2, 1e-300]));
    assert_eq!(version.metadata()["built_by"]["attempt"], 2);
    assert_eq!(read.artifact("v2.0_refactored").await.unwrap(), "two");
}

#[tokio::test]
async fn everything_that_is_wrong_with_a_version_is_told_at_once() {
    let registry = registry_with(&[]).await;
    let version =
        Version::new("a b").metric("m", f64::NAN).metric("n", vec![1.0, f64::INFINITY]).label("", "x");
    let error = registry.register(version).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let text = error.to_string();
    for part in ["\"a b\"", "metric \"m\" is NaN", "metric \"n\" is inf", "label \"\" is empty", "neither"] {
        assert!(text.contains(part), "{text}");
    }
    let other = Version::new("v").artifact("x").digest(Digest::of(b"y"));
    assert!(registry.register(other).await.unwrap_err().to_string().contains("has the digest"));
    let orphan = Version::new("v").artifact("x").parent("w");
    assert_eq!(registry.register(orphan).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn an_id_is_used_once_and_shared_content_is_told() {
    let registry = registry_with(&["v1"]).await;
    let again = registry.register(Version::new("v1").artifact("bytes of v1")).await.unwrap_err();
    assert_eq!((again.kind(), again.version()), (ErrorKind::AlreadyExists, Some("v1")));
    assert!(again.to_string().ends_with("registered already, with the same content"), "{again}");
    let other = registry.register(Version::new("v1").artifact("other bytes")).await.unwrap_err();
    let content = Digest::of(b"bytes of v1").to_string();
    assert!(other.to_string().ends_with(&format!("with the content {content}")), "{other}");
    let twin = registry.register(Version::new("twin").artifact("bytes of v1")).await.unwrap();
    assert_eq!(twin.same_content, ["v1"]);
    let elsewhere = Version::new("elsewhere").digest(Digest::of(b"not here"));
    registry.register(elsewhere).await.unwrap();
    assert_eq!(registry.artifact("elsewhere").await.unwrap_err().kind(), ErrorKind::NotFound);
    let near = registry.version("twim").await.unwrap_err().to_string(); // typos:ignore-line
    assert!(near.ends_with("did you mean \"twin\"?"), "{near}");
}

#[tokio::test]
async fn versions_are_found_by_label_metric_time_and_lineage() {
    let start = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    let clock = FakeClock::new(start);
    let builder = VersionRegistry::builder().clock(Arc::new(clock.clone()));
    let registry = builder.with_store(ObjectVersionStore::memory()).await.unwrap();
    for (id, violations, parent) in
        [("v1", 15.0, None), ("v2", 3.0, Some("v1")), ("v3", 4.0, Some("v2")), ("w1", 2.0, None)]
    {
        let mut version = Version::new(id).artifact(id).metric("violations", violations);
        if let Some(parent) = parent {
            version = version.parent(parent).label("team", "agents");
        }
        registry.register(version).await.unwrap();
        clock.advance(Duration::from_secs(60));
    }
    let minute = |at: i64| start + chrono::TimeDelta::minutes(at);
    for (query, expected) in [
        (Query::new(), vec!["v1", "v2", "v3", "w1"]),
        (Query::new().label("team", "agents"), vec!["v2", "v3"]),
        (Query::new().label("team", "others"), vec![]),
        (Query::new().labelled("team").metric_at_least("violations", 4.0), vec!["v3"]),
        (Query::new().metric_at_most("violations", 3.0), vec!["v2", "w1"]),
        (Query::new().metric_at_most("speed", 3.0), vec![]),
        (Query::new().since(minute(1)).until(minute(3)), vec!["v2", "v3"]),
        (Query::new().descendants_of("v1"), vec!["v2", "v3"]),
        (Query::new().descendants_of("v2"), vec!["v3"]),
    ] {
        assert_eq!(ids(registry.find(&query).await.unwrap()), expected, "{query:?}");
    }
    assert_eq!(ids(registry.lineage("v3").await.unwrap()), ["v2", "v1"]);
}

#[tokio::test]
async fn a_line_ends_at_a_version_that_was_removed() {
    let registry = registry_with(&["v1"]).await;
    for (id, parent) in [("v2", "v1"), ("v3", "v2"), ("v4", "v3")] {
        registry.register(Version::new(id).artifact(id).parent(parent)).await.unwrap();
    }
    for (alias, id) in [("a", "v1"), ("b", "v2"), ("c", "v4")] {
        registry.move_alias(alias, None, Some(id)).await.unwrap();
    }
    let tomorrow = chrono::Utc::now() + chrono::TimeDelta::days(1);
    registry.compact(Retention::since(tomorrow)).await.unwrap();
    assert_eq!(ids(registry.find(&Query::new().descendants_of("v1")).await.unwrap()), ["v2"]);
    assert!(registry.lineage("v4").await.unwrap().is_empty());
    assert_eq!(registry.version("v4").await.unwrap().parent(), Some("v3"));
    let removed = registry.find(&Query::new().descendants_of("v3")).await.unwrap_err();
    let orphan = registry.register(Version::new("v5").artifact("v5").parent("v3")).await.unwrap_err();
    for error in [removed, orphan] {
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(error.to_string(), "version \"v3\" was removed by retention");
    }
}

#[tokio::test]
async fn an_alias_is_moved_by_who_knows_where_it_is() {
    let registry = registry_with(&["v1", "v2"]).await;
    let kind = |result: Result<(), swarm_registry::Error>| result.unwrap_err().kind();
    assert_eq!(kind(registry.move_alias("stable", Some("v1"), Some("v2")).await), ErrorKind::Conflict);
    assert_eq!(kind(registry.move_alias("stable", None, Some("v9")).await), ErrorKind::NotFound);
    assert_eq!(kind(registry.protect_alias("stable", true).await), ErrorKind::NotFound);
    registry.move_alias("stable", None, Some("v1")).await.unwrap();
    registry.protect_alias("stable", true).await.unwrap();
    let all: Vec<_> = registry.aliases().await.unwrap();
    let [alias] = &all[..] else { panic!("{all:?}") };
    assert_eq!((&*alias.name, &*alias.version, alias.protected), ("stable", "v1", true));
    let near = registry.alias_history("stabel").await.unwrap_err(); // typos:ignore-line
    assert!(near.to_string().contains("did you mean \"stable\"?"), "{near}");
    assert_eq!(kind(registry.move_alias("stable", Some("v1"), Some("v2")).await), ErrorKind::Protected);
    assert_eq!(kind(registry.move_alias("stable", Some("v1"), None).await), ErrorKind::Protected);
    registry.protect_alias("stable", false).await.unwrap();
    registry.acting_as("Agent-1").move_alias("stable", Some("v1"), Some("v2")).await.unwrap();
    assert_eq!(registry.alias("stable").await.unwrap().id(), "v2");
    registry.move_alias("stable", Some("v2"), None).await.unwrap();
    assert!(registry.aliases().await.unwrap().is_empty());
    assert_eq!(registry.alias("stable").await.unwrap_err().kind(), ErrorKind::NotFound);
    let history = registry.alias_history("stable").await.unwrap();
    let moves: Vec<_> = history.iter().map(|m| (m.from.as_deref(), m.to.as_deref())).collect();
    assert_eq!(moves, [(None, Some("v1")), (Some("v1"), Some("v2")), (Some("v2"), None)]);
    assert_eq!(history[1].actor.as_deref(), Some("Agent-1"));
}

/// Says no to everything, and remembers what it was asked.
struct Guard(std::sync::Mutex<Vec<(Action, String)>>);

impl Authorizer for Guard {
    fn authorize(&self, actor: Option<&str>, action: Action, target: &str) -> Result<(), String> {
        self.0.lock().unwrap().push((action, target.to_owned()));
        match actor {
            Some("root") => Ok(()),
            _ => Err("only root may".to_owned()),
        }
    }
}

/// Has measured nothing.
struct Nothing;

#[async_trait::async_trait]
impl MetricSource for Nothing {
    async fn observe(&self, _: &Window) -> Result<Observed, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Observed::new())
    }
}

#[tokio::test]
async fn every_mutation_asks_the_authorizer_and_writes_nothing_without_leave() {
    let guard = Arc::new(Guard(std::sync::Mutex::default()));
    let builder = VersionRegistry::builder().authorizer(guard.clone());
    let registry = builder.with_store(ObjectVersionStore::memory()).await.unwrap();
    let root = registry.acting_as("root");
    root.register(Version::new("v1").artifact("1")).await.unwrap();
    root.move_alias("stable", None, Some("v1")).await.unwrap();
    root.deploy("staging", Split::all("v1")).await.unwrap();
    root.deploy("staging", Split::all("v1")).await.unwrap();
    root.register(Version::new("v2").artifact("2")).await.unwrap();
    let plan = Rollout::new().weight(100.0);
    let rollout = root.start_rollout("staging", "v2", &plan).await.unwrap();
    let before = registry.verify().await.unwrap();
    guard.0.lock().unwrap().clear();
    let other = registry.acting_as("someone");
    let all = Split::all("v1");
    let denied = [
        (Action::Register, other.register(Version::new("v3").artifact("3")).await.map(drop)),
        (Action::MoveAlias, other.move_alias("stable", Some("v1"), None).await),
        (Action::ProtectAlias, other.protect_alias("stable", true).await),
        (Action::Deploy, other.deploy("staging", all.clone()).await.map(drop)),
        (Action::Deploy, other.deploy_after("staging", 2, all).await.map(drop)),
        (Action::Promote, other.promote("staging", "production").await.map(drop)),
        (Action::Rollback, other.rollback("staging").await.map(drop)),
        (Action::Rollback, other.rollback_from("staging", 2).await.map(drop)),
        (Action::Rollback, other.rollback_to("staging", "v1").await.map(drop)),
        (Action::StartRollout, other.start_rollout("staging", "v2", &plan).await.map(drop)),
        (Action::DriveRollout, other.drive_rollout("staging", &Nothing).await.map(drop)),
        (Action::PauseRollout, other.pause_rollout(&rollout).await.map(drop)),
        (Action::ResumeRollout, other.resume_rollout(&rollout).await.map(drop)),
        (Action::ApproveRollout, other.approve_rollout(&rollout).await.map(drop)),
        (Action::SkipRolloutStep, other.skip_rollout_step(&rollout, "").await.map(drop)),
        (Action::AbortRollout, other.abort_rollout(&rollout, "").await.map(drop)),
        (Action::Compact, other.compact(Retention::everything()).await),
    ];
    for (action, result) in denied {
        let error = result.expect_err("someone may nothing");
        assert_eq!(error.kind(), ErrorKind::Denied, "{action:?}");
        let asked: Vec<Action> = guard.0.lock().unwrap().iter().map(|(action, _)| *action).collect();
        assert!(asked.contains(&action), "{action:?}");
    }
    assert_eq!(registry.verify().await.unwrap(), before);
}

#[tokio::test]
async fn a_name_of_any_length_that_is_not_found_is_answered_shortly() {
    let registry = super::registry_with(&["v1", &"v".repeat(128)]).await;
    registry.deploy("production", swarm_registry::Split::all("v1")).await.unwrap();
    registry.move_alias("stable", None, Some("v1")).await.unwrap();
    let long = "é".repeat(1 << 20);
    for error in [
        registry.version(&long).await.unwrap_err(),
        registry.deployment(&long).await.unwrap_err(),
        registry.alias(&long).await.unwrap_err(),
        registry.register(Version::new(&*long).artifact("x")).await.unwrap_err(),
    ] {
        assert!(error.to_string().len() < 1_000, "{} bytes", error.to_string().len());
    }
}

#[tokio::test]
async fn metadata_that_could_not_be_read_back_is_refused_before_anything_is_stored() {
    let nested = |depth| (0..depth).fold(serde_json::json!(1), |inner, _| serde_json::json!([inner]));
    let store = ObjectVersionStore::memory();
    let registry = VersionRegistry::with_store(store.clone()).await.unwrap();
    registry.register(Version::new("v1").artifact("1").metadata("fits", nested(100))).await.unwrap();
    for depth in [101, 127, 1_000] {
        let deep = Version::new("v2").artifact("2").metadata("deep", nested(depth));
        let error = registry.register(deep).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{depth}: {error}");
        assert!(error.to_string().contains("the metadata \"deep\" is nested deeper than 100"), "{error}");
    }
    assert_eq!(store.list("artifacts", "").await.unwrap().len(), 1);
    let opened = VersionRegistry::with_store(store).await.unwrap();
    assert_eq!(opened.version("v1").await.unwrap().metadata()["fits"], nested(100));
}
