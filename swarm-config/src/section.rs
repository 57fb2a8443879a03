use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use serde::de::{self, Deserialize, DeserializeOwned, Deserializer, Visitor};

use crate::error::{Error, ErrorKind, Result};
use crate::loader::Loaded;
use crate::path::Pattern;
use crate::tree::{Hidden, Ref, Value, extract_below};

/// A part of a configuration that becomes a `T` when it is first read, and stays one over reloads that do not change it.
///
/// For the fields of a large configuration of which a process needs a few. The text is read and validated with the rest;
/// what waits is the making of the `T`, which for a large table costs as much as both. So a value that the schema lets
/// through and `T` does not is an error of [`get`](Section::get) and not of loading, and keys that `T` does not know are
/// not reported: give a part that is read this way a schema.
///
/// ```
/// use std::collections::BTreeMap;
/// use swarm_config::{ConfigLoader, Format, Section};
///
/// #[derive(serde::Deserialize)]
/// struct Settings {
///     name: String,
///     agents: Section<BTreeMap<String, Agent>>,
/// }
/// #[derive(serde::Deserialize)]
/// struct Agent {
///     retries: u32,
/// }
///
/// let text = "name = 'swarm'\n[agents.one]\nretries = 3";
/// let config = ConfigLoader::new().text("app.toml", Format::Toml, text).load::<Settings>()?;
/// let settings = config.get();
/// assert_eq!(settings.agents.get()?["one"].retries, 3);
/// # Ok::<(), swarm_config::Error>(())
/// ```
pub struct Section<T>(Arc<Lazy<T>>);

struct Lazy<T> {
    /// Where it comes from; not there if it was read from something else than a configuration.
    from: Mutex<Option<Site>>,
    made: OnceLock<Result<T>>,
    /// Where there are secrets in it, as far as was seen when it was made, or what it was before a reload.
    secrets: Mutex<Hidden>,
}

#[derive(Clone)]
struct Site {
    loaded: Arc<Loaded>,
    at: Ref,
    path: Vec<String>,
}

impl Site {
    fn value(&self) -> Value<'_> {
        self.loaded.tree.value(self.at)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: DeserializeOwned> Section<T> {
    /// The part, which the first call makes.
    ///
    /// # Errors
    ///
    /// When a value is not of the type that is read, with its path and location.
    pub fn get(&self) -> Result<&T> {
        let make = || {
            // Without the lock, for what a `Deserialize` does is not ours.
            let from = lock(&self.0.from).clone();
            let from =
                from.ok_or_else(|| Error::new(ErrorKind::Type, "a section without a configuration"))?;
            let wrong = |error: Error| error.sharing(&from.loaded.masks);
            let (made, secrets) = extract_below(from.value(), &from.path).map_err(wrong)?;
            from.loaded.hide_found(secrets.clone());
            *lock(&self.0.secrets) = secrets;
            Ok(made)
        };
        self.0.made.get_or_init(make).as_ref().map_err(Error::clone)
    }
}

impl<T> Section<T> {
    /// Whether the part was made already, by an earlier call or before a reload that did not change it.
    pub fn is_made(&self) -> bool {
        self.0.made.get().is_some()
    }
}

impl<T: Default> Default for Section<T> {
    fn default() -> Self {
        Section(Arc::new(Lazy::made(T::default())))
    }
}

/// The schema of the part.
#[cfg(feature = "schemars")]
#[cfg_attr(docsrs, doc(cfg(feature = "schemars")))]
impl<T: schemars::JsonSchema> schemars::JsonSchema for Section<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> std::borrow::Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        T::json_schema(generator)
    }
}

impl<T> Lazy<T> {
    fn made(value: T) -> Lazy<T> {
        Lazy { from: Mutex::new(None), made: OnceLock::from(Ok(value)), secrets: Mutex::default() }
    }
}

impl<T> Clone for Section<T> {
    fn clone(&self) -> Self {
        Section(self.0.clone())
    }
}

impl<T: fmt::Debug> fmt::Debug for Section<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.made.get() {
            Some(Ok(made)) => made.fmt(f),
            Some(Err(_)) => f.write_str("Section(not of its type)"),
            None => f.write_str("Section(not read yet)"),
        }
    }
}

