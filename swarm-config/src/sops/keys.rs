use std::ffi::OsString;
use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use age::armor::ArmoredReader;
use age::secrecy::ExposeSecret as _;
use age::x25519;
use zeroize::Zeroizing;

use super::cipher::DataKey;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::read;

/// Private age keys, with which files are decrypted.
///
/// X25519 keys, as `age-keygen` makes them. SSH keys, plugins and passphrases are refused by name.
///
/// ```
/// use swarm_config::AgeKeys;
///
/// let keys = AgeKeys::generate();
/// assert!(keys.recipients()[0].to_string().starts_with("age1"));
/// ```
#[derive(Clone)]
pub struct AgeKeys {
    identities: Vec<x25519::Identity>,
    /// Their public keys, each of which takes a multiplication on the curve.
    recipients: Vec<AgeRecipient>,
}

/// A public age key, for which files are encrypted: `age1…`.
#[derive(Clone, PartialEq, Eq)]
pub struct AgeRecipient(x25519::Recipient);

impl AgeKeys {
    /// Reads keys from a text as `age-keygen` writes it: one a line, with comments.
    ///
    /// # Errors
    ///
    /// When a line is no X25519 key, or there is no key.
    pub fn parse(text: &str) -> Result<AgeKeys> {
        let mut identities = Vec::new();
        for (at, line) in text.lines().map(str::trim).enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |what: &str| {
                Err(Error::new(ErrorKind::InvalidInput, format!("line {} of the age keys {what}", at + 1)))
            };
            match line.parse::<x25519::Identity>() {
                Ok(identity) => identities.push(identity),
                Err(_) if line.starts_with("AGE-PLUGIN-") => {
                    return wrong("is for a plugin; only X25519 keys are supported");
                }
                Err(_) if line.starts_with("-----BEGIN") => {
                    return wrong("begins an SSH key or an encrypted file; only X25519 keys are supported");
                }
                Err(_) => return wrong("is no X25519 key (AGE-SECRET-KEY-1…)"),
            }
        }
        match identities.is_empty() {
            true => Err(Error::new(ErrorKind::InvalidInput, "there is no age key")),
            false => Ok(AgeKeys::of(identities)),
        }
    }

    fn of(identities: Vec<x25519::Identity>) -> AgeKeys {
        let recipients = identities.iter().map(|identity| AgeRecipient(identity.to_public())).collect();
        AgeKeys { identities, recipients }
    }

    /// Reads keys from a file such as `keys.txt`.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, and as [`parse`](AgeKeys::parse).
    pub fn from_file(path: impl AsRef<Path>) -> Result<AgeKeys> {
        let bytes = Zeroizing::new(read::bytes_of(path.as_ref(), &key_limits())?);
        let text = std::str::from_utf8(&bytes).map_err(|_| {
            Error::new(ErrorKind::Encoding, format!("{} is not UTF-8", path.as_ref().display()))
        })?;
        AgeKeys::parse(text)
    }

    /// The keys where `sops` looks for them: `SOPS_AGE_KEY`, the file that `SOPS_AGE_KEY_FILE` names, and
    /// `sops/age/keys.txt` in the user's configuration folder. Those of all places count.
    ///
    /// `SOPS_AGE_KEY_CMD` is not run: a library starts no programs because of its environment. Run it yourself, and
    /// give its output to [`parse`](AgeKeys::parse). Nor are SSH keys looked for.
    ///
    /// # Errors
    ///
    /// When there are none, with the places that were looked at, or one of them holds what is no key.
    pub fn from_env() -> Result<AgeKeys> {
        AgeKeys::find(&|name| std::env::var_os(name))
    }

    fn find(variable: &dyn Fn(&str) -> Option<OsString>) -> Result<AgeKeys> {
        let (mut identities, mut recipients) = (Vec::new(), Vec::new());
        let mut take = |keys: AgeKeys| {
            identities.extend(keys.identities);
            recipients.extend(keys.recipients);
        };
        let mut places = vec!["SOPS_AGE_KEY".to_owned(), "SOPS_AGE_KEY_FILE".to_owned()];
        if let Some(keys) = variable("SOPS_AGE_KEY").filter(|keys| !keys.is_empty()) {
            let keys = Zeroizing::new(keys.into_encoded_bytes());
            take(AgeKeys::parse(std::str::from_utf8(&keys).unwrap_or_default())?);
        }
        if let Some(path) = variable("SOPS_AGE_KEY_FILE").filter(|path| !path.is_empty()) {
            take(AgeKeys::from_file(PathBuf::from(path))?);
        }
        if let Some(path) = user_keys(variable) {
            places.push(path.display().to_string());
            if path.is_file() {
                take(AgeKeys::from_file(path)?);
            }
        }
        if identities.is_empty() {
            let mut message = format!("no age key: looked at {}", places.join(", "));
            if variable("SOPS_AGE_KEY_CMD").is_some() {
                message.push_str("; SOPS_AGE_KEY_CMD is set, and is not run");
            }
            return Err(Error::new(ErrorKind::Secret, message));
        }
        Ok(AgeKeys { identities, recipients })
    }

    /// Makes a new key.
    pub fn generate() -> AgeKeys {
        AgeKeys::of(vec![x25519::Identity::generate()])
    }

    /// Whom to encrypt for, so that these keys decrypt.
    pub fn recipients(&self) -> Vec<AgeRecipient> {
        self.recipients.clone()
    }

    /// The keys as a text that [`parse`](AgeKeys::parse) reads, to be kept in a safe place.
    pub fn to_text(&self) -> crate::Secret<String> {
        let lines = self.identities.iter().map(|identity| identity.to_string());
        let mut text = String::with_capacity(self.identities.len() * 80);
        lines.for_each(|line| {
            text.push_str(line.expose_secret());
            text.push('\n');
        });
        crate::Secret::new(text)
    }

    /// The data key, from the first of `wrapped`, recipients and armored age files, that one of these keys opens.
    pub(super) fn unwrap(&self, wrapped: &[(String, String)]) -> Option<DataKey> {
        let ours: Vec<String> = self.recipients.iter().map(AgeRecipient::to_string).collect();
        let mine = wrapped.iter().filter(|(recipient, _)| ours.contains(recipient)).take(MOST);
        mine.filter_map(|(_, file)| open(&self.identities, file.as_bytes(), 32)).find_map(|key| {
            let mut data = DataKey::default();
            (key.len() == 32).then(|| data.copy_from_slice(&key))?;
            Some(data)
        })
    }
}

