use std::time::{Duration, Instant};

use swarm_pipeline::{ErrorKind, Format};

use super::registry;

fn refusal(text: &str, format: Format) -> String {
    let error = registry().parse(text, format).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Definition);
    error.to_string()
}

fn check(format: Format, table: &[(&str, &str)]) {
    for (text, expected) in table {
        assert_eq!(refusal(text, format), *expected, "{text}");
    }
}

#[test]
fn toml_is_refused_with_line_and_column() {
    check(
        Format::Toml,
        &[
            ("name = \"a\"", "line 1, column 1: the file has no `steps`"),
            ("name = 3\n[steps]", "line 1, column 8: expected text, found an integer"),
            ("name = \"a\"\nsteps = []", "line 2, column 9: expected a table, found a list"),
            (
                "name = \"a\"\nstps = 1\n[steps]",
                "line 2, column 1: the pipeline: unknown key \"stps\"; did you mean \"steps\"?",
            ),
            ("name = \"a\"\nname = \"b\"\n[steps]", "line 2, column 1: duplicate key"),
            (
                "name = \"a\"\nconcurrency = 0\n[steps]",
                "line 2, column 15: expected an integer from 1 to 4294967295",
            ),
            (
                "name = \"a\"\non_failure = \"halt\"\n[steps]",
                "line 2, column 14: \"on_failure\" must be one of [\"stop\", \"carry_on\"]",
            ),
            (
                "name = \"a\"\n[steps.\"é\"]\nuses = \"shel\"",
                "line 3, column 8: unknown kind \"shel\"; did you mean \"shell\"?",
            ),
            (
                "name = \"a\"\n[steps.a]\nuses = \"deploy\"",
                "line 3, column 8: unknown kind \"deploy\"; known are echo, shell, signal, sleep, sum",
            ),
            ("name = \"a\"\n[steps.a]", "line 2, column 8: the step \"a\" has no `uses`"),
            (
                "name = \"a\"\n[steps.a]\nuses = \"echo\"\ntiemout = \"1s\"",
                "line 4, column 1: step \"a\", which uses \"echo\": unknown key \"tiemout\"; did you mean \"timeout\"?",
            ),
            (
                "name = \"a\"\n[steps.a]\nuses = \"echo\"\ntimeout = \"1 year\"",
                "line 4, column 11: \"timeout\" is no duration; write a duration such as \"200ms\", \"5s\" or \"1h30m\"",
            ),
            (
                "name = \"a\"\n[steps.a]\nuses = \"echo\"\ntimeout = 5",
                "line 4, column 11: expected a duration such as \"200ms\", \"5s\" or \"1h30m\", found an integer",
            ),
            (
                "name = \"a\"\n[steps.a]\nuses = \"echo\"\ntimeout = \"0s\"",
                "line 4, column 11: \"timeout\" is 0, which no attempt can meet",
            ),
            (
                "name = \"a\"\n[steps.build]\nuses = \"echo\"\n[steps.b]\nuses = \"echo\"\nafter = [\"biuld\"]",
                "line 6, column 10: unknown step \"biuld\"; did you mean \"build\"?",
            ),
            (
                "name = \"a\"\n[steps.a]\nuses = \"echo\"\nafter = [\"b\"]\n[steps.b]\nuses = \"echo\"\nafter = [\"a\"]",
                "line 4, column 10: a cycle: a -> b -> a",
            ),
            (
                "name = \"a\"\n[steps.a]\nuses = \"echo\"\nafter = [\"a\"]",
                "line 4, column 10: \"a\" depends on itself",
            ),
            (
                "name = \"a\"\n[steps.\"a/b\"]\nuses = \"echo\"",
                "line 2, column 8: \"a/b\": a step name contains '/', which is kept for idempotency keys",
            ),
            (
                "name = \"a\"\n[steps.a]\nuses = \"echo\"\ngroup = \"x\"",
                "line 4, column 9: unknown group \"x\"; give its limit under `groups`",
            ),
            (
                "name = \"a\"\n[steps.a]\nuses = \"echo\"\nretry = { base = \"1s\" }",
                "line 4, column 9: `retry` has no `attempts`",
            ),
            (
                "name = \"a\"\n[steps.a]\nuses = \"echo\"\nretry = { attempts = 2, jitter = 2 }",
                "line 4, column 9: a retry jitter of 2; 0 to 1 is allowed",
            ),
            (
                "name = \"a\"\n[steps.a]\nuses = \"echo\"\ngates = [{ name = \"g\", at_least = 1, at_most = 2 }]",
                "line 4, column 10: exactly one of `at_least`, `at_most`, `equals` and `not_equals` is needed",
            ),
            (
                "name = \"a\"\n[steps.a]\nuses = \"echo\"\ngates = [{ name = \"g\", at_least = 1, path = \"x\" }]",
                "line 4, column 45: a path begins with `/`, as in \"/coverage\"",
            ),
            (
                "name = \"a\"\n[steps.a]\nuses = \"echo\"\nwhen = { path = \"/x\", equals = 1 }",
                "line 4, column 8: `when` has no `step`",
            ),
            (
                "name = \"a\"\n[steps.a]\nuses = \"sleep\"\nfor = \"1s\"\nretry = 3",
                "line 5, column 1: step \"a\", which uses \"sleep\": unknown key \"retry\"; known are uses, description, version, after, when, priority, for, until",
            ),
            (
                "name = \"a\"\n[steps.a]\nuses = \"sleep\"\nuntil = \"tomorrow\"",
                "line 4, column 9: `until` is no time such as \"2026-11-21T08:00:00Z\"",
            ),
            (
                "name = \"a\"\n[steps.a]\nuses = \"sum\"\nwith = { hidden = \"secret\" }",
                "line 4, column 10: sum: unknown key \"hidden\"; known are ",
            ),
            (
                "name = \"a\"\n[steps.a]\nuses = \"shell\"\n[steps.a.with]\nrun = [\"a\", \"b\", 3]",
                "line 5, column 18: shell: expected a string, found an integer",
            ),
            (
                "name = \"a\"\n[steps.a]\nuses = \"shell\"\n[steps.a.with]\nrun = [\"a\"]\nprase = \"json\"",
                "line 6, column 1: shell: unknown key \"prase\"; did you mean \"parse\"?",
            ),
            (
                "name = \"a\"\n[steps.a]\nuses = \"shell\"\n[steps.a.with]\nrun = [\"a\"]\nparse = \"jsn\"",
                "line 6, column 9: shell: unknown value; known are [\"text\", \"json\"]; did you mean \"json\"?",
            ),
            (
                "name = \"a\"\n[steps.a]\nuses = \"shell\"\nwith = { run = [] }",
                "line 4, column 8: shell: `run` names no program",
            ),
            (
                "name = \"a\"\n[steps.a]\nuses = \"shell\"",
                "line 2, column 1: shell: either `run` or `script` is needed, not both",
            ),
            (
                "name = \"a\"\n[steps.a]\nuses = \"echo\"\nwith.value = nan",
                "line 4, column 14: a number that JSON cannot hold",
            ),
            (
                "name = \"a\"\n[steps.a]\nuses = \"echo\"\nwith.value = 9223372036854775808",
                "line 4, column 14: a number that does not fit 64 bits",
            ),
        ],
    );
}

