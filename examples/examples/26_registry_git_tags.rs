//! Git tags as versions: each tag is registered with its commit and its tree, so that a tag that someone moves is noticed.
//!
//! `cargo run --release -p swarm-examples --example 26_registry_git_tags`
//!
//! A repository with three tags is made in a scratch folder with the `git` program; without `git` the example says so and
//! ends. What is registered is the archive of each tag, named by its digest: git lets anyone move a tag, the registry never
//! lets two contents have one id.
#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

use std::error::Error;
use std::path::Path;
use std::process::Command;

use swarm_examples::Scratch;
use swarm_registry::{Digest, Query, Split, Version, VersionRegistry};

fn git(repository: &Path, arguments: &[&str]) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut command = Command::new("git");
    // Whatever the user's settings are, they are not those of this repository.
    command.env("GIT_CONFIG_GLOBAL", repository.join("no-such-file")).env("GIT_CONFIG_NOSYSTEM", "1");
    command.args(["-c", "user.name=Agent-8", "-c", "user.email=agent-8@example.org"]);
    let done = command.arg("-C").arg(repository).args(arguments).output()?;
    if !done.status.success() {
        return Err(format!("git {arguments:?}: {}", String::from_utf8_lossy(&done.stderr)).into());
    }
    Ok(done.stdout)
}

fn text(bytes: Vec<u8>) -> Result<String, Box<dyn Error>> {
    Ok(String::from_utf8(bytes)?.trim().to_owned())
}

/// What a tag stands for: its commit, and its files as one archive, which git makes byte for byte the same again.
fn tagged(repository: &Path, tag: &str) -> Result<(String, Vec<u8>), Box<dyn Error>> {
    let commit = text(git(repository, &["rev-list", "-n", "1", tag])?)?;
    Ok((commit, git(repository, &["archive", "--format=tar", tag])?))
}

/// Registers every tag that is not registered yet, the earliest first, each with the one before as its parent.
async fn register_tags(registry: &VersionRegistry, repository: &Path) -> Result<usize, Box<dyn Error>> {
    let tags = text(git(repository, &["tag", "--sort=version:refname"])?)?;
    let known = registry.find(&Query::new().labelled("git")).await?;
    let mut parent: Option<String> = None;
    let mut registered = 0;
    for tag in tags.lines() {
        if !known.iter().any(|version| version.id() == tag) {
            let (commit, archive) = tagged(repository, tag)?;
            let mut version =
                Version::new(tag).artifact(archive).metadata("commit", commit).label("git", "tag");
            if let Some(parent) = &parent {
                version = version.parent(parent);
            }
            registry.register(version).await?;
            registered += 1;
        }
        parent = Some(tag.to_owned());
    }
    Ok(registered)
}

/// The tags that are not what was registered under their name.
async fn moved_tags(registry: &VersionRegistry, repository: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let mut moved = Vec::new();
    for version in registry.find(&Query::new().labelled("git")).await? {
        let (_, archive) = tagged(repository, version.id())?;
        if Digest::of(&archive) != version.digest() {
            moved.push(version.id().to_owned());
        }
    }
    Ok(moved)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    if Command::new("git").arg("--version").output().is_err() {
        println!("git is not installed: nothing to show");
        return Ok(());
    }
    let folder = Scratch::new("registry-git-tags")?;
    let repository = folder.join("repository");
    std::fs::create_dir(&repository)?;
    git(&repository, &["init", "--quiet"])?;
    for tag in ["v1.0.0", "v1.9.0", "v1.10.0"] {
        std::fs::write(repository.join("main.rs"), format!("fn main() {{ println!(\"{tag}\") }}\n"))?;
        git(&repository, &["add", "main.rs"])?;
        git(&repository, &["commit", "--quiet", "--message", tag])?;
        git(&repository, &["tag", tag])?;
    }

    let registry = VersionRegistry::open(folder.join("registry")).await?.acting_as("Agent-8");
    assert_eq!(register_tags(&registry, &repository).await?, 3);
    assert_eq!(register_tags(&registry, &repository).await?, 0, "a second time there is nothing to do");
    let lineage = registry.lineage("v1.10.0").await?;
    let ids: Vec<&str> = lineage.iter().map(|version| version.id()).collect();
    assert_eq!(ids, ["v1.9.0", "v1.0.0"]);
    let newest = registry.version("v1.10.0").await?;
    println!("{} is {} at {}", newest.id(), newest.digest(), newest.metadata()["commit"]);

    registry.deploy("production", Split::all("v1.9.0")).await?;
    registry.deploy("production", Split::all("v1.10.0")).await?;
    assert!(moved_tags(&registry, &repository).await?.is_empty());

    // Someone moves the tag that is live. What is deployed stays what it was.
    git(&repository, &["tag", "--force", "v1.10.0", "v1.0.0"])?;
    let moved = moved_tags(&registry, &repository).await?;
    println!("moved since they were registered: {moved:?}");
    assert_eq!(moved, ["v1.10.0"]);
    let archive = registry.artifact("v1.10.0").await?;
    assert_eq!(Digest::of(&archive), newest.digest());
    let back = registry.rollback("production").await?;
    println!("rolled back to {}", back.split());
    Ok(())
}
