//! Pipelines and runs as pictures: DOT, Mermaid, an SVG timeline, one HTML page.
//!
//! Everything here is a pure function of a [`Pipeline`] or a [`RunReport`]: the same value gives the same bytes.

/// Writes to a `String`, which cannot fail.
macro_rules! put {
    ($out:expr, $($text:tt)*) => {{
        let _ = std::fmt::Write::write_fmt(&mut $out, format_args!($($text)*));
    }};
}

mod axis;
mod bars;
mod diagram;
mod dot;
mod html;
mod layout;
mod mermaid;
mod sheet;
mod style;
mod table;
mod text;
mod timeline;
mod tree;

use crate::pipeline::Pipeline;
use crate::report::{RunReport, StepReport, StepStatus, UndoState};
use sheet::Sheet;

impl Pipeline {
    /// Draws the definition in the DOT language of Graphviz.
    ///
    /// Steps are boxes, fan-out steps have a shadow, signals are hexagons, sleeps ellipses. Dependencies that may be
    /// skipped are dashed. Steps that share a prefix, `deploy.copy` and `deploy.check` say, stand in a cluster.
    ///
    /// ```
    /// # use swarm_pipeline::Pipeline;
    /// let mut p = Pipeline::builder("release");
    /// let build = p.step("build").run(|_cx, ()| async { Ok(1_u64) });
    /// p.step("test").input(&build).run(|_cx, build| async move { Ok(*build) });
    /// assert!(p.build()?.to_dot().contains(r#""build" -> "test";"#));
    /// # Ok::<(), swarm_pipeline::BuildError>(())
    /// ```
    pub fn to_dot(&self) -> String {
        dot::render(self, None)
    }

    /// Draws the definition as a Mermaid flowchart, as Markdown on most code hosts shows it.
    ///
    /// The same shapes, dashes and clusters as [`to_dot`](Pipeline::to_dot). Mermaid as it is usually set up
    /// refuses charts of more than 500 edges or 50,000 characters; use DOT for those.
    ///
    /// ```
    /// # use swarm_pipeline::Pipeline;
    /// let mut p = Pipeline::builder("release");
    /// let build = p.step("build").run(|_cx, ()| async { Ok(1_u64) });
    /// p.step("test").input(&build).run(|_cx, build| async move { Ok(*build) });
    /// assert!(p.build()?.to_mermaid().contains("s0 --> s1"));
    /// # Ok::<(), swarm_pipeline::BuildError>(())
    /// ```
    pub fn to_mermaid(&self) -> String {
        mermaid::render(self, None)
    }
}

impl RunReport {
    /// Draws the run in the DOT language of Graphviz: [`Pipeline::to_dot`] with the status of every step as colour
    /// and mark, how long it was busy, and the critical path in bold.
    ///
    /// ```
    /// # use swarm_pipeline::{LocalEngine, Pipeline};
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    /// # runtime.block_on(async {
    /// let mut p = Pipeline::builder("release");
    /// p.step("build").run(|_cx, ()| async { Ok(1_u64) });
    /// let report = LocalEngine::in_memory().run(&p.build()?, "r1", ()).await?;
    /// assert!(report.to_dot().contains("✓ build"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn to_dot(&self) -> String {
        dot::render(self.pipeline(), Some(&Sheet::new(self)))
    }

    /// Draws the run as a Mermaid flowchart: [`Pipeline::to_mermaid`] with the status of every step as colour and
    /// mark, how long it was busy, and the critical path in bold.
    ///
    /// ```
    /// # use swarm_pipeline::{LocalEngine, Pipeline};
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    /// # runtime.block_on(async {
    /// let mut p = Pipeline::builder("release");
    /// p.step("build").run(|_cx, ()| async { Ok(1_u64) });
    /// let report = LocalEngine::in_memory().run(&p.build()?, "r1", ()).await?;
    /// assert!(report.to_mermaid().contains("✓ build"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn to_mermaid(&self) -> String {
        mermaid::render(self.pipeline(), Some(&Sheet::new(self)))
    }

    /// Draws when everything happened, as a self-contained SVG image.
    ///
    /// One row a step, in the order they began: a bar for each attempt, thin lines where the step waited, marks for
    /// gates, hatched bars for undos, the critical path underlined. Times are relative to the start of the run; long
    /// stretches in which nothing ran, as before a resume, are cut out and marked. Light or dark as the reader prefers.
    ///
    /// ```
    /// # use swarm_pipeline::{LocalEngine, Pipeline};
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    /// # runtime.block_on(async {
    /// let mut p = Pipeline::builder("release");
    /// p.step("build").run(|_cx, ()| async { Ok(1_u64) });
    /// let report = LocalEngine::in_memory().run(&p.build()?, "r1", ()).await?;
    /// assert!(report.timeline_svg().starts_with("<svg"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn timeline_svg(&self) -> String {
        timeline::render(&Sheet::new(self), timeline::Place::Alone)
    }

    /// Writes the run as one HTML page: what went wrong, the graph, the timeline, and a table of all steps.
    ///
    /// The page asks for nothing from elsewhere, needs no script to be read, and prints. All text is escaped.
    ///
    /// ```
    /// # use swarm_pipeline::{LocalEngine, Pipeline};
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    /// # runtime.block_on(async {
    /// let mut p = Pipeline::builder("release");
    /// p.step("build").run(|_cx, ()| async { Ok(1_u64) });
    /// let report = LocalEngine::in_memory().run(&p.build()?, "r1", ()).await?;
    /// assert!(report.to_html().starts_with("<!DOCTYPE html>"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn to_html(&self) -> String {
        html::render(&Sheet::new(self))
    }
}

/// How a status is shown. Never by colour alone.
struct Look {
    mark: &'static str,
    /// The class in CSS and Mermaid.
    class: &'static str,
    /// Background and border for the formats without themes.
    fill: &'static str,
    stroke: &'static str,
}

impl Look {
    fn of(status: StepStatus) -> Self {
        let (mark, class, fill, stroke) = match status {
            StepStatus::Waiting => ("○", "idle", "#f6f8fa", "#6e7781"),
            StepStatus::Open => ("◐", "open", "#fff8c5", "#9a6700"),
            StepStatus::Succeeded => ("✓", "done", "#dafbe1", "#1a7f37"),
            StepStatus::Reused => ("≡", "reused", "#ddf4ff", "#0969da"),
            StepStatus::Skipped => ("»", "skipped", "#eaeef2", "#6e7781"),
            StepStatus::Failed => ("✗", "failed", "#ffebe9", "#cf222e"),
            StepStatus::Blocked => ("⊘", "blocked", "#eaeef2", "#6e7781"),
        };
        Look { mark, class, fill, stroke }
    }
}

fn undo_mark(undo: Option<UndoState>) -> &'static str {
    match undo {
        None => "",
        Some(UndoState::Done) => "↺",
        Some(UndoState::Pending) => "↺…",
        Some(UndoState::Stuck) => "↺!",
    }
}

fn undo_word(undo: UndoState) -> &'static str {
    match undo {
        UndoState::Done => "undone",
        UndoState::Pending => "not undone yet",
        UndoState::Stuck => "undo stuck",
    }
}

/// `✓↺`: the marks that go before the name of a step.
fn marks(step: &StepReport) -> String {
    format!("{}{}", Look::of(step.status).mark, undo_mark(step.undo))
}

/// `failed, undone`.
fn state(step: &StepReport) -> String {
    match step.undo {
        None => step.status.to_string(),
        Some(undo) => format!("{}, {}", step.status, undo_word(undo)),
    }
}
