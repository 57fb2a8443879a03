use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use futures::{FutureExt as _, StreamExt as _};
use serde::Deserialize;
#[cfg(feature = "figment")]
use swarm_config::Severity;
use swarm_config::testing::ManualWatch;
use swarm_config::{Config, ConfigEvent, ConfigLoader, ErrorKind, Secret, SecretError, SecretProvider};

/// First and last line of the file: they differ only if someone saw half of it.
#[derive(Debug, Deserialize)]
struct Pair {
    first: u64,
    last: u64,
}

fn text(value: u64) -> String {
    format!("first = {value}\n{}last = {value}\n", "# padding\n".repeat(2000))
}

fn open(path: &Path) -> Config<Pair> {
    ConfigLoader::new().file(path).load().unwrap()
}

/// A file, the configuration that it holds, and a watch in virtual time.
struct Watched<T: serde::de::DeserializeOwned + Send + Sync + 'static> {
    folder: tempfile::TempDir,
    path: PathBuf,
    config: Config<T>,
    watch: ManualWatch<T>,
}

impl<T: serde::de::DeserializeOwned + Send + Sync + 'static> Watched<T> {
    fn new(text: &str) -> Watched<T> {
        Watched::of(text, |loader| loader)
    }

    /// With a loader that has more than the file.
    fn of(text: &str, more: impl FnOnce(ConfigLoader) -> ConfigLoader) -> Watched<T> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.toml");
        fs::write(&path, text).unwrap();
        let config = more(ConfigLoader::new().file(&path)).load().unwrap();
        let watch = ManualWatch::new(&config);
        Watched { folder, path, config, watch }
    }

    /// Writes the file, says so, and lets time pass. Answers with what happened.
    fn write(&mut self, text: &str, time: Duration) -> Vec<ConfigEvent> {
        fs::write(&self.path, text).unwrap();
        self.touch(time)
    }

    fn touch(&mut self, time: Duration) -> Vec<ConfigEvent> {
        self.watch.touched(&self.path);
        self.watch.advance(time);
        events(&mut self.watch)
    }
}

/// As long as nothing must happen before a file is read.
const SETTLE: Duration = Duration::from_millis(10);

/// The events that are there already.
fn events<T>(watch: &mut ManualWatch<T>) -> Vec<ConfigEvent>
where
    T: serde::de::DeserializeOwned + Send + Sync + 'static,
{
    std::iter::from_fn(|| watch.events().next().now_or_never().flatten()).collect()
}

fn is_refused(found: &[ConfigEvent], kind: ErrorKind) -> bool {
    matches!(found, [ConfigEvent::Rejected { error, .. }] if error.kind() == kind)
}

#[test]
fn a_bad_file_keeps_the_last_good_and_says_so_once() {
    let mut file = Watched::<Pair>::new(&text(1));
    let found: Vec<_> = (0..3).flat_map(|_| file.write("first = ", Duration::from_secs(6))).collect();
    assert_eq!(file.config.get().first, 1);
    assert!(is_refused(&found, ErrorKind::Syntax), "{found:?}");
    fs::remove_file(&file.path).unwrap();
    let found = file.touch(SETTLE);
    assert!(is_refused(&found, ErrorKind::NotFound), "{found:?}");
    let found = file.write(&text(2), SETTLE);
    let [ConfigEvent::Changed { changes, .. }] = &found[..] else { panic!("{found:?}") };
    assert_eq!(
        changes.iter().map(|change| change.to_string()).collect::<Vec<_>>(),
        ["first: 1 -> 2", "last: 1 -> 2"]
    );
}

#[test]
fn a_file_is_read_when_its_writer_is_done() {
    let mut file = Watched::<Pair>::new(&text(1));
    fs::write(&file.path, "first = 2").unwrap();
    file.watch.written(&file.path);
    file.watch.advance(Duration::from_millis(900));
    fs::write(&file.path, text(2)).unwrap();
    file.watch.closed(&file.path);
    file.watch.advance(SETTLE);
    assert_eq!(file.config.get().last, 2);
    assert_eq!(events(&mut file.watch).len(), 1);
}

