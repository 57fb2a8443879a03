//! One instance of a component: its store, its functions, and how a call of it ends.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use wasmtime::component::{
    Component, ComponentExportIndex, ComponentType, Instance, InstancePre, Lift, ResourceTable, TypedFunc,
};
use wasmtime::{Engine, Store, Trap, UpdateDeadline};
use wasmtime_wasi::{I32Exit, WasiCtx, WasiCtxView, WasiView};

use super::host::Host;
use super::limiter::Limiter;
use super::lines::Lines;
use super::sandbox::Sandbox;
use crate::call::CallContext;
use crate::plugin::PluginError;

/// The names that are looked for, of which wasmtime takes any later version that is compatible.
const TOOL: &str = "swarm:plugin/tool@0.1.0";
const LIFECYCLE: &str = "swarm:plugin/lifecycle@0.1.0";

/// How long after its deadline whoever waits for a call has to drop it.
const GRACE: Duration = Duration::from_secs(1);
/// Handles of the host that one instance may hold: open files, streams, what it waits for. A service may often open no more
/// than 1,024 files itself.
const HANDLES: usize = 256;
/// What a component may say of itself, before it is known whether that may be so long.
const ABOUT_BYTES: usize = 512 * 1024;

#[derive(Debug, ComponentType, Lift)]
#[component(record)]
pub(super) struct About {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) description: String,
    pub(super) parameters: String,
}

#[derive(Debug, ComponentType, Lift)]
#[component(record)]
struct Failure {
    message: String,
    temporary: bool,
}

/// What an instance was given of the host.
pub(super) struct Room {
    sandbox: Arc<Sandbox>,
    /// Made when it is first asked for: most calls never do.
    wasi: Option<WasiCtx>,
    handles: ResourceTable,
    limiter: Limiter,
    pub(super) lines: Lines,
    /// Of a caller who wants to hear of progress.
    pub(super) caller: Option<CallContext>,
    /// When the call that runs is over.
    deadline: Option<Instant>,
}

impl WasiView for Room {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let Room { sandbox, wasi, handles, lines, .. } = self;
        WasiCtxView { ctx: wasi.get_or_insert_with(|| sandbox.wasi(lines)), table: handles }
    }
}

/// A component that was found to be a plugin, ready to be instantiated.
pub(super) struct Blueprint {
    pre: InstancePre<Room>,
    describe: ComponentExportIndex,
    execute: ComponentExportIndex,
    sandbox: Arc<Sandbox>,
}

/// Where the functions of a component with state are.
pub(super) struct LifecycleExports {
    init: ComponentExportIndex,
    save: ComponentExportIndex,
    cleanup: ComponentExportIndex,
}

impl Blueprint {
    /// Looks at what the component exports and imports, and runs nothing of it. One with state has a lifecycle.
    ///
    /// # Errors
    /// What it lacks, or asks for and is not there.
    pub(super) fn new(
        host: &Host,
        component: &Component,
        sandbox: Sandbox,
    ) -> Result<(Blueprint, Option<LifecycleExports>), PluginError> {
        let export = |interface: &ComponentExportIndex, of: &str, name: &str| {
            component
                .get_export_index(Some(interface), name)
                .ok_or_else(|| PluginError::new(format_args!("its {of} has no function {name}")))
        };
        let Some(tool) = component.get_export_index(None, TOOL) else {
            return Err(PluginError::new(without_tool(&host.engine, component)));
        };
        let (describe, execute) = (export(&tool, TOOL, "describe")?, export(&tool, TOOL, "execute")?);
        let lifecycle = match component.get_export_index(None, LIFECYCLE) {
            Some(found) => Some(LifecycleExports {
                init: export(&found, LIFECYCLE, "init")?,
                save: export(&found, LIFECYCLE, "save")?,
                cleanup: export(&found, LIFECYCLE, "cleanup")?,
            }),
            None => None,
        };
        let pre = host.linker.instantiate_pre(component).map_err(|error| {
            PluginError::new(format_args!("it asks for what is not there: {}", error.root_cause()))
        })?;
        Ok((Blueprint { pre, describe, execute, sandbox: Arc::new(sandbox) }, lifecycle))
    }

