//! Builds kept without git: folders go into the registry as they are, and come out the same on another machine.
//!
//! `cargo run --release -p swarm-examples --example 27_registry_artifacts`
//!
//! A folder is packed into one artifact and registered under its digest. A build with the same content shares the bytes of
//! the first. Elsewhere the version that a channel serves is unpacked beside the one before, and taken into use by renaming
//! a small file that names it, so that nobody sees half of it. Bytes that were tampered with are refused. Old builds go by retention.
#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Component, Path, PathBuf};

use swarm_examples::Scratch;
use swarm_registry::{ErrorKind, Retention, Split, Version, VersionRegistry};

/// The files of `folder`, by their paths in it, as JSON: sorted, so that the same files are the same bytes.
fn pack(folder: &Path) -> Result<Vec<u8>, Box<dyn Error>> {
    fn collect(root: &Path, at: &Path, files: &mut BTreeMap<String, Vec<u8>>) -> Result<(), Box<dyn Error>> {
        for entry in fs::read_dir(at)? {
            let path = entry?.path();
            if path.is_dir() {
                collect(root, &path, files)?;
            } else {
                let name = path.strip_prefix(root)?.to_str().ok_or("a name that is not UTF-8")?;
                files.insert(name.replace('\\', "/"), fs::read(&path)?);
            }
        }
        Ok(())
    }
    let mut files = BTreeMap::new();
    collect(folder, folder, &mut files)?;
    Ok(serde_json::to_vec(&files)?)
}

/// Writes what was packed into a folder that is not there yet.
fn unpack(bytes: &[u8], folder: &Path) -> Result<(), Box<dyn Error>> {
    let files: BTreeMap<PathBuf, Vec<u8>> = serde_json::from_slice(bytes)?;
    for (name, content) in files {
        // Nothing outside the folder, whoever packed it.
        if name.components().any(|part| !matches!(part, Component::Normal(_))) {
            return Err(format!("{} leads out of the folder", name.display()).into());
        }
        let path = folder.join(name);
        fs::create_dir_all(path.parent().ok_or("a file has a folder")?)?;
        fs::write(path, content)?;
    }
    Ok(())
}

/// Makes `machine` run what production serves, and answers which version that is.
async fn install(registry: &VersionRegistry, machine: &Path) -> Result<String, Box<dyn Error>> {
    let deployment = registry.deployment("production").await?;
    let version = deployment.sole_version().ok_or("this machine runs one version")?.to_owned();
    let folder = machine.join(&version);
    if !folder.exists() {
        // The digest was checked on the way.
        let part = machine.join("part");
        fs::create_dir_all(&part)?;
        unpack(&registry.artifact(&version).await?, &part)?;
        fs::rename(&part, &folder)?;
    }
    fs::write(machine.join("current.new"), &version)?;
    fs::rename(machine.join("current.new"), machine.join("current"))?;
    Ok(version)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = Scratch::new("registry-artifacts")?;
    let build = folder.join("build");
    fs::create_dir_all(build.join("assets"))?;
    let registry = VersionRegistry::open(folder.join("registry")).await?;
    for (id, program) in
        [("build-1", "serve()"), ("build-2", "serve_faster()"), ("build-3", "serve_faster()")]
    {
        fs::write(build.join("main.rs"), format!("fn main() {{ {program} }}"))?;
        fs::write(build.join("assets/logo.svg"), "<svg/>")?;
        let registered = registry.register(Version::new(id).artifact(pack(&build)?)).await?;
        println!("{id} {} {:?}", registered.version.digest(), registered.same_content);
        registry.deploy("production", Split::all(id)).await?;
    }
    let objects = fs::read_dir(folder.join("registry/artifacts"))?.count();
    assert_eq!(objects, 2, "builds with the same content share their bytes");

    let machine = folder.join("machine");
    fs::create_dir(&machine)?;
    let elsewhere = VersionRegistry::open(folder.join("registry")).await?;
    assert_eq!(install(&elsewhere, &machine).await?, "build-3");
    assert_eq!(pack(&machine.join("build-3"))?, pack(&build)?, "the same files, byte for byte");

    registry.rollback_to("production", "build-1").await?;
    assert_eq!(install(&elsewhere, &machine).await?, "build-1");
    assert_eq!(fs::read_to_string(machine.join("build-1/main.rs"))?, "fn main() { serve() }");

    // Nothing reaches builds 2 and 3 any more.
    registry.compact(Retention::since(now())).await?;
    assert_eq!(fs::read_dir(folder.join("registry/artifacts"))?.count(), 1);

    // A disk that lies, or someone who changes bytes behind the registry's back.
    let object = fs::read_dir(folder.join("registry/artifacts"))?.next().ok_or("one is left")??.path();
    let mut bytes = fs::read(&object)?;
    bytes[10] ^= 1;
    fs::write(&object, bytes)?;
    fs::remove_dir_all(machine.join("build-1"))?;
    let refused = elsewhere.artifact("build-1").await.map_err(|error| error.kind());
    assert_eq!(refused, Err(ErrorKind::Corrupt));
    println!("tampered bytes are refused");
    Ok(())
}

/// Now, in the time of the registry.
fn now() -> chrono::DateTime<chrono::Utc> {
    std::time::SystemTime::now().into()
}
