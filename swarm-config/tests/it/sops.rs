//! Files encrypted with SOPS: by ourselves, and both ways with the program `sops` where it is installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use swarm_config::{
    AgeKeys, AgeRecipient, Color, ConfigLoader, ErrorKind, Format, Limits, Secret, SopsFile, SopsOptions,
    SopsRule, Tree,
};

fn parse(format: Format, text: &str) -> swarm_config::Result<SopsFile> {
    SopsFile::parse("secrets", format, text, &Limits::default())
}

/// A file, and the arguments of `sops` for it; what they are for us is told by `options`.
struct Case {
    name: &'static str,
    format: Format,
    text: String,
    rule: &'static [&'static str],
}

fn cases() -> Vec<Case> {
    let yaml = "# about the file\n\n# about the database\ndb:\n    # inside\n    password: hunter2 # beside\n    \
                port: 5432\n    ratio: 1.5\n    tls: true\n    none: null\n    empty: ''\n    hosts:\n        \
                # of the first\n        - a.example\n        - name: b\n          weight: 2\nother: x\n# the end\n";
    let texts = "plain: word\nquoted: \"with # sign and: colon\"\nyes: \"no\"\nnumber: \"0123\"\nspace: ' x '\n\
                 unicode: \"grün 漢字 \\u2028 \\u0007\"\nlines: |\n    one\n    two\nfolded: >-\n    three\n    four\n\
                 long: 1234567890123456789\nnegative: -17\nbig: 1.0e+21\nsmall: 0.000001\nflow: [1, {x: two}]\n\
                 date: 2020-01-02\nquote: \"a\\\"b\\\\c\"\n";
    let large: String = (0..500)
        .map(|at| format!("service_{at}:\n    url: https://{at}.example\n    retries: {at}\n"))
        .collect();
    let json = json!({
        "db": {"password": "hunter2", "port": 5432, "ratio": 1.5, "tls": false, "none": null, "empty": ""},
        "list": ["a", {"b": [1, 2, [3]]}, true], "text": "line\nline \u{e9}\u{1}\"\\</a>", "object": {}, "array": [],
    });
    let json = serde_json::to_string_pretty(&json).unwrap();
    let dotenv = "# about\nDB_PASSWORD=hunter2\nQUOTED=\"with # sign\" and = sign\nLINES=one\\ntwo\nSPACES=two  \nEMPTY=\nPORT=5432\n";
    let ini = "; at the top\nroot = 1\n\n[db]\n; about the password\npassword = hunter2\nport = 5432\n\n[other]\nk = v\n";
    let case = |name, format, text: &str, rule| Case { name, format, text: text.to_owned(), rule };
    vec![
        case("plain.yaml", Format::Yaml, yaml, &[]),
        case("suffix.yaml", Format::Yaml, &yaml.replace("port:", "port_unencrypted:"), &[]),
        case("regex.yaml", Format::Yaml, yaml, &["--encrypted-regex", "^(password|hosts)$"]),
        case("unregex.yaml", Format::Yaml, yaml, &["--unencrypted-regex", "^(port|tls)$"]),
        case("mac-only.yaml", Format::Yaml, yaml, &["--mac-only-encrypted", "--encrypted-suffix", "word"]),
        case("texts.yaml", Format::Yaml, texts, &[]),
        case("large.yaml", Format::Yaml, &large, &[]),
        case("plain.json", Format::Json, &json, &[]),
        case("clear.json", Format::Json, &json, &["--encrypted-regex", "^password$"]),
        case("plain.env", Format::Dotenv, dotenv, &[]),
        case("suffix.env", Format::Dotenv, dotenv, &["--unencrypted-suffix", "PORT"]),
        case("plain.ini", Format::Ini, ini, &[]),
        case("regex.ini", Format::Ini, ini, &["--encrypted-regex", "^password$"]),
    ]
}

