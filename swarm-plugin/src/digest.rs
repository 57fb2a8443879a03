use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use crate::error::{Error, ErrorKind};

/// The SHA-256 of what a plugin is made of, written `sha256:` and 64 hexadecimal digits.
///
/// Of a file it is that of its bytes, as `sha256sum` prints it. Of a folder it is that of a list with a line for each file
/// in the order of their paths: digest, two spaces, path, where an `x` stands between the spaces of an executable. A path has no line break in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: impl AsRef<[u8]>) -> Digest {
        Digest(Sha256::digest(bytes).into())
    }

    pub(crate) fn finish(hasher: Sha256) -> Digest {
        Digest(hasher.finalize().into())
    }

    pub(crate) fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parse = || {
            let hex = text.strip_prefix("sha256:").unwrap_or(text).as_bytes();
            let (pairs, []) = hex.as_chunks::<2>() else { return None };
            let digit = |byte: u8| (byte as char).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            let bytes: Option<Vec<u8>> =
                pairs.iter().map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect();
            bytes?.try_into().ok().map(Digest)
        };
        let shown = text.chars().take(80).collect::<String>();
        parse()
            .ok_or_else(|| Error::new(ErrorKind::InvalidInput, format!("{shown:?} is not a SHA-256 digest")))
    }
}