/// The name under which a section asks a deserializer for its place.
pub(crate) const NAME: &str = "$swarm_config::Section";

/// What sections are made from while a configuration is extracted, and the ones that were made before.
struct Ground {
    loaded: Arc<Loaded>,
    before: Option<Arc<Sections>>,
    now: Sections,
}

/// The sections of one loaded configuration, by path and type.
pub(crate) type Sections = HashMap<(Vec<String>, TypeId), Arc<dyn Any + Send + Sync>>;

thread_local! {
    static GROUND: RefCell<Option<Ground>> = const { RefCell::new(None) };
    static PLACE: RefCell<Option<(Ref, Vec<String>)>> = const { RefCell::new(None) };
}

/// Runs an extraction in which sections may stand. Answers with them too.
pub(crate) fn on<R>(
    loaded: &Arc<Loaded>,
    before: Option<Arc<Sections>>,
    extract: impl FnOnce() -> R,
) -> (R, Sections) {
    // Put back in any case, so that a panic of somebody's `Deserialize` leaves nothing behind.
    struct Back(Option<Ground>);
    impl Drop for Back {
        fn drop(&mut self) {
            GROUND.set(self.0.take());
        }
    }
    let ground = Ground { loaded: loaded.clone(), before, now: HashMap::new() };
    let _back = Back(GROUND.replace(Some(ground)));
    let made = extract();
    let now = GROUND.with_borrow_mut(|ground| ground.as_mut().map(|ground| std::mem::take(&mut ground.now)));
    (made, now.unwrap_or_default())
}

/// Whether sections may wait in the extraction that this thread is at.
pub(crate) fn may_wait() -> bool {
    GROUND.with_borrow(Option::is_some)
}

/// Hands a section its place, before it is asked to visit a unit.
pub(crate) fn hand_over(at: Ref, path: Vec<String>) {
    PLACE.set(Some((at, path)));
}

impl<T> Lazy<T> {
    /// Whether it was made of the same values.
    fn is(&self, from: &Site) -> bool {
        let before = lock(&self.from);
        matches!(self.made.get(), Some(Ok(_)))
            && before.as_ref().is_some_and(|before| before.value().is_same(from.value()))
    }
}

struct Place<T>(PhantomData<T>);

impl<'de, T: DeserializeOwned + Send + Sync + 'static> Visitor<'de> for Place<T> {
    type Value = Section<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a section")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Section<T>, E> {
        GROUND.with_borrow_mut(|ground| {
            let (Some((at, path)), Some(ground)) = (PLACE.take(), ground) else {
                return Err(E::custom("a section without a configuration"));
            };
            let from = Site { loaded: ground.loaded.clone(), at, path };
            let name = (from.path.clone(), TypeId::of::<T>());
            let before = ground.before.as_ref().and_then(|before| before.get(&name));
            let before = before.and_then(|part| part.clone().downcast::<Lazy<T>>().ok());
            let is_same = before.as_ref().is_some_and(|part| part.is(&from));
            let mut secrets = before.as_ref().map(|part| lock(&part.secrets).clone()).unwrap_or_default();
            if !is_same && !secrets.below.is_empty() {
                // What has no path of its own may be anywhere in what is there now.
                secrets.below = vec![Pattern(from.path.clone())];
            }
            from.loaded.hide_found(secrets.clone());
            let part = match before.filter(|_| is_same) {
                Some(part) => {
                    // What it was made of is needed no longer.
                    *lock(&part.from) = Some(from);
                    part
                }
                None => Arc::new(Lazy {
                    from: Mutex::new(Some(from)),
                    made: OnceLock::new(),
                    secrets: Mutex::new(secrets),
                }),
            };
            ground.now.insert(name, part.clone());
            Ok(Section(part))
        })
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Section<T>, D::Error> {
        Ok(Section(Arc::new(Lazy::made(T::deserialize(deserializer)?))))
    }
}

/// Waits in a configuration that is loaded; anything else is read at once.
impl<'de, T: DeserializeOwned + Send + Sync + 'static> Deserialize<'de> for Section<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(NAME, Place(PhantomData))
    }
}
