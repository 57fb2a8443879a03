use std::fmt::Debug;

use futures::FutureExt;
use futures::future::{BoxFuture, try_join_all};

use crate::digest;
use crate::error::{ErrorKind, Result};
use crate::store::{BlobKey, CheckpointStore, Record, RunId, RunLog};

/// Checks one rule and answers how it is broken.
type Check = for<'a> fn(&'a dyn CheckpointStore) -> BoxFuture<'a, Verdict>;
type Verdict = Result<(), String>;

macro_rules! rules {
    ($($rule:literal => $check:ident,)*) => {
        pub(super) const ALL: &[(&str, Check)] = &[$(($rule, |store| $check(store).boxed())),*];
    };
}

rules! {
    "a run that does not exist reads as empty" => missing_run_is_empty,
    "what was appended is read again, in order" => round_trip,
    "a writer gets the records of those before it, once" => reacquire,
    "an append continues after the last writer's records" => continues,
    "bodies come back unchanged" => bodies,
    "numbers that do not follow are refused and nothing is written" => numbers_follow,
    "an append of nothing changes nothing" => empty_append,
    "a second writer is kept out, or fences the first" => one_writer,
    "dropping a writer gives its place up" => drop_releases,
    "the token grows from one writer to the next" => token_grows,
    "a run is readable while its writer lives" => read_beside_writer,
    "an append that is dropped leaves a prefix of its records" => cancelled_append,
    "runs are listed in ascending order" => listed,
    "runs do not mix" => runs_are_apart,
    "many runs can be written at once" => many_runs,
    "a deleted run is gone with its artifacts, and nothing else is" => deleted,
    "deleting a run that does not exist is no error" => delete_missing,
    "a run that has a writer is not deleted" => delete_busy,
    "a blob is read as it was put last" => blobs,
    "a blob that was never put is missing, not an error" => missing_blob,
    "blobs of different kinds do not mix" => blob_kinds,
    "blobs can be put while their run has a writer" => blobs_beside_runs,
}

async fn missing_run_is_empty(store: &dyn CheckpointStore) -> Verdict {
    same("the records", &answer("read", store.read(&id("none")).await)?, &vec![])?;
    same("the list of runs", &answer("list", store.list().await)?, &vec![])
}

async fn round_trip(store: &dyn CheckpointStore) -> Verdict {
    let mut log = acquire(store, "run").await?;
    same("the records of a new run", &log.take_records(), &vec![])?;
    append(&mut *log, &records(0..1)).await?;
    append(&mut *log, &records(1..70)).await?;
    append(&mut *log, &records(70..71)).await?;
    drop(log);
    expect_records(store, "run", &records(0..71)).await
}

async fn reacquire(store: &dyn CheckpointStore) -> Verdict {
    write(store, "run", &records(0..3)).await?;
    let mut log = acquire(store, "run").await?;
    same("the records at the second acquire", &log.take_records(), &records(0..3))?;
    same("the records of the second call", &log.take_records(), &vec![])
}

async fn continues(store: &dyn CheckpointStore) -> Verdict {
    write(store, "run", &records(0..3)).await?;
    write(store, "run", &records(3..5)).await?;
    write(store, "run", &records(5..6)).await?;
    expect_records(store, "run", &records(0..6)).await
}

