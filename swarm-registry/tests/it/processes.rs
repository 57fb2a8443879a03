//! Several processes on one folder. A test starts itself again as the process; that is the function `child`.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use swarm_registry::{ErrorKind, Split, Version, VersionRegistry};

const FOLDER: &str = "SWARM_REGISTRY_FOLDER";
const NAME: &str = "SWARM_REGISTRY_CHILD";

fn start(folder: &Path, name: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["processes::child", "--exact", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .env(NAME, name)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// What a started process does, and nothing where nobody started it: writes until it is done, and tells of every
/// acknowledged write in a file of its own, which is written after the answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let (Ok(folder), Ok(name)) = (std::env::var(FOLDER), std::env::var(NAME)) else { return };
    let folder = Path::new(&folder);
    let registry = VersionRegistry::open(folder.join("registry")).await.unwrap().acting_as(name.as_str());
    let mut told = std::fs::File::create(folder.join(format!("told-{name}"))).unwrap();
    for at in 0..25 {
        use std::io::Write;
        let id = format!("{name}.{at}");
        registry.register(Version::new(&id).artifact(format!("build {at}"))).await.unwrap();
        let made = registry.deploy("production", Split::all(&id)).await.unwrap();
        writeln!(told, "{id} {}", made.number()).unwrap();
    }
}

/// Everything that a process was acknowledged is there, in the order of the log, whoever was killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_lose_nothing_of_each_other_and_a_killed_one_leaves_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let mut children: Vec<Child> = (0..4).map(|at| start(folder.path(), &format!("p{at}"))).collect();
    // Killed as soon as it has told of something, in the middle of whatever it does then.
    let told =
        |name: &str| std::fs::read_to_string(folder.path().join(format!("told-{name}"))).unwrap_or_default();
    while told("p0").lines().count() < 3 {
        assert!(children[0].try_wait().unwrap().is_none() || told("p0").lines().count() >= 3);
        tokio::task::yield_now().await;
    }
    children[0].kill().unwrap();
    for (at, child) in children.iter_mut().enumerate() {
        assert!(child.wait().unwrap().success() || at == 0, "process {at}");
    }
    let registry = VersionRegistry::open(folder.path().join("registry")).await.unwrap();
    registry.verify().await.unwrap();
    let deployments = registry.deployments("production").await.unwrap();
    let numbers: Vec<u64> = deployments.iter().map(|made| made.number()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    let mut acknowledged = 0;
    for at in 0..4 {
        let name = format!("p{at}");
        for line in told(&name).lines() {
            let Some((id, number)) = line.split_once(' ') else { continue };
            let number: usize = number.parse().unwrap();
            assert_eq!(deployments[number - 1].sole_version(), Some(id), "{line}");
            assert_eq!(deployments[number - 1].actor(), Some(&*name));
            acknowledged += 1;
        }
    }
    assert!(acknowledged >= 3 * 25 + 3, "{acknowledged}");
    let twice = registry.register(Version::new("p1.0").artifact("x")).await.unwrap_err();
    assert_eq!(twice.kind(), ErrorKind::AlreadyExists);
}