#[test]
fn json_is_refused_with_line_and_column() {
    check(
        Format::Json,
        &[
            ("", "line 1, column 1: the file ends where a value should be"),
            (
                "{\n  \"name\": \"a\",\n  \"name\": \"b\"}",
                "line 3, column 3: the key \"name\" is given twice",
            ),
            (
                "{\"na\\u006de\": \"a\", \"name\": \"b\"}",
                "line 1, column 20: the key \"name\" is given twice",
            ),
            ("{\"name\": \"a\", \"steps\": {}", "line 1, column 26: the file ends before `}`"),
            ("{\"name\": \"a\", \"steps\": {},}", "line 1, column 27: expected a key in quotes"),
            ("{\"name\": a}", "line 1, column 10: expected a JSON value; texts stand in quotes"),
            (
                "{\"name\": \"a\n\"}",
                "line 1, column 10: a text with an unknown escape or a raw control character",
            ),
            ("{\"name\": 01}", "line 1, column 10: a number that is not written as JSON wants it"),
            ("{\"name\": 18446744073709551616}", "line 1, column 10: a number that does not fit 64 bits"),
            ("{\"name\": 1e999}", "line 1, column 10: a number that is not written as JSON wants it"),
            ("{\"name\": \"a\", \"steps\": {}} x", "line 1, column 28: nothing may follow the value"),
            (
                "{\"é\": 1, \"name\": \"a\", \"steps\": []}",
                "2 problems:\n  line 1, column 2: the pipeline: unknown key \"é\"; known are name, description, concurrency, on_failure, rollback, cancel_grace, groups, steps\n  line 1, column 32: expected a table, found a list",
            ),
            ("[]", "line 1, column 1: expected a table, found a list"),
            ("{\"name\": \"a", "line 1, column 10: a text that never ends"),
        ],
    );
}

