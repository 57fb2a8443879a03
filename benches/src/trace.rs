//! Recorded workflow traces in WfFormat 1.5 (WfCommons).

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;

use serde::Deserialize;

/// A recorded workflow: for each task how long it ran, and which tasks it waited for.
pub struct Trace {
    /// The file's name without its ending.
    pub name: String,
    /// Recorded run times in microseconds.
    pub durations: Vec<u64>,
    /// For each task, the tasks it needs.
    pub parents: Vec<Vec<u32>>,
}

impl Trace {
    /// Reads every trace in `folder`, by name.
    ///
    /// # Errors
    ///
    /// When the folder or a file cannot be read, or a file is no WfFormat 1.5.
    pub fn read_folder(folder: &Path) -> io::Result<Vec<Self>> {
        let mut paths: Vec<_> =
            folder.read_dir()?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
        paths.retain(|path| path.extension().is_some_and(|ending| ending == "json"));
        paths.sort();
        paths.iter().map(|path| Self::read(path)).collect()
    }

    fn read(path: &Path) -> io::Result<Self> {
        let broken =
            |what: String| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}", path.display()));
        let file: wire::File = serde_json::from_reader(BufReader::new(File::open(path)?))?;
        if file.schema_version != "1.5" {
            return Err(broken(format!("schema version {} is not 1.5", file.schema_version)));
        }
        let runtimes: HashMap<_, _> = file
            .workflow
            .execution
            .tasks
            .iter()
            .map(|task| (task.id.as_str(), task.runtime_in_seconds))
            .collect();
        let tasks = &file.workflow.specification.tasks;
        let numbers: HashMap<_, _> =
            tasks.iter().zip(0u32..).map(|(task, number)| (task.id.as_str(), number)).collect();
        let mut durations = Vec::with_capacity(tasks.len());
        let mut parents = Vec::with_capacity(tasks.len());
        for task in tasks {
            let seconds = runtimes
                .get(task.id.as_str())
                .ok_or_else(|| broken(format!("task {} has no run time", task.id)))?;
            durations.push((seconds * 1e6).round() as u64);
            let number = |parent: &String| {
                numbers
                    .get(parent.as_str())
                    .copied()
                    .ok_or_else(|| broken(format!("task {} has unknown parent {parent}", task.id)))
            };
            parents.push(task.parents.iter().map(number).collect::<io::Result<_>>()?);
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, durations, parents })
    }

    /// How many tasks there are.
    #[allow(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        self.durations.len()
    }
}

mod wire {
    use super::Deserialize;

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct File {
        pub(super) schema_version: String,
        pub(super) workflow: Workflow,
    }

    #[derive(Deserialize)]
    pub(super) struct Workflow {
        pub(super) specification: Tasks<Specified>,
        pub(super) execution: Tasks<Executed>,
    }

    #[derive(Deserialize)]
    pub(super) struct Tasks<T> {
        pub(super) tasks: Vec<T>,
    }

    #[derive(Deserialize)]
    pub(super) struct Specified {
        pub(super) id: String,
        pub(super) parents: Vec<String>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Executed {
        pub(super) id: String,
        pub(super) runtime_in_seconds: f64,
    }
}
