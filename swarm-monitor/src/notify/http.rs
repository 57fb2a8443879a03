use std::fmt;
use std::io;
use std::time::Duration;

use chrono::DateTime;
use ureq::config::Config;
use ureq::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use ureq::http::{StatusCode, Uri};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Error as HttpError};

use crate::error::{Error, Result};
use crate::notify::NotifyError;
use crate::notify::http::reach::{Forbidden, Guarded};

mod reach;

/// An address that notifiers and exporters post to, and how (feature `http`). It may hold a token, and is never shown but for its host.
///
/// A redirect is not followed. Of an answer the status and at most 64 KiB of headers are read, and of its body nothing, or as much again
/// where something is to be learned from it. No proxy is used, so that the addresses that were looked up and checked are those that are
/// connected to.
///
/// ```
/// use std::time::Duration;
/// use swarm_monitor::{Alertmanager, Endpoint, Slack};
///
/// let slack = Slack::new(Endpoint::new("https://hooks.slack.com/services/T/B/TOKEN")?);
/// let inside = Endpoint::new("http://alertmanager:9093")?.allow_private().time_out(Duration::from_secs(3));
/// let alertmanager = Alertmanager::new(inside);
/// # Ok::<(), swarm_monitor::Error>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct Endpoint {
    url: String,
    host: String,
    private: bool,
    time_out: Duration,
    headers: HeaderMap,
    /// Mozilla's where it is `None`.
    trusted: Option<RootCerts>,
    agent: Agent,
}

impl Endpoint {
    /// This address, which is treated as a secret.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for what is no `http` or `https` address, or has a user in it.
    pub fn new(url: &str) -> Result<Self> {
        // Not the parser's own words, which may have the URL in them.
        let wrong = |what: &str| Error::input(format!("a notifier's address {what}"));
        let uri: Uri = url.parse().map_err(|_| wrong("is a URL"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(wrong("begins with https:// or http://"));
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| wrong("has a host"))?;
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(wrong("has no user and password: use a bearer token or a header"));
        }
        let (private, time_out) = (false, Duration::from_secs(10));
        Ok(Endpoint {
            url: url.to_owned(),
            host: host.to_owned(),
            private,
            time_out,
            headers: HeaderMap::new(),
            trusted: None,
            agent: agent(private, time_out, None),
        })
    }

    /// Allows addresses of this machine and of private networks. Link-local ones are never told anything.
    pub fn allow_private(mut self) -> Self {
        self.private = true;
        self.prepared()
    }

    /// How long a request may take from looking up the address to the answer's status: 10 seconds by default.
    pub fn time_out(mut self, time_out: Duration) -> Self {
        self.time_out = time_out;
        self.prepared()
    }

    /// Sends this token as `Authorization: Bearer`, in place of one that was set before.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for one that no header can hold.
    pub fn bearer(self, token: &str) -> Result<Self> {
        self.header(header::AUTHORIZATION.as_str(), &format!("Bearer {token}"))
    }

