//! Signatures of plugins, as `minisign` makes them.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::str::FromStr;

use minisign_verify::Signature;

use super::beneath::{Folder, Node};
use super::look::said;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};

/// What stands after the name of the plugin.
const ENDING: &str = ".minisig";
const SIGNATURE_LIMIT: u64 = 16 * 1024;

/// Who may sign plugins: a public key of [`minisign`](https://jedisct1.github.io/minisign/).
///
/// For [`PluginManagerBuilder::signed_by`](crate::PluginManagerBuilder::signed_by), which says what is signed. Read from
/// the text of `minisign.pub`, or from its second line alone.
///
/// ```
/// use swarm_plugin::PublicKey;
///
/// let key: PublicKey = "RWQ95JcV63WzOAnEN98LaEEkCgTB40CIhJKsbhru6b3g7xe6Gxvun2Ju".parse()?;
/// # let _ = key;
/// # Ok::<_, swarm_plugin::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(minisign_verify::PublicKey);

impl FromStr for PublicKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut lines = text.trim().lines();
        // Without the comment, of which a key would be another.
        let key = match (lines.next(), lines.next(), lines.next()) {
            (Some(key), None, _) => key,
            (Some(comment), Some(key), None) if comment.starts_with("untrusted comment:") => key.trim(),
            _ => "",
        };
        minisign_verify::PublicKey::from_base64(key).map(PublicKey).map_err(|error| {
            Error::new(ErrorKind::InvalidInput, "the text is no public key of minisign").because(error)
        })
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicKey").finish_non_exhaustive()
    }
}

/// The name of the signature that stands beside a plugin.
pub(super) fn beside(name: &OsStr) -> OsString {
    let mut beside = name.to_owned();
    beside.push(ENDING);
    beside
}

/// What was signed.
pub(super) enum Signed<'s> {
    /// The bytes of a file, which is the private copy.
    File(&'s Path),
    /// The digest of a folder, as text, which is made of all that the private copy holds.
    Folder(Digest),
}

/// Checks the signature beside a plugin, and answers its trusted comment.
///
/// # Errors
/// Says in a sentence why it does not hold.
pub(super) fn check(
    keys: &[PublicKey],
    folder: &Folder,
    name: &OsStr,
    signed: &Signed<'_>,
) -> Result<String, String> {
    let name = beside(name);
    let shown = name.to_string_lossy().escape_debug().to_string();
    let text = match folder.node(Path::new(&name)) {
        Ok(Node::File(file, _)) => read(file).map_err(|error| format!("{shown}: {}", said(&error)))?,
        Ok(_) => return Err(format!("{shown} is not a file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(match signed {
                Signed::File(_) => format!("it is not signed: there is no {shown}"),
                Signed::Folder(digest) => {
                    format!("it is not signed: there is no {shown}, a signature of the text {digest}")
                }
            });
        }
        Err(error) => return Err(format!("{shown}: {}", said(&error))),
    };
    let signature =
        Signature::decode(&text).map_err(|_| format!("{shown} is no signature that minisign makes"))?;
    for PublicKey(key) in keys {
        let verified = match signed {
            Signed::Folder(digest) => key.verify(digest.to_string().as_bytes(), &signature, true),
            Signed::File(copy) => verify(key, copy, &signature),
        };
        match verified {
            Ok(()) => return Ok(signature.trusted_comment().to_owned()),
            Err(minisign_verify::Error::UnexpectedKeyId) => {}
            Err(minisign_verify::Error::IoError(error)) => return Err(said(&error)),
            Err(_) => {
                return Err(match signed {
                    Signed::File(_) => format!("{shown} is not the signature of what stands there"),
                    Signed::Folder(digest) => {
                        format!("{shown} is not the signature of what stands there, whose digest is {digest}")
                    }
                });
            }
        }
    }
    Err(format!("{shown} is by none of the keys that may sign"))
}

/// A text that may be as long as a signature is.
fn read(file: File) -> io::Result<String> {
    let mut text = String::new();
    file.take(SIGNATURE_LIMIT).read_to_string(&mut text)?;
    Ok(text)
}

fn verify(
    key: &minisign_verify::PublicKey,
    copy: &Path,
    signature: &Signature,
) -> Result<(), minisign_verify::Error> {
    let mut file = File::open(copy)?;
    let mut verifier = match key.verify_stream(signature) {
        Ok(verifier) => verifier,
        // Without a hash of its own, as old versions made it, the whole file is what is signed.
        Err(minisign_verify::Error::UnsupportedLegacyMode) => {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            return key.verify(&bytes, signature, true);
        }
        Err(error) => return Err(error),
    };
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return verifier.finalize(),
            Ok(read) => verifier.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}
