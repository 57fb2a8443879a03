//! Signatures of versions, and what is refused without them.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};
use swarm_registry::testing::FakeClock;
use swarm_registry::{
    Action, Authorizer, Digest, ErrorKind, EventKind, MetricSource, ObjectVersionStore, Observed, Rollout,
    Signature, SignaturePolicy, SigningKey, Split, VerifyingKey, Version, VersionInfo, VersionRegistry,
    VersionStore, Window,
};

use crate::rollouts::start;

/// The build server and the person who releases.
fn keys() -> [SigningKey; 2] {
    let bytes: [u8; 32] = std::array::from_fn(|at| at as u8);
    [SigningKey::from_bytes(&bytes), SigningKey::from_bytes(&[7; 32])]
}

async fn guarded(store: &ObjectVersionStore, policy: SignaturePolicy) -> VersionRegistry {
    // Whoever waits for the lease of a driver that gave up waits in no time.
    let builder = VersionRegistry::builder().clock(Arc::new(FakeClock::hurried(start())));
    builder.require_signatures(policy).with_store(store.clone()).await.unwrap()
}

/// What Python's cryptography 48 makes of the same: see the recipe at `VersionInfo::statement`.
#[tokio::test]
async fn statements_and_signatures_are_those_of_another_implementation() {
    let registry = VersionRegistry::with_store(ObjectVersionStore::memory()).await.unwrap();
    let version = Version::new("v2.0")
        .artifact("the bytes")
        .metadata("z", json!([1, -2, true, null]))
        .metadata("build", json!({"host": "ci", "attempt": 9_007_199_254_740_993_u64}))
        .metadata("grüße", "a\"b\\c\n\u{1}/é")
        .metric("not_signed", 1.0);
    let version = registry.register(version).await.unwrap().version;
    let statement = concat!(
        "swarm-registry version 1\n",
        r#"{"digest":"sha256:ed589341c9fd5da96aaff4c5efa008226282a716186608d5a032ac75895a9c2f","id":"v2.0","#,
        r#""metadata":{"build":{"attempt":9007199254740993,"host":"ci"},"#,
        r#""grüße":"a\"b\\c\n\u0001/é","z":[1,-2,true,null]}}"#,
    );
    assert_eq!(version.statement(), statement);
    let [key, _] = keys();
    let public = "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8";
    assert_eq!(key.verifying_key().to_string(), public);
    assert_eq!(
        key.sign(&version).to_string(),
        "b654a635315af5899078859851a3aa4433d2844849774b8e3f6de285c788bfee\
         94bba89e6bc3cad544aab3efebf568bf6681f0b4a5bf50730047cede4756f30d"
    );
    assert_eq!(public.parse::<VerifyingKey>().unwrap(), key.verifying_key());
    for text in ["", "03", &public.to_uppercase(), &public.replace('0', "g")] {
        assert_eq!(text.parse::<VerifyingKey>().unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    assert!(!format!("{key:?}").contains("0001"), "the private half is not shown");
}

struct Nothing;

#[async_trait::async_trait]
impl MetricSource for Nothing {
    async fn observe(&self, _: &Window) -> Result<Observed, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Observed::new())
    }
}

