//! A store, a disk or a rival that says no at any moment: a typed error, and a run that goes on afterwards.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::Mutex;

use swarm_pipeline::testing::{Fault, FaultyStore};
use swarm_pipeline::{
    CheckpointStore, ErrorKind, FileStore, LocalEngine, MemoryStore, Pipeline, Result, RunEvent,
    RunEventKind, RunReport,
};

use super::judge::{Tally, judge};
use super::kill::{
    Calls, DURABILITIES, End, Thread, Victim, can_inject, combinations, end, in_parallel, points,
    some_combinations,
};
use super::store::kit::fencing;
use super::victim::{self, RUN, Scenario, Witness};

/// One life in a runtime of its own, whose end waits for the threads of blocking steps.
fn live(store: impl CheckpointStore, witness: &Witness, scenario: Scenario) -> Result<RunReport> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let engine = LocalEngine::with_store(store);
        witness.observe(&engine);
        engine.run(&victim::pipeline(witness, scenario), RUN, ()).await
    })
}

fn history(store: impl CheckpointStore) -> Vec<RunEvent> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(LocalEngine::with_store(store).history(RUN)).unwrap_or_default()
}

fn is_finished(history: &[RunEvent]) -> bool {
    history.iter().any(|event| matches!(event.kind, RunEventKind::Finished { .. }))
}

/// Sweeps every fault over the operations that a run makes on the stores of `make`.
fn sweep<S: CheckpointStore + Clone>(name: &str, some: usize, make: impl Fn() -> S + Sync) {
    for scenario in Scenario::ALL {
        let counting = FaultyStore::counting(make());
        let _ = live(counting.clone(), &Witness::in_memory(), scenario).unwrap();
        let operations = counting.operations() as usize;
        assert!(operations >= 15, "{name}: {operations}");
        let jobs: Vec<(u64, Fault)> = points(operations, some)
            .into_iter()
            .flat_map(|n| Fault::ALL.map(|fault| (n as u64 - 1, fault)))
            .collect();
        let acknowledged = Mutex::new(0);
        let tally = in_parallel(&jobs, |&(n, fault), tally| {
            let name = format!("{name}, {scenario:?}, {fault:?} at operation {n}");
            let disk = make();
            let store = FaultyStore::failing_at(disk.clone(), n, fault);
            let witness = Witness::in_memory();
            let answer = live(store.clone(), &witness, scenario);
            match answer {
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Io, "{name}: {error:?}");
                    tally.kills += 1;
                }
                // The operation was the last one, which keeps a hint, or there were fewer this time.
                Ok(report) => {
                    assert_eq!(report.status(), scenario.status(), "{name}");
                    assert!(is_finished(&history(disk.clone())), "{name}");
                }
            }
            if store.operations() > n {
                assert_eq!(store.acknowledged(), n, "{name}: the engine went on after an error");
            }
            *acknowledged.lock().unwrap() += store.acknowledged();
            let reborn = witness.reborn();
            let report =
                live(disk.clone(), &reborn, scenario).unwrap_or_else(|error| panic!("{name}: {error:?}"));
            reborn.over(&report);
            let pipeline = victim::pipeline(&reborn, scenario);
            tally.add(&name, judge(&reborn.said(), &history(disk), &pipeline, scenario));
        });
        let acknowledged = acknowledged.into_inner().unwrap();
        eprintln!(
            "{name}, {scenario:?}: {operations} operations, {} faults, {acknowledged} acknowledged; {tally}",
            jobs.len()
        );
        tally.check();
        assert!(tally.kills * 10 >= jobs.len() * 7, "hardly any fault was seen: {tally}");
        assert!(acknowledged as usize >= jobs.len() * (operations / 3), "{acknowledged}");
    }
}

#[test]
fn a_fault_at_any_operation_of_a_memory_store_surfaces_and_the_run_goes_on() {
    sweep("memory", 6, MemoryStore::new);
}

#[test]
fn a_fault_at_any_operation_of_a_file_store_surfaces_and_the_run_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    for durability in DURABILITIES {
        let fresh = || tempfile::tempdir_in(folder.path()).unwrap().keep();
        let make = || FileStore::options().durability(durability).open(fresh()).unwrap();
        sweep(&format!("file, {durability:?}"), 4, make);
    }
}

/// What the engine of a refused life said: the kind of its error, and the path.
fn refusal(victim: &Victim) -> (String, PathBuf) {
    let told = victim.told();
    let line = told.lines().rfind(|line| line.split(' ').nth(1) == Some("error")).unwrap();
    let words: Vec<&str> = line.splitn(6, ' ').collect();
    (words[2].to_owned(), words[5].into())
}

fn check_refusal(victim: &Victim, name: &str) {
    let (kind, path) = refusal(victim);
    assert_eq!(kind, "Io", "{name}");
    assert!(path.starts_with(victim.store()), "{name}: the path is {}", path.display());
}

