//! Whether a file is a native plugin, read without loading it: to load a library is to run code of it.

use std::path::Path;

use object::read::{Object as _, ObjectSegment as _};
use object::{File, ObjectKind};

use super::abi;

/// # Errors
/// Says in a sentence why the file is no native plugin.
pub(super) fn check(path: &Path) -> Result<(), String> {
    let bytes = std::fs::read(path).map_err(|error| format!("the library cannot be read: {error}"))?;
    look(&bytes)
}

fn look(bytes: &[u8]) -> Result<(), String> {
    let unreadable = |error| format!("it cannot be read as a native library: {error}");
    let file = File::parse(bytes).map_err(unreadable)?;
    if file.kind() != ObjectKind::Dynamic {
        return Err("it is a native file, but no library".into());
    }
    // The loader of the system maps what is not there, and whoever touches it gets SIGBUS.
    let length = bytes.len() as u64;
    let beyond = |(from, size): (u64, u64)| from.checked_add(size).is_none_or(|end| end > length);
    if file.segments().any(|segment| beyond(segment.file_range())) {
        return Err(format!("it is cut off: parts of it would be behind its end at {length} bytes"));
    }
    for export in file.exports().map_err(unreadable)? {
        let name = export.name();
        // Mach-O puts an underscore before what C calls by its name.
        let plain = name.strip_prefix(b"_").unwrap_or(name);
        if name == abi::SYMBOL.as_bytes() || plain == abi::SYMBOL.as_bytes() {
            return Ok(());
        }
    }
    Err(format!("it does not export {}", abi::SYMBOL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_library_is_told_apart() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let said = look(&own).unwrap_err();
        assert!(said.contains("does not export") || said.contains("no library"), "{said}");
        for (bytes, reason) in [
            (&b""[..], "cannot be read as a native library"),
            (b"#!/bin/sh\nexit 0\n", "cannot be read as a native library"),
            (b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0", "cannot be read as a native library"),
            (&own[..own.len() / 2], ""),
        ] {
            let said = look(bytes).unwrap_err();
            assert!(said.contains(reason), "{said}");
        }
    }
}
