//! What a registry is, in a page: one thing after the other, nothing fails. A history is judged object by object: each
//! version, each channel, each alias.
//!
//! That is sound, since what is linearizable is so for each object, and it keeps few verbs under way at once in what the
//! checker searches. With objects that are independent it is complete too (Herlihy and Wing's locality). Here one verb can
//! concern several: a deployment asks that its versions are registered. It counts as a deployment for its channel, and as a
//! question for each of its versions.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use todc_utils::Specification;

/// How many deployments a channel keeps to go back to, the current one included.
const DEPTH: usize = 101;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Verb {
    Register { version: String },
    Version { version: String },
    Deploy { channel: String, split: String },
    DeployAfter { channel: String, number: u64, split: String },
    Rollback { channel: String },
    RollbackFrom { channel: String, number: u64 },
    RollbackTo { channel: String, version: String },
    Serves { channel: String },
    MoveAlias { alias: String, from: Option<String>, to: Option<String> },
    Alias { alias: String },
    Compact,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Answer {
    Done,
    Serving {
        number: u64,
        split: String,
    },
    PointsTo {
        version: String,
    },
    /// The kind of the error.
    Refused(String),
}

/// Something that is judged by itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Object {
    Version(String),
    Channel(String),
    Alias(String),
}

/// A verb and what it answered, if it did.
#[derive(Debug, Clone)]
pub(super) struct Operation {
    pub(super) verb: Verb,
    pub(super) answer: Option<Answer>,
}

/// The state of one object: what does not concern it stays as it is in the beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Model {
    registered: bool,
    channel: Channel,
    alias: Option<Arc<str>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Channel {
    number: u64,
    /// The splits that can be gone back to; the last one is served.
    good: Vec<Arc<str>>,
}

impl Specification for Model {
    type State = Model;
    type Operation = Operation;

    fn init() -> Model {
        Model::default()
    }

    fn apply(operation: &Operation, state: &Model) -> (bool, Model) {
        let mut after = state.clone();
        let answer = after.act(&operation.verb).unwrap_or_else(|kind| Answer::Refused(kind.into()));
        match &operation.answer {
            Some(seen) if *seen != answer => (false, state.clone()),
            _ => (true, after),
        }
    }
}

impl Operation {
    /// What it is for each object that it concerns. Where it was refused for one of several, it says nothing of any.
    pub(super) fn parts(&self) -> Vec<(Object, Operation)> {
        let Operation { verb, answer } = self;
        let missing = *answer == Some(Answer::Refused("NotFound".into()));
        let this = |object| vec![(object, self.clone())];
        let asked = |version: &str| {
            let verb = Verb::Version { version: version.into() };
            let answer = Some(if missing { answer.clone()? } else { Answer::Done });
            Some((Object::Version(version.into()), Operation { verb, answer }))
        };
        match verb {
            Verb::Register { version } | Verb::Version { version } => this(Object::Version(version.clone())),
            Verb::Alias { alias } => this(Object::Alias(alias.clone())),
            Verb::Serves { channel } | Verb::Rollback { channel } | Verb::RollbackFrom { channel, .. } => {
                this(Object::Channel(channel.clone()))
            }
            Verb::Compact => vec![],
            Verb::Deploy { channel, split } | Verb::DeployAfter { channel, split, .. } => {
                let versions: Vec<&str> =
                    split.split(", ").filter_map(|share| share.split(' ').next()).collect();
                let asked = versions.iter().filter_map(|version| asked(version));
                match answer {
                    Some(Answer::Refused(_)) if missing && versions.len() == 1 => asked.collect(),
                    Some(Answer::Refused(_)) if missing => vec![],
                    Some(Answer::Serving { .. }) => {
                        asked.chain(this(Object::Channel(channel.clone()))).collect()
                    }
                    _ => this(Object::Channel(channel.clone())),
                }
            }
            Verb::RollbackTo { channel, .. } if !missing => this(Object::Channel(channel.clone())),
            Verb::RollbackTo { .. } => vec![],
            Verb::MoveAlias { alias, to, .. } => match answer {
                Some(Answer::Refused(_)) if missing => to.iter().filter_map(|to| asked(to)).collect(),
                Some(Answer::Done) => {
                    to.iter().filter_map(|to| asked(to)).chain(this(Object::Alias(alias.clone()))).collect()
                }
                _ => this(Object::Alias(alias.clone())),
            },
        }
    }
}

impl Model {
    fn act(&mut self, verb: &Verb) -> Result<Answer, &'static str> {
        let Model { registered, channel, alias } = self;
        match verb {
            Verb::Register { .. } if *registered => Err("AlreadyExists"),
            Verb::Register { .. } => {
                *registered = true;
                Ok(Answer::Done)
            }
            Verb::Version { .. } if *registered => Ok(Answer::Done),
            Verb::Version { .. } => Err("NotFound"),
            Verb::DeployAfter { number, .. } if *number != channel.number => Err("Conflict"),
            Verb::Deploy { split, .. } | Verb::DeployAfter { split, .. } => Ok(channel.deploy(split)),
            Verb::Serves { .. } | Verb::Rollback { .. } | Verb::RollbackFrom { .. }
                if channel.number == 0 =>
            {
                Err("NotFound")
            }
            Verb::Serves { .. } => Ok(channel.serving()),
            Verb::RollbackFrom { number, .. } if *number != channel.number => Err("Conflict"),
            Verb::Rollback { .. } | Verb::RollbackFrom { .. } => {
                let mut back = channel.good.iter().rev();
                let now = back.next();
                let same = back.take_while(|split| Some(*split) == now).count();
                channel.back_by(same + 1)
            }
            Verb::RollbackTo { version, .. } => {
                let alone = format!("{version} 100%");
                if channel.good.last().is_some_and(|split| **split == *alone) {
                    return Ok(channel.serving());
                }
                let back = channel.good.iter().rev().skip(1).position(|split| **split == *alone);
                channel.back_by(back.ok_or("InvalidState")? + 1)
            }
            Verb::MoveAlias { from, .. } if alias.as_deref() != from.as_deref() => Err("Conflict"),
            Verb::MoveAlias { to, .. } => {
                *alias = to.as_deref().map(Arc::from);
                Ok(Answer::Done)
            }
            Verb::Alias { .. } => {
                let version = alias.as_deref().ok_or("NotFound")?.to_owned();
                Ok(Answer::PointsTo { version })
            }
            Verb::Compact => Ok(Answer::Done),
        }
    }
}

impl Channel {
    fn deploy(&mut self, split: &str) -> Answer {
        self.number += 1;
        self.good.push(split.into());
        if self.good.len() > DEPTH {
            self.good.remove(0);
        }
        self.serving()
    }

    fn back_by(&mut self, deployments: usize) -> Result<Answer, &'static str> {
        if self.good.len() <= deployments {
            return Err("InvalidState");
        }
        self.good.truncate(self.good.len() - deployments);
        self.number += 1;
        Ok(self.serving())
    }

    fn serving(&self) -> Answer {
        let split = self.good.last().map(|split| split.to_string()).unwrap_or_default();
        Answer::Serving { number: self.number, split }
    }
}