#[test]
fn yaml_is_refused_with_line_and_column() {
    check(
        Format::Yaml,
        &[
            ("name: a\nname: b\nsteps: {}", "line 2, column 1: the key \"name\" is given twice"),
            (
                "name: a\nsteps:\n  a: { uses: ecko }",
                "line 3, column 14: unknown kind \"ecko\"; did you mean \"echo\"?",
            ),
            (
                "name: a\nsteps:\n  a:\n    uses: echo\n    retry: yes",
                "line 5, column 12: expected an integer, found text",
            ),
            ("name: a\n---\nname: b\n", "line 2, column 1: a second document; a file holds one pipeline"),
            (
                "name: a\n1: b\nsteps: {}",
                "line 1, column 1: the key at line 2, column 1 is no text; put it in quotes",
            ),
        ],
    );
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_the_file() {
    let text = "name = \"a\"\nconcurency = 2\n[steps.one]\nuses = \"ecko\"\ntimeout = \"soon\"\nafter = [\"two\"]\n\
                [steps.two]\nuses = \"echo\"\nafter = [\"one\", \"thre\"]\n[steps.three]\nuses = \"shell\"\nwith = { run = 3 }\n";
    let expected = "7 problems:
  line 2, column 1: the pipeline: unknown key \"concurency\"; did you mean \"concurrency\"?
  line 4, column 8: unknown kind \"ecko\"; did you mean \"echo\"?
  line 5, column 11: \"timeout\" is no duration; write a duration such as \"200ms\", \"5s\" or \"1h30m\"
  line 6, column 10: a cycle: one -> two -> one
  line 9, column 17: unknown step \"thre\"; did you mean \"three\"?
  line 12, column 16: shell: expected a sequence, found an integer";
    let expected = expected.replacen('7', "6", 1);
    assert_eq!(refusal(text, Format::Toml), expected);
}

#[test]
fn no_value_of_the_file_is_quoted() {
    let secret = "hunter2";
    let texts = [
        (Format::Toml, "name = \"a\"\n[steps.a]\nuses = \"shell\"\nwith = { run = \"hunter2\" }".to_owned()),
        (Format::Toml, "name = \"a\"\npassword = \"hunter2".to_owned()),
        (
            Format::Toml,
            "name = \"a\"\n[steps.a]\nuses = \"shell\"\nwith = { run = [\"a\"], kill_grace = \"hunter2\" }"
                .to_owned(),
        ),
        (
            Format::Toml,
            "name = \"a\"\n[steps.a]\nuses = \"shell\"\nwith = { run = [\"a\"], stdin = \"hunter2\" }"
                .to_owned(),
        ),
        (Format::Json, "{\"name\": \"a\", \"password\": \"hunter2\\x\"}".to_owned()),
        (Format::Yaml, "name: a\npassword: \"hunter2\nsteps: {".to_owned()),
        (Format::Yaml, "name: a\npassword: !!int hunter2\nsteps: {}".to_owned()),
        (Format::Yaml, "name: a\npassword: *hunter2\nsteps: {}".to_owned()),
    ];
    for (format, text) in texts {
        let told = refusal(&text, format);
        assert!(!told.contains(secret), "{told}");
    }
}

#[test]
fn a_value_may_be_nested_as_deep_as_is_said() {
    let json = |depth: usize| {
        let value = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        format!("{{\"name\": \"a\", \"steps\": {{\"s\": {{\"uses\": \"echo\", \"with\": {value}}}}}}}")
    };
    let block = |depth: usize| {
        let lines: String = (0..depth).map(|n| format!("{}a:\n", " ".repeat(n + 8))).collect();
        format!("name: a\nsteps:\n s:\n  uses: echo\n  with:\n{lines}")
    };
    for (format, text) in [(Format::Json, json(60)), (Format::Yaml, json(60)), (Format::Yaml, block(58))] {
        registry().parse(&text, format).unwrap_or_else(|error| panic!("{error}"));
    }
    for (format, text) in [(Format::Json, json(63)), (Format::Yaml, json(63)), (Format::Yaml, block(63))] {
        eprintln!("{}", refusal(&text, format));
    }
}

#[test]
fn hostile_files_are_refused_at_once() {
    let deep = |open: &str, n: usize| format!("name = \"a\"\nx = {}", open.repeat(n));
    let bomb = {
        let mut text = "name: a\na0: &a0 [x]\n".to_owned();
        for n in 1..10 {
            text.push_str(&format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(", ")));
        }
        text + "steps: *a9\n"
    };
    let many = |n: usize| {
        let steps: Vec<String> =
            (0..n).map(|n| format!("\"s{n}\":{{\"uses\":\"ecko\",\"after\":[\"t{n}\"]}}")).collect();
        format!("{{\"name\":\"a\",\"steps\":{{{}}}}}", steps.join(","))
    };
    let table = [
        ("toml brackets", Format::Toml, "[".repeat(1 << 20)),
        ("toml value", Format::Toml, deep("[", 1 << 20)),
        ("toml tables", Format::Toml, deep("{a=", 100_000)),
        ("toml dotted", Format::Toml, format!("{}a = 1", "a.".repeat(100_000))),
        ("toml header", Format::Toml, format!("[{}a]", "a.".repeat(100_000))),
        ("toml nested headers", Format::Toml, (1..200).map(|n| format!("[{}a]\n", "a.".repeat(n))).collect()),
        ("toml garbage", Format::Toml, "= =\n".repeat(100_000)),
        ("json brackets", Format::Json, "[".repeat(1 << 20)),
        ("json deep", Format::Json, "{\"a\":".repeat(100_000)),
        ("json steps", Format::Json, many(20_000)),
        ("json too many steps", Format::Json, many(100_001)),
        ("yaml brackets", Format::Yaml, "[".repeat(1 << 20)),
        ("yaml deep", Format::Yaml, (0..2_000).map(|n| format!("{}a:\n", " ".repeat(n))).collect()),
        ("yaml dashes", Format::Yaml, "- ".repeat(100_000)),
        ("yaml bomb", Format::Yaml, bomb),
        ("yaml anchor of itself", Format::Yaml, "name: a\nsteps: &a { b: *a }".to_owned()),
        ("yaml merges", Format::Yaml, "name: a\nsteps: { <<: [x] }".to_owned()),
    ];
    for (name, format, text) in table {
        let before = Instant::now();
        let told = refusal(&text, format);
        let took = before.elapsed();
        eprintln!("{name}: {took:?}: {}", told.lines().next().unwrap());
        assert!(told.len() < 64 * 1024, "{name}");
        // A debug build on a busy machine is far slower than what users run.
        assert!(took < Duration::from_secs(60), "{name} took {took:?}");
    }
}
