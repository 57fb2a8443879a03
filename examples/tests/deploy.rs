//! The `deploy` example, run as a user runs it: each promise of its help text is kept.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::SystemTime;

use swarm_examples::{Scratch, copy_tree};
use swarm_pipeline::{LocalEngine, RunEventKind};

const STEPS: [&str; 6] =
    ["list_agents", "validate_code", "v2_check", "deploy_staging", "test_staging", "deploy_production"];

/// The example as cargo built it along with this test; built now where only this test was asked for.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let test = std::env::current_exe().unwrap();
        let profile = test.parent().and_then(Path::parent).unwrap();
        let program = profile.join("examples").join(format!("deploy{}", std::env::consts::EXE_SUFFIX));
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/deploy");
        let written = |path: &Path| fs::metadata(path).and_then(|file| file.modified()).ok();
        let newest = fs::read_dir(sources).unwrap().filter_map(|entry| written(&entry.unwrap().path())).max();
        if written(&program).unwrap_or(SystemTime::UNIX_EPOCH) < newest.unwrap() {
            let mut build = Command::new(env!("CARGO"));
            build.args(["build", "-p", "swarm-examples", "--example", "deploy"]);
            if profile.ends_with("release") {
                build.arg("--release");
            }
            build.arg("--target-dir").arg(profile.parent().unwrap());
            assert!(build.status().unwrap().success());
        }
        program
    })
}

struct Demo(Scratch);

impl Demo {
    fn new(name: &str) -> Self {
        Demo(Scratch::new(name).unwrap())
    }

    fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    fn command(&self, options: &str) -> Command {
        let mut command = Command::new(program());
        command.arg("--state").arg(self.state()).args(options.split_whitespace());
        command
    }

    fn run(&self, options: &str) -> Output {
        self.command(options).output().unwrap()
    }

    /// Runs it, and wants it to end with `code`; `None` if it is to be killed.
    #[track_caller]
    fn ends(&self, code: Option<i32>, options: &str) -> String {
        let output = self.run(options);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let shown = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), code, "deploy {options}\n{said}\n{shown}");
        said + &shown
    }

    /// What is live on each agent, and which releases it has.
    fn agents(&self) -> BTreeMap<String, (Option<String>, Vec<String>)> {
        let name = |path: PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        let list = |folder: PathBuf| -> Vec<String> {
            let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
            let mut names: Vec<String> = entries.map(|entry| name(entry.unwrap().path())).collect();
            names.sort();
            names
        };
        let folder = self.state().join("agent_workspaces");
        let agent = |agent: String| {
            let workspace = folder.join(&agent);
            let live = fs::read_link(workspace.join("current")).ok().map(name);
            (agent, (live, list(workspace.join("releases"))))
        };
        list(folder.clone()).into_iter().map(agent).collect()
    }

    /// How often each step, and each item of the fan-out, was begun.
    fn begun(&self) -> BTreeMap<String, usize> {
        let mut begun = BTreeMap::new();
        for line in self.witness().lines().filter_map(|line| line.strip_prefix("begin ")) {
            // run/step/attempt
            let step = line.split('/').nth(1).unwrap();
            *begun.entry(step.to_owned()).or_default() += 1;
        }
        begun
    }

    fn witness(&self) -> String {
        fs::read_to_string(self.state().join("witness.log")).unwrap_or_default()
    }

    /// The steps and items whose results are recorded, over all runs.
    fn recorded(&self) -> Vec<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let engine = LocalEngine::open(self.state().join("runs")).unwrap();
            let mut recorded = Vec::new();
            for run in engine.runs().await.unwrap() {
                for event in engine.history(run.run.as_str()).await.unwrap() {
                    match event.kind {
                        RunEventKind::StepSucceeded { step, item: Some(item), .. } => {
                            recorded.push(format!("{step}[{item}]"));
                        }
                        RunEventKind::StepSucceeded { step, .. } => recorded.push(step),
                        _ => {}
                    }
                }
            }
            recorded
        })
    }

    #[track_caller]
    fn assert_live(&self, version: &str, agents: usize) {
        let found = self.agents();
        assert_eq!(found.len(), agents);
        for (agent, (live, releases)) in found {
            let live = live.unwrap_or_default();
            assert!(live.starts_with(&format!("{version}-")), "{agent}: {live}");
            assert!(releases.contains(&live), "{agent}: {releases:?}");
        }
    }
}