/// The calls that can fail, and how they do.
const FAILURES: [(Calls, &str); 8] = [
    (Calls::shared(Thread::Driver, "write"), "error=ENOSPC"),
    (Calls::shared(Thread::Driver, "write"), "error=EIO"),
    (Calls::shared(Thread::Worker, "write"), "error=ENOSPC"),
    (Calls::of(Thread::Worker, "fdatasync"), "error=EIO"),
    (Calls::of(Thread::Worker, "fsync"), "error=EIO"),
    (Calls::of(Thread::Worker, "/^rename"), "error=EIO"),
    (Calls::of(Thread::Worker, "/^mkdir"), "error=ENOSPC"),
    (Calls::shared(Thread::Worker, "openat"), "error=EMFILE"),
];

#[test]
fn a_disk_that_is_full_or_broken_at_any_call_is_a_typed_error_and_the_run_goes_on() {
    if !can_inject("failing calls") {
        return;
    }
    let kinds: Vec<_> =
        some_combinations().flat_map(|(s, d)| FAILURES.map(|failure| (s, d, failure))).collect();
    let jobs = Mutex::new(Vec::new());
    in_parallel(&kinds, |&(scenario, durability, (calls, fault)), _| {
        let count = Victim::new(scenario, durability).count(calls);
        let found = points(count, 2).into_iter().map(|n| (scenario, durability, calls, fault, n));
        jobs.lock().unwrap().extend(found);
    });
    let jobs = jobs.into_inner().unwrap();
    let tally = in_parallel(&jobs, |&(scenario, durability, calls, fault, n), tally| {
        let name = format!("{scenario:?}, {durability:?}, {calls:?}, {fault}, {n}");
        let mut victim = Victim::new(scenario, durability);
        match victim.live_with(calls, fault, n) {
            End::Refused => {
                check_refusal(&victim, &name);
                tally.kills += 1;
            }
            // What failed was a hint, or was not reached.
            end => assert_eq!(end, End::Over, "{name}"),
        }
        victim.finish(&name, tally);
    });
    eprintln!("failing calls: {} points, {} of them refused; {tally}", jobs.len(), tally.kills);
    tally.check();
    assert!(tally.kills * 2 >= jobs.len(), "{tally}");
}

/// Runs a command in a shell that lets files grow to `blocks` of 512 bytes; the write that crosses the limit is short.
#[cfg(unix)]
fn limited(blocks: usize, survives: bool) -> Vec<String> {
    let trap = if survives { "trap '' XFSZ; " } else { "" };
    let script = format!("{trap}ulimit -c 0; ulimit -f {blocks}; exec \"$@\"");
    ["sh", "-c", &script, "sh"].map(str::to_owned).to_vec()
}

#[cfg(unix)]
#[test]
fn a_write_that_is_cut_short_is_a_typed_error_or_a_torn_tail_that_is_mended() {
    use std::os::unix::process::ExitStatusExt;
    // The witness must fit, so the output of `pack` is short, and the log longer than the witness by far.
    let short = |victim: &mut Victim, before: &[String]| {
        let mut command = victim.command(before, "");
        command.env(victim::WITH_BALLAST, "8").output().unwrap()
    };
    let mut jobs = Vec::new();
    for (scenario, durability) in combinations() {
        let mut whole = Victim::new(scenario, durability);
        assert_eq!(end(&short(&mut whole, &[])), End::Over);
        let blocks = std::fs::metadata(whole.store().join("run.jsonl")).unwrap().len() as usize / 512;
        for n in points(blocks, 3) {
            jobs.extend([false, true].map(|survives| (scenario, durability, survives, n)));
        }
    }
    let torn = Mutex::new(0);
    let tally = in_parallel(&jobs, |&(scenario, durability, survives, blocks), tally| {
        let name = format!("{scenario:?}, {durability:?}, {blocks} blocks, {survives}");
        let mut victim = Victim::new(scenario, durability);
        let output = short(&mut victim, &limited(blocks, survives));
        let log = std::fs::read(victim.store().join("run.jsonl")).unwrap();
        if survives {
            match end(&output) {
                End::Refused => {
                    tally.kills += 1;
                    check_refusal(&victim, &name);
                    assert_eq!(
                        log.last(),
                        Some(&b'\n'),
                        "{name}: what was written of the record is cut off at once"
                    );
                }
                end => assert_eq!(end, End::Over, "{name}"),
            }
        } else if output.status.signal().is_some() {
            tally.kills += 1;
            *torn.lock().unwrap() += usize::from(log.last() != Some(&b'\n'));
        }
        victim.finish(&name, tally);
    });
    let torn = torn.into_inner().unwrap();
    eprintln!("short writes: {} limits, {} reached, {torn} torn tails; {tally}", jobs.len(), tally.kills);
    tally.check();
    assert!(tally.kills * 3 >= jobs.len() * 2 && torn > 0, "{tally}");
}