    /// Sends this header with every request, in place of one with the same name. Its value is treated as a secret.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for what is no header, and for those that each request has of its own: `Host`,
    /// `Connection`, `Content-Type`, `Content-Length` and `Transfer-Encoding`.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self> {
        let given: HeaderName =
            name.parse().map_err(|_| Error::input(format!("{name:?} is no name of a header")))?;
        let own = [
            header::HOST,
            header::CONNECTION,
            header::CONTENT_TYPE,
            header::CONTENT_LENGTH,
            header::TRANSFER_ENCODING,
        ];
        if own.contains(&given) {
            return Err(Error::input(format!("the header {given} is the request's own")));
        }
        // Without the value, in which nobody should see the one byte that is wrong.
        let mut value = HeaderValue::from_str(value)
            .map_err(|_| Error::input(format!("the header {given} has a value that no header can have")))?;
        value.set_sensitive(true);
        self.headers.insert(given, value);
        Ok(self)
    }

    /// Trusts servers whose certificates these root certificates vouch for, and no others: a certificate authority of your own. Called
    /// again, the ones of all calls. Without, Mozilla's are trusted.
    ///
    /// `pem` has any number of certificates, as a file `ca.pem` has; other items in it are passed over.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if there is no certificate in it, or it is damaged.
    pub fn trust(mut self, pem: impl AsRef<[u8]>) -> Result<Self> {
        let wrong = |what: &str| Error::input(format!("what {} is to trust {what}", self.host));
        let mut trusted: Vec<Certificate<'static>> = match &self.trusted {
            Some(RootCerts::Specific(before)) => before.to_vec(),
            _ => Vec::new(),
        };
        let before = trusted.len();
        for item in parse_pem(pem.as_ref()) {
            if let PemItem::Certificate(certificate) = item.map_err(|_| wrong("is not PEM"))? {
                // The client itself passes over what it cannot read.
                webpki::anchor_from_trusted_cert(&certificate.der().into())
                    .map_err(|_| wrong("has a certificate that is damaged"))?;
                trusted.push(certificate);
            }
        }
        if trusted.len() == before {
            return Err(wrong("has no certificate in it"));
        }
        self.trusted = Some(RootCerts::from(trusted));
        Ok(self.prepared())
    }

    /// With the client for its options.
    fn prepared(mut self) -> Self {
        self.agent = agent(self.private, self.time_out, self.trusted.clone());
        self
    }

    /// The same with `path` at the end of its address, in front of a query.
    pub(crate) fn at(mut self, path: &str) -> Self {
        let (address, query) = self.url.split_at(self.url.find('?').unwrap_or(self.url.len()));
        self.url = format!("{}{path}{query}", address.trim_end_matches('/'));
        self
    }

    /// Posts JSON, on a thread where blocking is allowed.
    pub(crate) async fn post(
        &self,
        body: Vec<u8>,
        headers: Vec<(&'static str, String)>,
    ) -> Result<(), NotifyError> {
        let answer = self.send("application/json", body, headers, 0).await?;
        match answer.status.as_u16() {
            200..=299 => Ok(()),
            408 | 425 | 429 | 500..=599 => Err(self.busy(&answer)),
            _ => Err(self.refused(&answer)),
        }
    }

    /// Posts a body of this type, and reads at most `most` bytes of the answer's.
    pub(crate) async fn send(
        &self,
        kind: &'static str,
        body: Vec<u8>,
        headers: Vec<(&'static str, String)>,
        most: u64,
    ) -> Result<Answer, NotifyError> {
        let endpoint = self.clone();
        let sent = tokio::task::spawn_blocking(move || endpoint.send_blocking(kind, &body, headers, most));
        sent.await.unwrap_or_else(|_| Err(NotifyError::later("the request panicked")))
    }

    fn send_blocking(
        &self,
        kind: &'static str,
        body: &[u8],
        headers: Vec<(&'static str, String)>,
        most: u64,
    ) -> Result<Answer, NotifyError> {
        let mut request = self.agent.post(&self.url);
        if let Some(all) = request.headers_mut() {
            all.clone_from(&self.headers);
            // What the caller sends is signed or read by others, and is not replaced.
            headers.iter().for_each(|(name, _)| drop(all.remove(*name)));
        }
        request = request.header(header::CONTENT_TYPE, kind);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let mut answer = request.send(body).map_err(|error| self.failure(&error))?;
        let read = match most {
            0 => Vec::new(),
            // One that is longer, or breaks off, says nothing that could be relied on.
            most => answer.body_mut().with_config().limit(most).read_to_vec().unwrap_or_default(),
        };
        let text = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
        Ok(Answer {
            status: answer.status(),
            kind: text(header::CONTENT_TYPE).unwrap_or_default().to_owned(),
            retry_after: pause(text(header::RETRY_AFTER), text(header::DATE)),
            body: read,
        })
    }

    /// Whether something of what only the receiver is to know is in this: the value of a header, also without its scheme, or a part of the
    /// address that is long enough for a token.
    #[cfg(feature = "otlp")]
    pub(crate) fn is_given_away_by(&self, text: &[u8]) -> bool {
        const SHORTEST: usize = 8;
        let headers = self.headers.values().filter_map(|value| value.to_str().ok());
        let values =
            headers.flat_map(|value| [value, value.split_once(' ').map_or("", |(_, key)| key.trim())]);
        let address = self.url.split_once("://").map_or("", |(_, rest)| rest);
        let parts = address.split(['/', '?', '&', '=', '#']).skip(1).filter(|part| part.len() >= SHORTEST);
        values
            .chain(parts)
            .filter(|secret| !secret.is_empty())
            .any(|secret| text.windows(secret.len()).any(|part| part.eq_ignore_ascii_case(secret.as_bytes())))
    }

    /// That an answer asks for another try.
    pub(crate) fn busy(&self, answer: &Answer) -> NotifyError {
        let error = NotifyError::later(format!("{} answers {}", self.host, answer.status));
        match answer.retry_after {
            Some(pause) => error.after(pause),
            None => error,
        }
    }

    /// That another try would be answered in the same way.
    pub(crate) fn refused(&self, answer: &Answer) -> NotifyError {
        let also = if answer.status.is_redirection() { ", and redirects are not followed" } else { "" };
        NotifyError::never(format!("{} answers {}{also}", self.host, answer.status))
    }

    /// In words without the URL.
    fn failure(&self, error: &HttpError) -> NotifyError {
        let host = &self.host;
        match error {
            HttpError::Other(other) if other.is::<Forbidden>() => {
                NotifyError::never(format!("{host} {other}"))
            }
            HttpError::Timeout(_) => {
                NotifyError::later(format!("no answer from {host} in {:?}", self.time_out))
            }
            HttpError::HostNotFound => NotifyError::later(format!("no address of {host} is known")),
            HttpError::ConnectionFailed => NotifyError::later(format!("{host} cannot be reached")),
            // Of TLS what is wrong with a certificate; there is no secret in it.
            HttpError::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
                NotifyError::later(format!("no TLS with {host}: {error}"))
            }
            HttpError::Io(error) => NotifyError::later(format!("no connection to {host}: {}", error.kind())),
            HttpError::Rustls(_) | HttpError::Tls(_) => NotifyError::later(format!("no TLS with {host}")),
            HttpError::LargeResponseHeader(..) => NotifyError::later(format!("{host} answers with too much")),
            HttpError::Http(_) => NotifyError::never(format!("what is to be told to {host} is no request")),
            _ => NotifyError::later(format!("{host} does not speak HTTP")),
        }
    }
}

/// What came back of a request.
#[derive(Debug)]
#[cfg_attr(not(feature = "otlp"), expect(dead_code, reason = "notifiers want to know of no body"))]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// Of its body.
    pub(crate) kind: String,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: Vec<u8>,
}

