//! Clocks, medians, and where files go.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, Instant};

use rustix::fs::statfs;
use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;

/// CPU time this process has used so far, over all its threads.
///
/// Scheduling cost is compared in CPU time: wall time would hide work that another core does.
pub fn cpu_now() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Wall time of `work`, with its value, so that it can be checked and dropped after the clock stopped.
pub fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let value = work();
    (start.elapsed(), value)
}

/// Wall time of `work` without its value.
pub fn wall<T>(work: impl FnOnce() -> T) -> Duration {
    timed(work).0
}

/// The middle value; the upper one of two.
pub fn median<T: PartialOrd + Copy>(mut values: Vec<T>) -> T {
    values.sort_by(|a, b| a.partial_cmp(b).expect("no measurement is NaN"));
    values[values.len() / 2]
}

/// Whether the bench is only to be run once, at tiny sizes: under `cargo test`, or with `--test`.
pub fn test_mode() -> bool {
    let mut bench = false;
    for arg in env::args().skip(1) {
        match arg.as_str() {
            "--test" => return true,
            "--bench" => bench = true,
            _ => {}
        }
    }
    !bench
}

/// A folder for stores, removed when dropped: under `SWARM_BENCH_DIR`, or else under `default`.
///
/// Durable rows say nothing on a file system in memory, so it says aloud when it is on one.
pub fn scratch(default: &str) -> TempDir {
    const TMPFS_MAGIC: i128 = 0x0102_1994;
    let parent = env::var_os("SWARM_BENCH_DIR").map_or_else(|| PathBuf::from(default), PathBuf::from);
    std::fs::create_dir_all(&parent).unwrap();
    if statfs(&parent).is_ok_and(|fs| i128::from(fs.f_type) == TMPFS_MAGIC) {
        static SAID: Once = Once::new();
        SAID.call_once(|| warn_tmpfs(&parent));
    }
    tempfile::Builder::new().prefix("bench-").tempdir_in(parent).unwrap()
}

#[allow(clippy::print_stderr, reason = "a bench speaks to the terminal")]
fn warn_tmpfs(path: &Path) {
    eprintln!("{} is in memory: durable rows mean nothing, set SWARM_BENCH_DIR", path.display());
}

/// Where the conformance data others wrote lies: `SWARM_SUITES`, from the workspace's root where it is relative,
/// or else `../shared/suites`.
pub fn suites() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    workspace.join(env::var_os("SWARM_SUITES").unwrap_or_else(|| "../shared/suites".into()))
}
