//! Notifiers against a real TLS server, whose certificate an authority made for the test vouches for.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;
use swarm_monitor::{Endpoint, Webhook};

use crate::notify::told;
use crate::programs::{program, python_with};

const CONFIG: &str = "
[req]
distinguished_name = name
x509_extensions = authority
prompt = no
[name]
CN = for a test
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
subjectAltName = DNS:localhost
extendedKeyUsage = serverAuth
";

/// Says its port, and then the path and the headers of each request.
const SERVER: &str = "
import http.server, json, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers['content-length']))
        headers = {name.lower(): value for name, value in self.headers.items()}
        print(json.dumps([self.path, headers]), flush=True)
        self.send_response(200)
        self.send_header('content-length', '0')
        self.end_headers()
    def log_message(self, *_):
        pass
server = http.server.HTTPServer(('127.0.0.1', 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
server.serve_forever()
";

/// A TLS server of its own, gone with this.
struct Server {
    child: Child,
    port: u16,
    said: std::io::Lines<BufReader<ChildStdout>>,
}

impl Server {
    fn start(python: &Path, folder: &Path) -> Self {
        let mut child = Command::new(python)
            .args(["-c", SERVER])
            .args([folder.join("server.pem"), folder.join("server.key")])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = said.next().unwrap().unwrap().parse().unwrap();
        Server { child, port, said }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes `NAME.pem`, of an authority, and its key.
fn authority(openssl: &Path, folder: &Path, name: &str) {
    let config = folder.join("config");
    std::fs::write(&config, CONFIG).unwrap();
    run(Command::new(openssl)
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
        .args(["-days", "2", "-keyout", &format!("{name}.key"), "-out", &format!("{name}.pem")])
        .args(["-config", "config"])
        .current_dir(folder));
}

/// Makes `server.pem` for the name `localhost`, which `ca.pem` vouches for.
fn server(openssl: &Path, folder: &Path) {
    run(Command::new(openssl)
        .args(["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
        .args(["-keyout", "server.key", "-out", "server.csr", "-config", "config"])
        .current_dir(folder));
    run(Command::new(openssl)
        .args(["x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "2"])
        .args(["-CAcreateserial", "-extfile", "config", "-extensions", "server", "-out", "server.pem"])
        .current_dir(folder));
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn a_server_is_trusted_by_the_authority_that_was_given_and_by_no_other() {
    let (Some(openssl), Some(python)) = (program("openssl"), python_with("ssl", "ssl")) else { return };
    let folder = tempfile::tempdir().unwrap();
    authority(&openssl, folder.path(), "ca");
    authority(&openssl, folder.path(), "other");
    server(&openssl, folder.path());
    let (ca, other) = (folder.path().join("ca.pem"), folder.path().join("other.pem"));
    let (ca, other) = (std::fs::read(ca).unwrap(), std::fs::read(other).unwrap());
    let mut server = Server::start(&python, folder.path());
    let at = |host: &str| {
        let url = format!("https://{host}:{}/TOKEN", server.port);
        Endpoint::new(&url).unwrap().allow_private().header("x-api-key", "SECRET").unwrap()
    };
    for (endpoint, says) in [
        (at("localhost"), "no TLS with localhost: invalid peer certificate: UnknownIssuer"),
        (at("localhost").trust(&other).unwrap(), "no TLS with localhost: invalid peer certificate: "),
        (at("127.0.0.1").trust(&ca).unwrap(), "certificate not valid for name"),
    ] {
        let error = told(&Webhook::new(endpoint)).await.unwrap_err();
        assert!(error.to_string().contains(says) && error.is_retryable(), "{error}");
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("TOKEN") && !shown.contains("SECRET"), "{shown}");
    }
    // Of a damaged one nobody learns only when nothing arrives.
    let damaged = String::from_utf8(ca.clone()).unwrap();
    let damaged = damaged.lines().enumerate().filter(|(at, _)| *at != 2).map(|(_, line)| format!("{line}\n"));
    let error = at("localhost").trust(damaged.collect::<String>()).unwrap_err();
    assert!(error.to_string().ends_with("has a certificate that is damaged"), "{error}");
    for endpoint in [
        at("localhost").trust(&ca).unwrap(),
        at("localhost").trust(&other).unwrap().trust(&ca).unwrap(),
        at("localhost").trust([other.clone(), ca.clone()].concat()).unwrap().bearer("token").unwrap(),
    ] {
        told(&Webhook::new(endpoint)).await.unwrap();
        let request: Value = serde_json::from_str(&server.said.next().unwrap().unwrap()).unwrap();
        assert_eq!((&request[0], &request[1]["x-api-key"]), (&"/TOKEN".into(), &"SECRET".into()));
    }
}

#[tokio::test]
async fn a_header_is_sent_once_and_the_last_one_holds() {
    let server = crate::notify::Server::answering(&[crate::notify::ok]);
    let endpoint = Endpoint::new(&server.url("/")).unwrap().allow_private();
    let endpoint = endpoint.bearer("first").unwrap().header("Authorization", "Basic second").unwrap();
    let endpoint = endpoint.header("X-Api-Key", "1").unwrap().header("x-api-key", "2").unwrap();
    // What the notifier says itself is not replaced.
    told(&Webhook::new(endpoint.clone().header("webhook-id", "mine").unwrap())).await.unwrap();
    let request = server.next();
    assert_eq!(request.all("authorization"), ["Basic second"]);
    assert_eq!(request.all("x-api-key"), ["2"]);
    assert!(request.all("webhook-id").len() == 1 && request.all("webhook-id") != ["mine"]);
    // A token takes the place of the header, and one that no header can hold leaves it.
    assert!(endpoint.clone().bearer("TOKEN\r\nx: y").is_err());
    told(&Webhook::new(endpoint.bearer("third").unwrap())).await.unwrap();
    assert_eq!(server.next().all("authorization"), ["Bearer third"]);
}
