//! Names with a common prefix, `a.b` and `a.c`, as a tree.

use crate::pipeline::Pipeline;

/// Steps by prefix. A prefix of only one step makes no group.
pub(super) enum Branch<'p> {
    Step { step: u32, label: &'p str },
    Group { name: &'p str, branches: Vec<Branch<'p>> },
}

impl<'p> Branch<'p> {
    /// The steps of `pipeline`, groups and steps in the order they are first met.
    pub(super) fn all(pipeline: &'p Pipeline) -> Vec<Branch<'p>> {
        let steps = (0..pipeline.len() as u32).map(|step| (step, pipeline.graph().name(step)));
        group(steps.collect())
    }
}

fn group(steps: Vec<(u32, &str)>) -> Vec<Branch<'_>> {
    let prefix = |label: &'_ str| {
        let at = label.find('.')?;
        (at > 0 && at + 1 < label.len()).then_some(at)
    };
    let mut members: std::collections::HashMap<&str, Vec<(u32, &str)>> = std::collections::HashMap::new();
    for &(step, label) in &steps {
        if let Some(at) = prefix(label) {
            members.entry(&label[..at]).or_default().push((step, &label[at + 1..]));
        }
    }
    let mut branches = Vec::new();
    for (step, label) in steps {
        let name = prefix(label).map(|at| &label[..at]);
        match name.and_then(|name| members.get_mut(name).map(|members| (name, members))) {
            // Taken with its group when that was first met.
            Some((_, members)) if members.is_empty() => {}
            Some((name, members)) if members.len() > 1 => {
                branches.push(Branch::Group { name, branches: group(std::mem::take(members)) });
            }
            _ => branches.push(Branch::Step { step, label }),
        }
    }
    branches
}