#[test]
fn content_decides_and_not_time_or_size() {
    let mut file = Watched::<Pair>::new(&text(1));
    let modified = fs::metadata(&file.path).unwrap().modified().unwrap();
    file.watch.advance(Duration::from_secs(6));
    assert!(file.write(&text(1), Duration::from_secs(1)).is_empty());
    fs::write(&file.path, text(2)).unwrap();
    fs::File::options().write(true).open(&file.path).unwrap().set_modified(modified).unwrap();
    file.touch(Duration::from_secs(1));
    assert_eq!(file.config.get().first, 2);
}

#[test]
fn a_file_that_is_written_to_without_end_is_read_all_the_same() {
    let mut file = Watched::<Pair>::new(&text(1));
    fs::write(&file.path, text(2)).unwrap();
    for _ in 0..3 {
        file.watch.written(file.folder.path().join("app.log"));
        file.watch.advance(Duration::from_millis(400));
    }
    assert_eq!(file.config.get().last, 2);
}

/// Panics when it is 13.
#[derive(Debug)]
struct Shy(u64);

impl<'de> Deserialize<'de> for Shy {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Shy, D::Error> {
        let value = u64::deserialize(from)?;
        assert_ne!(value, 13, "on purpose");
        Ok(Shy(value))
    }
}

#[derive(Debug, Deserialize)]
struct One {
    value: Shy,
}

/// Notes that it was woken.
#[derive(Default)]
struct Woken(AtomicBool);

