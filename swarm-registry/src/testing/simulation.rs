use std::collections::{BTreeSet, VecDeque};
use std::error::Error as StdError;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::error::Result;
use crate::event::{Event, EventKind};
use crate::measure::Measure;
use crate::registry::VersionRegistry;
use crate::rollout::{MetricSource, Observed, Rollout, RolloutStatus, RolloutStep, Window};
use crate::store::ObjectVersionStore;
use crate::traffic::{Router, Split};
use crate::version::Version;

const BASELINE: &str = "baseline";
const CANDIDATE: &str = "candidate";
const CHANNEL: &str = "production";

/// Runs a [`Rollout`] against made-up traffic, to see what a plan does before it is trusted with users.
///
/// Time is virtual, so that a day takes a moment, and the same seed gives the same run. Everything else is real: the
/// registry, the router, the driver, the judge.
///
/// ```
/// use std::time::Duration;
/// use swarm_registry::testing::{Simulation, Traffic};
/// use swarm_registry::{Criterion, Judge, Rollout, RolloutPhase};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), swarm_registry::Error> {
/// let plan = Rollout::new()
///     .weight(20.0)
///     .analysis(Duration::from_secs(3600))
///     .weight(100.0)
///     .judge(Judge::new([Criterion::lower_is_better("latency_ms")]).sequential(1_000));
/// let simulated = Simulation::new(1)
///     .baseline(Traffic::new().sample("latency_ms", |draw| draw.normal(45.0, 11.0)))
///     .candidate(Traffic::new().sample("latency_ms", |draw| draw.normal(60.0, 11.0)))
///     .run(&plan)
///     .await?;
/// assert_eq!(simulated.status.phase(), RolloutPhase::Failed);
/// println!("{simulated}");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "it is run by Simulation::run"]
pub struct Simulation {
    seed: u64,
    users: u32,
    per_minute: u32,
    baseline: Traffic,
    candidate: Traffic,
    approvals: Option<Duration>,
    limit: Duration,
}

/// How a version of a [`Simulation`] behaves.
#[derive(Clone, Default)]
#[must_use]
pub struct Traffic {
    samples: Vec<(String, Sample)>,
    successes: Vec<(String, Trial)>,
    lost: f64,
}

type Sample = Arc<dyn Fn(&mut Draw) -> f64 + Send + Sync>;
type Trial = Arc<dyn Fn(&mut Draw) -> bool + Send + Sync>;

/// One request of a [`Simulation`]: chance, and the time.
#[derive(Debug)]
pub struct Draw {
    state: u64,
    elapsed: Duration,
}

/// What came of a [`Simulation`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Simulated {
    /// How the rollout ended, or stood when the time was up.
    pub status: Arc<RolloutStatus>,
    /// What happened to it, leases left out.
    pub events: Vec<Event>,
    /// How long it took, in virtual time.
    pub elapsed: Duration,
    /// How many requests went to the candidate, and to the baseline.
    pub requests: (u64, u64),
    /// How many different users met the candidate.
    pub exposed: u64,
}

impl Simulation {
    /// A simulation of 10,000 users who make 100 requests a minute, for at most 30 days, in which nobody approves anything.
    pub fn new(seed: u64) -> Self {
        Simulation {
            seed,
            users: 10_000,
            per_minute: 100,
            baseline: Traffic::new(),
            candidate: Traffic::new(),
            approvals: None,
            limit: Duration::from_secs(30 * 86_400),
        }
    }

    /// How many users there are; at least one.
    pub fn users(mut self, users: u32) -> Self {
        self.users = users.max(1);
        self
    }

    /// How many requests they make a minute, all together.
    pub fn requests_per_minute(mut self, requests: u32) -> Self {
        self.per_minute = requests;
        self
    }

    /// How the version before behaves.
    pub fn baseline(mut self, traffic: Traffic) -> Self {
        self.baseline = traffic;
        self
    }

