//! The targets of swarm-config: ours beside figment, config-rs and the same by hand with serde_json, in one run.
//!
//! `cargo bench -p swarm-benches --features peers --bench config_targets`, and the names of parts to run only those.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a bench")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering::Relaxed};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use swarm_benches::large::{Agent, Settings, Tool, Workflow, merge_by_hand, overlay, schema, settings};
use swarm_benches::measure::{scratch, timed, wall};
use swarm_benches::session::{Contender, Session};
use swarm_benches::table::{HEADER, Row, Target, Unit};
use swarm_config::{ConfigLoader, ConfigValidator, Format, Section};

/// Counts what is held, the most that was, and all that was ever asked for.
struct Counting;

/// Whether anybody counts. Where time is measured nobody does.
static COUNTS: AtomicBool = AtomicBool::new(false);
static HELD: AtomicIsize = AtomicIsize::new(0);
static PEAK: AtomicIsize = AtomicIsize::new(0);
static ASKED: AtomicIsize = AtomicIsize::new(0);

// SAFETY: passes everything on to the system's allocator and only counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if COUNTS.load(Relaxed) {
            let size = layout.size() as isize;
            ASKED.fetch_add(size, Relaxed);
            PEAK.fetch_max(HELD.fetch_add(size, Relaxed) + size, Relaxed);
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if COUNTS.load(Relaxed) {
            HELD.fetch_sub(layout.size() as isize, Relaxed);
        }
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Megabytes that are held by what `make` answers with, that were held at most meanwhile, and that were asked for.
fn memory<T>(make: impl FnOnce() -> T) -> [f64; 3] {
    let (held, asked) = (HELD.load(Relaxed), ASKED.load(Relaxed));
    PEAK.store(held, Relaxed);
    COUNTS.store(true, Relaxed);
    let made = make();
    COUNTS.store(false, Relaxed);
    let after = [HELD.load(Relaxed) - held, PEAK.load(Relaxed) - held, ASKED.load(Relaxed) - asked];
    drop(made);
    after.map(|bytes| bytes as f64 / 1e6)
}

#[derive(Deserialize)]
struct Lazy {
    agents: Section<BTreeMap<String, Agent>>,
    tools: Section<BTreeMap<String, Tool>>,
    workflows: Section<BTreeMap<String, Workflow>>,
}

struct Bench {
    session: Session,
    agents: usize,
    rounds: usize,
    over: String,
}

fn main() {
    let session = Session::from_env();
    let bench = Bench { agents: session.pick(10, 1000), rounds: 7, over: overlay().to_string(), session };
    if matches!(bench.session, Session::Table(_)) {
        println!("{HEADER}");
    }
    let parts: [(&str, fn(&Bench)); 5] = [
        ("load", Bench::load),
        ("merge", Bench::merge),
        ("read", Bench::read),
        ("sections", Bench::sections),
        ("memory", Bench::memory),
    ];
    for (name, part) in parts {
        if bench.session.wants(name) {
            part(&bench);
        }
    }
}

impl Bench {
    fn text(&self, format: Format) -> String {
        match format {
            Format::Toml => toml::to_string(&settings(self.agents)).unwrap(),
            Format::Yaml => block_yaml(&settings(self.agents)),
            _ => settings(self.agents).to_string(),
        }
    }

    fn loader(&self, format: Format, text: &str) -> ConfigLoader {
        ConfigLoader::new().text("base", format, text).text("over", Format::Json, self.over.clone())
    }

