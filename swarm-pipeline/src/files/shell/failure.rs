//! What is said when a program does not do.

use std::ffi::{OsStr, OsString};
use std::io::{Error, ErrorKind};
use std::path::Path;

use super::capture::Captured;
use crate::step_error::StepError;

/// A program that ended otherwise than it should.
pub(super) fn exited(program: &OsStr, how: &str, stderr: &Captured) -> StepError {
    const TAIL: usize = 1_000;
    let (said, _) = stderr.text();
    let said = said.trim();
    let start = said.char_indices().rev().take(TAIL).last().map_or(0, |(at, _)| at);
    let program = program.to_string_lossy();
    match &said[start..] {
        "" => StepError::new(format_args!("{program:?} {how}")),
        said => StepError::new(format_args!("{program:?} {how}; it said: {said}")),
    }
}

/// A program that could not be started. Only a lack of resources may be over when it is tried again.
pub(super) fn not_started(
    program: &OsStr,
    cwd: Option<&Path>,
    path: Option<OsString>,
    error: Error,
) -> StepError {
    let name = program.to_string_lossy();
    if let Some(folder) = cwd.filter(|folder| !folder.is_dir()) {
        return StepError::permanent(format_args!(
            "{name:?} cannot run in {}, which is no folder",
            folder.display()
        ));
    }
    let is_path = Path::new(program).components().count() > 1;
    match error.kind() {
        ErrorKind::NotFound if is_path => {
            let place = cwd.unwrap_or(Path::new("")).join(program);
            match place.exists() {
                true => {
                    StepError::permanent(format_args!("{name:?} names an interpreter that does not exist"))
                }
                false => StepError::permanent(format_args!("the program {name:?} does not exist")),
            }
        }
        ErrorKind::NotFound => {
            let folders = path.map_or(0, |path| std::env::split_paths(&path).count());
            StepError::permanent(format_args!(
                "the program {name:?} was not found in the {folders} folders of PATH"
            ))
        }
        ErrorKind::PermissionDenied => StepError::permanent(format_args!("{name:?} may not be executed")),
        ErrorKind::WouldBlock
        | ErrorKind::OutOfMemory
        | ErrorKind::ExecutableFileBusy
        | ErrorKind::ResourceBusy
        | ErrorKind::Interrupted => StepError::new(format_args!("{name:?} could not be started: {error}")),
        _ => StepError::permanent(format_args!("{name:?} could not be started: {error}")),
    }
}