    /// How the version behaves that is rolled out.
    pub fn candidate(mut self, traffic: Traffic) -> Self {
        self.candidate = traffic;
        self
    }

    /// Gives every approval that is waited for after this time.
    pub fn approvals_after(mut self, time: Duration) -> Self {
        self.approvals = Some(time);
        self
    }

    /// Ends after this time, however the rollout stands.
    pub fn at_most(mut self, time: Duration) -> Self {
        self.limit = time;
        self
    }

    /// Runs `plan` to its end, or until the time is up.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) where the plan is not acceptable.
    pub async fn run(&self, plan: &Rollout) -> Result<Simulated> {
        let start = DateTime::<Utc>::UNIX_EPOCH + TimeDelta::days(10_000);
        let end = start.checked_add_signed(TimeDelta::from_std(self.limit).unwrap_or(TimeDelta::MAX));
        let world = Arc::new(World {
            plan: self.clone(),
            start,
            end: end.unwrap_or(DateTime::<Utc>::MAX_UTC),
            over: Notify::new(),
            inner: Mutex::new(Inner {
                now: start,
                chance: self.seed,
                router: None,
                registry: None,
                pending: VecDeque::new(),
                folded: Folded::default(),
                requests: (0, 0),
                exposed: BTreeSet::new(),
            }),
        });
        let builder = VersionRegistry::builder().clock(world.clone());
        let registry = builder.with_store(ObjectVersionStore::memory()).await?;
        for id in [BASELINE, CANDIDATE] {
            registry.register(Version::new(id).artifact(id)).await?;
        }
        registry.deploy(CHANNEL, Split::all(BASELINE)).await?;
        {
            let router = registry.router(CHANNEL).await?;
            let mut inner = world.lock();
            (inner.router, inner.registry) = (Some(router), Some(registry.clone()));
        }
        let begun = registry.start_rollout(CHANNEL, CANDIDATE, plan).await?;
        let driven = tokio::select! {
            driven = registry.drive_rollout(CHANNEL, &*world) => driven.map(Some),
            () = world.over.notified() => Ok(None),
        };
        // The registry has the world as its clock, and the world has the registry.
        (world.lock().router, world.lock().registry) = (None, None);
        let status = match driven? {
            Some(status) => status,
            None => registry.rollout(CHANNEL).await?,
        };
        let happened = |event: &Event| matches!(event.kind, EventKind::Rollout(_));
        let events = registry.history(begun.id()).await?.into_iter().filter(happened).collect();
        let inner = world.lock();
        Ok(Simulated {
            status,
            events,
            elapsed: (inner.now - start).to_std().unwrap_or_default(),
            requests: inner.requests,
            exposed: inner.exposed.len() as u64,
        })
    }
}

impl Traffic {
    /// Requests of which nothing is measured.
    pub fn new() -> Self {
        Traffic::default()
    }

    /// Draws a sample of `metric` for every request.
    pub fn sample(
        mut self,
        metric: impl Into<String>,
        draw: impl Fn(&mut Draw) -> f64 + Send + Sync + 'static,
    ) -> Self {
        self.samples.push((metric.into(), Arc::new(draw)));
        self
    }

    /// Draws for every request whether it succeeds, as a proportion.
    pub fn success(
        mut self,
        metric: impl Into<String>,
        draw: impl Fn(&mut Draw) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.successes.push((metric.into(), Arc::new(draw)));
        self
    }

    /// Loses this share of the users before they are counted, as a version does that crashes.
    pub fn lost(mut self, share: f64) -> Self {
        self.lost = share;
        self
    }
}

impl fmt::Debug for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let samples = self.samples.iter().map(|(metric, _)| metric);
        let metrics: Vec<&String> = samples.chain(self.successes.iter().map(|(metric, _)| metric)).collect();
        f.debug_struct("Traffic").field("metrics", &metrics).field("lost", &self.lost).finish()
    }
}

