//! A provider of secrets for Vault's KV version 2: `${vault:app/db#password}` in a configuration.
//!
//! `cargo run --release -p swarm-examples --example 18_config_vault`
//!
//! Runs against a real server where `bao` (OpenBao) or `vault` is in the PATH, started in development mode for the
//! moment, and otherwise against a few lines that answer as it does; it says which. A reload takes a new version in, the
//! server's answers stay out of errors, and the conformance kit has nothing against the provider.
#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use swarm_config::testing::conformance;
use swarm_config::{Config, ConfigLoader, ErrorKind, Format, Secret, SecretError, SecretProvider};

#[path = "vault/server.rs"]
mod server;

struct Vault {
    agent: ureq::Agent,
    address: String,
    token: Secret<String>,
}

impl Vault {
    fn new(address: &str, token: &str) -> Vault {
        let agent = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(5))).build().into();
        Vault { agent, address: address.to_owned(), token: Secret::new(token.to_owned()) }
    }
}

impl SecretProvider for Vault {
    /// `app/db#password` is the field `password` of the secret `app/db` in the mount `secret`.
    fn get(&self, reference: &str) -> Result<Secret<String>, SecretError> {
        let (path, field) =
            reference.split_once('#').ok_or(SecretError::Malformed("`path#field` is needed"))?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "/_-".contains(c);
        if path.is_empty() || !path.chars().all(plain) {
            return Err(SecretError::Malformed("a path is of letters, digits, `/`, `_` and `-`"));
        }
        let request = self.agent.get(format!("{}/v1/secret/data/{path}", self.address));
        let answer = request.header("X-Vault-Token", self.token.expose().as_str()).call();
        let mut answer = answer.map_err(|error| match error {
            ureq::Error::StatusCode(404) => SecretError::NotFound,
            ureq::Error::StatusCode(401 | 403) => SecretError::Denied("the token may not read it"),
            ureq::Error::StatusCode(_) => SecretError::Unavailable("the server refuses"),
            _ => SecretError::Unavailable("the server does not answer"),
        })?;
        let body: Value =
            answer.body_mut().read_json().map_err(|_| SecretError::Unusable("the answer is not JSON"))?;
        match &body["data"]["data"][field] {
            Value::String(text) => Ok(Secret::new(text.clone())),
            Value::Null => Err(SecretError::NotFound),
            _ => Err(SecretError::Unusable("the field is not a text")),
        }
    }
}

#[derive(Deserialize, Debug)]
struct Settings {
    user: String,
    password: Secret<String>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = server::start()?;
    println!("the server: {}", server.name);
    let write = |password: &str| {
        let body = json!({ "data": { "user": "app", "password": password } });
        let url = format!("{}/v1/secret/data/app/db", server.address);
        ureq::post(url).header("X-Vault-Token", server::TOKEN).send_json(body)
    };
    write("first")?;

    let loader = |token: &str, text: &str| {
        let provider = Vault::new(&server.address, token);
        ConfigLoader::new().text("app.toml", Format::Toml, text).secret_provider("vault", provider)
    };
    let text = "user = '${vault:app/db#user}'\npassword = '${vault:app/db#password}'";
    let config: Config<Settings> = loader(server::TOKEN, text).load()?;
    assert_eq!((config.get().user.as_str(), config.get().password.expose().as_str()), ("app", "first"));
    println!("{:?}\n{}", *config.get(), config.explain("password")?);

    write("second")?;
    let changes = config.reload()?;
    println!("rotated: {}", changes[0]);
    assert_eq!(config.get().password.expose(), "second");

    // The contract of a provider, as the crate states it.
    let known = [("app/db#password", "second"), ("app/db#user", "app")];
    let report =
        conformance::check(&Vault::new(&server.address, server::TOKEN), &known, "app/nothing#password");
    println!("{report}");
    assert!(report.is_ok());

    for (token, reference, retryable) in [
        ("of-nobody", "app/db#password", false),
        (server::TOKEN, "app/nothing#password", false),
        (server::TOKEN, "app/db", false),
    ] {
        let error = loader(token, &format!("password = '${{vault:{reference}}}'"))
            .load_tree()
            .err()
            .ok_or("no error")?;
        println!("refused: {error}");
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Secret, retryable));
    }
    let address = server.address.clone();
    drop(server);
    let gone = ConfigLoader::new()
        .text("app.toml", Format::Toml, text)
        .secret_provider("vault", Vault::new(&address, server::TOKEN))
        .load_tree();
    assert!(gone.is_err_and(|error| error.is_retryable()));
    Ok(())
}
