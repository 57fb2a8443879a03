#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod alert;
mod cells;
mod clock;
mod disk;
mod drift;
mod error;
mod event;
mod exemplar;
mod export;
#[cfg(feature = "metrics")]
mod facade;
mod handle;
mod metric;
mod monitor;
mod notify;
mod recent;
mod rings;
mod select;
mod series;
mod sink;
mod sketch;
mod snapshot;
#[cfg(feature = "tracing")]
mod spans;
mod summary;
mod table;
#[cfg(feature = "testing")]
pub mod testing;
mod window;

pub use alert::condition::Condition;
pub use alert::engine::builder::AlertEngineBuilder;
pub use alert::engine::deliver::Delivery;
pub use alert::engine::evaluate::Evaluation;
pub use alert::engine::{AlertEngine, Recovery, RouteStatus};
pub use alert::matcher::{Inhibition, Matcher, Silence};
pub use alert::route::Route;
pub use alert::rule::AlertRule;
pub use alert::{Acknowledgement, Alert, AlertState, Severity};
pub use clock::Clock;
pub use drift::adwin::Adwin;
pub use drift::change::{ChangeDetector, Scored, Streamed};
pub use drift::check::DriftCheck;
pub use drift::cusum::Cusum;
pub use drift::distribution::{KolmogorovSmirnov, PopulationStability};
pub use drift::hinkley::PageHinkley;
pub use drift::kswin::Kswin;
pub use drift::mean::{RelativeMean, Welch};
pub use drift::rank::MannWhitney;
pub use drift::report::DriftReport;
pub use drift::sample::Sample;
pub use drift::surprise::Surprise;
pub use drift::{DriftDetector, Finding, Verdict};
pub use error::{Error, ErrorKind, Result};
pub use event::Event;
pub use export::Exposition;
#[cfg(feature = "otlp")]
pub use export::otlp::{OtlpExporter, Pushed};
pub use handle::{Counter, Gauge, Histogram};
pub use metric::{Description, Direction, MetricInfo, MetricKind};
pub use monitor::PerformanceMonitor;
pub use monitor::builder::MonitorBuilder;
#[cfg(feature = "http")]
pub use notify::alertmanager::Alertmanager;
#[cfg(feature = "http")]
pub use notify::chat::{Discord, Slack};
#[cfg(feature = "http")]
pub use notify::http::Endpoint;
#[cfg(feature = "http")]
pub use notify::webhook::Webhook;
pub use notify::{FnNotifier, Notification, Notifier, NotifyError};
pub use select::Selection;
pub use sink::adapt::{FanOut, Filter, Rename};
pub use sink::{Measurement, MetricSink, MetricSinkExt, Tags};
pub use sketch::Sketch;
pub use snapshot::Restored;
#[cfg(feature = "tracing")]
pub use spans::SpanTimes;
pub use summary::Summary;
pub use window::Window;
