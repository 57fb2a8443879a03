use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::http::header::RETRY_AFTER;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Error as HttpError};

use crate::error::{Error, Result};
use crate::notify::NotifyError;

/// An address that a notifier posts to, and how (feature `http`). It may hold a token, and is never shown but for its host.
///
/// A redirect is not followed. Of an answer the status and at most 64 KiB of headers are read, and nothing of its body. No proxy is used,
/// so that the addresses that were looked up and checked are those that are connected to.
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
    bearer: Option<String>,
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
            return Err(wrong("has no user and password: use a bearer token"));
        }
        let (private, time_out) = (false, Duration::from_secs(10));
        Ok(Endpoint {
            url: url.to_owned(),
            host: host.to_owned(),
            private,
            time_out,
            bearer: None,
            agent: agent(private, time_out),
        })
    }

    /// Allows addresses of this machine and of private networks. Link-local ones are never told anything.
    pub fn allow_private(mut self) -> Self {
        self.private = true;
        self.agent = agent(self.private, self.time_out);
        self
    }

    /// How long a request may take from looking up the address to the answer's status: 10 seconds by default.
    pub fn time_out(mut self, time_out: Duration) -> Self {
        self.time_out = time_out;
        self.agent = agent(self.private, self.time_out);
        self
    }

    /// Sends this token as `Authorization: Bearer`.
    pub fn bearer(mut self, token: impl Into<String>) -> Self {
        self.bearer = Some(token.into());
        self
    }

    /// The same with `path` at the end of its address.
    pub(crate) fn at(mut self, path: &str) -> Self {
        self.url = format!("{}{path}", self.url.trim_end_matches('/'));
        self
    }

    /// Posts, on a thread where blocking is allowed.
    pub(crate) async fn post(
        &self,
        body: Vec<u8>,
        headers: Vec<(&'static str, String)>,
    ) -> Result<(), NotifyError> {
        let endpoint = self.clone();
        let posted = tokio::task::spawn_blocking(move || endpoint.post_blocking(&body, headers));
        posted.await.unwrap_or_else(|_| Err(NotifyError::later("the request panicked")))
    }

    fn post_blocking(&self, body: &[u8], headers: Vec<(&'static str, String)>) -> Result<(), NotifyError> {
        let mut request = self.agent.post(&self.url).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if let Some(token) = &self.bearer {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let answer = request.send(body).map_err(|error| self.failure(&error))?;
        let status = answer.status();
        let host = &self.host;
        match status.as_u16() {
            200..=299 => Ok(()),
            300..=399 => {
                Err(NotifyError::never(format!("{host} answers {status}, and redirects are not followed")))
            }
            408 | 425 | 429 | 500..=599 => {
                let error = NotifyError::later(format!("{host} answers {status}"));
                let seconds =
                    answer.headers().get(RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok());
                Err(match seconds {
                    Some(seconds) => error.after(Duration::from_secs(seconds)),
                    None => error,
                })
            }
            _ => Err(NotifyError::never(format!("{host} answers {status}"))),
        }
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
            HttpError::Io(error) => NotifyError::later(format!("no connection to {host}: {}", error.kind())),
            HttpError::Rustls(_) | HttpError::Tls(_) => NotifyError::later(format!("no TLS with {host}")),
            HttpError::LargeResponseHeader(..) => NotifyError::later(format!("{host} answers with too much")),
            HttpError::Http(_) => NotifyError::never(format!("what is to be told to {host} is no request")),
            _ => NotifyError::later(format!("{host} does not speak HTTP")),
        }
    }
}

/// Neither the path, which may have a token in it, nor the token.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("host", &self.host)
            .field("private", &self.private)
            .field("time_out", &self.time_out)
            .finish_non_exhaustive()
    }
}

fn agent(private: bool, time_out: Duration) -> Agent {
    let config = Config::builder()
        .timeout_global(Some(time_out))
        .max_redirects(0)
        .http_status_as_error(false)
        .max_response_header_size(64 << 10)
        .proxy(None)
        .user_agent(concat!("swarm-monitor/", env!("CARGO_PKG_VERSION")))
        .build();
    Agent::with_parts(
        config,
        DefaultConnector::default(),
        Guarded { private, system: DefaultResolver::default() },
    )
}

/// The system's resolver, which does not answer with addresses inside.
#[derive(Debug)]
struct Guarded {
    private: bool,
    system: DefaultResolver,
}