    fn row(
        &self,
        what: impl Into<String>,
        unit: Unit,
        ours: f64,
        peers: Vec<(&'static str, f64)>,
        targets: Vec<Target>,
    ) {
        // Tiny sizes say nothing about a target.
        let targets = self.session.pick(vec![], targets);
        if !matches!(self.session, Session::Repetition { .. }) {
            println!("{}", Row { what: what.into(), unit, ours: Some(ours), peers, targets });
        }
    }

    /// Base and overlay, merged, validated (ours alone), and made into a struct.
    fn load(&self) {
        for (format, name, times) in
            [(Format::Json, "JSON", 3.0), (Format::Toml, "TOML", 2.0), (Format::Yaml, "YAML", 2.0)]
        {
            let text = self.text(format);
            let ours = || {
                let validator = ConfigValidator::new(schema()).unwrap();
                let (took, config) =
                    timed(|| self.loader(format, &text).validator(validator).load::<Settings>().unwrap());
                assert_eq!(config.get().agents["agent-1"].max_retries, 5);
                took
            };
            #[allow(unused_mut, reason = "there may be no peers")]
            let mut contenders = vec![Contender::new("ours", ours)];
            #[cfg(feature = "peers")]
            self.peers(format, &text, &mut contenders);
            if format == Format::Json {
                contenders.push(Contender::new("serde_json by hand", || self.by_hand(&text)));
            }
            let what = format!("load {name} with overlay, ours validated");
            let times_of = self.session.measure(&what, self.rounds, 9, &contenders);
            let Some((ours, peers)) = times_of.split_first() else { continue };
            let peers = peers.iter().map(|(name, time)| (*name, time.as_secs_f64())).collect();
            self.row(
                what,
                Unit::Seconds,
                ours.1.as_secs_f64(),
                peers,
                vec![Target::TimesAsGood("figment", times)],
            );
        }
    }

    fn by_hand(&self, text: &str) -> Duration {
        let (took, settings) = timed(|| {
            let mut base: Value = serde_json::from_str(text).unwrap();
            merge_by_hand(&mut base, serde_json::from_str(&self.over).unwrap());
            serde_json::from_value::<Settings>(base).unwrap()
        });
        drop(settings);
        took
    }

    #[cfg(feature = "peers")]
    fn peers<'b>(&'b self, format: Format, text: &'b str, contenders: &mut Vec<Contender<'b>>) {
        contenders.push(Contender::new("figment", move || timed(|| self.figment(format, text)).0));
        if format == Format::Json {
            let source = |text: &str| config::File::from_str(text, config::FileFormat::Json);
            contenders.push(Contender::new("config-rs", move || {
                let load = || {
                    let built =
                        config::Config::builder().add_source(source(text)).add_source(source(&self.over));
                    built.build().unwrap().try_deserialize::<Settings>().unwrap()
                };
                timed(load).0
            }));
        }
    }

    #[cfg(feature = "peers")]
    fn figment(&self, format: Format, text: &str) -> Settings {
        use figment::Figment;
        use figment::providers::{Format as _, Json, Toml, Yaml};
        let base = match format {
            Format::Toml => Figment::from(Toml::string(text)),
            Format::Yaml => Figment::from(Yaml::string(text)),
            _ => Figment::from(Json::string(text)),
        };
        base.merge(Json::string(&self.over)).extract().unwrap()
    }

    /// What the overlay adds to reading the base: its time, and the bytes that are asked for.
    fn merge(&self) {
        let text = self.text(Format::Json);
        let base = ConfigLoader::new().text("base", Format::Json, text.clone());
        let over = ConfigLoader::new().text("over", Format::Json, self.over.clone());
        let both = self.loader(Format::Json, &text);
        let least = |loader: &ConfigLoader| {
            (0..self.session.pick(1, 60))
                .map(|_| wall(|| loader.load_tree().unwrap()))
                .min()
                .unwrap()
                .as_secs_f64()
        };
        let asked = |loader: &ConfigLoader| memory(|| loader.load_tree().unwrap())[2];
        let merge = (least(&both) - least(&base) - least(&over)).max(0.0);
        let validator = ConfigValidator::new(schema()).unwrap();
        let whole = (0..self.session.pick(1, 20))
            .map(|_| wall(|| both.clone().validator(validator.clone()).load::<Settings>().unwrap()));
        let whole = whole.min().unwrap().as_secs_f64();
        self.row("merge alone, of the load", Unit::Factor, merge / whole, vec![], vec![Target::AtMost(0.02)]);
        let bytes = (asked(&both) - asked(&base) - asked(&over)) / asked(&base);
        self.row(
            "bytes asked for by the merge, of the base's",
            Unit::Factor,
            bytes,
            vec![],
            vec![Target::AtMost(0.02)],
        );
    }

    fn read(&self) {
        let text = self.text(Format::Json);
        let config = self.loader(Format::Json, &text).load::<Settings>().unwrap();
        let count = self.session.pick(10, 1_000_000);
        let each =
            |read: &mut dyn FnMut()| wall(|| (0..count).for_each(|_| read())).as_secs_f64() / count as f64;
        let snapshot = config.get();
        let path = each(&mut || _ = black_box(snapshot.tree().get(black_box("agents.agent-5.limits.cpu"))));
        let mut handle = config.handle();
        let handle = each(&mut || _ = black_box(handle.get().agents.len()));
        let get = each(&mut || _ = black_box(config.get().agents.len()));
        self.row("read one key by path", Unit::Seconds, path, vec![], vec![Target::AtMost(1e-6)]);
        self.row(
            "read through a handle",
            Unit::Seconds,
            handle,
            vec![("snapshot", get)],
            vec![Target::AtMost(20e-9)],
        );
    }

