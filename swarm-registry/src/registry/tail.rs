use std::collections::VecDeque;
use std::sync::Arc;

use crate::wire::Line;

/// How many bytes of records are kept. A watch that falls further behind reads them from the store again.
const ROOM: usize = 1 << 20;

/// The last records that this process read or wrote, for its watches.
#[derive(Default)]
pub(super) struct Tail {
    lines: VecDeque<Arc<Line>>,
    /// What has a number after `start`, up to `end`, is in `lines`, or was compacted away before it was read.
    start: u64,
    end: u64,
    /// The bytes of `lines`.
    size: usize,
}

/// What follows a record.
pub(super) enum Following {
    /// The next record that is kept.
    Line(Arc<Line>),
    /// Nothing up to this number is kept, and nothing after it is known.
    Gone(u64),
    /// The tail begins later.
    Forgotten,
    /// Nothing is known to follow.
    Nothing,
}

impl Tail {
    pub(super) fn after(end: u64) -> Self {
        Tail { start: end, end, ..Tail::default() }
    }

    pub(super) fn push(&mut self, line: Arc<Line>) {
        self.end = line.record.seq;
        self.size += line.text.len();
        self.lines.push_back(line);
        while self.size > ROOM
            && self.lines.len() > 1
            && let Some(first) = self.lines.pop_front()
        {
            self.size -= first.text.len();
            self.start = first.record.seq;
        }
    }

    /// Takes note that everything up to `seq` was read, though not all of it is kept.
    pub(super) fn reach(&mut self, seq: u64) {
        self.end = self.end.max(seq);
    }

    pub(super) fn following(&self, seq: u64) -> Following {
        if seq >= self.end {
            Following::Nothing
        } else if seq < self.start {
            Following::Forgotten
        } else {
            let at = self.lines.partition_point(|line| line.record.seq <= seq);
            self.lines.get(at).map_or(Following::Gone(self.end), |line| Following::Line(line.clone()))
        }
    }
}
