//! Rows measured by turns, each repetition in a process of its own.

use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, fmt};

use crate::measure::{median, test_mode};

/// One way of doing a thing: its name, and a repetition that says how long its timed part took.
///
/// The repetition makes all it needs itself, so that a process that does not run it does not pay for it.
pub struct Contender<'a> {
    name: &'static str,
    repetition: Box<dyn Fn() -> Duration + 'a>,
}

impl<'a> Contender<'a> {
    /// Names a repetition.
    pub fn new(name: &'static str, repetition: impl Fn() -> Duration + 'a) -> Self {
        Self { name, repetition: Box::new(repetition) }
    }
}

/// What this process is there for.
#[derive(Debug)]
pub enum Session {
    /// Run everything once at tiny sizes.
    Test,
    /// Measure the parts named, or all.
    Table(Vec<String>),
    /// Be one repetition of one contender of one row, for the process that makes the table.
    Repetition {
        /// The row's words.
        row: String,
        /// The contender's name.
        contender: String,
    },
}

const REPETITION: &str = "SWARM_BENCH_REPETITION";

impl Session {
    /// Reads the command line.
    pub fn from_env() -> Self {
        if test_mode() {
            return Self::Test;
        }
        if let Some((row, contender)) =
            env::var(REPETITION).ok().as_deref().and_then(|asked| asked.split_once('\n'))
        {
            return Self::Repetition { row: row.to_owned(), contender: contender.to_owned() };
        }
        Self::Table(env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect())
    }

    /// Whether a part of this name is to be done.
    pub fn wants(&self, part: &str) -> bool {
        match self {
            Self::Test | Self::Repetition { .. } => true,
            Self::Table(parts) => parts.is_empty() || parts.iter().any(|wanted| wanted == part),
        }
    }

    /// `test` when everything runs once, else `full`.
    pub fn pick<T>(&self, test: T, full: T) -> T {
        if matches!(self, Self::Test) { test } else { full }
    }

    /// Median times of the contenders after `rounds` turns each, in their order; empty in a process that is
    /// there for another row.
    ///
    /// They take turns, A B C A B C, so that a noisy minute falls on all of them. Each turn is a new process
    /// with one warm-up and `repetitions` timed repetitions: in one shared process, whoever follows a contender
    /// that allocates much finds the heap in pieces and looks up to twice as slow.
    #[allow(clippy::print_stdout, reason = "a repetition answers on its standard output")]
    pub fn measure(
        &self,
        row: impl fmt::Display,
        rounds: usize,
        repetitions: usize,
        contenders: &[Contender<'_>],
    ) -> Vec<(&'static str, Duration)> {
        let row = row.to_string();
        match self {
            Self::Test => {
                contenders.iter().map(|contender| (contender.name, (contender.repetition)())).collect()
            }
            Self::Table(_) => {
                let mut times = vec![vec![]; contenders.len()];
                for _ in 0..rounds {
                    for (contender, times) in contenders.iter().zip(&mut times) {
                        times.push(turn(&row, contender.name));
                    }
                }
                contenders
                    .iter()
                    .zip(times)
                    .map(|(contender, times)| (contender.name, median(times)))
                    .collect()
            }
            Self::Repetition { row: wanted, contender: name } => {
                if row == *wanted
                    && let Some(contender) = contenders.iter().find(|contender| contender.name == name)
                {
                    (contender.repetition)();
                    let times = (0..repetitions).map(|_| (contender.repetition)()).collect();
                    println!("{}", median::<Duration>(times).as_nanos());
                }
                vec![]
            }
        }
    }
}

fn turn(row: &str, contender: &str) -> Duration {
    let answer = Command::new(env::current_exe().unwrap())
        .arg("--bench")
        .env(REPETITION, format!("{row}\n{contender}"))
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(answer.status.success(), "{contender} failed at {row}");
    let answer = String::from_utf8(answer.stdout).unwrap();
    Duration::from_nanos(answer.trim().parse().unwrap_or_else(|_| panic!("{contender} did not run {row}")))
}