impl std::task::Wake for Woken {
    fn wake(self: std::sync::Arc<Woken>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn who_waits_for_an_event_is_woken() {
    let mut file = Watched::<Pair>::new(&text(1));
    let woken = std::sync::Arc::new(Woken::default());
    let waker = woken.clone().into();
    let mut context = std::task::Context::from_waker(&waker);
    assert!(file.watch.events().poll_next_unpin(&mut context).is_pending());
    assert!(file.config.reload().unwrap().is_empty() && !woken.0.load(Ordering::Relaxed));
    fs::write(&file.path, text(2)).unwrap();
    file.config.reload().unwrap();
    assert!(woken.0.load(Ordering::Relaxed));
    assert!(file.watch.events().poll_next_unpin(&mut context).is_ready());
}

struct Startled;

impl std::task::Wake for Startled {
    fn wake(self: std::sync::Arc<Startled>) {
        panic!("a waker that panics, on purpose");
    }
}

#[test]
fn watching_goes_on_after_a_panic_of_the_type_or_of_a_waker() {
    let mut file = Watched::<One>::new("value = 1");
    let waker = std::sync::Arc::new(Startled).into();
    assert!(file.watch.events().poll_next_unpin(&mut std::task::Context::from_waker(&waker)).is_pending());
    let found = file.write("value = 13", SETTLE);
    assert_eq!(file.config.get().value.0, 1);
    assert!(is_refused(&found, ErrorKind::Type), "{found:?}");
    let found = file.write("value = 2", SETTLE);
    assert_eq!(file.config.get().value.0, 2);
    assert!(matches!(&found[..], [ConfigEvent::Changed { .. }]), "{found:?}");
}

/// A figment provider that supplies nothing, but does something each time.
#[cfg(feature = "figment")]
struct Does<F>(F);

#[cfg(feature = "figment")]
impl<F: Fn()> figment::Provider for Does<F> {
    fn metadata(&self) -> figment::Metadata {
        figment::Metadata::named("does")
    }

    fn data(&self) -> Result<figment::value::Map<figment::Profile, figment::value::Dict>, figment::Error> {
        (self.0)();
        Ok(Default::default())
    }
}

#[cfg(feature = "figment")]
#[test]
fn watching_goes_on_after_a_panic_of_a_figment_provider() {
    let asked = AtomicU64::new(0);
    let provider = Does(move || assert_ne!(asked.fetch_add(1, Ordering::Relaxed), 1, "on purpose"));
    let mut file = Watched::<Pair>::of(&text(1), |loader| loader.figment(provider));
    let found = file.write(&text(2), SETTLE);
    assert!(is_refused(&found, ErrorKind::Provider), "{found:?}");
    assert!(matches!(&found[..], [ConfigEvent::Rejected { error, .. }] if error.is_retryable()));
    // Nobody knows whether it lasts, so it is asked again.
    file.watch.advance(Duration::from_secs(5));
    assert_eq!(file.config.get().first, 2);
}

#[test]
fn what_was_reloaded_by_hand_gives_way_to_what_was_there_before() {
    let mut file = Watched::<Pair>::new(&text(1));
    file.watch.advance(Duration::from_secs(6));
    fs::write(&file.path, text(2)).unwrap();
    file.config.reload().unwrap();
    assert_eq!(file.config.get().first, 2);
    file.write(&text(1), SETTLE);
    assert_eq!(file.config.get().first, 1);
    // What is refused is told again where something else was in place in between.
    assert_eq!(file.write("first = ", SETTLE).len(), 1);
    fs::write(&file.path, text(3)).unwrap();
    file.config.reload().unwrap();
    let found = file.write("first = ", SETTLE);
    assert!(matches!(&found[..], [ConfigEvent::Changed { .. }, ConfigEvent::Rejected { .. }]), "{found:?}");
}

#[test]
fn what_nobody_announced_is_read_once_it_rests() {
    let mut file = Watched::<Pair>::new(&text(1));
    fs::write(&file.path, "first = 7\nlast = 7").unwrap();
    file.watch.advance(Duration::from_secs(5));
    assert_eq!(file.config.get().first, 1);
    fs::write(&file.path, text(2)).unwrap();
    file.watch.advance(SETTLE);
    assert_eq!(file.config.get().first, 1);
    file.watch.advance(SETTLE);
    assert_eq!(file.config.get().first, 2);
    assert_eq!(events(&mut file.watch).len(), 1);
}

#[cfg(feature = "figment")]
#[test]
fn files_that_never_rest_are_told_of_once_and_looked_at_less_often() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.toml");
    fs::write(&path, text(1)).unwrap();
    // Writes to the file between the moment when it is looked at and the moment when it is read.
    let (goes_on, written) = <(std::sync::Arc<AtomicBool>, std::sync::Arc<AtomicU64>)>::default();
    let provider = Does({
        let (path, goes_on, written) = (path.clone(), goes_on.clone(), written.clone());
        move || {
            if goes_on.load(Ordering::Relaxed) {
                fs::write(&path, text(100 + written.fetch_add(1, Ordering::Relaxed))).unwrap();
            }
        }
    });
    let config: Config<Pair> = ConfigLoader::new().figment(provider).file(&path).load().unwrap();
    let watch = ManualWatch::new(&config);
    let mut file = Watched { folder, path, config, watch };
    goes_on.store(true, Ordering::Relaxed);
    let found = file.write(&text(2), Duration::from_secs(60));
    assert!(is_refused(&found, ErrorKind::Busy), "{found:?}");
    assert_eq!(file.config.get().first, 1);
    let written = written.load(Ordering::Relaxed);
    assert!((3..30).contains(&written), "{written}");
    goes_on.store(false, Ordering::Relaxed);
    file.watch.advance(Duration::from_secs(15));
    assert_eq!(file.config.get().first, 100 + written - 1);
}

#[cfg(feature = "figment")]
#[test]
fn what_is_kept_is_what_the_file_holds_and_not_what_it_held_in_between() {
    /// Writes the whole file again while it is validated.
    struct Whole(std::path::PathBuf, std::sync::Arc<AtomicU64>);

    impl swarm_config::Rule for Whole {
        fn name(&self) -> &str {
            "whole"
        }

        fn check(&self, tree: &swarm_config::Tree) -> Vec<swarm_config::Finding> {
            if self.1.compare_exchange(2, 3, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                fs::write(&self.0, text(2)).unwrap();
            }
            let bad = tree.get("bad").map(|_| swarm_config::Finding::new(Severity::Error, "bad", "half"));
            bad.into_iter().collect()
        }
    }

    // What is wrong with what was there for a moment is not told either.
    for half in ["first = 7\nlast = 7", "first = 7\nlast = 7\nbad = 1"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.toml");
        fs::write(&path, text(1)).unwrap();
        let step = std::sync::Arc::new(AtomicU64::new(0));
        let provider = Does({
            let (path, step) = (path.clone(), step.clone());
            move || {
                if step.compare_exchange(1, 2, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                    fs::write(&path, half).unwrap();
                }
            }
        });
        let validator =
            swarm_config::ConfigValidator::builder().rule(Whole(path.clone(), step.clone())).build().unwrap();
        let config: Config<Pair> =
            ConfigLoader::new().figment(provider).file(&path).validator(validator).load().unwrap();
        let mut watch = ManualWatch::new(&config);
        watch.advance(Duration::from_secs(6));
        fs::write(&path, text(2)).unwrap();
        step.store(1, Ordering::Relaxed);
        watch.touched(&path);
        watch.advance(Duration::from_secs(1));
        assert_eq!(step.load(Ordering::Relaxed), 3);
        assert_eq!(config.get().first, 2);
        assert_eq!(events(&mut watch).len(), 1);
    }
}

/// Answers only when it is not away.
struct Vault(std::sync::Arc<AtomicBool>);

impl SecretProvider for Vault {
    fn get(&self, _: &str) -> Result<Secret<String>, SecretError> {
        match self.0.load(Ordering::Relaxed) {
            true => Err(SecretError::Unavailable("down")),
            false => Ok(Secret::new(String::new())),
        }
    }
}

#[test]
fn a_provider_that_was_away_is_asked_again_and_told_of_once() {
    let with_secret = |value: u64| format!("{}secret = '${{vault:x}}'\n", text(value));
    let is_away = std::sync::Arc::new(AtomicBool::new(false));
    let vault = Vault(is_away.clone());
    let mut file = Watched::<Pair>::of(&with_secret(1), |loader| loader.secret_provider("vault", vault));
    is_away.store(true, Ordering::Relaxed);
    let found = file.write(&with_secret(2), Duration::from_secs(60));
    assert!(matches!(&found[..], [ConfigEvent::Rejected { error, .. }] if error.is_retryable()), "{found:?}");
    is_away.store(false, Ordering::Relaxed);
    file.watch.advance(Duration::from_secs(5));
    assert_eq!(file.config.get().first, 2);
    assert!(matches!(&events(&mut file.watch)[..], [ConfigEvent::Changed { .. }]));
}

#[cfg(unix)]
#[test]
fn a_pipe_is_refused_and_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.toml");
    fs::write(&path, text(1)).unwrap();
    let config = open(&path);
    fs::remove_file(&path).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let (done, answer) = channel();
    std::thread::spawn(move || {
        let loaded =
            ConfigLoader::new().optional_file(&path).load_tree().map(drop).map_err(|error| error.kind());
        let mut watch = ManualWatch::new(&config);
        watch.advance(Duration::from_secs(6));
        let refused = events(&mut watch);
        fs::remove_file(&path).unwrap();
        fs::write(&path, text(2)).unwrap();
        watch.advance(Duration::from_secs(6));
        let _ = done.send((loaded, refused, config.get().first));
    });
    let (loaded, refused, first) = answer.recv_timeout(Duration::from_secs(60)).unwrap();
    assert_eq!(loaded, Err(ErrorKind::Io));
    let is_final = |error: &swarm_config::Error| error.kind() == ErrorKind::Io && !error.is_retryable();
    assert!(matches!(&refused[..], [ConfigEvent::Rejected { error, .. }] if is_final(error)));
    assert_eq!(first, 2);
}

