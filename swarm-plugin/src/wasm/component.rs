//! Components as plugins: with instances that come and go, or with one that has the state.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use serde_json::Value;

use super::guest::{Blueprint, Guest, LifecycleExports, StatefulGuest};
use super::host::Host;
use super::warm::Warm;
use crate::call::CallContext;
use crate::manifest::{DEFAULT_BYTES, Manifest};
use crate::measure;
use crate::plugin::{Plugin, PluginError};

const STATE: &str = "state";

/// What both have.
pub(super) struct Parts {
    pub(super) manifest: Manifest,
    pub(super) host: Arc<Host>,
    pub(super) blueprint: Blueprint,
}

impl Parts {
    async fn instance(&self) -> Result<Guest, PluginError> {
        let slot = self.host.slot().await?;
        self.blueprint.instance(&self.host, slot).await
    }

    /// The text of the parameters, which a component gets.
    fn text(&self, params: &mut Value) -> Result<String, PluginError> {
        let text = measure::text(params, self.manifest.limits().params_bytes.unwrap_or(DEFAULT_BYTES))?;
        Ok(String::from_utf8(text)?)
    }

    fn answer(&self, text: &str) -> Result<Value, PluginError> {
        read("answer", text, self.manifest.limits().result_bytes.unwrap_or(DEFAULT_BYTES))
    }
}

/// Reads what an instance told.
fn read(what: &str, text: &str, limit: usize) -> Result<Value, PluginError> {
    if text.len() > limit {
        return Err(PluginError::too_large(format_args!("its {what} is over {limit} bytes")));
    }
    serde_json::from_str(text)
        .map_err(|error| PluginError::new(format_args!("its {what} is not JSON: {error}")))
}

/// A component that keeps nothing: any instance serves any call.
pub(super) struct Stateless {
    parts: Parts,
    warm: Arc<Warm>,
    most: usize,
}

impl Stateless {
    pub(super) fn new(parts: Parts, first: Guest, most: usize) -> Self {
        let stateless = Stateless { parts, warm: Arc::new(Warm::default()), most };
        stateless.parts.host.add(&stateless.warm);
        stateless.give_back(first);
        stateless
    }

    fn give_back(&self, guest: Guest) {
        self.warm.put(guest, self.most);
        if self.parts.host.is_waited_for() {
            self.parts.host.give_way();
        }
    }
}

#[async_trait]
impl Plugin for Stateless {
    fn manifest(&self) -> &Manifest {
        &self.parts.manifest
    }

    async fn execute(&self, mut params: Value, cx: &CallContext) -> Result<Value, PluginError> {
        let text = self.parts.text(&mut params)?;
        let mut guest = match self.warm.take() {
            Some(guest) => guest,
            None => self.parts.instance().await?,
        };
        // What fails here is dropped with its instance.
        let answer = guest.execute(&self.parts.host, text, cx).await?;
        self.give_back(guest);
        self.parts.answer(&answer?)
    }

    async fn cleanup(&self) -> Result<(), PluginError> {
        while self.warm.take().is_some() {}
        Ok(())
    }
}

/// A component with state: one instance, which is called by one after another.
pub(super) struct Stateful {
    parts: Parts,
    lifecycle: LifecycleExports,
    /// `None` while a call has it, and after it was lost.
    guest: tokio::sync::Mutex<Option<StatefulGuest>>,
    /// What the instance answered when it was asked last.
    saved: Mutex<String>,
}

impl Stateful {
    pub(super) async fn new(
        parts: Parts,
        lifecycle: LifecycleExports,
        first: Guest,
    ) -> Result<Self, PluginError> {
        let mut guest = StatefulGuest::new(first, &lifecycle)?;
        guest.init(&parts.host, None).await?;
        let saved = Mutex::new(told(&parts.host, &mut guest).await?);
        Ok(Stateful { parts, lifecycle, guest: tokio::sync::Mutex::new(Some(guest)), saved })
    }

    fn keep(&self, text: String) {
        *self.saved.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }

    fn saved(&self) -> String {
        self.saved.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn with(&self, state: String) -> Result<StatefulGuest, PluginError> {
        let mut guest = StatefulGuest::new(self.parts.instance().await?, &self.lifecycle)?;
        guest.init(&self.parts.host, Some(state)).await?;
        Ok(guest)
    }

    /// The instance, or one in its place that has its state.
    async fn taken(&self, held: &mut Option<StatefulGuest>) -> Result<StatefulGuest, PluginError> {
        match held.take() {
            Some(guest) => Ok(guest),
            None => self.with(self.saved()).await,
        }
    }
}

/// The state of an instance.
async fn told(host: &Host, guest: &mut StatefulGuest) -> Result<String, PluginError> {
    let text = guest.save(host).await?;
    // In full, as it is read to hand it over: a state that could not be, would keep every later version out.
    read(STATE, &text, DEFAULT_BYTES)?;
    Ok(text)
}

#[async_trait]
impl Plugin for Stateful {
    fn manifest(&self) -> &Manifest {
        &self.parts.manifest
    }

    async fn execute(&self, mut params: Value, cx: &CallContext) -> Result<Value, PluginError> {
        let text = self.parts.text(&mut params)?;
        let mut held = self.guest.lock().await;
        // Not put back unless the call came to its end: what is dropped midway has no state that can be told.
        let mut guest = self.taken(&mut held).await?;
        let answer = guest.execute(&self.parts.host, text, cx).await?;
        let text = told(&self.parts.host, &mut guest).await.map_err(|failure| {
            PluginError::new(format_args!(
                "its state after the call is not known, and the one before stands: {failure}"
            ))
        })?;
        self.keep(text);
        *held = Some(guest);
        drop(held);
        self.parts.answer(&answer?)
    }

    async fn export_state(&self) -> Result<Option<Value>, PluginError> {
        Ok(Some(read(STATE, &self.saved(), DEFAULT_BYTES)?))
    }

    async fn import_state(&self, state: Value) -> Result<(), PluginError> {
        let mut held = self.guest.lock().await;
        // First, so that its place will do for the next.
        drop(held.take());
        let mut guest = self.with(state.to_string()).await?;
        self.keep(told(&self.parts.host, &mut guest).await?);
        *held = Some(guest);
        Ok(())
    }

    async fn cleanup(&self) -> Result<(), PluginError> {
        let mut held = self.guest.lock().await;
        let mut guest = self.taken(&mut held).await?;
        guest.cleanup(&self.parts.host).await
    }
}
