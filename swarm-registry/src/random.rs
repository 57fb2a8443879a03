//! Random numbers of the system.

use crate::error::{Error, Result};
use crate::hex::Hex;

pub(crate) fn bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::io("the system gave no random numbers", std::io::Error::from(error)))?;
    Ok(bytes)
}

/// 128 random bits in hex.
pub(crate) fn nonce() -> Result<String> {
    Ok(Hex(&bytes::<16>()?).to_string())
}