/// A small file system in memory, until it is dropped.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(at: &Path, size: &str) -> Option<Self> {
        let options = format!("size={size}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).output();
        mounted.is_ok_and(|mounted| mounted.status.success()).then(|| Tmpfs(at.to_owned()))
    }

    fn resize(&self, size: &str) {
        let options = format!("remount,size={size}");
        assert!(Command::new("mount").args(["-o", &options]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_file_system_is_a_typed_error_and_the_run_goes_on_when_there_is_room() {
    let mut tally = Tally::default();
    for (scenario, durability) in combinations() {
        for size in ["4k", "8k", "64k"] {
            let name = format!("{scenario:?}, {durability:?}, {size}");
            let mut victim = Victim::new(scenario, durability);
            let Some(disk) = Tmpfs::mount(&victim.store(), size) else {
                eprintln!("left out: a full file system, for none can be mounted here");
                return;
            };
            assert_eq!(victim.live(&[], ""), End::Refused, "{name}");
            check_refusal(&victim, &name);
            assert_eq!(victim.live(&[], ""), End::Refused, "{name}: there is still no room");
            disk.resize("4m");
            tally.kills += 2;
            victim.finish(&name, &mut tally);
        }
    }
    eprintln!("full file systems: {tally}");
    tally.check();
}

/// A victim that holds the run in the middle of a step.
#[cfg(unix)]
fn hold(victim: &mut Victim) -> std::process::Child {
    let mut command = victim.command(&[], "");
    command.env(victim::HOLD, "1").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map_while(|line| line.ok()).any(|line| line == "held"), "it never came to the step");
    child
}

#[cfg(unix)]
#[test]
fn a_run_has_one_driver_even_if_that_is_stopped_and_another_takes_over_when_it_is_killed() {
    let mut tally = Tally::default();
    for (scenario, durability) in combinations() {
        let mut victim = Victim::new(scenario, durability);
        let mut rival = hold(&mut victim);
        let witness = Witness::in_file(&victim.witness(), 90);
        let is_busy = || {
            let store = FileStore::options().durability(durability).open(victim.store()).unwrap();
            let error = live(store, &witness, scenario).unwrap_err();
            assert_eq!((error.kind(), error.run()), (ErrorKind::RunBusy, Some(RUN)), "{error}");
            assert!(error.is_retryable());
            let log = victim.store().join("run.jsonl");
            assert!(error.to_string().contains(&log.display().to_string()), "{error}");
        };
        is_busy();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let cancelled = runtime.block_on(async {
            let engine = LocalEngine::open(victim.store()).unwrap();
            assert!(engine.history(RUN).await.unwrap().len() > 1, "anybody may look");
            engine.cancel(RUN).await
        });
        assert_eq!(cancelled.unwrap_err().kind(), ErrorKind::RunBusy);
        signal(&rival, "STOP");
        #[cfg(target_os = "linux")]
        while !is_stopped(&rival) {
            std::thread::yield_now();
        }
        is_busy();
        rival.kill().unwrap();
        rival.wait().unwrap();
        tally.kills += 1;
        victim.finish(&format!("{scenario:?}, {durability:?}"), &mut tally);
    }
    tally.check();
}

#[cfg(unix)]
fn signal(child: &std::process::Child, name: &str) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", child.id())]).status().unwrap();
    assert!(sent.success());
}

#[cfg(target_os = "linux")]
fn is_stopped(child: &std::process::Child) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
}

/// A pipeline whose `middle` tells that it began, and in the first life waits for leave to end.
fn parked(
    witness: &Witness,
    began: tokio::sync::mpsc::UnboundedSender<()>,
    leave: Option<Arc<tokio::sync::Notify>>,
) -> Pipeline {
    let mut p = Pipeline::builder("parked");
    let w = witness.clone();
    let first = p.step("first").run(move |cx, ()| {
        w.tell("begin", "first", None, cx.attempt(), "");
        async { Ok(1_u32) }
    });
    let w = witness.clone();
    let middle = p.step("middle").input(&first).run(move |cx, first| {
        w.tell("begin", "middle", None, cx.attempt(), "");
        let _ = began.send(());
        let leave = leave.clone();
        async move {
            if let Some(leave) = leave {
                leave.notified().await;
            }
            Ok(*first + cx.attempt())
        }
    });
    let w = witness.clone();
    p.step("last").input(&middle).run(move |cx, middle| {
        w.tell("begin", "last", None, cx.attempt(), "");
        async move { Ok(*middle) }
    });
    p.build().unwrap()
}

