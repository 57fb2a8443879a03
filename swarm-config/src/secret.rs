use std::cell::Cell;
use std::fmt;

use serde::{Deserialize, Deserializer};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroize;

mod provider;
mod sealed;

pub(crate) use provider::contained;
pub use provider::{FileSecrets, SecretError, SecretProvider};
pub(crate) use sealed::is_sealed;
#[cfg(feature = "sops")]
pub(crate) use sealed::{KEY, PREFIX};

/// A value that is not shown: no text, no `Debug` and no export of it holds the value.
///
/// A field of this type marks its path as secret, as [`ConfigLoader::secret`](crate::ConfigLoader::secret) does:
/// what stands there is in no error, report, explanation, difference or export either. Two secrets are compared in
/// a time that depends on their lengths alone, and the value is overwritten when it is dropped.
///
/// ```
/// use swarm_config::{ConfigLoader, Format, Secret};
///
/// #[derive(serde::Deserialize, Debug)]
/// struct Settings {
///     password: Secret<String>,
/// }
///
/// let loader = ConfigLoader::new().text("app.toml", Format::Toml, "password = 'hunter2'");
/// let config = loader.load::<Settings>()?;
/// assert_eq!(config.get().password.expose(), "hunter2");
/// assert_eq!(format!("{:?}", *config.get()), "Settings { password: Secret(******) }");
/// assert_eq!(config.explain("password")?.to_string(), "password = \"******\"\n  -> app.toml:1:12: \"******\"");
/// # Ok::<(), swarm_config::Error>(())
/// ```
///
/// It does not implement `Serialize`, so that a struct which holds one cannot be written out by accident:
///
/// ```compile_fail,E0277
/// fn write(value: impl serde::Serialize) {}
/// write(swarm_config::Secret::new(String::from("hunter2")));
/// ```
///
/// The path is marked where the loader sees the type: in fields, options, lists, maps and variants. What is under
/// `#[serde(tag)]`, `#[serde(untagged)]` or `#[serde(flatten)]` serde reads from a copy without paths: there the whole
/// value is marked, unless [`ConfigLoader::secret`](crate::ConfigLoader::secret) names a path in it. That it is one shows
/// when it is read: what is told before that, of a syntax error or by a schema, and of a [`Section`](crate::Section) that
/// nobody has read, knows of it only if its path is named, or `writeOnly` in a schema.
#[derive(Clone)]
pub struct Secret<T: Zeroize>(T);

/// What [`Secret`] calls itself to a deserializer, by which ours knows it.
pub(crate) const NAME: &str = "$swarm_config::Secret";

thread_local! {
    /// Secrets that were read on this thread where nobody knew their path.
    static READ: Cell<u64> = const { Cell::new(0) };
}

/// Reads something, and says whether a secret was read in it that nobody has marked: serde reads `tag`, `untagged` and
/// `flatten` from a copy of its own, which has no paths.
pub(crate) fn noticing<R>(read: impl FnOnce() -> R) -> (R, bool) {
    let before = READ.get();
    let made = read();
    (made, READ.replace(before) != before)
}

impl<T: Zeroize> Secret<T> {
    /// Takes a value in.
    pub fn new(value: T) -> Secret<T> {
        Secret(value)
    }

    /// The value.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize + Default> Default for Secret<T> {
    fn default() -> Self {
        Secret(T::default())
    }
}

/// The schema of the value, with `writeOnly`, by which a validator made of it knows the path to be secret.
#[cfg(feature = "schemars")]
#[cfg_attr(docsrs, doc(cfg(feature = "schemars")))]
impl<T: Zeroize + schemars::JsonSchema> schemars::JsonSchema for Secret<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Secret_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let mut schema = generator.subschema_for::<T>();
        schema.insert("writeOnly".to_owned(), true.into());
        schema
    }
}

impl<T: Zeroize> From<T> for Secret<T> {
    fn from(value: T) -> Self {
        Secret(value)
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Asterisks.
impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", crate::tree::MASK)
    }
}

impl<T: Zeroize + AsRef<[u8]>> PartialEq for Secret<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_ref().ct_eq(other.0.as_ref()).into()
    }
}

impl<T: Zeroize + AsRef<[u8]>> Eq for Secret<T> {}

impl<'de, T: Zeroize + Deserialize<'de>> Deserialize<'de> for Secret<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Inside<T>(std::marker::PhantomData<T>);

        impl<'de, T: Zeroize + Deserialize<'de>> serde::de::Visitor<'de> for Inside<T> {
            type Value = Secret<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a secret")
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(
                self,
                deserializer: D,
            ) -> Result<Self::Value, D::Error> {
                READ.set(READ.get() + 1);
                T::deserialize(deserializer).map(Secret)
            }
        }

        deserializer.deserialize_newtype_struct(NAME, Inside(std::marker::PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_overwritten_when_it_is_dropped() {
        use std::sync::atomic::{AtomicBool, Ordering};

        struct Watched<'w>(&'w AtomicBool);

        impl Zeroize for Watched<'_> {
            fn zeroize(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }

        let wiped = AtomicBool::new(false);
        let secret = Secret::new(Watched(&wiped));
        assert!(!wiped.load(Ordering::Relaxed));
        drop(secret);
        assert!(wiped.load(Ordering::Relaxed));
    }

    #[test]
    fn secrets_are_equal_where_their_values_are() {
        let secret = |text: &str| Secret::new(text.to_owned());
        assert_eq!(secret("a"), secret("a"));
        assert_ne!(secret("a"), secret("b"));
        assert_ne!(secret("a"), secret("aa"));
    }

    #[test]
    fn any_format_reads_a_secret() {
        let read: Vec<Secret<String>> = serde_json::from_str(r#"["x"]"#).unwrap();
        assert_eq!(read[0].expose(), "x");
    }
}