#[tokio::test]
async fn no_verb_puts_an_unsigned_version_into_traffic() {
    let [key, _] = keys();
    let store = ObjectVersionStore::memory();
    let free = VersionRegistry::with_store(store.clone()).await.unwrap();
    for id in ["v1", "v2"] {
        free.register(Version::new(id).artifact(id)).await.unwrap();
    }
    free.deploy("staging", Split::all("v2")).await.unwrap();
    let registry = guarded(&store, SignaturePolicy::any_of([key.verifying_key()])).await;
    let v1 = registry.version("v1").await.unwrap();
    // Signed by another process, which this one hears of when it has to.
    free.add_signature("v1", &key.sign(&v1)).await.unwrap();
    registry.deploy("production", Split::all("v1")).await.unwrap();

    let before = registry.verify().await.unwrap();
    let half = Split::of([("v1", 50.0), ("v2", 50.0)]).unwrap();
    let plan = Rollout::new().weight(100.0);
    for refused in [
        registry.deploy("production", Split::all("v2")).await.map(drop),
        registry.deploy("production", half.clone()).await.map(drop),
        registry.deploy("production", Split::all("v1").pin("tester", "v2")).await.map(drop),
        registry.deploy("production", Split::all("v1").mirror("v2", 1.0).unwrap()).await.map(drop),
        registry.deploy_after("production", 1, half).await.map(drop),
        registry.promote("staging", "production").await.map(drop),
        registry.start_rollout("production", "v2", &plan).await.map(drop),
    ] {
        let error = refused.unwrap_err();
        assert_eq!((error.kind(), error.version()), (ErrorKind::Untrusted, Some("v2")), "{error}");
    }
    assert_eq!(registry.verify().await.unwrap(), before);

    // A rollout that someone without the policy began is not driven either.
    free.start_rollout("production", "v2", &plan).await.unwrap();
    let refused = registry.drive_rollout("production", &Nothing).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Untrusted);
    let v2 = registry.version("v2").await.unwrap();
    registry.add_signature("v2", &key.sign(&v2)).await.unwrap();
    registry.drive_rollout("production", &Nothing).await.unwrap();
    assert_eq!(registry.deployment("production").await.unwrap().sole_version(), Some("v2"));

    // Back always goes, also to what nobody trusts any more.
    let [_, other] = keys();
    let strict = guarded(&store, SignaturePolicy::any_of([other.verifying_key()])).await;
    assert_eq!(strict.rollback("production").await.unwrap().sole_version(), Some("v1"));
    let forward = strict.deploy("production", Split::all("v1")).await.unwrap_err();
    assert_eq!(forward.kind(), ErrorKind::Untrusted);
}

#[tokio::test]
async fn a_rollout_over_a_baseline_that_is_not_trusted_is_refused_when_it_is_begun() {
    let [key, _] = keys();
    let store = ObjectVersionStore::memory();
    let free = VersionRegistry::with_store(store.clone()).await.unwrap();
    for id in ["v1", "v2"] {
        free.register(Version::new(id).artifact(id)).await.unwrap();
    }
    free.deploy("production", Split::all("v1")).await.unwrap();
    let registry = guarded(&store, SignaturePolicy::any_of([key.verifying_key()])).await;
    let v2 = registry.version("v2").await.unwrap();
    registry.add_signature("v2", &key.sign(&v2)).await.unwrap();
    let refused = registry.start_rollout("production", "v2", &Rollout::new().weight(20.0)).await.unwrap_err();
    assert_eq!((refused.kind(), refused.version()), (ErrorKind::Untrusted, Some("v1")), "{refused}");
    // One that leaves it at once is not.
    registry.start_rollout("production", "v2", &Rollout::new().weight(100.0)).await.unwrap();
    registry.drive_rollout("production", &Nothing).await.unwrap();
    assert_eq!(registry.deployment("production").await.unwrap().sole_version(), Some("v2"));
    // The way back is open all the same, and it is the only one.
    registry.rollback("production").await.unwrap();
    assert_eq!(registry.deployment("production").await.unwrap().sole_version(), Some("v1"));
    let again = registry.deploy("production", Split::all("v1")).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Untrusted);
}

#[tokio::test]
async fn a_policy_that_asks_for_no_signature_asks_for_one() {
    let [key, _] = keys();
    let policy = SignaturePolicy::any_of([key.verifying_key()]).at_least(0);
    let registry = guarded(&ObjectVersionStore::memory(), policy).await;
    registry.register(Version::new("v1").artifact("1")).await.unwrap();
    let refused = registry.deploy("production", Split::all("v1")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Untrusted);
}

