use chrono::{DateTime, Utc};

use super::keys::AgeRecipient;
use super::meta::{self, Scope};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;

/// Which values of a file are encrypted: one of the rules of `sops`, about the key of a value or of a table around it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SopsRule {
    /// All but those under a key with this ending.
    UnencryptedSuffix(String),
    /// Those under a key with this ending.
    EncryptedSuffix(String),
    /// All but those under a key that matches.
    UnencryptedRegex(String),
    /// Those under a key that matches.
    EncryptedRegex(String),
}

impl SopsRule {
    pub(super) fn compiled(&self) -> Result<Scope> {
        let (SopsRule::UnencryptedSuffix(text)
        | SopsRule::EncryptedSuffix(text)
        | SopsRule::UnencryptedRegex(text)
        | SopsRule::EncryptedRegex(text)) = self;
        // To `sops` an empty one is none.
        if text.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, "a rule for what is encrypted is empty"));
        }
        Ok(match self {
            SopsRule::UnencryptedSuffix(suffix) => Scope::UnencryptedSuffix(suffix.clone()),
            SopsRule::EncryptedSuffix(suffix) => Scope::EncryptedSuffix(suffix.clone()),
            SopsRule::UnencryptedRegex(regex) => Scope::UnencryptedRegex(meta::regex(regex)?),
            SopsRule::EncryptedRegex(regex) => Scope::EncryptedRegex(meta::regex(regex)?),
        })
    }
}

/// For whom a file is encrypted, and what of it.
#[derive(Clone, Debug)]
pub struct SopsOptions {
    pub(super) recipients: Vec<AgeRecipient>,
    pub(super) rule: SopsRule,
    pub(super) mac_only_encrypted: bool,
    pub(super) time: Option<DateTime<Utc>>,
    pub(super) limits: Limits,
}

impl SopsOptions {
    /// Encrypts for each of the recipients: the private key of any one of them decrypts.
    ///
    /// What stands under a key that ends in `_unencrypted` stays as it is, which is the rule of `sops` too.
    pub fn new(recipients: impl IntoIterator<Item = AgeRecipient>) -> SopsOptions {
        SopsOptions {
            recipients: recipients.into_iter().collect(),
            rule: SopsRule::UnencryptedSuffix(meta::UNENCRYPTED.into()),
            mac_only_encrypted: false,
            time: None,
            limits: Limits::default(),
        }
    }

    /// Says which values are encrypted. The last rule that is given holds;
    /// [`SopsFile::encrypt`](crate::SopsFile::encrypt) checks it.
    #[must_use]
    pub fn rule(mut self, rule: SopsRule) -> SopsOptions {
        self.rule = rule;
        self
    }

    /// Leaves values that are not encrypted out of the MAC, so that they can be changed without the keys.
    #[must_use]
    pub fn mac_only_encrypted(mut self) -> SopsOptions {
        self.mac_only_encrypted = true;
        self
    }

    /// Names the moment of the change in the file. Without it, that is now.
    #[must_use]
    pub fn at(mut self, time: DateTime<Utc>) -> SopsOptions {
        self.time = Some(time);
        self
    }

    /// Puts other limits in place of the default ones.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> SopsOptions {
        self.limits = limits;
        self
    }
}
