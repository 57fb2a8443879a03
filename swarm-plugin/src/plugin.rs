use std::any::Any;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use crate::call::CallContext;
use crate::contained;
use crate::manifest::Manifest;

/// A tool that can be called by name.
///
/// Implemented by you for a Rust type, or with [`FnPlugin`](crate::FnPlugin) for a function. What a
/// [`PluginManager`](crate::PluginManager) does with an instance, in this order:
///
/// 1. [`check`](Plugin::check) once, before the first call.
/// 2. [`import_state`](Plugin::import_state) at most once, if it takes the place of a version that had state.
/// 3. [`execute`](Plugin::execute) any number of times, also at the same time.
/// 4. [`export_state`](Plugin::export_state) any number of times, when another version is about to take its place.
/// 5. [`cleanup`](Plugin::cleanup) exactly once, also where `check` or `import_state` failed. Nothing is called after it.
///
/// Every method may panic or be dropped at an await: a panic is the failure of that method alone. A method that blocks
/// the thread holds up the runtime; [`FnPlugin::blocking`](crate::FnPlugin::blocking) is for such code.
#[diagnostic::on_unimplemented(
    note = "`FnPlugin::new(manifest, function)` makes a plugin of a function; `#[async_trait]` belongs on the impl"
)]
#[async_trait]
pub trait Plugin: Send + Sync + 'static {
    /// Name, version, parameters and requirements. Always the same.
    fn manifest(&self) -> &Manifest;

    /// Does the work. The parameters were validated before.
    ///
    /// Dropped at an await when the caller gives up, the deadline passes, or the time to drain is over.
    ///
    /// # Errors
    /// Whatever the tool failed on; the caller has it as [`ErrorKind::Failed`](crate::ErrorKind::Failed).
    async fn execute(&self, params: Value, cx: &CallContext) -> Result<Value, PluginError>;

    /// Says whether this version can serve: its files are there, its server answers.
    ///
    /// # Errors
    /// Why it cannot. It is then not used, and a version that it was to replace goes on.
    async fn check(&self) -> Result<(), PluginError> {
        Ok(())
    }

    /// What a version that takes this one's place should know; `None`, the default, for nothing.
    ///
    /// Called more than once for one hand-over, first while calls are under way, to learn whether there is anything: it must leave
    /// the state where it is. Only the last answer counts, for which new calls wait, and those under way have ended unless they
    /// took longer than the time to drain.
    ///
    /// # Errors
    /// Why the state cannot be had. This version then stays.
    async fn export_state(&self) -> Result<Option<Value>, PluginError> {
        Ok(None)
    }

    /// Takes over what the version before exported. A version that has no use for it must say so by implementing this.
    ///
    /// # Errors
    /// Why it cannot be taken over. The version before then stays.
    async fn import_state(&self, state: Value) -> Result<(), PluginError> {
        drop(state);
        Err(PluginError::new("the version before has state, and this one does not implement import_state"))
    }

    /// Gives back what it holds. Dropped when it takes longer than allowed.
    ///
    /// # Errors
    /// What could not be given back; it is told in an event.
    async fn cleanup(&self) -> Result<(), PluginError> {
        Ok(())
    }
}

/// Plugins that are chosen at run time, and what a [`Loader`](crate::Loader) made.
#[async_trait]
impl<P: Plugin + ?Sized> Plugin for Arc<P> {
    fn manifest(&self) -> &Manifest {
        (**self).manifest()
    }

    async fn execute(&self, params: Value, cx: &CallContext) -> Result<Value, PluginError> {
        (**self).execute(params, cx).await
    }

    async fn check(&self) -> Result<(), PluginError> {
        (**self).check().await
    }

    async fn export_state(&self) -> Result<Option<Value>, PluginError> {
        (**self).export_state().await
    }

    async fn import_state(&self, state: Value) -> Result<(), PluginError> {
        (**self).import_state(state).await
    }