#[tokio::test]
async fn a_late_driver_is_refused_when_another_took_its_run_over() {
    let store = fencing();
    let (began, mut beginnings) = tokio::sync::mpsc::unbounded_channel();
    let leave = Arc::new(tokio::sync::Notify::new());
    let witness = Witness::in_memory();
    let slow = parked(&witness, began.clone(), Some(Arc::clone(&leave)));
    let late = tokio::spawn({
        let engine = LocalEngine::with_store(store.clone());
        async move { engine.run(&slow, RUN, ()).await }
    });
    beginnings.recv().await.unwrap();
    let other = LocalEngine::with_store(store.clone());
    let quick = parked(&witness.reborn(), began, None);
    let report = other.run(&quick, RUN, ()).await.unwrap();
    assert_eq!(
        *report.output_by_name::<u32>("last").unwrap(),
        3,
        "the second attempt of the middle step counts"
    );
    let whole = store.read(&RUN.parse().unwrap()).await.unwrap();
    leave.notify_one();
    let error = late.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.run()), (ErrorKind::Fenced, Some(RUN)), "{error}");
    assert_eq!(store.read(&RUN.parse().unwrap()).await.unwrap(), whole, "a late driver writes nothing");
    let told = ["0 begin first - 1 ", "0 begin middle - 1 ", "1 begin middle - 2 ", "1 begin last - 1 "];
    assert_eq!(witness.said().lines().collect::<Vec<_>>(), told);
}

#[tokio::test]
async fn a_second_driver_in_the_same_process_finds_the_run_busy() {
    let memory = MemoryStore::new();
    let (began, mut beginnings) = tokio::sync::mpsc::unbounded_channel();
    let leave = Arc::new(tokio::sync::Notify::new());
    let witness = Witness::in_memory();
    let engine = LocalEngine::with_store(memory.clone());
    let slow = parked(&witness, began, Some(Arc::clone(&leave)));
    let first = tokio::spawn({
        let (engine, slow) = (engine.clone(), slow.clone());
        async move { engine.run(&slow, RUN, ()).await }
    });
    beginnings.recv().await.unwrap();
    for rival in [engine, LocalEngine::with_store(memory)] {
        let error = rival.run(&slow, RUN, ()).await.unwrap_err();
        assert_eq!((error.kind(), error.run()), (ErrorKind::RunBusy, Some(RUN)), "{error}");
    }
    leave.notify_one();
    assert!(first.await.unwrap().unwrap().is_success());
    assert_eq!(witness.said().lines().count(), 3);
}

/// Signals a run that waits for it, or cancels it, while it is driven; the answer, if it came so far.
async fn speak(engine: LocalEngine, cancel: bool) -> Option<Result<()>> {
    let mut p = Pipeline::builder("waiting");
    let ok = p.step::<u32>("approve").wait_for_signal();
    p.step("last").input(&ok).run(|_cx, ok| async move { Ok(*ok) });
    let pipeline = p.build().unwrap();
    let mut events = engine.events();
    let mut run = Box::pin(engine.run(&pipeline, RUN, ()));
    loop {
        tokio::select! {
            _ = &mut run => return None,
            Some(event) = futures::StreamExt::next(&mut events) => {
                if matches!(event.kind, RunEventKind::Suspended { .. }) {
                    break;
                }
            }
        }
    }
    let say = async {
        match cancel {
            true => engine.cancel(RUN).await,
            false => engine.signal(RUN, "approve", 7_u32).await,
        }
    };
    let (_, answer) = futures::future::join(async { drop(run.await) }, say).await;
    Some(answer)
}

#[tokio::test]
async fn a_signal_or_a_cancellation_that_was_answered_is_in_the_log() {
    let (mut kept, mut refused) = (0, 0);
    for (cancel, fault) in
        [false, true].into_iter().flat_map(|cancel| Fault::ALL.map(|fault| (cancel, fault)))
    {
        for n in 0..6 {
            let disk = MemoryStore::new();
            let store = FaultyStore::failing_at(disk.clone(), n, fault);
            let answer = speak(LocalEngine::with_store(store), cancel).await;
            let history = LocalEngine::with_store(disk).history(RUN).await.unwrap_or_default();
            let is_there = history.iter().any(|event| {
                matches!(event.kind, RunEventKind::Signalled { .. } | RunEventKind::CancelRequested)
            });
            match answer {
                Some(Ok(())) => {
                    assert!(
                        is_there,
                        "{fault:?} at {n}, cancel {cancel}: it was answered, but is not in the log"
                    );
                    kept += 1;
                }
                Some(Err(error)) => {
                    assert_eq!(error.kind(), ErrorKind::Io, "{fault:?} at {n}, cancel {cancel}: {error:?}");
                    refused += 1;
                }
                None => assert!(!is_there),
            }
        }
    }
    assert!(kept >= 16 && refused >= 6, "{kept} kept, {refused} refused");
}
