use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::alert::engine::deliver::back_off;
use crate::export::otlp::answer::{Partial, reason};
use crate::export::otlp::request::{Form, Request, requests};
use crate::monitor::PerformanceMonitor;
use crate::notify::NotifyError;
use crate::notify::http::Endpoint;

mod answer;
mod exponential;
mod request;
mod wire;

/// Pushes the metrics of a monitor to what takes OTLP over HTTP in protobuf: an OpenTelemetry Collector, a Prometheus, a vendor (feature
/// `otlp`).
///
/// Every point counts from when its series began, so that a push that failed is made up for by the next one, and nothing is queued. Of
/// names, units and kinds the [crate page](crate#export) tells.
///
/// ```no_run
/// use std::time::Duration;
/// use swarm_monitor::{Endpoint, OtlpExporter, PerformanceMonitor};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let monitor = PerformanceMonitor::new();
/// let collector = Endpoint::new("http://collector:4318")?.allow_private();
/// let exporter = OtlpExporter::new(collector).service("checkout").resource("deployment.environment.name", "staging");
/// let pushed = exporter.push(&monitor).await?; // once
/// println!("{} points", pushed.points);
/// exporter.run(&monitor, Duration::from_secs(60)).await; // every minute, for ever
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct OtlpExporter {
    endpoint: Endpoint,
    resource: BTreeMap<String, String>,
    form: Form,
    limit: usize,
}

/// What became of a [push](OtlpExporter::push).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Pushed {
    /// How many requests it took.
    pub requests: usize,
    /// Data points in them.
    pub points: usize,
    /// How many of these the receiver says that it did not take.
    pub rejected: u64,
    /// What it says about them, or what it warns of. Of the receiver's making: cut after 1,024 bytes, and otherwise as it came; if it repeats
    /// a header or a token of the address, it is left out.
    pub message: String,
}

impl OtlpExporter {
    /// To this receiver, as in `http://collector:4318`; `/v1/metrics` is added. Of a Prometheus it is `http://prometheus:9090/api/v1/otlp`.
    ///
    /// Keys that a vendor wants go into a [header](Endpoint::header).
    pub fn new(endpoint: Endpoint) -> Self {
        let mut resource = BTreeMap::new();
        for (name, value) in [
            ("service.name", format!("unknown_service:{}", executable())),
            ("service.instance.id", instance().to_owned()),
            ("telemetry.sdk.language", "rust".to_owned()),
            ("telemetry.sdk.name", env!("CARGO_PKG_NAME").to_owned()),
            ("telemetry.sdk.version", env!("CARGO_PKG_VERSION").to_owned()),
        ] {
            resource.insert(name.to_owned(), value);
        }
        OtlpExporter { endpoint: endpoint.at("/v1/metrics"), resource, form: Form::Explicit, limit: 4 << 20 }
    }

    /// What this service is called: the resource's attribute `service.name`. By default `unknown_service:` and the program's name.
    pub fn service(self, name: impl Into<String>) -> Self {
        self.resource("service.name", name)
    }

    /// Sets an attribute of the resource, which is what all metrics are of.
    ///
    /// There are `service.name`; `service.instance.id`, which is made up anew in each process, so that two of them are told apart; and
    /// `telemetry.sdk.` `name`, `language` and `version`.
    ///
    /// All exporters of a process have the same `service.instance.id`: where two of them push different monitors to one receiver under one
    /// name, set another for each, as a receiver would take their points for those of one.
    pub fn resource(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.resource.insert(name.into(), value.into());
        self
    }

    /// Sends histograms with buckets that need no bounds: OTLP's exponential ones, which become native histograms in Prometheus.
    ///
    /// They are about as wide as the monitor's [accuracy](crate::MonitorBuilder::accuracy), 2.2 % of a value for 1 %, and wider where there
    /// would be more than 160 for a sign. A value is in its bucket, or nearer to it than the accuracy. Without, histograms have the
    /// [bounds](crate::Description::bounds) of their descriptions, as in [`expose`](PerformanceMonitor::expose).
    pub fn exponential(mut self) -> Self {
        self.form = Form::Exponential;
        self
    }

    /// How many bytes a request may have: 4 MiB by default, which is what Collectors take. What is more goes into several, one after the other.
    /// A single point that is larger is sent all the same.
    pub fn request_limit(mut self, bytes: usize) -> Self {
        self.limit = bytes;
        self
    }

    /// Tells how everything stands now. There is one try: see [`run`](OtlpExporter::run) for more.
    ///
    /// # Errors
    ///
    /// [Retryable](NotifyError::is_retryable) if the receiver cannot be reached, or answers 429, 502, 503 or 504; the rest is not sent then.
    /// Otherwise it refused a request; those after it were sent nevertheless, and this is why the first one failed. What it said of those that it
    /// took is in the log then, as a warning.
    pub async fn push(&self, monitor: &PerformanceMonitor) -> Result<Pushed, NotifyError> {
        let (exporter, monitor) = (self.clone(), monitor.clone());
        let made = tokio::task::spawn_blocking(move || {
            requests(&monitor.inner, &exporter.resource, exporter.form, exporter.limit)
        });
        let made = made.await.map_err(|_| NotifyError::later("making the requests panicked"))?;
        let mut pushed = Pushed::default();
        let mut failure = None;
        for request in made {
            if let Err(error) = self.send(request, &mut pushed).await {
                let later = error.is_retryable();
                if later || failure.is_none() {
                    failure = Some(error);
                }
                if later {
                    break;
                }
            }
        }
        match failure {
            None => Ok(pushed),
            Some(error) => {
                pushed.warn();
                Err(error)
            }
        }
    }