fn options(case: &Case, recipients: Vec<AgeRecipient>) -> SopsOptions {
    let mut options = SopsOptions::new(recipients);
    let mut arguments = case.rule.iter();
    while let Some(argument) = arguments.next() {
        let mut value = || (*arguments.next().unwrap()).to_owned();
        options = match *argument {
            "--mac-only-encrypted" => options.mac_only_encrypted(),
            "--encrypted-regex" => options.rule(SopsRule::EncryptedRegex(value())),
            "--unencrypted-regex" => options.rule(SopsRule::UnencryptedRegex(value())),
            "--encrypted-suffix" => options.rule(SopsRule::EncryptedSuffix(value())),
            "--unencrypted-suffix" => options.rule(SopsRule::UnencryptedSuffix(value())),
            other => panic!("{other}"),
        };
    }
    options
}

fn content(format: Format, text: &str) -> Value {
    let value =
        Tree::parse("x", format, text, &Limits::default()).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let mut value = value.to_json();
    // Go reads a date as a moment, and writes it so.
    if value["date"] == "2020-01-02T00:00:00Z" {
        value["date"] = "2020-01-02".into();
    }
    numbers(value)
}

/// Whole numbers as such: `1e21` and `1.0` are whole to `sops`.
fn numbers(value: Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64().unwrap().to_string()),
        Value::Array(items) => items.into_iter().map(numbers).collect(),
        Value::Object(entries) => entries.into_iter().map(|(key, value)| (key, numbers(value))).collect(),
        other => other,
    }
}

/// The comments of a text, without signs and spaces.
fn comments(text: &str) -> Vec<String> {
    // The one text with a sign that begins none.
    let text = text.replace("'with # sign and: colon'", "");
    let signs =
        |line: &str| line.find(" # ").or_else(|| line.trim_start().starts_with(['#', ';']).then_some(0));
    let found = text
        .lines()
        .filter_map(|line| Some(line[signs(line)?..].trim().trim_start_matches(['#', ';', ' ']).to_owned()));
    let mut found: Vec<String> = found.filter(|text| !text.contains('"')).collect();
    found.sort();
    found
}

fn loaded(path: &Path, keys: &AgeKeys) -> Value {
    let config = ConfigLoader::new().file(path).age_keys(keys.clone()).load::<Value>().unwrap();
    let value = config.get().clone();
    numbers(value)
}

#[test]
fn what_is_encrypted_decrypts_to_the_same_text() {
    let keys = AgeKeys::generate();
    for case in cases() {
        let file = SopsFile::encrypt(case.name, case.format, &case.text, &options(&case, keys.recipients()))
            .unwrap();
        assert!(!file.text().contains("hunter2"), "{}: {}", case.name, file.text());
        let plain = parse(case.format, file.text()).unwrap().decrypt(&keys).unwrap();
        assert_eq!(content(case.format, plain.expose()), content(case.format, &case.text), "{}", case.name);
        assert_eq!(comments(plain.expose()), comments(&case.text), "{}: {}", case.name, plain.expose());
        if !["texts.yaml", "large.yaml", "plain.json", "clear.json"].contains(&case.name) {
            // Layout too, where nothing needed other quotes.
            assert_eq!(plain.expose().trim_end(), case.text.trim_end(), "{}", case.name);
        }
        let again =
            SopsFile::encrypt(case.name, case.format, plain.expose(), &options(&case, keys.recipients()))
                .unwrap();
        assert_eq!(again.decrypt(&keys).unwrap().expose(), plain.expose(), "{}", case.name);
    }
}

/// The program, or a word about what is left out without it.
fn sops() -> Option<PathBuf> {
    let program = std::env::var_os("SWARM_SOPS").unwrap_or_else(|| "sops".into());
    let there = Command::new(&program).arg("--disable-version-check").arg("--version").output();
    if there.is_ok_and(|output| output.status.success()) {
        return Some(program.into());
    }
    eprintln!("left out: tests with the program `sops`, which is not here; set SWARM_SOPS or PATH");
    None
}

struct Program {
    path: PathBuf,
    folder: tempfile::TempDir,
    keys: AgeKeys,
}

