use std::fmt;

/// Why a pipeline or a graph could not be built: every problem, not just the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildError(Vec<Problem>);

/// One thing wrong with a definition.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// Two steps have the same name.
    DuplicateName {
        /// The name.
        step: String,
    },
    /// A step waits for one that does not exist.
    UnknownDependency {
        /// The step that waits.
        step: String,
        /// The name it waits for.
        dependency: String,
        /// The known name most like it, if any is.
        nearest: Option<String>,
    },
    /// A step waits for itself.
    SelfDependency {
        /// The step.
        step: String,
    },
    /// Steps wait for each other in a circle.
    Cycle {
        /// Each waits for the next; the last is the first again.
        steps: Vec<String>,
    },
    /// A handle of another pipeline was used as an input.
    ForeignHandle {
        /// The step that uses it.
        step: String,
    },
    /// A name or a policy has a value that makes no sense.
    Invalid {
        /// The step.
        step: String,
        /// What is wrong, and what is allowed.
        message: String,
    },
    /// More nodes, edges or bytes of names than 32 bits can number.
    TooLarge,
}

impl BuildError {
    pub(crate) fn new(problems: Vec<Problem>) -> Self {
        BuildError(problems)
    }

    pub(crate) fn of(problem: Problem) -> Self {
        BuildError(vec![problem])
    }

    /// Everything that is wrong, in the order it was found.
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::DuplicateName { step } => write!(f, "the name {step:?} is used twice"),
            Problem::UnknownDependency { step, dependency, nearest } => {
                write!(f, "{step:?} depends on {dependency:?}, which does not exist")?;
                nearest.as_ref().map_or(Ok(()), |name| write!(f, "; did you mean {name:?}?"))
            }
            Problem::SelfDependency { step } => write!(f, "{step:?} depends on itself"),
            Problem::Cycle { steps } if steps.len() > 12 => {
                let (first, last) = (&steps[..6], &steps[steps.len() - 4..]);
                write!(f, "a cycle of {} steps: ", steps.len() - 1)?;
                write!(f, "{} -> … -> {}", first.join(" -> "), last.join(" -> "))
            }
            Problem::Cycle { steps } => write!(f, "a cycle: {}", steps.join(" -> ")),
            Problem::ForeignHandle { step } => write!(f, "{step:?} takes an input from another pipeline"),
            Problem::Invalid { step, message } => write!(f, "{step:?}: {message}"),
            Problem::TooLarge => f.write_str(
                "the graph is too large: 2^30 nodes, 2^32 edges and 4 GiB of names are the limits",
            ),
        }
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const TOLD: usize = 50;
        match &*self.0 {
            [problem] => problem.fmt(f),
            problems => {
                write!(f, "{} problems:", problems.len())?;
                problems.iter().take(TOLD).try_for_each(|problem| write!(f, "\n  {problem}"))?;
                match problems.len().saturating_sub(TOLD) {
                    0 => Ok(()),
                    more => write!(f, "\n  and {more} more"),
                }
            }
        }
    }
}

impl std::error::Error for BuildError {}