#[test]
fn a_slow_reader_of_events_is_told_what_it_missed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.toml");
    fs::write(&path, text(0)).unwrap();
    let config = open(&path);
    let mut watch = ManualWatch::new(&config);
    for value in 1..=70 {
        fs::write(&path, text(value)).unwrap();
        watch.touched(&path);
        watch.advance(Duration::from_millis(10));
    }
    let found = events(&mut watch);
    assert!(matches!(found[0], ConfigEvent::Missed { events: 6, .. }), "{:?}", found[0]);
    assert_eq!(found.len(), 65);
}

#[test]
fn those_who_watch_hear_of_a_reload_by_hand() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.toml");
    fs::write(&path, text(1)).unwrap();
    let config = open(&path);
    let mut watch = ManualWatch::new(&config);
    fs::write(&path, text(2)).unwrap();
    assert_eq!(config.reload().unwrap().len(), 2);
    watch.touched(&path);
    watch.advance(Duration::from_millis(10));
    let heard = events(&mut watch);
    assert!(matches!(&heard[..], [ConfigEvent::Changed { changes, .. }] if changes.len() == 2), "{heard:?}");
}

/// Stops the first load after the first one, when it has read its files.
struct Gate {
    asked: AtomicU64,
    stopped: std::sync::mpsc::SyncSender<()>,
    go_on: std::sync::Mutex<Receiver<()>>,
}