async fn bodies(store: &dyn CheckpointStore) -> Verdict {
    let large = format!(r#"{{"x":"{}"}}"#, "0123456789abcdef".repeat(64 * 1024));
    let bodies = [
        "{}".to_owned(),
        r#"{ "b" : 1.50, "a":[null, true],"b":2 }"#.to_owned(),
        r#"{"x":"zażółć gęślą jaźń 🦀 日本語 \u0000 \\ \" \n"}"#.to_owned(),
        "{\"x\":\"\u{2028}\u{feff}\u{7f}'%s$1;--\"}".to_owned(),
        large,
        r#"{"after":"a large one"}"#.to_owned(),
    ];
    let all: Vec<_> = (0..).zip(bodies).map(|(seq, body)| Record { seq, body }).collect();
    write(store, "run", &all).await?;
    for (put, got) in all.iter().zip(answer("read", store.read(&id("run")).await)?) {
        if *put != got {
            return Err(format!("a body of {} bytes came back as {} others", put.body.len(), got.body.len()));
        }
    }
    let mut log = acquire(store, "run").await?;
    same("the number of records", &log.take_records().len(), &all.len())
}

async fn numbers_follow(store: &dyn CheckpointStore) -> Verdict {
    let mut log = acquire(store, "run").await?;
    refuse("a first record with number 1", ErrorKind::InvalidInput, log.append(&records(1..2)).await)?;
    append(&mut *log, &records(0..2)).await?;
    refuse("a number that was there", ErrorKind::InvalidInput, log.append(&records(1..2)).await)?;
    refuse("a number that is left out", ErrorKind::InvalidInput, log.append(&records(3..4)).await)?;
    let mut gap = records(2..5);
    gap.remove(1);
    refuse("a gap within an append", ErrorKind::InvalidInput, log.append(&gap).await)?;
    append(&mut *log, &records(2..3)).await?;
    drop(log);
    expect_records(store, "run", &records(0..3)).await
}

async fn empty_append(store: &dyn CheckpointStore) -> Verdict {
    let mut log = acquire(store, "run").await?;
    append(&mut *log, &[]).await?;
    append(&mut *log, &records(0..1)).await?;
    append(&mut *log, &[]).await?;
    drop(log);
    expect_records(store, "run", &records(0..1)).await
}

async fn one_writer(store: &dyn CheckpointStore) -> Verdict {
    let mut first = acquire(store, "run").await?;
    append(&mut *first, &records(0..1)).await?;
    match store.acquire(&id("run")).await {
        Err(error) if error.kind() == ErrorKind::RunBusy => {
            append(&mut *first, &records(1..2)).await?;
            expect_records(store, "run", &records(0..2)).await
        }
        Err(error) => Err(format!("a second acquire answered {:?}: {error}", error.kind())),
        Ok(mut second) => {
            same("the records of the second writer", &second.take_records(), &records(0..1))?;
            refuse("the first writer's append", ErrorKind::Fenced, first.append(&records(1..2)).await)?;
            let mut later = records(1..2);
            later[0].body = r#"{"by":"the second"}"#.to_owned();
            append(&mut *second, &later).await?;
            refuse("the first writer's append", ErrorKind::Fenced, first.append(&records(2..3)).await)?;
            expect_records(store, "run", &[records(0..1), later].concat()).await
        }
    }
}

async fn drop_releases(store: &dyn CheckpointStore) -> Verdict {
    for _ in 0..3 {
        drop(acquire(store, "run").await?);
    }
    write(store, "run", &records(0..1)).await?;
    expect_records(store, "run", &records(0..1)).await
}

async fn token_grows(store: &dyn CheckpointStore) -> Verdict {
    let mut last = None;
    for seq in 0..4 {
        let mut log = acquire(store, "run").await?;
        let token = log.token();
        if last >= Some(token) {
            return Err(format!("token {token} follows {}", last.unwrap_or_default()));
        }
        append(&mut *log, &records(seq..seq + 1)).await?;
        same("the token after an append", &log.token(), &token)?;
        last = Some(token);
    }
    Ok(())
}

async fn read_beside_writer(store: &dyn CheckpointStore) -> Verdict {
    let mut log = acquire(store, "run").await?;
    for seq in 0..3 {
        append(&mut *log, &records(seq..seq + 1)).await?;
        expect_records(store, "run", &records(0..seq + 1)).await?;
    }
    same("the list of runs", &answer("list", store.list().await)?, &vec![id("run")])
}

async fn cancelled_append(store: &dyn CheckpointStore) -> Verdict {
    let all = records(0..9);
    let mut log = acquire(store, "run").await?;
    append(&mut *log, &all[..1]).await?;
    // Never polled, so nothing of it may be written.
    drop(log.append(&all[1..9]));
    append(&mut *log, &all[1..2]).await?;
    // Polled once and dropped: some of it, from the front, may be written.
    let answered = log.append(&all[2..9]).now_or_never();
    drop(log);

    let got = acquire(store, "run").await?.take_records();
    let least = if matches!(answered, Some(Ok(()))) { 9 } else { 2 };
    if got.len() < least || !all.starts_with(&got) {
        return Err(format!("{} records are left, which are no prefix of what was appended", got.len()));
    }
    write(store, "run", &all[got.len()..]).await?;
    expect_records(store, "run", &all).await
}

async fn listed(store: &dyn CheckpointStore) -> Verdict {
    let mut expected = Vec::new();
    for name in ["b", "a", "a.b", "a-1", "10", "9", "A:1", "z_", "a.jsonl", "x.artifacts"] {
        write(store, name, &records(0..1)).await?;
        expected.push(id(name));
    }
    expected.sort();
    same("the list of runs", &answer("list", store.list().await)?, &expected)
}

async fn runs_are_apart(store: &dyn CheckpointStore) -> Verdict {
    let names = ["a", "a.b", "a-1", "a:1", "ab", "a.jsonl"];
    let mut logs = Vec::new();
    for name in names {
        logs.push(acquire(store, name).await?);
    }
    for (log, name) in logs.iter_mut().zip(names) {
        append(&mut **log, &named_records(name)).await?;
    }
    for name in names {
        expect_records(store, name, &named_records(name)).await?;
    }
    Ok(())
}

async fn many_runs(store: &dyn CheckpointStore) -> Verdict {
    let names: Vec<_> = (0..24).map(|number| format!("run-{number}")).collect();
    let writing = names.iter().map(async |name| {
        let mut log = acquire(store, name).await?;
        for record in named_records(name) {
            append(&mut *log, &[record]).await?;
        }
        Ok::<_, String>(())
    });
    try_join_all(writing).await?;
    for name in &names {
        expect_records(store, name, &named_records(name)).await?;
    }
    same("the number of runs", &answer("list", store.list().await)?.len(), &names.len())
}

async fn deleted(store: &dyn CheckpointStore) -> Verdict {
    let gone = artifact("gone", b"a large output");
    let stays = [artifact("stays", b"a large output"), reuse('1'), durations('1')];
    write(store, "gone", &records(0..3)).await?;
    write(store, "stays", &records(0..2)).await?;
    for key in stays.iter().chain([&gone]) {
        put(store, key, b"a large output").await?;
    }
    answer("delete", store.delete(&id("gone")).await)?;
    expect_records(store, "gone", &[]).await?;
    expect_blob(store, &gone, None).await?;
    same("the list of runs", &answer("list", store.list().await)?, &vec![id("stays")])?;
    expect_records(store, "stays", &records(0..2)).await?;
    for key in &stays {
        expect_blob(store, key, Some(b"a large output")).await?;
    }
    // The name is free again, from number 0.
    write(store, "gone", &records(0..1)).await?;
    expect_records(store, "gone", &records(0..1)).await
}

async fn delete_missing(store: &dyn CheckpointStore) -> Verdict {
    answer("delete", store.delete(&id("none")).await)?;
    same("the list of runs", &answer("list", store.list().await)?, &vec![])
}

async fn delete_busy(store: &dyn CheckpointStore) -> Verdict {
    let mut log = acquire(store, "run").await?;
    append(&mut *log, &records(0..1)).await?;
    refuse("deleting it", ErrorKind::RunBusy, store.delete(&id("run")).await)?;
    append(&mut *log, &records(1..2)).await?;
    expect_records(store, "run", &records(0..2)).await?;
    drop(log);
    answer("delete", store.delete(&id("run")).await)?;
    expect_records(store, "run", &[]).await
}

async fn blobs(store: &dyn CheckpointStore) -> Verdict {
    let every_byte: Vec<u8> = (0..=255).collect();
    let large = every_byte.repeat(4096);
    for contents in [&b"first"[..], b"", b"\n", b"{}\n", &every_byte, &large] {
        for key in [artifact("run", contents), reuse('a'), durations('a')] {
            put(store, &key, contents).await?;
            expect_blob(store, &key, Some(contents)).await?;
            put(store, &key, contents).await?;
            expect_blob(store, &key, Some(contents)).await?;
        }
    }
    Ok(())
}

async fn missing_blob(store: &dyn CheckpointStore) -> Verdict {
    put(store, &reuse('a'), b"another").await?;
    for key in [artifact("run", b"x"), reuse('b'), durations('a')] {
        expect_blob(store, &key, None).await?;
    }
    Ok(())
}

async fn blob_kinds(store: &dyn CheckpointStore) -> Verdict {
    let keys = [reuse('a'), durations('a'), reuse('b'), durations('b')];
    for (key, contents) in keys.iter().zip([b"1", b"2", b"3", b"4"]) {
        put(store, key, contents).await?;
    }
    for (key, contents) in keys.iter().zip([b"1", b"2", b"3", b"4"]) {
        expect_blob(store, key, Some(contents)).await?;
    }
    Ok(())
}

async fn blobs_beside_runs(store: &dyn CheckpointStore) -> Verdict {
    let key = artifact("run", b"an output");
    let mut log = acquire(store, "run").await?;
    put(store, &key, b"an output").await?;
    append(&mut *log, &records(0..1)).await?;
    drop(log);
    expect_blob(store, &key, Some(b"an output")).await?;
    same("the list of runs", &answer("list", store.list().await)?, &vec![id("run")])
}

fn id(name: &str) -> RunId {
    RunId::new(name).expect("the names of this module are run ids")
}

fn records(numbers: std::ops::Range<u64>) -> Vec<Record> {
    numbers.map(|seq| Record { seq, body: format!(r#"{{"number":{seq}}}"#) }).collect()
}

fn named_records(name: &str) -> Vec<Record> {
    (0..4).map(|seq| Record { seq, body: format!(r#"{{"{name}":{seq}}}"#) }).collect()
}

fn artifact(run: &str, contents: &[u8]) -> BlobKey {
    BlobKey::Artifact { run: id(run), sha256: digest::sha256(contents) }
}

fn reuse(digit: char) -> BlobKey {
    BlobKey::Reuse { key: String::from(digit).repeat(64) }
}

fn durations(digit: char) -> BlobKey {
    BlobKey::Durations { pipeline: String::from(digit).repeat(64) }
}

async fn acquire(store: &dyn CheckpointStore, run: &str) -> Result<Box<dyn RunLog>, String> {
    answer("acquire", store.acquire(&id(run)).await)
}

async fn append(log: &mut dyn RunLog, records: &[Record]) -> Verdict {
    answer("append", log.append(records).await)
}

async fn write(store: &dyn CheckpointStore, run: &str, records: &[Record]) -> Verdict {
    append(&mut *acquire(store, run).await?, records).await
}

async fn put(store: &dyn CheckpointStore, key: &BlobKey, contents: &[u8]) -> Verdict {
    answer("put_blob", store.put_blob(key, contents).await)
}

async fn expect_records(store: &dyn CheckpointStore, run: &str, expected: &[Record]) -> Verdict {
    let got = answer("read", store.read(&id(run)).await)?;
    same(&format!("the records of run {run}"), &got, &expected.to_vec())
}

async fn expect_blob(store: &dyn CheckpointStore, key: &BlobKey, expected: Option<&[u8]>) -> Verdict {
    let got = answer("get_blob", store.get_blob(key).await)?;
    if got.as_deref() == expected {
        return Ok(());
    }
    let size =
        |blob: Option<&[u8]>| blob.map_or("nothing".to_owned(), |blob| format!("{} bytes", blob.len()));
    Err(format!("{key:?} holds {}, not the {} put", size(got.as_deref()), size(expected)))
}

fn answer<T>(call: &str, answer: Result<T>) -> Result<T, String> {
    answer.map_err(|error| format!("{call} answered {:?}: {error}", error.kind()))
}

fn refuse<T>(what: &str, kind: ErrorKind, answer: Result<T>) -> Verdict {
    match answer {
        Err(error) if error.kind() == kind => Ok(()),
        Err(error) => Err(format!("{what} answered {:?}, not {kind:?}: {error}", error.kind())),
        Ok(_) => Err(format!("{what} was accepted")),
    }
}

fn same<T: PartialEq + Debug>(what: &str, got: &T, expected: &T) -> Verdict {
    if got == expected {
        return Ok(());
    }
    let short = |value: &T| {
        let text = format!("{value:?}");
        if text.len() <= 300 { text } else { format!("{}…", text.chars().take(300).collect::<String>()) }
    };
    Err(format!("{what}: {} instead of {}", short(got), short(expected)))
}
