//! The readers: text to [`Doc`], within limits.

use std::fs::{File, Metadata};
use std::path::Path;
use std::sync::Arc;

use crate::doc::Doc;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::source::{Format, Origin, Source};

pub(crate) mod json;
pub(crate) mod lines;
mod number;
pub(crate) mod toml;
pub(crate) mod yaml;

pub(crate) fn read(source: Arc<Source>, format: Format, limits: &Limits) -> Result<Doc> {
    match format {
        Format::Json => json::read(source, limits),
        Format::Toml => toml::read(source, limits),
        Format::Yaml => yaml::read(source, limits),
        Format::Dotenv => lines::read_dotenv(source, limits),
        Format::Ini => lines::read_ini(source, limits),
    }
}

/// The bytes of a file, or a limit error before all of them were held.
pub(crate) fn bytes_of(path: &Path, limits: &Limits) -> Result<Vec<u8>> {
    use std::io::Read as _;
    // First, so that what is no file is not opened.
    has_an_end(path, &std::fs::metadata(path).map_err(|error| Error::io("open", path, error))?)?;
    let file = open(path).map_err(|error| Error::io("open", path, error))?;
    let data = file.metadata().map_err(|error| Error::io("look at", path, error))?;
    has_an_end(path, &data)?;
    limits.check_bytes(path.display(), data.len())?;
    let mut bytes = Vec::with_capacity(data.len() as usize + 1);
    let most = limits.max_bytes() as u64 + 1;
    file.take(most).read_to_end(&mut bytes).map_err(|error| Error::io("read", path, error))?;
    limits.check_bytes(path.display(), bytes.len() as u64)?;
    Ok(bytes)
}

/// Opens a file for reading. To open a pipe that nobody writes to would wait for ever, and one may have been put in the
/// place of a file that was looked at.
pub(crate) fn open(path: &Path) -> std::io::Result<File> {
    let mut options = File::options();
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    }
    options.read(true).open(path)
}

/// Refuses what is neither a file nor a device such as `/dev/null`.
fn has_an_end(path: &Path, data: &Metadata) -> Result<()> {
    #[cfg(unix)]
    let is_device = std::os::unix::fs::FileTypeExt::is_char_device(&data.file_type());
    #[cfg(not(unix))]
    let is_device = false;
    if data.is_file() || is_device {
        return Ok(());
    }
    let what = if data.is_dir() { "a folder" } else { "neither a file nor a folder" };
    Err(Error::new(ErrorKind::Io, format!("{} is {what}", path.display())))
}

/// The format of a file by its extension.
pub(crate) fn format_of(path: &Path) -> Result<Format> {
    Format::of_path(path).ok_or_else(|| {
        let message = format!(
            "{}: the extension names no format; use .toml, .yaml, .yml, .json, .env or .ini",
            path.display()
        );
        Error::new(ErrorKind::InvalidInput, message)
    })
}

pub(crate) fn text(name: &str, format: Format, text: &[u8], limits: &Limits) -> Result<Doc> {
    // Checked before the copy, so that a text beyond the limit costs nothing.
    limits.check_bytes(name, text.len() as u64)?;
    read(Source::from_bytes(Origin::File(name.into()), text.to_vec(), limits)?, format, limits)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn to_open_a_pipe_does_not_wait_for_its_writer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.toml");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let (done, opened) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            // Nobody waits any more where it took too long.
            let _ = done.send(open(&path).and_then(|file| file.metadata()));
        });
        let data = opened.recv_timeout(std::time::Duration::from_secs(60)).unwrap().unwrap();
        assert!(has_an_end(folder.path(), &data).is_err());
    }
}