    /// Pushes every so often, for ever; at least a second apart. Dropping the future ends it.
    ///
    /// What may be tried again is, after a pause that doubles from a second and is no longer than `every`, or as long as the receiver says by
    /// `Retry-After`. Failures, and points that were rejected, are in the log as warnings.
    pub async fn run(&self, monitor: &PerformanceMonitor, every: Duration) {
        let mut failures = 0;
        loop {
            let begun = Instant::now();
            let pushed = self.push(monitor).await;
            match &pushed {
                Ok(pushed) => pushed.warn(),
                Err(error) => tracing::warn!(%error, "metrics could not be pushed"),
            }
            failures = match &pushed {
                Err(error) if error.is_retryable() => u32::saturating_add(failures, 1),
                _ => 0,
            };
            let random = RandomState::new().hash_one(failures);
            let asked = pushed.as_ref().err().and_then(NotifyError::pause).unwrap_or_default();
            tokio::time::sleep(pause(failures, asked, every, begun.elapsed(), random)).await;
        }
    }

    async fn send(&self, request: Request, pushed: &mut Pushed) -> Result<(), NotifyError> {
        let Request { body, points } = request;
        let answer = self.endpoint.send("application/x-protobuf", body, Vec::new(), 64 << 10).await?;
        let said = if answer.kind.starts_with("application/x-protobuf") { &answer.body[..] } else { &[] };
        // Looked for in all of it, as what is cut may end within a token.
        let secret = self.endpoint.is_given_away_by(said);
        match answer.status.as_u16() {
            200..=299 => {
                let Partial { rejected, message } = Partial::of(said);
                let message = if secret && !message.is_empty() { WITHHELD.to_owned() } else { message };
                pushed.requests += 1;
                pushed.points += points;
                pushed.rejected = pushed.rejected.saturating_add(rejected);
                if pushed.message.is_empty() {
                    pushed.message = message;
                }
                Ok(())
            }
            429 | 502 | 503 | 504 => Err(self.endpoint.busy(&answer)),
            _ => {
                let error = self.endpoint.refused(&answer);
                Err(match reason(said) {
                    Some(_) if secret => NotifyError::never(format!("{error}: {WITHHELD}")),
                    Some(reason) => NotifyError::never(format!("{error}: {reason:?}")),
                    None => error,
                })
            }
        }
    }
}

impl Pushed {
    /// Puts what the receiver says into the log, if it says something.
    fn warn(&self) {
        let Pushed { rejected, message, .. } = self;
        if *rejected > 0 || !message.is_empty() {
            tracing::warn!(rejected, said = ?message, "not all metrics were taken");
        }
    }
}

/// In place of a text that has a secret in it.
const WITHHELD: &str = "left out, as it repeats a secret";

impl fmt::Debug for OtlpExporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtlpExporter")
            .field("endpoint", &self.endpoint)
            .field("resource", &self.resource)
            .field("form", &self.form)
            .finish_non_exhaustive()
    }
}

/// How long to wait after a push that took so long, and came after so many failures.
fn pause(failures: u32, asked: Duration, every: Duration, took: Duration, random: u64) -> Duration {
    const LEAST: Duration = Duration::from_secs(1);
    // Nobody may ask for more than an hour.
    const MOST: Duration = Duration::from_secs(3_600);
    let usual = every.saturating_sub(took).max(LEAST);
    if failures == 0 {
        usual
    } else {
        Duration::from_secs(back_off(failures, random)).min(usual).max(asked.min(MOST))
    }
}

/// The program's name.
fn executable() -> String {
    let path = env::current_exe().ok();
    path.as_deref().and_then(|path| path.file_name()?.to_str()).unwrap_or("rust").to_owned()
}

/// A UUID of this process, made up once.
fn instance() -> &'static str {
    static INSTANCE: OnceLock<String> = OnceLock::new();
    INSTANCE.get_or_init(|| {
        // The keys of the standard library's hash maps are the system's random numbers.
        let half = |salt: u64| u128::from(RandomState::new().hash_one((salt, std::process::id())));
        let bits = half(1) << 64 | half(2);
        let bits = bits & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
        let hex = format!("{bits:032x}");
        [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_as_the_receiver_asks_and_no_longer_than_usual() {
        let seconds = Duration::from_secs;
        for (failures, asked, every, took, least, most) in [
            (0, 0, 60, 5, 55, 55),
            (0, 0, 60, 90, 1, 1),
            (0, 0, 0, 0, 1, 1),
            (1, 0, 60, 5, 1, 1),
            (4, 0, 60, 5, 6, 10),
            (30, 0, 60, 0, 60, 60),
            (1, 7, 60, 0, 7, 7),
            (1, 90, 60, 0, 90, 90),
            (1, 1_000_000, 60, 0, 3_600, 3_600),
        ] {
            for random in 0..100 {
                let pause = pause(failures, seconds(asked), seconds(every), seconds(took), random);
                assert!((seconds(least)..=seconds(most)).contains(&pause), "{failures} {asked}: {pause:?}");
            }
        }
    }

    #[test]
    fn an_instance_is_a_uuid_of_version_4_and_stays() {
        let id = instance();
        assert_eq!((id.len(), &id[14..15]), (36, "4"));
        assert!("89ab".contains(&id[19..20]), "{id}");
        assert_eq!(id, instance());
    }
}
