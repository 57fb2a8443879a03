use std::fmt;

use crate::error::{Error, ErrorKind, Result};
use crate::tree::Tree;

/// What a configuration may cost before it is refused.
///
/// The defaults suit configuration written by people and by generators; a file beyond them is a mistake or an
/// attack. Each is checked while reading, so that a file which is too large is never held whole.
///
/// ```
/// let mut limits = swarm_config::Limits::default();
/// limits.bytes = 1024 * 1024;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of one source. Also bounds what YAML aliases stand for together. Default: 32 MiB; at most 1 GiB is used.
    pub bytes: usize,
    /// Containers within containers. Default: 128; at most 256 is used, so that 2 MiB of stack always suffice.
    pub depth: usize,
    /// Values of one source, with each use of a YAML alias counted as what it stands for. Default: 2,000,000.
    /// A TOML source has eight tokens for each at most, with every blank line and comment.
    pub nodes: usize,
    /// Uses of YAML aliases in one source. Default: 10,000.
    pub aliases: usize,
    /// Bytes of one key or string. Default: 1 MiB.
    pub string: usize,
    /// Findings listed in a report, errors before warnings; the others are counted. Default: 100.
    pub findings: usize,
    /// Subschemas that a schema may apply to one value, references followed. Default: 10,000.
    pub subschemas: usize,
    /// Looks at values that one validation may take, beyond 64 for each value there is. Default: 50,000.
    pub steps: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            bytes: 32 << 20,
            depth: 128,
            nodes: 2_000_000,
            aliases: 10_000,
            string: 1 << 20,
            findings: 100,
            subschemas: 10_000,
            steps: 50_000,
        }
    }
}

impl Limits {
    pub(crate) fn max_depth(&self) -> usize {
        self.depth.min(256)
    }

    pub(crate) fn max_bytes(&self) -> usize {
        self.bytes.min(1 << 30)
    }

    /// Refuses a source of more bytes.
    pub(crate) fn check_bytes(&self, source: impl fmt::Display, bytes: u64) -> Result<()> {
        let most = self.max_bytes();
        if bytes <= most as u64 {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Limit, format!("{source}: larger than {most} bytes")))
    }

    /// Looks at values that a tree may take.
    pub(crate) fn steps_for(&self, tree: &Tree) -> u64 {
        let values: usize = tree.docs.iter().map(|doc| doc.len()).sum();
        self.steps.saturating_add((values as u64).saturating_mul(64))
    }
}