    async fn cleanup(&self) -> Result<(), PluginError> {
        (**self).cleanup().await
    }
}

/// Why a plugin failed, in its own words.
///
/// Whatever implements [`std::error::Error`] turns into one with `?`, keeping its message and the chain of its causes. For
/// that to be possible this type does not implement it. [`PluginError::new`] serves for text.
///
/// ```
/// use swarm_plugin::PluginError;
///
/// fn read(text: &str) -> Result<u32, PluginError> {
///     Ok(text.parse::<u32>()?)
/// }
/// assert_eq!(read("x").unwrap_err().message(), "invalid digit found in string");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct PluginError(Box<Said>);

#[derive(Clone, PartialEq, Eq)]
struct Said {
    message: String,
    causes: Vec<String>,
    class: Class,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Lasting,
    Temporary,
    /// Said by the kinds that come with the crate: of the result, and of the parameters, which the plugin did not get.
    TooLarge,
    Refused,
}

/// Messages are cut to this many bytes, so that a failure that quotes a whole response does not fill the log.
const MESSAGE_LIMIT: usize = 16 * 1024;
const CAUSES_LIMIT: usize = 16;

impl PluginError {
    /// A failure that the same call would meet again.
    pub fn new(message: impl fmt::Display) -> Self {
        PluginError::of_class(Class::Lasting, message)
    }

    /// A failure that the same call may not meet later: [`Error::is_retryable`](crate::Error::is_retryable) says so.
    pub fn temporary(message: impl fmt::Display) -> Self {
        PluginError::of_class(Class::Temporary, message)
    }

    /// An answer that was cut off before it was a value.
    #[cfg(any(feature = "native", feature = "process", feature = "wasm"))]
    pub(crate) fn too_large(message: impl fmt::Display) -> Self {
        PluginError::of_class(Class::TooLarge, message)
    }

    fn of_class(class: Class, message: impl fmt::Display) -> Self {
        PluginError(Box::new(Said { message: cut(message.to_string()), causes: Vec::new(), class }))
    }

    #[cfg(any(feature = "native", feature = "wasm"))]
    pub(crate) fn refused(message: impl fmt::Display) -> Self {
        PluginError::of_class(Class::Refused, message)
    }

    pub(crate) fn is_refused(&self) -> bool {
        self.0.class == Class::Refused
    }

    pub(crate) fn is_too_large(&self) -> bool {
        self.0.class == Class::TooLarge
    }

    /// What was caught when a plugin panicked.
    pub(crate) fn panicked(payload: Box<dyn Any + Send>) -> Self {
        let said = payload.downcast_ref::<&str>().copied();
        let said = said.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let failure = PluginError::new(format_args!("panicked: {}", said.unwrap_or("no message")));
        contained::ignored(payload);
        failure
    }

    /// What happened.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The messages of the causes, outermost first.
    pub fn causes(&self) -> &[String] {
        &self.0.causes
    }

    /// Whether the same call may succeed later.
    pub fn is_temporary(&self) -> bool {
        self.0.class == Class::Temporary
    }
}

impl<E: std::error::Error> From<E> for PluginError {
    fn from(error: E) -> Self {
        let mut out = PluginError::new(&error);
        let mut cause = error.source();
        while let Some(error) = cause.filter(|_| out.0.causes.len() < CAUSES_LIMIT) {
            out.0.causes.push(cut(error.to_string()));
            cause = error.source();
        }
        out
    }
}

impl fmt::Display for PluginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        self.0.causes.iter().try_for_each(|cause| write!(f, ": {cause}"))
    }
}

impl fmt::Debug for PluginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PluginError({self})")
    }
}

fn cut(mut message: String) -> String {
    if message.len() > MESSAGE_LIMIT {
        let mut at = MESSAGE_LIMIT;
        while !message.is_char_boundary(at) {
            at -= 1;
        }
        message.truncate(at);
        message.push_str(" … (cut)");
    }
    message
}