impl Draw {
    /// How long ago the rollout was begun, for versions that become worse with time.
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// Evenly between 0 and 1.
    pub fn uniform(&mut self) -> f64 {
        (next(&mut self.state) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// `true` with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.uniform() < probability
    }

    /// From a normal distribution.
    pub fn normal(&mut self, mean: f64, deviation: f64) -> f64 {
        // Box and Muller. 1 - u is above 0.
        let (u, v) = (1.0 - self.uniform(), self.uniform());
        mean + deviation * libm::sqrt(-2.0 * libm::log(u)) * libm::cos(std::f64::consts::TAU * v)
    }

    /// From an exponential distribution: times between events, and many latencies.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * libm::log(1.0 - self.uniform())
    }
}

/// SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut x = *state;
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The clock and the source of metrics: as the clock goes on, requests are made.
struct World {
    plan: Simulation,
    start: DateTime<Utc>,
    end: DateTime<Utc>,
    over: Notify,
    inner: Mutex<Inner>,
}

struct Inner {
    now: DateTime<Utc>,
    chance: u64,
    router: Option<Router>,
    registry: Option<VersionRegistry>,
    /// Requests that no look has counted yet.
    pending: VecDeque<Request>,
    folded: Folded,
    requests: (u64, u64),
    exposed: BTreeSet<u32>,
}

struct Request {
    at: DateTime<Utc>,
    candidate: bool,
    /// `None` where the user was lost.
    user: Option<u32>,
    samples: Box<[f64]>,
    successes: Box<[bool]>,
}

/// What was measured since one time, of the baseline and of the candidate.
#[derive(Default)]
struct Folded {
    since: Option<DateTime<Utc>>,
    of: [Totals; 2],
}

#[derive(Default)]
struct Totals {
    requests: u64,
    users: BTreeSet<u32>,
    /// Sums and sums of squares about the first sample.
    samples: Vec<(f64, f64, f64)>,
    successes: Vec<u64>,
}

impl Totals {
    fn take(&mut self, request: &Request) {
        self.samples.resize(request.samples.len(), (0.0, 0.0, 0.0));
        self.successes.resize(request.successes.len(), 0);
        for ((first, sum, squares), sample) in self.samples.iter_mut().zip(&request.samples) {
            if self.requests == 0 {
                *first = *sample;
            }
            *sum += sample - *first;
            *squares += (sample - *first).powi(2);
        }
        for (count, success) in self.successes.iter_mut().zip(&request.successes) {
            *count += u64::from(*success);
        }
        self.requests += 1;
        self.users.extend(request.user);
    }

    fn observed(&self, traffic: &Traffic) -> Observed {
        let mut observed = Observed::new().users(self.users.len() as u64);
        let count = self.requests as f64;
        for ((metric, _), (first, sum, squares)) in traffic.samples.iter().zip(&self.samples) {
            let variance = ((squares - sum * sum / count) / (count - 1.0).max(1.0)).max(0.0);
            let (mean, deviation) = (first + sum / count, libm::sqrt(variance));
            observed = observed.metric(metric, Measure::Summary { count: self.requests, mean, deviation });
        }
        for ((metric, _), successes) in traffic.successes.iter().zip(&self.successes) {
            let (successes, trials) = (*successes, self.requests);
            observed = observed.metric(metric, Measure::Proportion { successes, trials });
        }
        observed
    }
}

impl World {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn traffic(&self, candidate: bool) -> &Traffic {
        if candidate { &self.plan.candidate } else { &self.plan.baseline }
    }

