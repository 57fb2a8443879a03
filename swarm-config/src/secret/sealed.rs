//! How a file looks that `sops` has encrypted, whether what reads it is built in or not.

use crate::source::Format;
use crate::tree::Value;

/// The key that metadata stands under, and in dotenv what each of its keys begins with.
pub(crate) const KEY: &str = "sops";
pub(crate) const PREFIX: &str = "sops_";

/// Any one of them is enough, so that taking one away does not make ciphertext pass as a configuration.
const MARKS: [&str; 6] = ["mac", "lastmodified", "age", "pgp", "kms", "key_groups"];

/// Whether a document is encrypted: then it is no configuration as it stands. TOML never is, for `sops` does not write it.
pub(crate) fn is_sealed(root: Value<'_>, format: Format) -> bool {
    let is_mark = |key: &str| MARKS.contains(&key);
    // A list is spread over keys such as `age__list_0__map_enc`.
    let is_flat = |key: &str| is_mark(key.split("__").next().unwrap_or(key));
    let within = || root.get(KEY).into_iter().flat_map(|sops| sops.entries()).map(|(key, _)| key);
    match format {
        Format::Toml => false,
        Format::Json | Format::Yaml => within().any(is_mark),
        Format::Ini => within().any(is_flat),
        Format::Dotenv => root.entries().filter_map(|(key, _)| key.strip_prefix(PREFIX)).any(is_flat),
    }
}