impl SecretProvider for Gate {
    fn get(&self, _: &str) -> Result<Secret<String>, SecretError> {
        if self.asked.fetch_add(1, Ordering::SeqCst) == 1 {
            self.stopped.send(()).unwrap();
            self.go_on.lock().unwrap().recv().unwrap();
        }
        Ok(Secret::new(String::new()))
    }
}

#[test]
fn of_two_reloads_at_once_the_later_one_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.toml");
    let gated = |value: u64| format!("{}gate = '${{gate:x}}'\n", text(value));
    fs::write(&path, gated(1)).unwrap();
    let (stopped, at_gate) = std::sync::mpsc::sync_channel(1);
    let (open_gate, go_on) = channel();
    let gate = Gate { asked: AtomicU64::new(0), stopped, go_on: go_on.into() };
    let config: Config<Pair> = ConfigLoader::new().file(&path).secret_provider("gate", gate).load().unwrap();
    std::thread::scope(|threads| {
        threads.spawn(|| config.reload().unwrap());
        at_gate.recv().unwrap();
        fs::write(&path, gated(2)).unwrap();
        let (done, later) = channel();
        threads.spawn({
            let config = &config;
            move || {
                config.reload().unwrap();
                let _ = done.send(());
            }
        });
        // It waits for the first. Did it not, it would be done by now.
        let early = later.recv_timeout(Duration::from_millis(200));
        open_gate.send(()).unwrap();
        assert!(early.is_err());
    });
    assert_eq!(config.get().first, 2);
}

#[test]
fn readers_during_swaps_never_see_a_mix() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.toml");
    fs::write(&path, "first = 0\nlast = 0").unwrap();
    let config = open(&path);
    let swaps = if std::env::var_os("SWARM_LONG").is_some() { 10_000 } else { 500 };
    let done = AtomicBool::new(false);
    let begun = std::sync::Barrier::new(3);
    let reads = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut handle = config.handle();
                let mut last = 0;
                begun.wait();
                while !done.load(Ordering::Relaxed) {
                    let snapshot = config.get();
                    assert_eq!(snapshot.first, snapshot.last);
                    let Pair { first, last: end } = *handle.get();
                    assert_eq!(first, end);
                    assert!(first >= last, "went back");
                    last = first;
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        begun.wait();
        let enough = |value| value > swaps && reads.load(Ordering::Relaxed) > value;
        for value in (1..).take_while(|value| !enough(*value)) {
            fs::write(&path, format!("first = {value}\nlast = {value}")).unwrap();
            assert_eq!(config.reload().unwrap().len(), 2);
        }
        done.store(true, Ordering::Relaxed);
    });
}

