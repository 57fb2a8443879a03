//! How long a [`Trace`] takes on some workers: the bound nobody can beat, and two simple ways.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::trace::Trace;

/// No schedule is shorter than the longer of the critical path and the work divided by the workers.
///
/// Microseconds, as are the other times here.
pub fn lower_bound(trace: &Trace, workers: usize) -> u64 {
    let path = finish_times(trace, |trace, task| trace.durations[task]).into_iter().max().unwrap_or(0);
    let work: u64 = trace.durations.iter().sum();
    path.max(work.div_ceil(workers as u64))
}

/// Tasks go layer by layer, by distance from the roots; a layer starts when the one before is done.
pub fn layer_barriers(trace: &Trace, workers: usize) -> u64 {
    let depths = finish_times(trace, |_, _| 1);
    let deepest = depths.iter().copied().max().unwrap_or(0);
    (1..=deepest)
        .map(|depth| {
            let mut busy = Workers::new(workers);
            for task in (0..trace.len()).filter(|&task| depths[task] == depth) {
                busy.start_when_free(trace.durations[task]);
            }
            busy.all_free_at()
        })
        .sum()
}

/// A free worker takes the task that has been ready longest.
pub fn fifo(trace: &Trace, workers: usize) -> u64 {
    let (mut waiting, children) = wiring(trace);
    let mut ready: VecDeque<usize> = (0..trace.len()).filter(|&task| waiting[task] == 0).collect();
    let mut running = BinaryHeap::new();
    let mut now = 0;
    loop {
        while running.len() < workers
            && let Some(task) = ready.pop_front()
        {
            running.push(Reverse((now + trace.durations[task], task)));
        }
        let Some(Reverse((finish, task))) = running.pop() else { return now };
        now = finish;
        for &child in &children[task] {
            waiting[child] -= 1;
            if waiting[child] == 0 {
                ready.push_back(child);
            }
        }
    }
}

/// When each task ends if nothing but its parents holds it back.
fn finish_times(trace: &Trace, duration: impl Fn(&Trace, usize) -> u64) -> Vec<u64> {
    let (mut waiting, children) = wiring(trace);
    let mut ready: Vec<usize> = (0..trace.len()).filter(|&task| waiting[task] == 0).collect();
    let mut finish = vec![0; trace.len()];
    let mut seen = 0;
    while let Some(task) = ready.pop() {
        seen += 1;
        finish[task] += duration(trace, task);
        for &child in &children[task] {
            finish[child] = finish[child].max(finish[task]);
            waiting[child] -= 1;
            if waiting[child] == 0 {
                ready.push(child);
            }
        }
    }
    assert_eq!(seen, trace.len(), "{} has a cycle", trace.name);
    finish
}

fn wiring(trace: &Trace) -> (Vec<usize>, Vec<Vec<usize>>) {
    let mut children = vec![vec![]; trace.len()];
    for (task, parents) in trace.parents.iter().enumerate() {
        for &parent in parents {
            children[parent as usize].push(task);
        }
    }
    (trace.parents.iter().map(Vec::len).collect(), children)
}

struct Workers(BinaryHeap<Reverse<u64>>);

impl Workers {
    fn new(count: usize) -> Self {
        Self(std::iter::repeat_n(Reverse(0), count).collect())
    }

    fn start_when_free(&mut self, duration: u64) {
        let Reverse(free) = self.0.pop().expect("there is at least one worker");
        self.0.push(Reverse(free + duration));
    }

    fn all_free_at(self) -> u64 {
        self.0.into_iter().map(|Reverse(free)| free).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(durations: &[u64], parents: &[&[u32]]) -> Trace {
        Trace {
            name: "test".to_owned(),
            durations: durations.to_vec(),
            parents: parents.iter().map(|parents| parents.to_vec()).collect(),
        }
    }

    #[test]
    fn a_layer_waits_for_its_slowest_task_and_fifo_does_not() {
        let trace = trace(&[1, 5, 5, 1], &[&[], &[], &[0], &[1]]);
        assert_eq!(lower_bound(&trace, 2), 6);
        assert_eq!(fifo(&trace, 2), 6);
        assert_eq!(layer_barriers(&trace, 2), 10);
    }

    #[test]
    fn one_worker_takes_as_long_as_the_work() {
        let trace = trace(&[1, 5, 5, 1], &[&[], &[], &[0], &[1]]);
        assert_eq!([lower_bound(&trace, 1), fifo(&trace, 1), layer_barriers(&trace, 1)], [12; 3]);
    }
}