#[test]
fn it_deploys_to_all_agents_and_then_has_nothing_to_do() {
    let demo = Demo::new("deploy-all");
    let said = demo.ends(Some(0), "");
    assert!(said.contains("all 8 agents answer with version 2.0.0"), "{said}");
    assert!(said.contains("3 violations, coverage 87.5 %"), "{said}");
    demo.assert_live("2.0.0", 8);
    let page = fs::read_dir(demo.state().join("reports")).unwrap().next().unwrap().unwrap().path();
    let page = fs::read_to_string(page).unwrap();
    assert!(STEPS.iter().all(|step| page.contains(step)));
    let before = (demo.agents(), demo.witness());
    let said = demo.ends(Some(0), "");
    assert!(said.contains("nothing to do"), "{said}");
    assert_eq!((demo.agents(), demo.witness()), before);
    assert!(demo.begun().values().all(|times| *times == 1));
}

#[test]
fn a_gate_that_refuses_leaves_the_agents_as_they_were() {
    let demo = Demo::new("deploy-gate");
    // Nothing was live before: nothing is afterwards.
    let said = demo.ends(Some(1), "--fail-gate");
    assert!(said.contains("Agent-7 answers \"nothing\"") && said.contains("rolled back in"), "{said}");
    assert!(demo.agents().values().all(|(live, releases)| live.is_none() && releases.is_empty()));
    assert_eq!(demo.agents().len(), 8);
    demo.ends(Some(0), "--retry");
    demo.assert_live("2.0.0", 8);
    let before = demo.agents();
    for gate in ["violations", "coverage", "answers", "health"] {
        let said = demo.ends(Some(1), &format!("--fail-gate={gate}"));
        assert!(said.contains(&format!("gate {gate:?} refused the output")), "{said}");
        assert_eq!(demo.agents(), before, "{gate}");
    }
}

#[test]
fn a_flaky_step_succeeds_while_it_has_attempts_left() {
    let demo = Demo::new("deploy-flaky");
    demo.ends(Some(0), "--flaky 3");
    assert_eq!(demo.begun()["test_staging"], 4);
    demo.assert_live("2.0.0", 8);
    let before = demo.agents();
    let said = demo.ends(Some(1), "--flaky 9");
    assert!(said.contains("the service did not answer at attempt 4"), "{said}");
    assert_eq!(demo.agents(), before);
}

#[test]
fn a_process_that_dies_after_any_step_is_carried_on_without_repeating_it() {
    let places = STEPS.iter().map(|step| (*step).to_owned()).chain(["deploy_production[6]".to_owned()]);
    for place in places {
        let demo = Demo::new("deploy-after");
        demo.ends(None, &format!("--die-after {place}"));
        let recorded = demo.recorded();
        assert!(recorded.iter().any(|step| step.starts_with(&place)), "{place}: {recorded:?}");
        demo.ends(Some(0), "");
        demo.assert_live("2.0.0", 8);
        let begun = demo.begun();
        for step in recorded {
            assert_eq!(begun[&step], 1, "{step}, after the process died after {place}");
        }
    }
}

#[test]
fn a_process_that_dies_in_the_middle_of_any_step_is_carried_on() {
    for place in STEPS {
        let demo = Demo::new("deploy-during");
        demo.ends(None, &format!("--die-during {place}"));
        let recorded = demo.recorded();
        assert!(!recorded.iter().any(|step| step == place), "{place}: {recorded:?}");
        demo.ends(Some(0), "");
        demo.assert_live("2.0.0", 8);
        let begun = demo.begun();
        assert!(begun.iter().any(|(step, times)| step.starts_with(place) && *times == 2), "{begun:?}");
        assert!(recorded.iter().all(|step| begun[step] == 1), "{recorded:?} {begun:?}");
    }
}

