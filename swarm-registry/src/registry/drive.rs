use std::collections::BTreeMap;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures::FutureExt;
use futures::future::join_all;

use crate::authorizer::Action;
use crate::error::{Error, ErrorKind, Result};
use crate::judge::Verdict;
use crate::measure::Measure;
use crate::rollout::{MetricSource, Observed, RolloutPhase, RolloutStatus, Step, Todo, Window};
use crate::state::State;
use crate::wire::{Change, LeasedRollout};

use super::VersionRegistry;
use super::rollout::step_change;

/// How often a driver asks the store what others did.
const POLL: Duration = Duration::from_secs(15);

/// How long a source of metrics may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// No turn of a driver takes longer. Where its clock says so, it is the clock.
const LEAP: TimeDelta = TimeDelta::minutes(10);

/// How often in a row the store may fail before a driver gives up: with the pauses between, about five minutes.
const FAILURES: u32 = 10;

/// The shortest time for which a driver has a rollout for itself.
const LEASE: Duration = Duration::from_secs(120);

impl VersionRegistry {
    /// Carries on the rollout on `channel` until it is over, and answers how it ended. `source` is asked what was measured
    /// while an analysis goes on.
    ///
    /// Everything that it does is in the log before it counts, so it can be cancelled or killed at any moment, and called
    /// again by any process. Several may call it: one at a time looks and acts, by a lease in the log, and the others wait
    /// for their turn, which comes within three looks or two minutes, whichever is more. A driver that lost its lease, because
    /// it was held up, is refused whatever it still wants to write. Verbs of people need no lease and are noticed within 15 s.
    ///
    /// ```
    /// # use swarm_registry::{ObjectVersionStore, Rollout, RolloutPhase, Split, Version, VersionRegistry};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), swarm_registry::Error> {
    /// # let registry = VersionRegistry::with_store(ObjectVersionStore::memory()).await?;
    /// # for id in ["v1.0", "v2.0"] { registry.register(Version::new(id).artifact(id)).await?; }
    /// registry.deploy("production", Split::all("v1.0")).await?;
    /// let plan = Rollout::new().weight(20.0).weight(100.0); // without an analysis, so that nothing need be measured
    /// registry.start_rollout("production", "v2.0", &plan).await?;
    /// let ended = registry.drive_rollout("production", &()).await?;
    /// assert_eq!(ended.phase(), RolloutPhase::Completed);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// How a [`MetricSource`] is made stands there; a service that has rollouts again and again keeps
    /// [`drive_rollouts`](VersionRegistry::drive_rollouts) going.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) where there was no rollout;
    /// [`ErrorKind::Untrusted`](crate::ErrorKind::Untrusted) where a version that it would serve lacks signatures that this
    /// process asks for; [`ErrorKind::Denied`](crate::ErrorKind::Denied); [`ErrorKind::Store`](crate::ErrorKind::Store) after the store failed
    /// for about five minutes: call again; [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt). What was recorded stays.
    pub async fn drive_rollout(
        &self,
        channel: &str,
        source: &dyn MetricSource,
    ) -> Result<Arc<RolloutStatus>> {
        let mut driver = None;
        let mut failures = 0;
        loop {
            let turned = match &mut driver {
                None => self.driver(channel, source).await.map(|made| {
                    driver = Some(made);
                    None
                }),
                Some(driver) => driver.turn().await,
            };
            match turned {
                Ok(Some(status)) => return Ok(status),
                Ok(None) => failures = 0,
                Err(error) if error.is_retryable() && failures < FAILURES => {
                    tracing::warn!(%error, channel, "a rollout waits for its store");
                    let pause = Duration::from_secs(1 << failures.min(6));
                    failures += 1;
                    self.shared.clock.sleep(pause).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Drives every rollout on `channel`, one after the other, and waits for the next: what a service keeps going, in one
    /// process or in several.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use async_trait::async_trait;
    /// # use swarm_registry::{MetricSource, ObjectVersionStore, Observed, Rollout, Split, Version, VersionRegistry, Window};
    /// # struct Prometheus;
    /// # #[async_trait]
    /// # impl MetricSource for Prometheus {
    /// #     async fn observe(&self, _: &Window) -> Result<Observed, Box<dyn std::error::Error + Send + Sync>> {
    /// #         Ok(Observed::new())
    /// #     }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), swarm_registry::Error> {
    /// # let registry = VersionRegistry::with_store(ObjectVersionStore::memory()).await?;
    /// let driving = registry.clone();
    /// let driver = tokio::spawn(async move {
    ///     let Err(error) = driving.drive_rollouts("production", &Prometheus).await;
    ///     eprintln!("rollouts are not driven any more: {error}");
    /// });
    /// # registry.register(Version::new("v1").artifact("1")).await?;
    /// # registry.register(Version::new("v2").artifact("2")).await?;
    /// # registry.deploy("production", Split::all("v1")).await?;
    /// registry.start_rollout("production", "v2", &Rollout::new().weight(100.0)).await?;
    /// # while !registry.rollout("production").await?.phase().is_over() { tokio::task::yield_now().await; }
    /// # driver.abort();
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// While the store is away it goes on asking, and the log tells.
    ///
    /// # Errors
    /// It ends by an error alone, one that another try does not mend: as [`drive_rollout`](VersionRegistry::drive_rollout),
    /// but for [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) and [`ErrorKind::Store`](crate::ErrorKind::Store).
    pub async fn drive_rollouts(&self, channel: &str, source: &dyn MetricSource) -> Result<Infallible> {
        loop {
            let known = self.refresh().await.map(|()| {
                let state = self.state();
                let rollout = state.rollouts.get(channel).and_then(|all| all.values().next_back());
                (state.seq, rollout.is_some_and(|rollout| !rollout.phase.is_over()))
            });
            let driven = match known {
                Ok((seq, false)) => {
                    self.news(seq, POLL).await;
                    continue;
                }
                Ok((_, true)) => self.drive_rollout(channel, source).await,
                Err(error) => Err(error),
            };
            match driven {
                Ok(_) => {}
                // It is over and was compacted away.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if error.is_retryable() => {
                    tracing::warn!(%error, channel, "rollouts wait for their store");
                    self.shared.clock.sleep(POLL).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until this process knows of a record after `seq`, and for `span` at most.
    async fn news(&self, seq: u64, span: Duration) {
        let mut known = self.shared.known.subscribe();
        tokio::select! {
            // The sender lives in the registry that this holds. It does not close.
            biased;
            _ = known.wait_for(|known| *known > seq) => {}
            () = self.shared.clock.sleep(span) => {}
        }
    }

    /// A driver of what is the last rollout on `channel` now.
    async fn driver<'a>(&'a self, channel: &'a str, source: &'a dyn MetricSource) -> Result<Driver<'a>> {
        let id = self.rollout(channel).await?.id;
        let name = super::nonce()?.into();
        Ok(Driver { registry: self, channel, id, source, name, looked: None, own: None, turned: None })
    }
}

struct Driver<'a> {
    registry: &'a VersionRegistry,
    channel: &'a str,
    id: u64,
    source: &'a dyn MetricSource,
    /// What its leases are known by.
    name: Arc<str>,
    looked: Option<DateTime<Utc>>,
    /// A step whose times are not those of this clock, and when it was first seen.
    own: Option<(usize, DateTime<Utc>)>,
    /// When it last looked at the clock.
    turned: Option<DateTime<Utc>>,
}

impl Driver<'_> {
    /// Does the next thing. Answers once the rollout is over.
    async fn turn(&mut self) -> Result<Option<Arc<RolloutStatus>>> {
        let registry = self.registry;
        registry.refresh().await?;
        let (seq, status) = {
            let state = registry.state();
            (state.seq, self.find(&state).cloned())
        };
        let Some(status) = status.filter(|status| !status.phase.is_over()) else {
            let state = registry.state();
            return self.find(&state).cloned().map(Some).ok_or_else(|| {
                let message = format!("the rollout {} is over and was compacted away", self.id);
                Error::new(ErrorKind::NotFound, message).of_channel(self.channel)
            });
        };
        let now = registry.shared.clock.now();
        let status = self.by_own_clock(status, now);
        let todo = status.todo(now, self.looked);
        if let Todo::Wait(until) = todo {
            self.wait(now, until, seq).await;
            return Ok(None);
        }
        if todo == Todo::Rest {
            self.wait(now, DateTime::<Utc>::MAX_UTC, seq).await;
            return Ok(None);
        }
        // One that lasts longer than any that is given was taken by a clock that was ahead: it would hold up everybody.
        let longest = self.term_length(&status).checked_mul(2).unwrap_or(TimeDelta::MAX);
        let lease = status.lease.as_ref().filter(|lease| lease.until > now && lease.until - now <= longest);
        match lease {
            Some(lease) if lease.driver != self.name => {
                self.wait(now, lease.until, seq).await;
                return Ok(None);
            }
            Some(lease) if lease.until - now > self.term_length(&status) / 2 => {}
            _ => {
                self.lease(&status, now).await?;
                return Ok(None);
            }
        }
        match todo {
            Todo::Take(step) => self.take(&status, step).await?,
            Todo::Look => {
                self.looked = Some(now);
                let (verdict, reason) = self.look(&status, now).await;
                tracing::debug!(channel = self.channel, rollout = self.id, ?verdict, reason, "looked");
                if let Some(step) = status.judged(verdict, reason, now, registry.shared.clock.now()) {
                    self.take(&status, step).await?;
                }
            }
            Todo::Wait(_) | Todo::Rest => {}
        }
        Ok(None)
    }

    fn find<'s>(&self, state: &'s State) -> Option<&'s Arc<RolloutStatus>> {
        state.rollouts.get(self.channel)?.get(&self.id)
    }

    /// The status with times of this clock. Where what is recorded was by one that was ahead or behind, all of the step's time
    /// is counted from when this driver first saw it: neither is a step over before its time, nor does it last for years.
    fn by_own_clock(&mut self, status: Arc<RolloutStatus>, now: DateTime<Utc>) -> Arc<RolloutStatus> {
        let leapt = self.turned.replace(now).is_some_and(|before| (now - before).abs() > LEAP);
        let paused = status.phase == RolloutPhase::Paused;
        if leapt || paused {
            self.own = None;
        }
        let first = match self.own {
            // Also once this clock comes to what the other one said.
            Some((step, first)) if step == status.step => first,
            _ if paused || status.fits(now) => return status,
            _ => {
                tracing::warn!(
                    channel = self.channel,
                    rollout = self.id,
                    step = status.step,
                    "the step was begun by a clock that differs, so its time is counted from now"
                );
                now
            }
        };
        self.own = Some((status.step, first));
        Arc::new(status.begun_at(first))
    }

    /// Until then, or until something happened.
    async fn wait(&self, now: DateTime<Utc>, until: DateTime<Utc>, seq: u64) {
        let span = (until - now).to_std().unwrap_or_default().min(POLL);
        self.registry.news(seq, span).await;
    }

    fn term_length(&self, status: &RolloutStatus) -> TimeDelta {
        let length = status.plan.looks_every().saturating_mul(3).max(LEASE);
        TimeDelta::from_std(length).unwrap_or(TimeDelta::MAX)
    }

    /// Takes the lease for another term, or for longer. If another was first, that is seen at the next turn.
    async fn lease(&self, seen: &RolloutStatus, now: DateTime<Utc>) -> Result<()> {
        let term = match &seen.lease {
            Some(lease) if lease.driver == self.name => lease.term,
            other => other.as_ref().map_or(0, |lease| lease.term) + 1,
        };
        let until = now.checked_add_signed(self.term_length(seen)).unwrap_or(DateTime::<Utc>::MAX_UTC);
        let planned = |state: &State| {
            let unchanged = self.find(state).is_some_and(|status| status.lease == seen.lease);
            Ok(unchanged.then(|| {
                Change::RolloutLeased(LeasedRollout {
                    channel: self.channel.into(),
                    rollout: self.id,
                    term,
                    driver: self.name.clone(),
                    until: until.timestamp_micros(),
                })
            }))
        };
        self.registry.commit(Action::DriveRollout, self.channel, planned).await.map(drop)
    }

    /// Records `step`, unless something happened to the rollout since `seen`, or another driver took it over.
    async fn take(&self, seen: &RolloutStatus, step: Step) -> Result<()> {
        let planned = |state: &State| {
            let ours = |status: &&Arc<RolloutStatus>| {
                let has_lease = status.lease.as_ref().is_some_and(|lease| lease.driver == self.name);
                status.record == seen.record && has_lease
            };
            let status = self.find(state).filter(ours);
            status.map(|status| step_change(state, status, step.clone())).transpose()
        };
        self.registry.commit(Action::DriveRollout, self.channel, planned).await.map(drop)
    }

    async fn look(&self, status: &RolloutStatus, now: DateTime<Utc>) -> (Verdict, String) {
        let split = {
            let state = self.registry.state();
            match state.channel(self.channel) {
                Ok(channel) => channel.current.split(),
                Err(error) => return (Verdict::Inconclusive, error.to_string()),
            }
        };
        let asked = split.basis_points().map(|(version, _)| async move {
            let (channel, version) = (self.channel.to_owned(), version.to_owned());
            let window = Window { channel, version, since: status.began.min(now), until: now };
            let observed = self.observe(&window).await;
            (window.version, observed)
        });
        let mut metrics: BTreeMap<String, BTreeMap<String, Measure>> = BTreeMap::new();
        let mut users = BTreeMap::new();
        let mut unread = None;
        for (version, observed) in join_all(asked).await {
            match observed {
                Ok(observed) => {
                    users.extend(observed.users.map(|users| (version.clone(), users)));
                    metrics.insert(version, observed.metrics);
                }
                Err(why) => unread = Some(format!("of {version}, {why}")),
            }
        }
        let none = BTreeMap::new();
        let of = |version: &str| metrics.get(version).unwrap_or(&none);
        let compared =
            status.plan.judged_by().map(|judge| judge.compare(of(&status.baseline), of(&status.candidate)));
        let (verdict, reason) = match compared {
            Some(Ok(comparison)) => {
                let reasons = comparison.metrics().iter().map(ToString::to_string).collect::<Vec<_>>();
                (comparison.verdict(), reasons.join("; "))
            }
            // The plan was checked when the rollout was begun.
            Some(Err(error)) => (Verdict::Inconclusive, error.to_string()),
            None => (Verdict::Inconclusive, "nobody judges".to_owned()),
        };
        // What could not be read, or was gathered wrongly, speaks for no candidate. It does not speak for one that fails.
        if verdict != Verdict::Fail {
            if let Some(why) = unread {
                return (Verdict::Inconclusive, why);
            }
            if users.len() == split.basis_points().count() {
                let ratio = split.sample_ratio(&users);
                if ratio.is_mismatch() {
                    let counts: Vec<String> =
                        users.iter().map(|(version, users)| format!("{version} {users}")).collect();
                    let counts = counts.join(", ");
                    let why =
                        format!("the users do not fit the weights {split}: {counts}, p {:.2e}", ratio.p);
                    return (Verdict::Inconclusive, why);
                }
            }
        }
        (verdict, reason)
    }

    async fn observe(&self, window: &Window) -> Result<Observed, String> {
        let asked = AssertUnwindSafe(async { self.source.observe(window).await }).catch_unwind();
        tokio::select! {
            biased;
            answer = asked => match answer {
                Ok(Ok(observed)) => Ok(observed),
                Ok(Err(error)) => Err(format!("nothing could be read: {error}")),
                Err(_) => Err("the source of metrics panicked".to_owned()),
            },
            () = self.registry.shared.clock.sleep(PATIENCE) => {
                Err(format!("nothing was read within {PATIENCE:?}"))
            }
        }
    }
}
