use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A plugin folder of its own for a test, removed when it is dropped.
///
/// What is put in is there whole at once, as a rename would have it.
///
/// ```
/// use swarm_plugin::PluginDiscovery;
/// use swarm_plugin::testing::PluginFolder;
///
/// let folder = PluginFolder::new()?;
/// folder.program("words.py", "#!/usr/bin/env python3\n")?;
/// folder.folder("time", &[("plugin.toml", "name = \"time\"\nversion = \"1.0.0\"\nkind = \"process\"\n")])?;
/// let store = tempfile::tempdir()?;
/// let (found, unusable) = PluginDiscovery::new().folder(folder.path()).scan(store.path())?;
/// assert_eq!((found.len(), unusable.len()), (2, 0));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct PluginFolder {
    root: TempDir,
}

impl PluginFolder {
    /// An empty folder.
    ///
    /// # Errors
    /// Where the system's folder for temporary files cannot be written to.
    pub fn new() -> io::Result<PluginFolder> {
        Ok(PluginFolder { root: TempDir::with_prefix("swarm-plugins-")? })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.root.path()
    }

    /// Puts an executable file in, in the place of one of this name, and answers its path.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn program(&self, name: &str, text: impl AsRef<[u8]>) -> io::Result<PathBuf> {
        let next = self.next();
        fs::write(&next, text)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&next, fs::Permissions::from_mode(0o755))?;
        }
        self.put(&next, name)
    }

    /// Puts a folder of these files in, in the place of what has this name, and answers its path.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn folder(&self, name: &str, files: &[(&str, &str)]) -> io::Result<PathBuf> {
        let next = self.next();
        for (file, text) in files {
            let file = next.join(file);
            file.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::write(file, text)?;
        }
        // A folder that is there is in the way of a rename.
        if self.path().join(name).is_dir() {
            fs::rename(self.path().join(name), self.path().join(".before"))?;
        }
        let path = self.put(&next, name)?;
        match fs::remove_dir_all(self.path().join(".before")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(path),
        }
    }

    /// Takes out what has this name.
    ///
    /// # Errors
    /// Where it is not there, or cannot be removed.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.path().join(name);
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
    }

    /// Hidden, so that it is passed over.
    fn next(&self) -> PathBuf {
        self.path().join(".next")
    }

    fn put(&self, next: &Path, name: &str) -> io::Result<PathBuf> {
        let path = self.path().join(name);
        fs::rename(next, &path)?;
        Ok(path)
    }
}
