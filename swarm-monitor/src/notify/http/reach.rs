use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ureq::Error as HttpError;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// The system's resolver, which does not answer with addresses inside.
#[derive(Debug)]
pub(crate) struct Guarded {
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
        match self.forbidden(found.iter().map(|address| address.ip())) {
            Some(address) => Err(HttpError::Other(Box::new(Forbidden(address)))),
            None => Ok(found),
        }
    }
}

impl Guarded {
    /// Answers with addresses of private networks only if these are allowed.
    pub(crate) fn new(private: bool) -> Self {
        Guarded { private, system: DefaultResolver::default() }
    }

    /// One is enough: who answers with both means it ill.
    fn forbidden(&self, mut found: impl Iterator<Item = IpAddr>) -> Option<IpAddr> {
        found.find(|address| !self.allows(*address))
    }

    fn allows(&self, address: IpAddr) -> bool {
        match reach(address) {
            Reach::Public => true,
            Reach::Private => self.private,
            Reach::Never => false,
        }
    }
}

/// An address was looked up that nothing is sent to.
#[derive(Debug)]
pub(crate) struct Forbidden(IpAddr);

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
    fn one_address_inside_among_others_is_enough() {
        let [public, private, never] =
            ["8.8.8.8", "10.0.0.1", "169.254.169.254"].map(|address| address.parse::<IpAddr>().unwrap());
        for (allowed, found, expected) in [
            (false, vec![public, public], None),
            (false, vec![public, private], Some(private)),
            (true, vec![public, private], None),
            (true, vec![private, public, never], Some(never)),
        ] {
            assert_eq!(Guarded::new(allowed).forbidden(found.into_iter()), expected);
        }
    }

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
}
