use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};
use crate::hex::{self, Hex};

/// What identifies a content: its SHA-256, written `sha256:` and 64 lower-case hex digits as the
/// [OCI image specification](https://github.com/opencontainers/image-spec/blob/main/descriptor.md#digests) writes it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Digest(Sha256::digest(bytes).into())
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn hex(&self) -> String {
        Hex(&self.0).to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", Hex(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::input(format!("{text:?} is not sha256: and 64 lower-case hex digits"));
        text.strip_prefix("sha256:").and_then(hex::decode).map(Digest).ok_or_else(wrong)
    }
}

/// For [`Version::digest`](crate::Version::digest), which takes text too.
impl TryFrom<&str> for Digest {
    type Error = Error;

    fn try_from(text: &str) -> Result<Self> {
        text.parse()
    }
}