impl Resolver for Guarded {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, HttpError> {
        let found = self.system.resolve(uri, config, timeout)?;
        // One is enough: who answers with both means it ill.
        match found.iter().map(|address| address.ip()).find(|address| !self.allows(*address)) {
            Some(address) => Err(HttpError::Other(Box::new(Forbidden(address)))),
            None => Ok(found),
        }
    }
}

impl Guarded {
    fn allows(&self, address: IpAddr) -> bool {
        match reach(address) {
            Reach::Public => true,
            Reach::Private => self.private,
            Reach::Never => false,
        }
    }
}

#[derive(Debug)]
struct Forbidden(IpAddr);

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match reach(self.0) {
            Reach::Private => "which is private and was not allowed",
            Reach::Public | Reach::Never => "which is nobody's to be told",
        };
        write!(f, "is at {}, {why}", self.0)
    }
}

impl std::error::Error for Forbidden {}

/// Who can be at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    Public,
    /// This machine or its network.
    Private,
    /// The link, where clouds keep their credentials, and what is not an address of one machine.
    Never,
}

fn reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(address) => reach_v4(address),
        IpAddr::V6(address) => reach_v6(address),
    }
}

fn reach_v4(address: Ipv4Addr) -> Reach {
    match address.octets() {
        [10, ..] | [127, ..] | [192, 168, ..] => Reach::Private,
        [172, second, ..] if (16..32).contains(&second) => Reach::Private,
        [100, second, ..] if (64..128).contains(&second) => Reach::Private,
        [0 | 224.., ..] | [169, 254, ..] | [192, 0, 0 | 2, _] => Reach::Never,
        [198, 18 | 19, ..] | [198, 51, 100, _] | [203, 0, 113, _] => Reach::Never,
        _ => Reach::Public,
    }
}

fn reach_v6(address: Ipv6Addr) -> Reach {
    let v4 = |high: u16, low: u16| reach_v4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Reach::Private,
        // An address of version 4 in other clothes: mapped, translated, 6to4.
        [0, 0, 0, 0, 0, 0xffff, high, low] => v4(high, low),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => v4(high, low),
        [0xfc00..=0xfdff, ..] => Reach::Private,
        // Of the rest only global unicast, without tunnels and examples.
        [0x2001, 0 | 0xdb8, ..] => Reach::Never,
        [0x2000..=0x3fff, ..] => Reach::Public,
        _ => Reach::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_inside_are_known_in_every_form() {
        for (address, expected) in [
            ("8.8.8.8", Reach::Public),
            ("172.15.0.1", Reach::Public),
            ("172.32.0.1", Reach::Public),
            ("100.63.255.255", Reach::Public),
            ("2606:4700::1111", Reach::Public),
            ("::ffff:8.8.8.8", Reach::Public),
            ("127.0.0.1", Reach::Private),
            ("127.255.255.254", Reach::Private),
            ("10.1.2.3", Reach::Private),
            ("172.16.0.1", Reach::Private),
            ("172.31.255.255", Reach::Private),
            ("192.168.0.1", Reach::Private),
            ("100.64.0.1", Reach::Private),
            ("::1", Reach::Private),
            ("fd00::1", Reach::Private),
            ("::ffff:127.0.0.1", Reach::Private),
            ("64:ff9b::7f00:1", Reach::Private),
            ("2002:0a00:0001::1", Reach::Private),
            ("0.0.0.0", Reach::Never),
            ("169.254.169.254", Reach::Never),
            ("::ffff:169.254.169.254", Reach::Never),
            ("64:ff9b::a9fe:a9fe", Reach::Never),
            ("2002:a9fe:a9fe::1", Reach::Never),
            ("fe80::1", Reach::Never),
            ("fec0::1", Reach::Never),
            ("::", Reach::Never),
            ("::127.0.0.1", Reach::Never),
            ("ff02::1", Reach::Never),
            ("224.0.0.1", Reach::Never),
            ("255.255.255.255", Reach::Never),
            ("64:ff9b:1::1", Reach::Never),
            ("2001::1", Reach::Never),
        ] {
            assert_eq!(reach(address.parse().unwrap()), expected, "{address}");
        }
    }

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
        let endpoint = endpoint.bearer("TOKEN");
        assert!(!format!("{endpoint:?}").contains("TOKEN"));
    }
}
