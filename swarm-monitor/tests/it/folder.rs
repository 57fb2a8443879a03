//! What else may lie where a monitor and an engine have their files: FIFOs, links, what a crash left, what cannot be read.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use swarm_monitor::testing::FakeClock;
use swarm_monitor::{AlertEngine, ErrorKind, PerformanceMonitor, Restored, Result};

use crate::{Timed, start};

fn fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// What it comes to; panics where that takes for ever, as the opening of a FIFO does.
fn soon<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(what()));
    receiver.recv_timeout(Duration::from_secs(60)).expect("it hangs")
}

fn engine(path: &Path) -> Result<AlertEngine> {
    AlertEngine::builder(&Timed::new().monitor).file(path).build()
}

fn restored(path: &Path) -> PerformanceMonitor {
    PerformanceMonitor::builder().restore(path).clock(FakeClock::new(start())).build().unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = fs::read_dir(folder).unwrap().map(name).collect();
    names.sort();
    names
}

#[test]
fn a_fifo_in_the_place_of_a_file_is_refused_and_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let [metrics, alerts, locked] = ["metrics", "alerts", "locked"].map(|name| folder.path().join(name));
    fifo(&metrics);
    fifo(&alerts);
    fifo(&folder.path().join("locked.lock"));
    let monitor = soon(move || restored(&metrics));
    let Some(Restored::Refused { error, kept: None, .. }) = monitor.restored() else { panic!("{monitor:?}") };
    assert_eq!(error.kind(), ErrorKind::Storage);
    for path in [alerts, locked] {
        let error = soon(move || engine(&path)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Storage);
        assert!(std::error::Error::source(&error).unwrap().to_string().contains("regular file"), "{error:?}");
    }
}

#[test]
fn what_is_made_beside_a_file_follows_no_link_and_waits_for_no_fifo() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("victim"), "precious").unwrap();
    fs::write(path("damaged"), "damaged\n").unwrap();
    let kept = format!("damaged.refused-{}", start().timestamp());
    for link in ["metrics.new", "alerts.new", &kept] {
        symlink(path("victim"), path(link)).unwrap();
    }
    fifo(&path("others.new"));
    let (metrics, others) = (path("metrics"), path("others"));
    soon(move || Timed::new().monitor.snapshot(metrics)).unwrap();
    soon(move || Timed::new().monitor.snapshot(others)).unwrap();
    engine(&path("alerts")).unwrap();
    assert_eq!(engine(&path("damaged")).unwrap().recovery().kept, Some(path(&kept)));
    assert_eq!(fs::read_to_string(path("victim")).unwrap(), "precious");
    assert_eq!(fs::read_to_string(path(&kept)).unwrap(), "damaged\n");
    assert!(matches!(restored(&path("metrics")).restored(), Some(Restored::Complete { .. })));
}

#[test]
fn what_could_not_be_written_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("metrics")).unwrap();
    let error = Timed::new().monitor.snapshot(folder.path().join("metrics")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Storage);
    assert_eq!(names(folder.path()), ["metrics"]);
}

/// A link to what is a file and cannot be read, as one is on a disk that fails.
#[test]
#[cfg(target_os = "linux")]
fn a_snapshot_that_cannot_be_read_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics");
    symlink("/proc/self/mem", &path).unwrap();
    let monitor = restored(&path);
    let Some(Restored::Refused { error, kept: None, .. }) = monitor.restored() else {
        panic!("{:?}", monitor.restored())
    };
    assert_eq!(error.kind(), ErrorKind::Storage);
    assert_eq!(names(folder.path()), ["metrics"], "it may be whole, and is there for the next start");
    let kept = format!("metrics.refused-{}", start().timestamp());
    for _ in 0..2 {
        monitor.snapshot(&path).unwrap();
        assert_eq!(names(folder.path()), ["metrics", &kept]);
    }
    assert!(folder.path().join(&kept).is_symlink() && !path.is_symlink());
}

#[test]
fn two_that_write_one_path_leave_a_snapshot_of_one_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics");
    let monitors = [1, 2].map(|times| {
        let monitor = Timed::new().monitor;
        for at in 0..200 * times {
            monitor.record("x", 1.0, &[("at", &at.to_string())]);
        }
        monitor
    });
    let mut written = 0;
    for _ in 0..20 {
        std::thread::scope(|scope| {
            let both = monitors.each_ref().map(|monitor| scope.spawn(|| monitor.snapshot(&path)));
            written += both.map(|one| usize::from(one.join().unwrap().is_ok())).iter().sum::<usize>();
        });
        let monitor = restored(&path);
        let Some(Restored::Complete { series: 200 | 400, .. }) = monitor.restored() else {
            panic!("{:?}", monitor.restored())
        };
    }
    assert!(written >= 20, "{written}: one of two at least");
    assert_eq!(names(folder.path()), ["metrics"]);
}

#[test]
fn threads_that_write_one_snapshot_take_turns() {
    let folder = tempfile::tempdir().unwrap();
    let (path, monitor) = (folder.path().join("metrics"), Timed::new().monitor);
    for at in 0..300 {
        monitor.record("x", 1.0, &[("at", &at.to_string())]);
    }
    std::thread::scope(|scope| {
        let all = [(); 4].map(|()| scope.spawn(|| (0..5).try_for_each(|_| monitor.snapshot(&path))));
        for one in all {
            one.join().unwrap().unwrap();
        }
    });
    assert!(matches!(restored(&path).restored(), Some(Restored::Complete { series: 300, .. })));
}

#[test]
fn alerts_that_could_not_be_written_are_as_soon_as_they_can_be() {
    let folder = tempfile::tempdir().unwrap();
    let (path, in_the_way) = (folder.path().join("alerts"), folder.path().join("alerts.new"));
    fs::create_dir(&in_the_way).unwrap();
    let alerts = engine(&path).unwrap();
    assert_eq!(alerts.recovery().error.as_ref().unwrap().kind(), ErrorKind::Storage);
    assert!(alerts.evaluate().not_stored.is_some());
    fs::remove_dir(&in_the_way).unwrap();
    assert!(alerts.evaluate().not_stored.is_none());
    assert!(path.is_file(), "though nothing has changed since");
}

#[test]
fn damaged_alerts_that_cannot_be_kept_aside_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alerts");
    fs::write(&path, "damaged\n").unwrap();
    fs::create_dir(folder.path().join(format!("alerts.refused-{}", start().timestamp()))).unwrap();
    assert_eq!(engine(&path).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(fs::read_to_string(&path).unwrap(), "damaged\n");
}