#[tokio::test]
async fn a_policy_counts_different_keys_that_it_knows() {
    let [build, release] = keys();
    let stranger = SigningKey::generate().unwrap();
    let both = [build.verifying_key(), release.verifying_key()];
    let registry = guarded(&ObjectVersionStore::memory(), SignaturePolicy::any_of(both).at_least(2)).await;
    let version = registry.register(Version::new("v1").artifact("1")).await.unwrap().version;
    registry.add_signature("v1", &build.sign(&version)).await.unwrap();
    let head = registry.verify().await.unwrap();
    registry.add_signature("v1", &build.sign(&version)).await.unwrap();
    assert_eq!(registry.verify().await.unwrap(), head, "the same key again changes nothing");
    registry.add_signature("v1", &stranger.sign(&version)).await.unwrap();
    let refused = registry.deploy("production", Split::all("v1")).await.unwrap_err();
    assert!(refused.to_string().contains("1 of the 2 trusted signatures"), "{refused}");
    registry.add_signature("v1", &release.sign(&version)).await.unwrap();
    registry.deploy("production", Split::all("v1")).await.unwrap();
    assert_eq!(registry.version("v1").await.unwrap().signatures().count(), 3);
    let signed = registry.history(1).await.unwrap();
    let signed = signed
        .iter()
        .filter(|event| matches!(&event.kind, EventKind::VersionSigned { version, .. } if version == "v1"));
    assert_eq!(signed.count(), 3);
}

#[tokio::test]
async fn a_signature_of_anything_else_is_not_taken() {
    let [key, other] = keys();
    let registry = VersionRegistry::with_store(ObjectVersionStore::memory()).await.unwrap();
    let mut versions: Vec<Arc<VersionInfo>> = Vec::new();
    for version in [
        Version::new("v1").artifact("1").metadata("k", 1),
        Version::new("v2").artifact("1").metadata("k", 1),
        Version::new("v3").artifact("1").metadata("k", 2),
        Version::new("v4").artifact("2").metadata("k", 1),
    ] {
        versions.push(registry.register(version).await.unwrap().version);
    }
    let good = key.sign(&versions[0]);
    let mut wrong: Vec<Signature> = versions[1..].iter().map(|version| key.sign(version)).collect();
    // Every bit of the signature, and the key of somebody else.
    for bit in 0..512 {
        let mut bytes = good.to_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        wrong.push(Signature::new(key.verifying_key(), bytes));
    }
    wrong.push(Signature::new(other.verifying_key(), good.to_bytes()));
    wrong.push(Signature::new(VerifyingKey::from_bytes([0xff; 32]), good.to_bytes()));
    // The key of small order that vouches for everything, where nobody looks.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let mut empty = [0; 64];
    empty[0] = 1;
    wrong.push(Signature::new(VerifyingKey::from_bytes(neutral), empty));
    for signature in &wrong {
        let error = registry.add_signature("v1", signature).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{signature}");
    }
    registry.add_signature("v1", &good).await.unwrap();
    assert_eq!(registry.add_signature("v9", &good).await.unwrap_err().kind(), ErrorKind::NotFound);
}

/// Writes the log anew with what `edit` makes of each record, so that every digest and the whole chain are right again:
/// what someone can do who may write to the store.
async fn forge(store: &ObjectVersionStore, edit: impl Fn(&mut Value)) {
    let mut previous = String::new();
    for name in store.list("log", "").await.unwrap() {
        let bytes = store.get(&name).await.unwrap().unwrap();
        let line = std::str::from_utf8(&bytes).unwrap().lines().next().unwrap();
        let mut record: Value = serde_json::from_str(line).unwrap();
        edit(&mut record);
        record["previous"] = previous.into();
        let line = record.to_string();
        previous = Digest::of(line.as_bytes()).to_string();
        let seal = Digest::of(format!("{line}\n").as_bytes());
        store.put(&name, format!("{line}\n{{\"digest\":\"{seal}\"}}\n").into()).await.unwrap();
    }
}