    /// Sections that wait: opening, and reloading a file in which one entity changed.
    fn sections(&self) {
        let text = self.text(Format::Json);
        let validator = ConfigValidator::new(schema()).unwrap();
        let middle = |work: &mut dyn FnMut() -> Duration| {
            let mut times: Vec<Duration> = (0..self.session.pick(1, 25)).map(|_| work()).collect();
            times.sort();
            times[times.len() / 2].as_secs_f64()
        };
        let plain = || ConfigLoader::new().text("base", Format::Json, text.clone());
        let eager = middle(&mut || wall(|| plain().validator(validator.clone()).load::<Settings>().unwrap()));
        let touch = |loader: ConfigLoader| {
            wall(|| loader.load::<Lazy>().unwrap().get().workflows.get().unwrap().len())
        };
        let lazy = middle(&mut || touch(plain().validator(validator.clone())));
        let unchecked = middle(&mut || touch(plain()));
        let what = "open with sections and touch one, of the eager load";
        self.row(
            what,
            Unit::Factor,
            lazy / eager,
            vec![("without a schema", unchecked / eager)],
            vec![Target::AtMost(0.1)],
        );

        let folder = scratch("target");
        let split: BTreeMap<String, Value> = serde_json::from_str(&text).unwrap();
        let one = [folder.path().join("all.json")];
        std::fs::write(&one[0], &text).unwrap();
        let many: Vec<_> = split.keys().map(|name| folder.path().join(format!("{name}.json"))).collect();
        for ((name, value), path) in split.iter().zip(&many) {
            std::fs::write(path, serde_json::json!({name: value}).to_string()).unwrap();
        }
        for (paths, how) in [(&one[..], "one file"), (&many[..], "a file a section")] {
            let mut loader = ConfigLoader::new().validator(validator.clone());
            for path in paths {
                loader = loader.file(path);
            }
            let edited = paths
                .iter()
                .find(|path| !path.ends_with("agents.json") && !path.ends_with("tools.json"))
                .unwrap();
            let was = std::fs::read_to_string(edited).unwrap();
            let (mut at, config) = (0, loader.load::<Lazy>().unwrap());
            let made = config.get();
            let _all = (made.agents.get().unwrap(), made.tools.get().unwrap(), made.workflows.get().unwrap());
            drop(made);
            let reload = middle(&mut || {
                at += 1;
                std::fs::write(edited, was.replacen("\"step-1\"", &format!("\"step-1x{at}\""), 1)).unwrap();
                let (took, changes) = timed(|| config.reload().unwrap());
                assert_eq!(changes.len(), 1);
                assert!(config.get().agents.is_made() && config.get().tools.is_made());
                took
            });
            let what = format!("reload after one changed entity, {how}, of the full load");
            self.row(what, Unit::Factor, reload / eager, vec![], vec![Target::AtMost(0.15)]);
        }
    }

    fn memory(&self) {
        let text = self.text(Format::Json);
        // The text given to the loader is the test's; the one that is kept for locations is counted.
        let loader = ConfigLoader::new().text("base", Format::Json, text.clone());
        let [held, peak, _] = memory(|| loader.load_tree().unwrap());
        #[allow(unused_mut, clippy::useless_vec, reason = "there may be no peers")]
        let mut others = vec![("serde_json", memory(|| serde_json::from_str::<Value>(&text).unwrap()))];
        #[cfg(feature = "peers")]
        others.push((
            "figment",
            memory(|| {
                use figment::providers::{Format as _, Json};
                figment::Figment::from(Json::string(&text)).extract::<figment::value::Value>().unwrap()
            }),
        ));
        let peers =
            |of: fn(&[f64; 3]) -> f64| others.iter().map(|(name, figures)| (*name, of(figures))).collect();
        self.row(
            "retained by a tree, MB",
            Unit::Factor,
            held,
            peers(|[held, ..]| *held),
            vec![Target::AtMost(6.0)],
        );
        self.row(
            "peak over retained",
            Unit::Factor,
            peak / held,
            peers(|[held, peak, _]| peak / held),
            vec![Target::AtMost(2.0)],
        );
    }
}

/// YAML as people write it: blocks, and quotes around texts.
fn block_yaml(value: &Value) -> String {
    fn write(out: &mut String, value: &Value, indent: usize) {
        let pad = " ".repeat(indent);
        match value {
            Value::Object(entries) if !entries.is_empty() => {
                for (key, value) in entries {
                    out.push('\n');
                    out.push_str(&pad);
                    out.push_str(key);
                    out.push(':');
                    write(out, value, indent + 2);
                }
            }
            Value::Array(items) if !items.is_empty() => {
                for item in items {
                    out.push('\n');
                    out.push_str(&pad);
                    out.push('-');
                    write(out, item, indent + 2);
                }
            }
            other => {
                out.push(' ');
                out.push_str(&other.to_string());
            }
        }
    }
    let mut out = String::new();
    write(&mut out, value, 0);
    out.push('\n');
    out
}