impl Program {
    fn new() -> Option<Program> {
        let path = sops()?;
        let folder = tempfile::tempdir().unwrap();
        let keys = AgeKeys::generate();
        std::fs::write(folder.path().join("keys.txt"), keys.to_text().expose()).unwrap();
        Some(Program { path, folder, keys })
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = Command::new(&self.path)
            .args(arguments)
            .current_dir(self.folder.path())
            .env("SOPS_AGE_KEY_FILE", self.folder.path().join("keys.txt"))
            .env_remove("SOPS_AGE_KEY")
            .output()
            .unwrap();
        let (out, error) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "sops {arguments:?}: {error}{out}");
        assert!(!error.contains("possibly unencrypted comment"), "sops {arguments:?}: {error}");
        out
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

#[test]
fn what_sops_encrypts_is_read() {
    let Some(program) = Program::new() else { return };
    let recipient = program.keys.recipients()[0].to_string();
    for case in cases() {
        program.write(case.name, &case.text);
        let mut arguments = vec!["--encrypt", "--age", &recipient];
        arguments.extend(case.rule);
        arguments.push(case.name);
        let text = program.run(&arguments);
        let path = program.write(case.name, &text);
        let file = SopsFile::open(&path).unwrap();
        let plain =
            file.decrypt(&program.keys).unwrap_or_else(|error| panic!("{}: {error}\n{text}", case.name));
        let expected = content(case.format, &case.text);
        assert_eq!(content(case.format, plain.expose()), expected, "{}", case.name);
        assert_eq!(comments(plain.expose()), comments(&case.text), "{}: {}", case.name, plain.expose());
        if case.name != "texts.yaml" {
            assert_eq!(loaded(&path, &program.keys), numbers(expected), "{}", case.name);
        }
        // Edited and rotated by us, it is still read by the program.
        let edited = file.edit(&program.keys, |text| text.replace("hunter2", "hunter3")).unwrap();
        program.write(case.name, edited.text());
        assert_eq!(
            content(case.format, &program.run(&["decrypt", case.name])),
            content(case.format, &case.text.replace("hunter2", "hunter3")),
            "{}",
            case.name
        );
    }
    eprintln!("sops: {} files of the program read, edited, and read by it again", cases().len());
}

#[test]
fn what_we_encrypt_is_read_by_sops() {
    let Some(program) = Program::new() else { return };
    let other = AgeKeys::generate();
    for case in cases() {
        let recipients = [other.recipients(), program.keys.recipients()].concat();
        let file =
            SopsFile::encrypt(case.name, case.format, &case.text, &options(&case, recipients)).unwrap();
        let path = program.write(case.name, file.text());
        let plain = program.run(&["decrypt", case.name]);
        assert_eq!(content(case.format, &plain), content(case.format, &case.text), "{}", case.name);
        assert_eq!(comments(&plain), comments(&case.text), "{}: {plain}", case.name);
        // Rotated by the program, it is still read by us.
        program.run(&["rotate", "--in-place", case.name]);
        let rotated = SopsFile::open(&path).unwrap().decrypt(&other).unwrap();
        assert_eq!(content(case.format, rotated.expose()), content(case.format, &case.text), "{}", case.name);
    }
    eprintln!("sops: {} files of ours read and rotated by the program, and read again", cases().len());
}

#[test]
fn the_program_age_keygen_and_ours_understand_each_other() {
    let Ok(made) = Command::new("age-keygen").output() else {
        eprintln!("left out: the test with the program `age-keygen`, which is not here");
        return;
    };
    let text = String::from_utf8(made.stdout).unwrap();
    let keys = AgeKeys::parse(&text).unwrap();
    let public = text.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap();
    assert_eq!(keys.recipients(), [public.parse::<AgeRecipient>().unwrap()]);
}

const PLAIN: &str = "# about\ndb:\n    password: hunter2\n    port: 5432\n    user_unencrypted: app\nlist:\n    - one\n    - two\n";

#[test]
fn a_file_that_was_changed_anywhere_that_counts_is_refused() {
    let keys = AgeKeys::generate();
    let file =
        SopsFile::encrypt("a.yaml", Format::Yaml, PLAIN, &SopsOptions::new(keys.recipients())).unwrap();
    let text = file.text();
    let refused = |text: &str| {
        let opened = parse(Format::Yaml, text).and_then(|file| file.decrypt(&keys));
        let loader = ConfigLoader::new().text("a.yaml", Format::Yaml, text).age_keys(keys.clone());
        opened.is_err() && loader.load_tree().is_err()
    };
    assert!(!refused(text));
    let line = |key: &str| {
        let start = text.find(&format!("    {key}: ENC[")).unwrap() + 4 + key.len() + 2;
        start..start + text[start..].find('\n').unwrap()
    };
    let mut tried = 0;
    for span in [line("mac"), line("password"), line("port")] {
        for at in span {
            let byte = text.as_bytes()[at];
            for other in [byte ^ 1, if byte == b'A' { b'B' } else { b'A' }, b'#'] {
                let mut changed = text.as_bytes().to_vec();
                changed[at] = other;
                if other != byte && other.is_ascii_graphic() {
                    assert!(
                        refused(std::str::from_utf8(&changed).unwrap()),
                        "byte {at} as {}",
                        other as char
                    );
                    tried += 1;
                }
            }
        }
    }
    eprintln!("sops: {tried} changes of single bytes refused");
    assert!(tried > 1000, "{tried}");

    let lines: Vec<&str> = text.lines().collect();
    let swapped = |one: usize, two: usize| {
        let mut lines = lines.clone();
        lines.swap(one, two);
        lines.join("\n")
    };
    let at = |part: &str| lines.iter().position(|line| line.contains(part)).unwrap();
    let without = |part: &str| text.replace(&format!("{}\n", lines[at(part)]), "");
    let items: Vec<usize> = (0..lines.len()).filter(|at| lines[*at].starts_with("    - ENC")).collect();
    for (what, changed) in [
        ("values in another order", swapped(at("password: "), at("port: "))),
        ("items in another order", swapped(items[0], items[1])),
        ("a value left out", without("port: ")),
        ("a value that was not encrypted", text.replace("user_unencrypted: app", "user_unencrypted: root")),
        ("an encrypted value in the clear", text.replace(&text[line("password")], "hunter2")),
        ("a value under another key", text.replace("    port: ", "    gate: ")),
        ("no MAC", without("mac: ")),
        ("no date", without("lastmodified: ")),
        ("another date", text.replace("lastmodified: \"20", "lastmodified: \"21")),
        ("another rule", text.replace("\"_unencrypted\"", "\"_plain\"")),
        (
            "the MAC of fewer values",
            text.replace("    version:", "    mac_only_encrypted: true\n    version:"),
        ),
        ("an added value", text.replace("list:\n", "more_unencrypted: 1\nlist:\n")),
    ] {
        assert_ne!(changed.trim_end(), text.trim_end(), "{what}");
        assert!(refused(&changed), "{what}: {changed}");
    }
}

#[test]
fn values_that_the_mac_leaves_out_may_change() {
    let keys = AgeKeys::generate();
    let options = SopsOptions::new(keys.recipients()).mac_only_encrypted();
    let file = SopsFile::encrypt("a.yaml", Format::Yaml, PLAIN, &options).unwrap();
    let changed = file.text().replace("user_unencrypted: app", "user_unencrypted: root");
    let plain = parse(Format::Yaml, &changed).unwrap().decrypt(&keys).unwrap();
    assert_eq!(plain.expose(), &PLAIN.replace("user_unencrypted: app", "user_unencrypted: root"));
}

#[test]
fn an_edit_changes_the_lines_it_is_about() {
    let keys = AgeKeys::generate();
    let file =
        SopsFile::encrypt("a.yaml", Format::Yaml, PLAIN, &SopsOptions::new(keys.recipients())).unwrap();
    let edited = file.edit(&keys, |text| text.replace("5432", "6543") + "new: 1\n").unwrap();
    let old: Vec<&str> = file.text().lines().collect();
    let changed: Vec<&str> = edited.text().lines().filter(|line| !old.contains(line)).collect();
    let keys_of: Vec<&str> = changed.iter().map(|line| line.trim().split(':').next().unwrap()).collect();
    assert!(
        keys_of == ["port", "new", "mac"] || keys_of == ["port", "new", "lastmodified", "mac"],
        "{changed:?}"
    );
    assert_eq!(edited.decrypt(&keys).unwrap().expose(), &(PLAIN.replace("5432", "6543") + "new: 1\n"));
}

#[test]
fn rotation_takes_the_file_from_those_who_are_not_named() {
    let (old, new) = (AgeKeys::generate(), AgeKeys::generate());
    let options = SopsOptions::new(old.recipients())
        .rule(SopsRule::EncryptedRegex("^(password|list)$".into()))
        .mac_only_encrypted();
    let file = SopsFile::encrypt("a.yaml", Format::Yaml, PLAIN, &options).unwrap();
    let rotated = file.rotate(&old, new.recipients()).unwrap();
    assert_eq!(rotated.decrypt(&new).unwrap().expose(), PLAIN);
    let error = rotated.decrypt(&old).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Secret);
    assert!(error.to_string().contains(&new.recipients()[0].to_string()), "{error}");
    assert!(rotated.text().contains("port: 5432") && rotated.text().contains("mac_only_encrypted: true"));
    let before: Vec<&str> = file.text().lines().filter(|line| line.contains("ENC[")).collect();
    assert!(before.iter().all(|line| !rotated.text().contains(*line)), "every ciphertext is new");
}

