//! Files of the folder that a plugin is.

use std::io;
use std::path::{Component, Path, PathBuf};

use super::Found;
#[cfg(any(feature = "native", feature = "wasm"))]
use super::look::kind_of;
use crate::plugin::PluginError;

impl Found {
    /// A file of its folder, by the path that it has there.
    ///
    /// # Errors
    /// Where the path leads out of the folder, or there is no file, but nothing, a folder or a link.
    pub fn file(&self, path: &str) -> Result<PathBuf, PluginError> {
        let shown = path.escape_debug();
        let absent =
            || PluginError::new(format_args!("its folder has no file {shown}: name one that is there"));
        let mut at = self.copy().to_owned();
        for part in Path::new(path).components() {
            match part {
                Component::Normal(part) => at.push(part),
                Component::CurDir => continue,
                _ => {
                    return Err(PluginError::new(format_args!(
                        "{shown} leads out of its folder: name a file beneath it"
                    )));
                }
            }
            // There are none in the copy, unless somebody put one there since.
            match at.symlink_metadata() {
                Ok(metadata) if metadata.is_symlink() => {
                    return Err(PluginError::new(format_args!("{shown} is a link: name a file")));
                }
                Ok(_) => {}
                Err(error) => {
                    return Err(match error.kind() {
                        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => absent(),
                        _ => PluginError::new(format_args!("{shown} cannot be read: {error}")),
                    });
                }
            }
        }
        if at != self.copy() && at.is_file() { Ok(at) } else { Err(absent()) }
    }

    /// A file that `command` names.
    #[cfg(any(feature = "native", feature = "process", feature = "wasm"))]
    pub(crate) fn commanded(&self, path: &str) -> Result<PathBuf, PluginError> {
        self.file(path).map_err(|why| PluginError::new(format_args!("command in plugin.toml: {why}")))
    }

    /// The one file that is loaded: the copy, or of a folder the file that `command` names, or else its only one of this kind.
    #[cfg(any(feature = "native", feature = "wasm"))]
    pub(crate) fn module(&self) -> Result<PathBuf, PluginError> {
        if !self.copy().is_dir() {
            return Ok(self.copy().to_owned());
        }
        match self.command() {
            [] => {}
            [path] => return self.commanded(path),
            _ => {
                return Err(PluginError::new(
                    "command in plugin.toml has more than one word: of this kind it is a file, without arguments",
                ));
            }
        }
        let mut names = Vec::new();
        for entry in self.copy().read_dir()? {
            let name = entry?.file_name();
            names.extend(name.to_str().filter(|name| kind_of(name) == Some(self.kind())).map(str::to_owned));
        }
        names.sort();
        match &*names {
            [name] => self.file(name),
            [] => Err(PluginError::new(format_args!(
                "there is no file of the kind {} beside plugin.toml: put it there, or name it in command",
                self.kind()
            ))),
            _ => Err(PluginError::new(format_args!(
                "there are several files of the kind {} beside plugin.toml, {}: command must name one",
                self.kind(),
                names.join(", ").escape_debug()
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::discovery::PluginDiscovery;

    #[test]
    fn a_file_stands_beneath_the_folder_and_is_no_link() {
        let (root, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folder = root.path().join("tool");
        std::fs::create_dir_all(folder.join("bin")).unwrap();
        std::fs::write(folder.join("plugin.toml"), "name = \"tool\"\nversion = \"1.0.0\"\nkind = \"x\"\n")
            .unwrap();
        std::fs::write(folder.join("bin/run"), "").unwrap();
        let (found, unusable) = PluginDiscovery::new().folder(root.path()).scan(store.path()).unwrap();
        assert!(unusable.is_empty(), "{unusable:?}");
        let found = &found[0];
        for path in ["bin/run", "./bin/run", "bin//./run"] {
            assert_eq!(found.file(path).unwrap(), found.copy().join("bin/run"), "{path}");
        }
        let outside = store.path().join("outside");
        std::fs::write(&outside, "").unwrap();
        for (path, why) in [
            ("../tool/bin/run", "../tool/bin/run leads out of its folder: name a file beneath it"),
            ("bin/../bin/run", "leads out of its folder"),
            (outside.to_str().unwrap(), "leads out of its folder"),
            ("..", "leads out of its folder"),
            ("none", "its folder has no file none: name one that is there"),
            ("bin/run/none", "its folder has no file bin/run/none"),
            ("bin", "its folder has no file bin"),
            ("", "its folder has no file "),
            ("\u{1b}[2J", "its folder has no file \\u{1b}[2J"),
        ] {
            let said = found.file(path).unwrap_err().to_string();
            assert!(said.contains(why), "{path}: {said}");
        }
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(&outside, found.copy().join("link")).unwrap();
            std::os::unix::fs::symlink(store.path(), found.copy().join("out")).unwrap();
            for path in ["link", "out/outside"] {
                let said = found.file(path).unwrap_err().to_string();
                assert_eq!(said, format!("{path} is a link: name a file"));
            }
        }
    }
}