    /// An instance in a store of its own.
    pub(super) async fn instance(
        &self,
        host: &Host,
        slot: OwnedSemaphorePermit,
    ) -> Result<Guest, PluginError> {
        let room = Room {
            sandbox: self.sandbox.clone(),
            wasi: None,
            handles: ResourceTable::new(),
            limiter: Limiter::new(self.sandbox.memory),
            lines: Lines::new(self.sandbox.name.clone()),
            caller: None,
            deadline: None,
        };
        let mut store = Store::new(&host.engine, room);
        store.data_mut().handles.set_max_capacity(HANDLES);
        store.limiter(|room| &mut room.limiter);
        // The first makes it a store for async calls. In its place comes a yield that lets the runtime look at its timers
        // and sockets as well: the one of wasmtime does so on one thread only every 61 times. Who waits for the call asks
        // it before the clock, so that a loop would have a tick more than its deadline if it were not stopped here.
        store.epoch_deadline_async_yield_and_update(1);
        store.epoch_deadline_callback(|store| {
            let late =
                store.data().deadline.and_then(|deadline| Instant::now().checked_duration_since(deadline));
            match late {
                None => Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now()))),
                // Nobody dropped it.
                Some(late) if late >= GRACE => Err(wasmtime::Error::msg("its deadline has passed")),
                Some(_) => Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::time::sleep(GRACE)))),
            }
        });
        let _running = host.run();
        store.set_epoch_deadline(1);
        match self
            .pre
            .instantiate_async(&mut store)
            .await
            .and_then(|made| Ok((made.get_typed_func(&mut store, self.execute)?, made)))
        {
            Ok((execute, instance)) => Ok(Guest { store, instance, execute, _slot: slot }),
            Err(error) => Err(ended(&error, store.data())),
        }
    }
}

/// Why a component that exports no `tool` of ours is none of ours.
fn without_tool(engine: &Engine, component: &Component) -> String {
    let kind = component.component_type();
    let names: Vec<String> = kind
        .exports(engine)
        .map(|(name, _)| name.chars().take(80).flat_map(char::escape_debug).collect())
        .collect();
    let other = names.iter().find_map(|name| name.strip_prefix("swarm:plugin/tool@"));
    match other {
        Some(version) => format!("it is written for swarm:plugin@{version}, and this is {TOOL}"),
        None if names.is_empty() => format!("it exports nothing, where a plugin exports {TOOL}"),
        None => format!("it does not export {TOOL}, but {}", names[..names.len().min(8)].join(", ")),
    }
}

/// An instance. One that trapped, or whose call was dropped, is dead, and is not to be called again.
pub(super) struct Guest {
    store: Store<Room>,
    instance: Instance,
    execute: TypedFunc<(String,), (Result<String, Failure>,)>,
    /// Given back last.
    _slot: OwnedSemaphorePermit,
}

/// How a call of an instance ended that is alive.
pub(super) type Answer<T> = Result<T, PluginError>;

impl Guest {
    /// # Errors
    /// How the instance ended; it is dead.
    pub(super) async fn describe(
        &mut self,
        host: &Host,
        blueprint: &Blueprint,
    ) -> Result<About, PluginError> {
        let describe: wasmtime::Result<TypedFunc<(), (About,)>> =
            self.instance.get_typed_func(&mut self.store, blueprint.describe);
        let describe = describe.map_err(|error| PluginError::new(format_args!("its describe: {error:#}")))?;
        let _running = host.run();
        self.begin();
        let most = self.store.hostcall_fuel();
        self.store.set_hostcall_fuel(ABOUT_BYTES);
        let called = describe.call_async(&mut self.store, ()).await;
        self.store.set_hostcall_fuel(most);
        let (about,) = called.map_err(|error| {
            let ended = ended(&error, self.store.data());
            match error.is::<Trap>() || error.is::<I32Exit>() {
                true => ended,
                false => PluginError::new(format_args!(
                    "what it says of itself cannot be read, or is over {ABOUT_BYTES} bytes: {ended}"
                )),
            }
        })?;
        Ok(about)
    }

    /// Each call has a tick of its own, and is told of nothing that was refused before it.
    fn begin(&mut self) {
        self.store.set_epoch_deadline(1);
        self.store.data_mut().limiter.begin();
    }