    /// Moves the clock to `until` and makes the requests on the way, with the table as it is.
    fn go_on(&self, until: DateTime<Utc>) {
        let mut inner = self.lock();
        let made = |at: DateTime<Utc>| {
            (at - self.start).num_milliseconds() as u64 * u64::from(self.plan.per_minute) / 60_000
        };
        let (first, last) = (made(inner.now), made(until));
        let span = until - inner.now;
        for number in first..last {
            let part = (number - first + 1) as f64 / (last - first + 1) as f64;
            let at = inner.now
                + TimeDelta::microseconds((span.num_microseconds().unwrap_or(0) as f64 * part) as i64);
            let user = (next(&mut inner.chance) % u64::from(self.plan.users)) as u32;
            let Some(router) = &inner.router else { break };
            let candidate = router.route(&format!("user-{user}")) == CANDIDATE;
            let traffic = self.traffic(candidate);
            let elapsed = (at - self.start).to_std().unwrap_or_default();
            let mut draw = Draw { state: next(&mut inner.chance), elapsed };
            // Of a user, so that who is lost is lost for good.
            let lost = (f64::from(user.wrapping_mul(2_654_435_761)) / f64::from(u32::MAX)) < traffic.lost;
            let samples = traffic.samples.iter().map(|(_, sample)| sample(&mut draw)).collect();
            let successes = traffic.successes.iter().map(|(_, trial)| trial(&mut draw)).collect();
            if candidate {
                inner.requests.0 += 1;
                inner.exposed.insert(user);
            } else {
                inner.requests.1 += 1;
            }
            let user = (!lost).then_some(user);
            inner.pending.push_back(Request { at, candidate, user, samples, successes });
        }
        inner.now = until;
    }

    /// Gives the approval that is waited for, if it is time.
    async fn approve(&self) {
        let (Some(wait), Some(registry)) = (self.plan.approvals, self.lock().registry.clone()) else {
            return;
        };
        let Ok(status) = registry.known_rollout(CHANNEL) else { return };
        let waits =
            matches!(status.current_step(), Some(RolloutStep::Approval(_))) && !status.phase().is_over();
        if waits && (self.now() - status.step_began()).to_std().is_ok_and(|waited| waited >= wait) {
            // Paused by its deadline, it stays so.
            let _ = registry.acting_as("approver").approve_rollout(&status).await;
        }
    }
}

#[async_trait]
impl Clock for World {
    fn now(&self) -> DateTime<Utc> {
        self.lock().now
    }

    async fn sleep(&self, duration: Duration) {
        tokio::task::yield_now().await;
        let span = TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX);
        let until = self.now().checked_add_signed(span).unwrap_or(DateTime::<Utc>::MAX_UTC);
        self.go_on(until.min(self.end));
        if until >= self.end {
            self.over.notify_one();
            std::future::pending::<()>().await;
        }
        self.approve().await;
    }
}

#[async_trait]
impl MetricSource for World {
    async fn observe(&self, window: &Window) -> Result<Observed, Box<dyn StdError + Send + Sync>> {
        let mut inner = self.lock();
        let Inner { pending, folded, .. } = &mut *inner;
        if folded.since != Some(window.since) {
            *folded = Folded { since: Some(window.since), of: Default::default() };
        }
        while let Some(request) = pending.pop_front_if(|request| request.at < window.until) {
            if request.at >= window.since {
                folded.of[usize::from(request.candidate)].take(&request);
            }
        }
        let candidate = window.version == CANDIDATE;
        Ok(folded.of[usize::from(candidate)].observed(self.traffic(candidate)))
    }
}

impl fmt::Display for Simulated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let started = self.status.started_at();
        for event in &self.events {
            let EventKind::Rollout(rollout) = &event.kind else { continue };
            let minutes = (event.at - started).num_minutes();
            write!(f, "{:>4}:{:02} {:?}", minutes / 60, minutes % 60, rollout.change)?;
            if let Some(deployment) = &rollout.deployment {
                write!(f, " [{}]", deployment.split())?;
            }
            if let Some(reason) = &rollout.reason {
                write!(f, " {reason}")?;
            }
            writeln!(f)?;
        }
        let (candidate, baseline) = self.requests;
        let exposed = self.exposed;
        let phase = self.status.phase();
        write!(
            f,
            "{phase}: {exposed} users met the candidate; {candidate} of {} requests",
            candidate + baseline
        )
    }
}