/// Waits until a value is there; the file system's own notices are the one thing here that takes real time.
fn wait_for(config: &Config<Pair>, value: u64, heard: &Receiver<ConfigEvent>) -> Duration {
    let start = Instant::now();
    while config.get().first != value {
        let left = Duration::from_secs(60).saturating_sub(start.elapsed());
        let event = heard.recv_timeout(left).unwrap_or_else(|_| panic!("{value} never came"));
        assert!(!matches!(event, ConfigEvent::Polling { .. }), "{event:?}");
        assert_eq!(config.get().first, config.get().last);
    }
    start.elapsed()
}

fn edits(name: &str, edit: impl FnMut(&Path, u64), prepare: impl FnOnce(&Path)) -> Duration {
    edits_of("app.toml", name, edit, prepare)
}

/// Edits a file time and again. Answers with how long the faster quarter took to be seen at most.
fn edits_of(
    file: &str,
    name: &str,
    mut edit: impl FnMut(&Path, u64),
    prepare: impl FnOnce(&Path),
) -> Duration {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(file);
    fs::write(folder.path().join("seed"), text(0)).unwrap();
    prepare(folder.path());
    let config = open(&path);
    let (sender, heard) = channel();
    let panicked = AtomicBool::new(false);
    let _panics = config
        .on_change(move |_, _| {
            assert!(panicked.swap(true, Ordering::Relaxed), "a subscriber that panics, on purpose")
        })
        .unwrap();
    let _hears = config.on_change(move |event, _| drop(sender.send(event.clone()))).unwrap();
    let count = if std::env::var_os("SWARM_LONG").is_some() { 1000 } else { 20 };
    let mut times: Vec<Duration> = (1..=count)
        .map(|value| {
            edit(folder.path(), value);
            wait_for(&config, value, &heard)
        })
        .collect();
    times.sort();
    eprintln!(
        "{count} edits, {name}: p50 {:?}, p99 {:?}",
        times[times.len() / 2],
        times[times.len() * 99 / 100]
    );
    // The fifth of twenty: what is slow by design is slow each time, and a busy machine some times.
    times[times.len() / 4]
}

fn plain(folder: &Path) {
    fs::write(folder.join("app.toml"), text(0)).unwrap();
}

#[test]
fn files_written_in_place_are_seen() {
    edits(
        "written in place",
        |folder, value| fs::write(folder.join("app.toml"), text(value)).unwrap(),
        plain,
    );
}

#[test]
fn files_are_seen_beside_a_log_that_is_written_to_without_end() {
    let logs = std::sync::Mutex::new(Vec::new());
    let edit = |folder: &Path, value| {
        fs::write(folder.join(".app.toml.tmp"), text(value)).unwrap();
        fs::rename(folder.join(".app.toml.tmp"), folder.join("app.toml")).unwrap();
    };
    let fastest = edits("beside a log", edit, |folder| {
        use std::io::Write as _;
        plain(folder);
        let mut log = fs::File::create(folder.join("app.log")).unwrap();
        let (stop, stopped) = channel::<()>();
        let writer = std::thread::spawn(move || {
            let pause = Duration::from_millis(2);
            while stopped.recv_timeout(pause) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                log.write_all(b"line\n").unwrap();
            }
        });
        logs.lock().unwrap().push((stop, writer));
    });
    for (stop, writer) in logs.into_inner().unwrap() {
        drop(stop);
        writer.join().unwrap();
    }
    // Did the log count, each would take the second that is the most.
    assert!(fastest < Duration::from_millis(900), "{fastest:?}");
}

