use sha2::{Digest as _, Sha512};

use super::text::Scalar;
use crate::source::Format;

/// The checksum over all values in their order.
pub(super) struct Mac {
    hash: Sha512,
    only_encrypted: bool,
}

/// What `sops` begins with where values that are not encrypted do not count: the SHA-256 of `sops`.
const ONLY_ENCRYPTED: [u8; 32] = [
    0x8a, 0x3f, 0xd2, 0xad, 0x54, 0xce, 0x66, 0x52, 0x7b, 0x10, 0x34, 0xf3, 0xd1, 0x47, 0xbe, 0x0b, 0x0b,
    0x97, 0x5b, 0x3b, 0xf4, 0x4f, 0x72, 0xc6, 0xfd, 0xad, 0xec, 0x81, 0x76, 0xf2, 0x7d, 0x69,
];

impl Mac {
    pub(super) fn new(only_encrypted: bool) -> Mac {
        let mut hash = Sha512::new();
        if only_encrypted {
            hash.update(ONLY_ENCRYPTED);
        }
        Mac { hash, only_encrypted }
    }

    pub(super) fn add(&mut self, value: &Scalar, encrypted: bool, format: Format) {
        // JSON has no integers for `sops`: it counts what it reads.
        let value = match value {
            Scalar::Int(value) if !encrypted && format == Format::Json => &Scalar::Float(*value as f64),
            value => value,
        };
        if encrypted || !self.only_encrypted {
            self.hash.update(value.plain(format).1.as_slice());
        }
    }

    pub(super) fn finish(self) -> String {
        self.hash.finalize().iter().map(|byte| format!("{byte:02X}")).collect()
    }
}