#[test]
fn what_is_not_supported_is_named() {
    let keys = AgeKeys::generate();
    let file =
        SopsFile::encrypt("a.yaml", Format::Yaml, PLAIN, &SopsOptions::new(keys.recipients())).unwrap();
    let with =
        |more: &str| file.text().replace("    lastmodified:", &format!("    {more}\n    lastmodified:"));
    let start = file.text().find("    age:").unwrap();
    let end = file.text().find("    lastmodified:").unwrap();
    let without_age = |more: &str| format!("{}    {more}\n{}", &file.text()[..start], &file.text()[end..]);
    for (text, part) in [
        (without_age("pgp: [{fp: ABCD, enc: x}]"), "encrypted for PGP only"),
        (without_age("kms: [{arn: a}]"), "encrypted for AWS KMS only"),
        (
            without_age("hc_vault: [{key_name: a}]\n    azure_kv: [{name: a}]"),
            "Azure Key Vault, HashiCorp Vault transit only",
        ),
        (without_age("age: []"), "encrypted for nobody"),
        (with("key_groups: [{age: []}]"), "key groups (Shamir's secret sharing)"),
        (with("shamir_threshold: 2"), "key groups (Shamir's secret sharing)"),
        (with("encrypted_comment_regex: sops"), "`encrypted_comment_regex`"),
        (with("encrypted_regex: x"), "more than one rule"),
        (PLAIN.to_owned(), "not encrypted"),
    ] {
        let error = parse(Format::Yaml, &text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Secret, "{error}");
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
    // With an age key too it is read, and not written anew.
    let both = parse(Format::Yaml, &with("pgp: [{fp: ABCD, enc: x}]")).unwrap();
    assert_eq!(both.decrypt(&keys).unwrap().expose(), PLAIN);
    let error = both.rotate(&keys, keys.recipients()).unwrap_err();
    assert!(error.to_string().contains("would lose what is not supported: PGP"), "{error}");

    for (format, text, part) in [
        (Format::Toml, "a = 1", "no TOML"),
        (Format::Yaml, "a: &x b\nc: *x\n", "anchor"),
        (Format::Yaml, "a: &x\n    b: 1\nc: *x\n", "alias or a merge"),
        (Format::Yaml, "a: !!str 5\n", "tag or an anchor"),
        (Format::Yaml, "a: 18446744073709551615\n", "beyond 64 bits"),
        (Format::Yaml, "a_unencrypted: 2020-01-02\n", "reads as another"),
        (Format::Yaml, "a_unencrypted: 017\n", "reads as another"),
        (Format::Yaml, "a_unencrypted: 1_000\n", "reads as another"),
        (Format::Yaml, "- a\n", "is a table"),
        (Format::Yaml, "{a: 1}\n", "in braces"),
        (Format::Yaml, "sops: 1\n", "encrypted already"),
        (Format::Dotenv, "sops_x=1\n", "encrypted already"),
        (Format::Json, "[]", "is a table"),
    ] {
        let error = SopsFile::encrypt("a", format, text, &SopsOptions::new(keys.recipients())).unwrap_err();
        assert!(error.to_string().contains(part), "{text}: {error}");
    }
    let nobody = SopsFile::encrypt("a", Format::Yaml, "a: 1\n", &SopsOptions::new([])).unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::InvalidInput);
    let options = || SopsOptions::new(keys.recipients());
    for wrong in [
        SopsRule::EncryptedRegex("(".into()),
        SopsRule::UnencryptedSuffix(String::new()),
        SopsRule::EncryptedRegex(String::new()),
    ] {
        let error =
            SopsFile::encrypt("a", Format::Yaml, "a: 1\n", &options().rule(wrong.clone())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        // The last rule that is given holds.
        let mended = options().rule(wrong).rule(SopsRule::EncryptedSuffix("_s".into()));
        let file = SopsFile::encrypt("a", Format::Yaml, "a: plain\na_s: hidden\n", &mended).unwrap();
        assert!(file.text().contains("a: plain") && !file.text().contains("hidden"), "{}", file.text());
    }
}

#[test]
fn whoever_writes_a_file_says_when() {
    let keys = AgeKeys::generate();
    let at = |seconds| chrono::DateTime::from_timestamp(seconds, 0).unwrap();
    let options = SopsOptions::new(keys.recipients()).at(at(0));
    let file = SopsFile::encrypt("a.yaml", Format::Yaml, "a: 1\n", &options).unwrap().at(at(60));
    assert!(file.text().contains("1970-01-01T00:00:00Z"), "{}", file.text());
    for later in [file.edit(&keys, |_| "a: 2\n").unwrap(), file.rotate(&keys, keys.recipients()).unwrap()] {
        assert!(later.text().contains("1970-01-01T00:01:00Z"), "{}", later.text());
    }
}

#[test]
fn a_text_is_encrypted_before_keys_are_made_for_anybody() {
    // For so many, keys would take minutes.
    let many = vec![AgeKeys::generate().recipients().remove(0); 1_000_000];
    let options = SopsOptions::new(many);
    let start = std::time::Instant::now();
    for (format, text) in [
        (Format::Yaml, "a: ["),
        (Format::Yaml, "when_unencrypted: 2020-01-01"),
        (Format::Json, "[1]"),
        (Format::Toml, "a = 1"),
        (Format::Dotenv, "nothing"),
        (Format::Ini, "[open"),
    ] {
        assert!(SopsFile::encrypt("a", format, text, &options).is_err(), "{format:?}");
    }
    assert!(start.elapsed() < std::time::Duration::from_secs(30), "{:?}", start.elapsed());
}

#[test]
fn limits_hold_before_anything_is_decrypted() {
    let keys = AgeKeys::generate();
    let file =
        SopsFile::encrypt("a.yaml", Format::Yaml, PLAIN, &SopsOptions::new(keys.recipients())).unwrap();
    for change in [
        (|limits: &mut Limits| limits.bytes = 100) as fn(&mut Limits),
        |limits| limits.nodes = 5,
        |limits| limits.string = 20,
        |limits| limits.depth = 1,
    ] {
        let mut limits = Limits::default();
        change(&mut limits);
        let error = SopsFile::parse("a.yaml", Format::Yaml, file.text(), &limits).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
        // Whose keys would be asked for has no say in it.
        let loader = ConfigLoader::new().text("a.yaml", Format::Yaml, file.text()).limits(limits);
        assert_eq!(loader.load_tree().unwrap_err().kind(), ErrorKind::Limit);
    }
}

#[test]
fn a_loader_merges_encrypted_files_and_says_where_values_are() {
    #[derive(serde::Deserialize)]
    struct Settings {
        db: Db,
    }
    #[derive(serde::Deserialize)]
    struct Db {
        password: Secret<String>,
        port: u16,
        user_unencrypted: String,
    }
    let keys = AgeKeys::generate();
    let folder = tempfile::tempdir().unwrap();
    let file =
        SopsFile::encrypt("a.yaml", Format::Yaml, PLAIN, &SopsOptions::new(keys.recipients())).unwrap();
    std::fs::write(folder.path().join("base.toml"), "db.port = 1\ndb.user_unencrypted = 'u'\n").unwrap();
    std::fs::write(folder.path().join("production.yaml"), file.text()).unwrap();
    let loader = ConfigLoader::new().hierarchy((folder.path(), "production")).age_keys(keys);
    let config = loader.clone().load::<Settings>().unwrap();
    let db = &config.get();
    assert_eq!(
        (db.db.password.expose().as_str(), db.db.port, db.db.user_unencrypted.as_str()),
        ("hunter2", 5432, "app")
    );
    let why = config.explain("db.port").unwrap();
    assert_eq!(why.layers()[0].location().line(), Some(4));
    assert_eq!((why.layers()[0].value(), why.layers()[1].value()), (&json!("******"), &json!("******")));
    assert!(config.get().tree().get("db.password").unwrap().is_secret());
    assert!(!config.get().tree().get("db.user_unencrypted").unwrap().is_secret());
    assert_eq!(config.get().tree().get("sops"), None);
    // A value of the wrong kind is told at its place in the encrypted file, without what it is.
    let error = loader.load::<std::collections::BTreeMap<String, Vec<u8>>>().map(drop).unwrap_err();
    assert!(!format!("{error} {}", error.render(Color::Never)).contains("hunter2"), "{error}");
}

const KEYS: &str = "SWARM_TEST_KEYS";

/// The keys are found through the environment, so it runs in a process of its own.
#[test]
fn keys_that_are_withdrawn_open_nothing_that_was_opened() {
    let Some(folder) = std::env::var_os(KEYS).map(PathBuf::from) else {
        let folder = tempfile::tempdir().unwrap();
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["sops::keys_that_are_withdrawn_open_nothing_that_was_opened", "--exact", "--nocapture"])
            .env(KEYS, folder.path())
            .env_remove("SOPS_AGE_KEY")
            .env("SOPS_AGE_KEY_FILE", folder.path().join("keys.txt"))
            .envs([("HOME", folder.path()), ("XDG_CONFIG_HOME", folder.path())])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("withdrawn"), "{said}");
        return;
    };
    let give = |keys: &AgeKeys| std::fs::write(folder.join("keys.txt"), keys.to_text().expose()).unwrap();
    let (one, two) = (AgeKeys::generate(), AgeKeys::generate());
    for (name, format, plain) in
        [("a.yaml", Format::Yaml, PLAIN), ("a.json", Format::Json, r#"{"a": {"b": 1}}"#)]
    {
        give(&one);
        let options = SopsOptions::new(one.recipients());
        let file = SopsFile::encrypt(name, format, plain, &options).unwrap();
        std::fs::write(folder.join(name), file.text()).unwrap();
        let config = ConfigLoader::new().file(folder.join(name)).load::<Value>().unwrap();
        let before = config.get().clone();
        give(&two);
        assert_eq!(config.reload().unwrap_err().kind(), ErrorKind::Secret);
        std::fs::remove_file(folder.join("keys.txt")).unwrap();
        assert!(config.reload().is_err());
        assert_eq!(*config.get(), before, "what was loaded stays");
        give(&one);
        assert_eq!(config.reload().unwrap(), []);
    }
    eprintln!("withdrawn");
}
