//! What a component may have of the host: what `plugin.toml` asks for, as far as the loader offers it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use wasmtime_wasi::{FsPerms, HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxBuilder};

use super::lines::Lines;
use crate::manifest::{Access, Grants};
use crate::plugin::PluginError;

/// Random numbers of one call of the host, in which nobody else runs.
const RANDOM_BYTES: u64 = 64 * 1024;

/// What a loader offers to those that ask for it.
#[derive(Clone, Default)]
pub(super) struct Offer {
    pub(super) folders: BTreeMap<String, (PathBuf, Access)>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) clock: bool,
}

/// Without the values of the environment, which may be secrets.
impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offer")
            .field("folders", &self.folders)
            .field("env", &self.env.keys())
            .field("clock", &self.clock)
            .finish()
    }
}

/// What the instances of one plugin have.
pub(super) struct Sandbox {
    pub(super) name: Arc<str>,
    pub(super) memory: usize,
    folders: Vec<(String, PathBuf, Access)>,
    env: Vec<(String, String)>,
    clock: bool,
}

/// As of an offer.
impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sandbox").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Sandbox {
    /// # Errors
    /// Everything that is asked for and not offered.
    pub(super) fn new(
        name: &str,
        memory: usize,
        asked: &Grants,
        offer: &Offer,
    ) -> Result<Sandbox, PluginError> {
        let mut refused = Vec::new();
        let mut folders = Vec::new();
        for (folder, &access) in &asked.folders {
            match offer.folders.get(folder) {
                None => refused.push(format!("the folder {folder:?}, which this host does not offer")),
                Some((_, Access::Read)) if access == Access::Write => {
                    refused.push(format!(
                        "writing to the folder {folder:?}, which this host offers for reading"
                    ));
                }
                Some((path, _)) if !path.is_dir() => {
                    refused.push(format!("the folder {folder:?}, which is not there at the moment"));
                }
                Some((path, _)) => folders.push((format!("/{folder}"), path.clone(), access)),
            }
        }
        let mut env = Vec::new();
        for variable in &asked.env {
            match offer.env.get(variable) {
                None => refused.push(format!("the variable {variable:?}, which this host does not offer")),
                Some(value) => env.push((variable.clone(), value.clone())),
            }
        }
        if asked.clock && !offer.clock {
            refused.push("the clock, which this host does not offer".into());
        }
        if !asked.hosts.is_empty() {
            refused.push("the network, which no component is given".into());
        }
        match refused.is_empty() {
            true => Ok(Sandbox { name: name.into(), memory, folders, env, clock: asked.clock }),
            false => Err(PluginError::new(format_args!("plugin.toml asks for {}", refused.join("; ")))),
        }
    }

    /// A WASI that has this and nothing else.
    pub(super) fn wasi(&self, lines: &Lines) -> WasiCtx {
        let mut wasi = WasiCtxBuilder::new();
        let [out, err] = lines.streams();
        wasi.stdout(out).stderr(err).envs(&self.env).max_random_size(RANDOM_BYTES);
        wasi.allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false);
        if !self.clock {
            wasi.wall_clock(Stopped).monotonic_clock(Stopped);
        }
        for (name, path, access) in &self.folders {
            let access = match access {
                Access::Read => FsPerms::ReadOnly,
                Access::Write => FsPerms::ReadWrite,
            };
            if let Err(error) = wasi.preopened_dir(path, name, access) {
                tracing::warn!(plugin = &*self.name, folder = name, %error, "a granted folder cannot be opened");
            }
        }
        wasi.build()
    }
}

/// The clock of those that have none: it stands still.
struct Stopped;

impl HostWallClock for Stopped {
    fn resolution(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn now(&self) -> Duration {
        Duration::ZERO
    }
}

impl HostMonotonicClock for Stopped {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_offered_is_refused_with_every_reason() {
        let here = tempfile::tempdir().unwrap();
        let offer = Offer {
            folders: BTreeMap::from([
                ("data".into(), (here.path().into(), Access::Read)),
                ("gone".into(), (here.path().join("gone"), Access::Write)),
            ]),
            env: BTreeMap::from([("LANG".into(), "C".into())]),
            clock: false,
        };
        let asked = Grants {
            folders: [("data", Access::Write), ("gone", Access::Read), ("etc", Access::Read)]
                .map(|(name, access)| (name.to_owned(), access))
                .into(),
            env: vec!["LANG".into(), "HOME".into()],
            clock: true,
            hosts: vec!["example.com".into()],
        };
        let refused = Sandbox::new("tool", 0, &asked, &offer).unwrap_err();
        assert_eq!(refused.message().matches("; ").count(), 5, "{refused}");
        let asked = Grants {
            folders: [("data".to_owned(), Access::Read)].into(),
            env: vec!["LANG".into()],
            ..Grants::default()
        };
        let given = Sandbox::new("tool", 0, &asked, &offer).unwrap();
        assert_eq!(given.folders, [("/data".into(), here.path().into(), Access::Read)]);
        assert!(Sandbox::new("tool", 0, &Grants::default(), &offer).unwrap().env.is_empty());
    }
}