#[test]
fn files_renamed_over_are_seen() {
    let edit = |folder: &Path, value| {
        fs::write(folder.join(".app.toml.tmp"), text(value)).unwrap();
        fs::rename(folder.join(".app.toml.tmp"), folder.join("app.toml")).unwrap();
    };
    edits("renamed over", edit, plain);
}

#[test]
fn files_removed_and_made_anew_are_seen() {
    let edit = |folder: &Path, value| {
        fs::remove_file(folder.join("app.toml")).unwrap();
        fs::write(folder.join("app.toml"), text(value)).unwrap();
    };
    edits("removed and made anew", edit, plain);
}

#[test]
fn folders_removed_and_made_anew_are_seen_at_once() {
    let edit = |folder: &Path, value| {
        fs::remove_dir_all(folder.join("a")).unwrap();
        fs::create_dir_all(folder.join("a/b")).unwrap();
        fs::write(folder.join("a/b/app.toml"), text(value)).unwrap();
    };
    let fastest = edits_of("a/b/app.toml", "in folders made anew", edit, |folder| {
        fs::create_dir_all(folder.join("a/b")).unwrap();
        fs::write(folder.join("a/b/app.toml"), text(0)).unwrap();
    });
    // Where nothing is heard, files are looked at every 5 seconds.
    assert!(fastest < Duration::from_secs(4), "{fastest:?}");
}

#[cfg(target_os = "linux")]
const LIMITED: &str = "SWARM_CONFIG_LIMITED";

/// Run by the test below in a process of its own.
#[cfg(target_os = "linux")]
#[test]
fn one_process_that_may_not_watch() {
    if std::env::var_os(LIMITED).is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.toml");
    plain(folder.path());
    let config = open(&path);
    let (sender, heard) = channel();
    let again = config.clone();
    let _hears = config
        .on_change(move |event, _| {
            let _ = again.watch().unwrap();
            drop(sender.send(event.clone()));
        })
        .unwrap();
    let event = heard.recv_timeout(Duration::from_secs(60)).unwrap();
    let ConfigEvent::Polling { reason, .. } = event else { panic!("{event:?}") };
    assert!(!reason.is_empty());
    for value in 1..4 {
        // Nobody says when a writer is done, so half a file would be taken for the whole.
        fs::write(folder.path().join(".new"), text(value)).unwrap();
        fs::rename(folder.path().join(".new"), &path).unwrap();
        while config.get().first != value {
            let event = heard.recv_timeout(Duration::from_secs(60)).unwrap();
            assert!(matches!(event, ConfigEvent::Changed { .. }), "{event:?}");
        }
    }
    eprintln!("polled: {reason}");
}

/// Run by the test below in a process of its own.
#[cfg(target_os = "linux")]
#[test]
fn one_process_that_may_not_watch_any_more() {
    if std::env::var_os(LIMITED).is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("a");
    let make = |value| {
        fs::create_dir(&inner).unwrap();
        fs::write(folder.path().join("new"), text(value)).unwrap();
        fs::rename(folder.path().join("new"), inner.join("app.toml")).unwrap();
    };
    make(0);
    let config = open(&inner.join("app.toml"));
    let (sender, heard) = channel();
    let _hears = config.on_change(move |event, _| drop(sender.send(event.clone()))).unwrap();
    fs::write(folder.path().join("new"), text(1)).unwrap();
    fs::rename(folder.path().join("new"), inner.join("app.toml")).unwrap();
    wait_for(&config, 1, &heard);
    fs::write("/proc/sys/user/max_inotify_watches", "0").unwrap();
    // A folder made anew has to be watched anew.
    fs::remove_dir_all(&inner).unwrap();
    make(2);
    let mut polled = None;
    while config.get().first != 2 || polled.is_none() {
        match heard.recv_timeout(Duration::from_secs(60)).unwrap() {
            ConfigEvent::Polling { reason, .. } => polled = Some(reason),
            ConfigEvent::Changed { .. } | ConfigEvent::Rejected { .. } => {}
            event => panic!("{event:?}"),
        }
    }
    eprintln!("polled: {}", polled.unwrap());
}