/// Entries that are tried, since each costs a multiplication on the curve.
const MOST: usize = 100;

/// Key files are small.
fn key_limits() -> Limits {
    Limits { bytes: 1 << 20, ..Limits::default() }
}

fn user_keys(variable: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let folder = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = if cfg!(windows) {
        folder("AppData")?
    } else if let Some(config) = folder("XDG_CONFIG_HOME") {
        config
    } else if cfg!(target_os = "macos") {
        folder("HOME")?.join("Library/Application Support")
    } else {
        folder("HOME")?.join(".config")
    };
    Some(config.join("sops/age/keys.txt"))
}

/// Decrypts an age file of at most `most` bytes.
fn open(identities: &[x25519::Identity], file: &[u8], most: usize) -> Option<Zeroizing<Vec<u8>>> {
    // White space around an armored file is none of it, as for `sops`.
    let trimmed = file.trim_ascii();
    let file = if trimmed.starts_with(b"-----BEGIN") { trimmed } else { file };
    let file = age::Decryptor::new_buffered(ArmoredReader::new(file)).ok()?;
    if file.is_scrypt() {
        return None;
    }
    let identities = identities.iter().map(|identity| identity as &dyn age::Identity);
    let mut reader = file.decrypt(identities).ok()?.take(most as u64 + 1);
    // Never grown, so that no copy is left behind.
    let mut plain = Zeroizing::new(Vec::with_capacity(most + 64));
    reader.read_to_end(&mut plain).ok()?;
    (plain.len() <= most).then_some(plain)
}

/// The data key, encrypted for one recipient.
pub(super) fn wrap(key: &DataKey, recipient: &AgeRecipient) -> Result<String> {
    age::encrypt_and_armor(&recipient.0, &**key).map_err(|_| {
        Error::new(ErrorKind::Secret, format!("the data key cannot be encrypted for {recipient}"))
    })
}

impl FromStr for AgeRecipient {
    type Err = Error;

    fn from_str(text: &str) -> Result<AgeRecipient> {
        text.trim().parse().map(AgeRecipient).map_err(|_| {
            let what = crate::doc::shorten(text.trim());
            let message = match text.trim() {
                // Someone gave the private key: it is not repeated.
                key if key.to_ascii_uppercase().starts_with("AGE-SECRET-KEY") => {
                    "a private age key is no recipient; its public key begins with age1".to_owned()
                }
                key if key.starts_with("ssh-") => "SSH keys as age recipients are not supported".to_owned(),
                _ => format!("`{what}` is no age recipient for X25519 (age1…)"),
            };
            Error::new(ErrorKind::InvalidInput, message)
        })
    }
}

