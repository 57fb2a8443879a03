//! A disk that is full, at every point of the script of the kill sweep: a real one in memory, of which so much is taken that
//! so many pages are left. What was acknowledged is there, nothing is left lying about, and once there is room the same
//! process goes on, or another.

use std::path::{Path, PathBuf};
use std::process::Command;

use swarm_registry::{ErrorKind, ObjectVersionStore, Version, VersionRegistry};

use super::kill::{STEPS, copy, expected, go_on, prepare, step};

const FOLDER: &str = "SWARM_REGISTRY_FULL";

/// Takes everything of the disk but so many pages.
fn fill(ballast: &Path, pages: u64) -> std::io::Result<()> {
    let mut file = std::fs::File::create(ballast)?;
    let page = [b'x'; 4096];
    let mut size = 0_u64;
    while std::io::Write::write_all(&mut file, &page).is_ok() {
        size += page.len() as u64;
    }
    file.set_len(size.saturating_sub(pages * page.len() as u64))
}

fn files(folder: &Path) -> Vec<String> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { out.extend(files(&path)) } else { out.push(path.display().to_string()) }
    }
    out
}

/// The end of a backup is an artifact of some pages, and does not go unwritten unseen.
async fn the_last_write_counts(disk: &Path) {
    let registry = VersionRegistry::with_store(ObjectVersionStore::memory()).await.unwrap();
    registry.register(Version::new("v1").artifact(vec![7; 5 * 4096])).await.unwrap();
    let (file, ballast) = (disk.join("backup"), disk.join("ballast"));
    for room in 0..10 {
        fill(&ballast, room).unwrap();
        let backup = registry.backup(&file).await;
        std::fs::remove_file(&ballast).unwrap();
        match backup {
            Ok(head) => {
                let restored = VersionRegistry::restore(&file, ObjectVersionStore::memory()).await;
                assert_eq!(restored.unwrap(), head, "{room} pages left");
                std::fs::remove_file(&file).unwrap();
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Io, "{room} pages left: {error:?}");
                assert!(!file.exists() && room < 8, "{room} pages left");
            }
        }
    }
}

/// What runs where the disk is small, and nothing where nobody asked for it.
#[tokio::test]
async fn child() {
    let Ok(disk) = std::env::var(FOLDER) else { return };
    let disk = PathBuf::from(disk);
    the_last_write_counts(&disk).await;
    let template = tempfile::tempdir().unwrap();
    prepare(template.path()).await;
    let states = expected(template.path()).await;
    let (mut refused, mut acknowledged) = (0, 0);
    for room in 0.. {
        let name = format!("{room} pages left");
        let folder = disk.join(room.to_string());
        copy(template.path(), &folder);
        let registry = VersionRegistry::open(folder.join("registry")).await.unwrap();
        let ballast = disk.join("ballast");
        fill(&ballast, room).unwrap();

        let restored = ObjectVersionStore::folder(folder.join("restored")).unwrap();
        let restore = VersionRegistry::restore(folder.join("backup"), restored.clone()).await;
        let backup = registry.backup(folder.join("again")).await;
        let mut done = 0;
        let stopped = loop {
            match step(&registry, done).await {
                Ok(()) => done += 1,
                Err(error) => break error,
            }
        };
        for error in [restore.as_ref().err(), Some(&stopped)].into_iter().flatten() {
            let last = done == STEPS && error.kind() == ErrorKind::InvalidState;
            assert!(last || (error.kind() == ErrorKind::Store && error.is_retryable()), "{name}: {error:?}");
        }
        if let Err(error) = &backup {
            assert_eq!(error.kind(), ErrorKind::Io, "{name}: {error:?}");
        }
        for file in files(&folder) {
            assert!(!file.contains('#') && !file.ends_with(".part"), "{name}: {file} was left behind");
        }
        // Routers need no disk.
        let router = registry.router("production").await.unwrap();
        assert!(!router.route("user-42").is_empty());

        std::fs::remove_file(&ballast).unwrap();
        if restore.is_err() {
            VersionRegistry::restore(folder.join("backup"), restored).await.unwrap();
        }
        match &backup {
            Ok(head) => {
                let again = ObjectVersionStore::folder(folder.join("restored again")).unwrap();
                assert_eq!(
                    &VersionRegistry::restore(folder.join("again"), again).await.unwrap(),
                    head,
                    "{name}"
                );
            }
            Err(_) => assert!(!folder.join("again").exists(), "{name}: half a backup"),
        }
        if done < STEPS {
            refused += 1;
        }
        acknowledged += done;
        match room % 2 {
            0 => go_on(&name, &registry, done, &states).await,
            _ => {
                let other = VersionRegistry::open(folder.join("registry")).await.unwrap();
                go_on(&name, &other, done, &states).await;
            }
        }
        std::fs::remove_dir_all(&folder).unwrap();
        if done == STEPS && restore.is_ok() && backup.is_ok() {
            break;
        }
    }
    eprintln!("full disk: {refused} scripts stopped, {acknowledged} verbs acknowledged before that");
    assert!(refused >= 8, "{refused}");
}

#[test]
fn a_full_disk_takes_nothing_that_was_acknowledged_and_leaves_nothing_behind() {
    let disk = tempfile::tempdir().unwrap();
    let alone = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c", script, "sh"]).arg(disk.path());
        command.arg(std::env::current_exe().unwrap()).env(FOLDER, disk.path());
        command.output()
    };
    const MOUNT: &str = "mount -t tmpfs -o size=1m none \"$1\"";
    if !alone(MOUNT).is_ok_and(|tried| tried.status.success()) {
        eprintln!("left out: a full disk, for this user may not make one in memory");
        return;
    }
    let ran = alone(&format!("{MOUNT} && exec \"$2\" full::child --exact --nocapture")).unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}\n{}", String::from_utf8_lossy(&ran.stdout));
    assert!(said.contains("full disk: "), "{said}");
    eprint!("{said}");
}