/// The limits are a user's, and another user namespace has its own.
#[cfg(target_os = "linux")]
#[test]
fn where_a_limit_on_watches_is_reached_files_are_polled() {
    use std::process::Command;
    let lowered = |limit: &str| format!("echo 0 > /proc/sys/user/{limit}");
    let (instances, watches) = (lowered("max_inotify_instances"), lowered("max_inotify_watches"));
    for (before, test) in [
        (&*instances, "one_process_that_may_not_watch"),
        (&*watches, "one_process_that_may_not_watch"),
        ("true", "one_process_that_may_not_watch_any_more"),
    ] {
        let unshare = |command: &str| {
            let mut unshare = Command::new("unshare");
            unshare.args(["--user", "--map-root-user", "sh", "-c", command]);
            unshare.arg(std::env::current_exe().unwrap());
            unshare
        };
        if !unshare(&watches).output().is_ok_and(|output| output.status.success()) {
            eprintln!("left out: {test}, for this user may not make a namespace to lower limits in");
            continue;
        }
        let command = format!("{before} && exec \"$0\" live::{test} --exact --nocapture");
        let output = unshare(&command).env(LIMITED, "1").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("polled: "), "{before}, {test}: {said}");
    }
}

#[test]
fn the_last_of_a_burst_is_seen() {
    let edit = |folder: &Path, value| {
        for _ in 0..5 {
            fs::write(folder.join("app.toml"), text(value + 1_000_000)).unwrap();
        }
        fs::write(folder.join("app.toml"), text(value)).unwrap();
    };
    edits("in bursts", edit, plain);
}

#[cfg(unix)]
#[test]
fn links_swapped_as_kubernetes_does_are_seen() {
    use std::os::unix::fs::symlink;
    let swap = |folder: &Path, value: u64| {
        let data = folder.join(format!("..{value}"));
        fs::create_dir(&data).unwrap();
        fs::write(data.join("app.toml"), text(value)).unwrap();
        symlink(format!("..{value}"), folder.join("..data_tmp")).unwrap();
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
        if value > 0 {
            fs::remove_dir_all(folder.join(format!("..{}", value - 1))).unwrap();
        }
    };
    edits("links swapped", swap, |folder| {
        swap(folder, 0);
        symlink("..data/app.toml", folder.join("app.toml")).unwrap();
    });
}

#[test]
fn the_stream_ends_with_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    plain(folder.path());
    let config = open(&folder.path().join("app.toml"));
    let mut changes = config.watch().unwrap();
    drop(config);
    assert!(futures::executor::block_on(changes.next()).is_none());
}

#[test]
fn a_reload_within_a_reload_is_an_error() {
    type Own = std::sync::Arc<std::sync::OnceLock<Config<serde_json::Value>>>;
    struct Reloads(Own);

    impl swarm_config::Rule for Reloads {
        fn name(&self) -> &str {
            "reloads"
        }

        fn check(&self, _: &swarm_config::Tree) -> Vec<swarm_config::Finding> {
            let Some(config) = self.0.get() else { return Vec::new() };
            let error = config.reload().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            vec![swarm_config::Finding::new(swarm_config::Severity::Warning, "", error.to_string())]
        }
    }

    let own = Own::default();
    let validator = swarm_config::ConfigValidator::builder().rule(Reloads(own.clone())).build().unwrap();
    let mut file = Watched::of("a = 1", |loader| loader.validator(validator));
    own.set(file.config.clone()).unwrap();
    for value in 2..4 {
        let found = file.write(&format!("a = {value}"), SETTLE);
        let [ConfigEvent::Changed { warnings, .. }] = &found[..] else { panic!("{found:?}") };
        assert_eq!(warnings.findings()[0].message(), "a reload was asked for within a reload");
    }
}