    /// # Errors
    /// How the instance ended; it is dead. Inside: what it answered, which may be a failure.
    pub(super) async fn execute(
        &mut self,
        host: &Host,
        params: String,
        cx: &CallContext,
    ) -> Result<Answer<String>, PluginError> {
        let _running = host.run();
        self.begin();
        let room = self.store.data_mut();
        room.lines.begin();
        room.caller = cx.is_heard().then(|| cx.clone());
        room.deadline = Some(cx.deadline);
        let called = self.execute.call_async(&mut self.store, (params,)).await;
        let room = self.store.data_mut();
        (room.caller, room.deadline) = (None, None);
        if room.wasi.is_some() {
            room.lines.end();
        }
        match called {
            Ok((Ok(answer),)) => Ok(Ok(answer)),
            Ok((Err(Failure { message, temporary: true }),)) => Ok(Err(PluginError::temporary(message))),
            Ok((Err(Failure { message, .. }),)) => Ok(Err(PluginError::new(message))),
            Err(error) => Err(ended(&error, self.store.data())),
        }
    }
}

/// An instance with state, which has still to be initialised.
pub(super) struct StatefulGuest {
    guest: Guest,
    init: TypedFunc<(Option<String>,), (Result<(), String>,)>,
    save: TypedFunc<(), (Result<String, String>,)>,
    cleanup: TypedFunc<(), (Result<(), String>,)>,
}

impl StatefulGuest {
    /// # Errors
    /// Where one of the functions has other parameters or answers.
    pub(super) fn new(mut guest: Guest, exports: &LifecycleExports) -> Result<Self, PluginError> {
        let (made, store) = (guest.instance, &mut guest.store);
        let typed = |error: wasmtime::Error| PluginError::new(format_args!("its {LIFECYCLE}: {error:#}"));
        Ok(StatefulGuest {
            init: made.get_typed_func(&mut *store, exports.init).map_err(typed)?,
            save: made.get_typed_func(&mut *store, exports.save).map_err(typed)?,
            cleanup: made.get_typed_func(&mut *store, exports.cleanup).map_err(typed)?,
            guest,
        })
    }

    /// Like [`Guest::execute`].
    pub(super) async fn execute(
        &mut self,
        host: &Host,
        params: String,
        cx: &CallContext,
    ) -> Result<Answer<String>, PluginError> {
        self.guest.execute(host, params, cx).await
    }

    pub(super) async fn init(&mut self, host: &Host, state: Option<String>) -> Result<(), PluginError> {
        let _running = host.run();
        self.guest.begin();
        let called = self.init.call_async(&mut self.guest.store, (state,)).await;
        self.said("init", called)
    }

    pub(super) async fn save(&mut self, host: &Host) -> Result<String, PluginError> {
        let _running = host.run();
        self.guest.begin();
        let called = self.save.call_async(&mut self.guest.store, ()).await;
        self.said("save", called)
    }

    pub(super) async fn cleanup(&mut self, host: &Host) -> Result<(), PluginError> {
        let _running = host.run();
        self.guest.begin();
        let called = self.cleanup.call_async(&mut self.guest.store, ()).await;
        self.said("cleanup", called)
    }

    fn said<T>(&self, what: &str, called: wasmtime::Result<(Result<T, String>,)>) -> Result<T, PluginError> {
        match called {
            Ok((Ok(answer),)) => Ok(answer),
            Ok((Err(message),)) => Err(PluginError::new(format_args!("its {what} failed: {message}"))),
            Err(error) => Err(ended(&error, self.guest.store.data())),
        }
    }
}

/// Says how an instance ended.
fn ended(error: &wasmtime::Error, room: &Room) -> PluginError {
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        return PluginError::new(format_args!("it ended itself with exit code {}", exit.0));
    }
    let refused = room.limiter.refused();
    match error.downcast_ref::<Trap>() {
        Some(trap) => match refused {
            Some(refused) => PluginError::new(format_args!("it was refused {refused}, and ended: {trap}")),
            None => PluginError::new(trap),
        },
        None => match refused {
            Some(refused) => PluginError::new(format_args!("it was refused {refused}")),
            None => PluginError::new(format_args!("{error:#}")),
        },
    }
}