#[tokio::test]
async fn a_log_that_was_forged_with_all_its_digests_gets_no_traffic() {
    let [key, stranger] = keys();
    let policy = SignaturePolicy::any_of([key.verifying_key()]);
    let evil = Digest::of(b"evil bytes").to_string();
    type Edit = Box<dyn Fn(&mut Value)>;
    let forgeries: Vec<(&str, Edit)> = vec![
        (
            "digest",
            Box::new(move |record| {
                if let Some(registered) = record["change"].get_mut("registered") {
                    registered["digest"] = evil.clone().into();
                }
            }),
        ),
        (
            "metadata",
            Box::new(|record| {
                if let Some(registered) = record["change"].get_mut("registered") {
                    registered["metadata"]["reviewed"] = true.into();
                }
            }),
        ),
        (
            "id",
            Box::new(|record| {
                if let Some(registered) = record["change"].get_mut("registered") {
                    registered["id"] = "v9".into();
                }
                if let Some(signed) = record["change"].get_mut("signed") {
                    signed["version"] = "v9".into();
                }
            }),
        ),
        (
            "signature",
            Box::new(|record| {
                if let Some(signed) = record["change"].get_mut("signed") {
                    signed["signature"] = "00".repeat(64).into();
                }
            }),
        ),
        (
            "key",
            Box::new(move |record| {
                if let Some(signed) = record["change"].get_mut("signed") {
                    signed["key"] = stranger.verifying_key().to_string().into();
                }
            }),
        ),
        (
            "nonsense",
            Box::new(|record| {
                if let Some(signed) = record["change"].get_mut("signed") {
                    signed["signature"] = "é".into();
                }
            }),
        ),
    ];
    for (what, edit) in forgeries {
        let store = ObjectVersionStore::memory();
        let registry = VersionRegistry::with_store(store.clone()).await.unwrap();
        let version = Version::new("v1").artifact("bytes").metadata("reviewed", false);
        let version = registry.register(version).await.unwrap().version;
        registry.add_signature("v1", &key.sign(&version)).await.unwrap();

        forge(&store, |_| {}).await;
        guarded(&store, policy.clone()).await.deploy("other", Split::all("v1")).await.unwrap();
        forge(&store, &*edit).await;
        if what == "digest" {
            for object in store.list("artifacts", "").await.unwrap() {
                store.put(&object, "evil bytes".into()).await.unwrap();
            }
            let deceived = VersionRegistry::with_store(store.clone()).await.unwrap();
            deceived.verify().await.expect("the chain alone does not find it");
        }
        let registry = guarded(&store, policy.clone()).await;
        let id = if what == "id" { "v9" } else { "v1" };
        let error = registry.deploy("production", Split::all(id)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Untrusted, "{what}");
    }
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// Until the format is released, `SWARM_WRITE_FIXTURES=1` writes the fixture anew.
#[tokio::test]
async fn signatures_of_format_1_are_read_as_they_were_written() {
    let [key, _] = keys();
    if std::env::var_os("SWARM_WRITE_FIXTURES").is_some() {
        let builder = VersionRegistry::builder().clock(Arc::new(FakeClock::new(start())));
        let registry = builder.with_store(ObjectVersionStore::memory()).await.unwrap();
        let version = Version::new("v1").artifact("bytes").metadata("reviewed", true);
        let version = registry.register(version).await.unwrap().version;
        registry.add_signature("v1", &key.sign(&version)).await.unwrap();
        registry.backup(path("signatures-v1")).await.unwrap();
    }
    let store = ObjectVersionStore::memory();
    VersionRegistry::restore(path("signatures-v1"), store.clone()).await.unwrap();
    let registry = guarded(&store, SignaturePolicy::any_of([key.verifying_key()])).await;
    registry.deploy("production", Split::all("v1")).await.unwrap();
}

/// Lets everybody do everything but sign.
struct NoSigning;

impl Authorizer for NoSigning {
    fn authorize(&self, _: Option<&str>, action: Action, target: &str) -> Result<(), String> {
        match action {
            Action::Sign => Err(format!("{target} is signed by others")),
            _ => Ok(()),
        }
    }
}

#[tokio::test]
async fn a_signature_asks_the_authorizer() {
    let [key, _] = keys();
    let builder = VersionRegistry::builder().authorizer(Arc::new(NoSigning));
    let registry = builder.with_store(ObjectVersionStore::memory()).await.unwrap();
    let version = registry.register(Version::new("v1").artifact("1")).await.unwrap().version;
    let error = registry.add_signature("v1", &key.sign(&version)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert_eq!(registry.version("v1").await.unwrap().signatures().count(), 0);
}