/// Neither the path, which may have a token in it, nor what is in headers.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("host", &self.host)
            .field("private", &self.private)
            .field("time_out", &self.time_out)
            .finish_non_exhaustive()
    }
}

/// How long an answer asks to wait: seconds, or until a time, which is told by the clock that the answer's own time is told by.
fn pause(retry_after: Option<&str>, date: Option<&str>) -> Option<Duration> {
    let time = |text: &str| DateTime::parse_from_rfc2822(text).ok();
    let after = retry_after?;
    match after.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => (time(after)? - time(date?)?).to_std().ok(),
    }
}

fn agent(private: bool, time_out: Duration, trusted: Option<RootCerts>) -> Agent {
    let roots = trusted.unwrap_or(RootCerts::WebPki);
    let config = Config::builder()
        .tls_config(TlsConfig::builder().root_certs(roots).build())
        .timeout_global(Some(time_out))
        .max_redirects(0)
        .http_status_as_error(false)
        .max_response_header_size(64 << 10)
        .proxy(None)
        .user_agent(concat!("swarm-monitor/", env!("CARGO_PKG_VERSION")))
        .build();
    Agent::with_parts(config, DefaultConnector::default(), Guarded::new(private))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_cannot_be_used_is_refused_without_being_shown() {
        for url in [
            "",
            "no url TOKEN",
            "ftp://example.com/TOKEN",
            "/TOKEN",
            "https://user:TOKEN@example.com/",
            "https:///TOKEN",
        ] {
            let error = Endpoint::new(url).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("TOKEN"), "{error:?}");
        }
        let endpoint = Endpoint::new("https://hooks.example.com/T/TOKEN?key=TOKEN").unwrap();
        let endpoint = endpoint.bearer("TOKEN").unwrap().header("x-api-key", "TOKEN").unwrap();
        assert!(!format!("{endpoint:?}").contains("TOKEN"));
    }

    #[test]
    fn a_header_that_cannot_be_sent_is_refused_without_being_shown() {
        let endpoint = Endpoint::new("https://example.com/").unwrap();
        for (name, value, says) in [
            ("a b", "x", "\"a b\" is no name of a header"),
            ("", "x", "\"\" is no name of a header"),
            ("x-api-key", "TOKEN\r\nx: y", "the header x-api-key has a value that no header can have"),
            ("x-api-key", "TOKEN é\u{7f}", "the header x-api-key has a value that no header can have"),
            ("Content-Length", "5", "the header content-length is the request's own"),
            ("host", "inside", "the header host is the request's own"),
        ] {
            let error = endpoint.clone().header(name, value).unwrap_err();
            assert_eq!(error.to_string(), says);
        }
        let error = endpoint.clone().bearer("TOKEN\r\nx: y").unwrap_err();
        assert_eq!(error.to_string(), "the header authorization has a value that no header can have");
    }

    #[test]
    #[cfg(feature = "otlp")]
    fn a_text_gives_away_what_it_repeats() {
        let endpoint = Endpoint::new("https://example.com/api/T0KEN-IN-PATH/x?key=K3Y-IN-QUERY&a=b").unwrap();
        let endpoint = endpoint.bearer("T0KEN").unwrap().header("x-key", "K3Y").unwrap().at("/v1/metrics");
        for (text, expected) in [
            ("", false),
            ("example.com: no Bearer of a token for /v1/metrics at /api/x?a=b", false),
            ("no such token: T0KEN!", true),
            ("authorization: bearer t0ken", true),
            ("'K3Y' has expired", true),
            ("nothing at /t0ken-in-path", true),
            ("K3Y-IN-QUERY", true),
        ] {
            assert_eq!(endpoint.is_given_away_by(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn a_pause_is_told_in_seconds_or_by_a_time() {
        let date = Some("Sun, 22 Nov 2026 11:59:30 GMT");
        for (after, date, expected) in [
            (None, date, None),
            (Some("7"), date, Some(7)),
            (Some("-7"), date, None),
            (Some("soon"), date, None),
            (Some("Sun, 22 Nov 2026 12:01:00 GMT"), date, Some(90)),
            (Some("Sun, 22 Nov 2026 12:01:00 GMT"), None, None),
            (Some("Sun, 22 Nov 2026 11:00:00 GMT"), date, None),
        ] {
            assert_eq!(pause(after, date), expected.map(Duration::from_secs), "{after:?}");
        }
    }

    #[test]
    fn only_certificates_can_be_trusted() {
        let endpoint = Endpoint::new("https://example.com/").unwrap();
        let key = "-----BEGIN PRIVATE KEY-----\nU0VDUkVU\n-----END PRIVATE KEY-----\n";
        let broken = "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n";
        let other = "-----BEGIN CERTIFICATE-----\nU0VDUkVU\n-----END CERTIFICATE-----\n";
        for (pem, says) in [
            ("", "what example.com is to trust has no certificate in it"),
            (key, "what example.com is to trust has no certificate in it"),
            (broken, "what example.com is to trust is not PEM"),
            (other, "what example.com is to trust has a certificate that is damaged"),
        ] {
            assert_eq!(endpoint.clone().trust(pem).unwrap_err().to_string(), says);
        }
    }

    #[test]
    fn a_path_comes_before_a_query() {
        for (url, expected) in [
            ("http://a/", "http://a/v1"),
            ("http://a/b", "http://a/b/v1"),
            ("http://a/b/?key=1", "http://a/b/v1?key=1"),
        ] {
            assert_eq!(Endpoint::new(url).unwrap().at("/v1").url, expected);
        }
    }
}