impl fmt::Display for AgeRecipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for AgeRecipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The public keys.
impl fmt::Debug for AgeKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AgeKeys").field(&self.recipients()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_where_sops_looks_for_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sops/age/keys.txt");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let keys: Vec<AgeKeys> = (0..3).map(|_| AgeKeys::generate()).collect();
        let text = |at: usize| format!("# created: today\n{}", keys[at].to_text().expose());
        std::fs::write(&path, text(0)).unwrap();
        let other = folder.path().join("other.txt");
        std::fs::write(&other, text(1)).unwrap();
        let find = |variables: &[(&str, OsString)]| {
            AgeKeys::find(&|name| {
                variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
            })
        };
        let home = if cfg!(windows) { "AppData" } else { "XDG_CONFIG_HOME" };
        let found = find(&[
            (home, folder.path().into()),
            ("SOPS_AGE_KEY_FILE", other.into()),
            ("SOPS_AGE_KEY", text(2).into()),
        ]);
        let all: Vec<AgeRecipient> = [2, 1, 0].iter().map(|at| keys[*at].recipients()[0].clone()).collect();
        assert_eq!(found.unwrap().recipients(), all);
        let none = find(&[("SOPS_AGE_KEY_CMD", "cat keys".into())]).unwrap_err();
        assert_eq!(none.kind(), ErrorKind::Secret);
        assert!(none.to_string().contains("SOPS_AGE_KEY_CMD is set, and is not run"), "{none}");
        assert!(find(&[("SOPS_AGE_KEY_FILE", "/nowhere/at/all".into())]).is_err());
    }

    #[test]
    fn what_is_no_x25519_key_is_refused_without_being_repeated() {
        let canary = "AGE-SECRET-KEY-1CANARY";
        for (text, part) in [
            ("", "there is no age key"),
            (canary, "line 1 of the age keys is no X25519 key"),
            ("# x\nAGE-PLUGIN-YUBIKEY-1CANARY", "line 2 of the age keys is for a plugin"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----", "SSH key"),
        ] {
            let error = AgeKeys::parse(text).unwrap_err();
            assert!(error.to_string().contains(part), "{text}: {error}");
            assert!(!format!("{error} {error:?}").contains("CANARY"), "{error:?}");
        }
        for text in [canary, "ssh-ed25519 AAAA", "age1nope", ""] {
            let error = text.parse::<AgeRecipient>().unwrap_err();
            assert!(!format!("{error:?}").contains("CANARY"), "{error:?}");
        }
        let keys = AgeKeys::generate();
        assert!(!format!("{keys:?}").contains("SECRET"), "{keys:?}");
    }

    /// The vectors of C2SP's CCTV, which the crate `age` carries in its package, through the code that data keys go
    /// through. Says aloud when the package is not where cargo keeps it.
    #[test]
    fn the_age_test_kit_has_the_verdicts_it_should() {
        let Some(folder) = test_kit() else {
            eprintln!("left out: the test kit of the crate `age` is not in cargo's folder of sources");
            return;
        };
        // Read by the crate `age` on purpose: stanzas as old versions of age wrote them.
        let older = ["stanza_missing_body", "stanza_missing_final_line"];
        let (mut opened, mut refused, mut passphrases, mut large) = (0, 0, 0, 0);
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let bytes = std::fs::read(&path).unwrap();
            let end = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap();
            let header = std::str::from_utf8(&bytes[..end]).unwrap();
            let field = |name: &str| {
                let line = header.lines().find_map(|line| line.strip_prefix(name))?;
                Some(line.trim_start_matches(": "))
            };
            let mut body = bytes[end + 2..].to_vec();
            if field("compressed").is_some() {
                let mut larger = Vec::new();
                flate2::read::ZlibDecoder::new(&body[..]).read_to_end(&mut larger).unwrap();
                body = larger;
                // Minutes without optimisation, and no data key is of their kind.
                if body.len() > 1 << 20 {
                    large += 1;
                    continue;
                }
            }
            let fields: Vec<&str> =
                header.lines().filter_map(|line| line.strip_prefix("identity: ")).collect();
            let identities: Vec<x25519::Identity> =
                fields.iter().filter_map(|key| key.parse().ok()).collect();
            assert_eq!(identities.len(), fields.len(), "{name}");
            let found = open(&identities, &body, body.len());
            if field("passphrase").is_some() {
                // Data keys are not encrypted for passphrases, so none of these opens.
                assert!(found.is_none(), "{name}");
                passphrases += 1;
                continue;
            }
            match (field("expect").unwrap(), found) {
                ("success", Some(plain)) => {
                    use sha2::Digest as _;
                    let hash: String =
                        sha2::Sha256::digest(&plain[..]).iter().map(|byte| format!("{byte:02x}")).collect();
                    assert_eq!(field("payload"), Some(hash.as_str()), "{name}");
                    opened += 1;
                }
                ("success", None) => panic!("{name} is not read"),
                (_, None) => refused += 1,
                ("header failure", Some(_)) if older.contains(&name.as_str()) => {}
                (expect, Some(_)) => panic!("{name} is read, and should be {expect}"),
            }
        }
        eprintln!(
            "age test kit: {opened} opened, {refused} refused, {passphrases} for passphrases; left out: {large} over 1 MiB"
        );
        assert!(opened >= 12 && refused >= 64, "{opened} opened, {refused} refused");
    }

    fn test_kit() -> Option<PathBuf> {
        let metadata = std::process::Command::new(option_env!("CARGO").unwrap_or("cargo"))
            .args(["metadata", "--locked", "--all-features", "--format-version", "1"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .ok()?;
        let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).ok()?;
        let age = metadata["packages"].as_array()?.iter().find(|package| package["name"] == "age")?;
        let folder = Path::new(age["manifest_path"].as_str()?).parent()?.join("tests/testdata/testkit");
        folder.is_dir().then_some(folder)
    }
}