#[test]
fn a_rollback_that_is_killed_is_carried_on() {
    let demo = Demo::new("deploy-undo");
    demo.ends(Some(0), "");
    let before = demo.agents();
    demo.ends(None, "--fail-gate --die-during undo");
    let left = demo.agents();
    assert_ne!(left, before);
    demo.ends(Some(1), "");
    assert_eq!(demo.agents(), before);
}

#[test]
fn killed_again_and_again_it_still_comes_to_its_end() {
    // Its life may be over before this machine lets us kill it: then it is begun anew.
    let often = (0..5).any(|life| killed_again_and_again(&Demo::new(&format!("deploy-kills-{life}"))) >= 3);
    assert!(often, "it ended by itself each time");
}

/// Kills it after the first line that it writes, then after two more, and so on, to its end. Answers how often.
fn killed_again_and_again(demo: &Demo) -> u32 {
    let mut kills = 0;
    for lines in 1.. {
        let before = demo.witness().lines().count();
        let quiet = || std::process::Stdio::null();
        let mut child = demo.command("").stdout(quiet()).stderr(quiet()).spawn().unwrap();
        let ended = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            if demo.witness().lines().count() >= before + lines {
                break None;
            }
            std::thread::yield_now();
        };
        if let Some(status) = ended {
            assert!(status.success());
            break;
        }
        let recorded = demo.recorded().len();
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        assert!(recorded <= demo.recorded().len());
    }
    demo.assert_live("2.0.0", 8);
    let mut recorded = demo.recorded();
    let all = recorded.len();
    recorded.sort();
    recorded.dedup();
    assert_eq!((all, recorded.len()), (12, 12));
    kills
}

#[test]
fn a_changed_source_is_a_new_release_and_an_unfinished_one_is_ended_first() {
    let demo = Demo::new("deploy-source");
    let source = demo.0.join("source");
    copy_tree(&Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/service"), &source).unwrap();
    let options = format!("--agents 2 --source {}", source.display());
    demo.ends(Some(0), &options);
    demo.ends(None, &format!("{options} --die-during deploy_production"));
    fs::write(source.join("VERSION"), "3.0.0\n").unwrap();
    let said = demo.ends(Some(0), &options);
    assert!(said.contains("was left unfinished") && said.contains("version 2.0.0-r2"), "{said}");
    demo.assert_live("3.0.0", 3);
    demo.ends(Some(0), &format!("{options} --rollback"));
    demo.assert_live("2.0.0-r2", 3);
    demo.ends(Some(0), &format!("{options} --rollback"));
    demo.assert_live("2.0.0", 3);
    // What is live counts, not what was once deployed.
    demo.ends(Some(0), &options);
    demo.assert_live("3.0.0-r2", 3);

    // A fault in the source goes nowhere.
    let before = demo.agents();
    fs::write(source.join("lib/numbers.sh"), "total() {\n    echo 7\n").unwrap();
    let said = demo.ends(Some(1), &options);
    assert!(said.contains("validate_code failed: lib/numbers.sh"), "{said}");
    assert_eq!(demo.agents(), before);
}

#[test]
fn what_cannot_be_is_said_and_changes_nothing() {
    let table = [
        ("--fail-gate=taste", "violations, coverage, answers, health"),
        ("--flakey 3", "--help"), // typos:ignore-line
        ("--agents 0", "1 to 1000"),
        ("--source nowhere", "could not read the version from nowhere"),
        ("--run ../../x", "starts with a dot"),
        ("--run a/b", "contains '/'"),
        ("--rollback", "no run was deployed"),
        ("--rollback --run nothing", "there is no run nothing"),
    ];
    for (options, expected) in table {
        let demo = Demo::new("deploy-wrong");
        let said = demo.ends(Some(2), options);
        assert!(said.contains(expected), "{options}: {said}");
        assert!(demo.agents().is_empty() && demo.witness().is_empty());
    }
    let help = Demo::new("deploy-help").ends(Some(0), "--help");
    assert!(help.contains("--die-after STEP"), "{help}");
}
