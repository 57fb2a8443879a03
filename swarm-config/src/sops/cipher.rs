//! One encrypted value: `ENC[AES256_GCM,data:…,iv:…,tag:…,type:…]`.

use aes_gcm::aead::consts::{U12, U16, U32};
use aes_gcm::aead::generic_array::{ArrayLength, GenericArray};
use aes_gcm::aead::rand_core::RngCore as _;
use aes_gcm::aead::{AeadInPlace as _, KeyInit as _, OsRng};
use aes_gcm::aes::Aes256;
use aes_gcm::{AesGcm, Tag};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// The key that the values of a file are encrypted with.
pub(super) type DataKey = Zeroizing<[u8; 32]>;

pub(super) const BEGIN: &str = "ENC[AES256_GCM,";

/// What an encrypted value is, and how it is written inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Type {
    Str,
    Int,
    Float,
    Bool,
    Bytes,
    Time,
    Comment,
}

const TYPES: [(Type, &str); 7] = [
    (Type::Str, "str"),
    (Type::Int, "int"),
    (Type::Float, "float"),
    (Type::Bool, "bool"),
    (Type::Bytes, "bytes"),
    (Type::Time, "time"),
    (Type::Comment, "comment"),
];

/// An encrypted value, taken apart.
pub(super) struct Sealed {
    data: Vec<u8>,
    iv: Vec<u8>,
    tag: [u8; 16],
    pub(super) kind: Type,
}

pub(super) fn parse(text: &str) -> Option<Sealed> {
    let inside = text.strip_prefix(BEGIN)?.strip_suffix(']')?;
    let mut parts = inside.split(',');
    let mut part = |name: &str| parts.next()?.strip_prefix(name)?.strip_prefix(':');
    let data = STANDARD.decode(part("data")?).ok()?;
    let iv = STANDARD.decode(part("iv")?).ok()?;
    let tag = STANDARD.decode(part("tag")?).ok()?.try_into().ok()?;
    let kind = part("type")?;
    let (kind, _) = *TYPES.iter().find(|(_, name)| *name == kind)?;
    parts.next().is_none().then_some(Sealed { data, iv, tag, kind })
}

/// Decrypts, if key, value and `path` belong together and nobody changed a bit.
pub(super) fn open(key: &DataKey, sealed: &Sealed, path: &str) -> Option<Zeroizing<Vec<u8>>> {
    // `sops` writes 32 bytes. 12 are usual elsewhere, 16 are what an old version of it wrote.
    match sealed.iv.len() {
        12 => open_with::<U12>(key, sealed, path.as_bytes()),
        16 => open_with::<U16>(key, sealed, path.as_bytes()),
        32 => open_with::<U32>(key, sealed, path.as_bytes()),
        _ => None,
    }
}

fn open_with<N: ArrayLength<u8>>(key: &DataKey, sealed: &Sealed, path: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let cipher = AesGcm::<Aes256, N>::new(GenericArray::from_slice(&**key));
    let mut data = Zeroizing::new(sealed.data.clone());
    let tag = Tag::from_slice(&sealed.tag);
    cipher.decrypt_in_place_detached(GenericArray::from_slice(&sealed.iv), path, &mut data, tag).ok()?;
    Some(data)
}

/// Encrypts under a new initialisation vector.
pub(super) fn seal(key: &DataKey, kind: Type, plain: &[u8], path: &str) -> String {
    let mut iv = [0; 32];
    OsRng.fill_bytes(&mut iv);
    let mut data = plain.to_vec();
    let cipher = AesGcm::<Aes256, U32>::new(GenericArray::from_slice(&**key));
    let tag = cipher
        .encrypt_in_place_detached(GenericArray::from_slice(&iv), path.as_bytes(), &mut data)
        .expect("AES-GCM takes up to 64 GiB, and a text is bounded by far less");
    let (_, name) = TYPES.iter().find(|(known, _)| *known == kind).expect("every type is in the table");
    let [data, iv, tag] = [&data[..], &iv, &tag].map(|bytes| STANDARD.encode(bytes));
    format!("{BEGIN}data:{data},iv:{iv},tag:{tag},type:{name}]")
}

pub(super) fn new_key() -> DataKey {
    let mut key = DataKey::default();
    OsRng.fill_bytes(&mut *key);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_with_its_key_and_its_path_only() {
        let key = new_key();
        let text = seal(&key, Type::Str, b"hunter2", "db:password:");
        let sealed = parse(&text).unwrap();
        assert_eq!(&**open(&key, &sealed, "db:password:").unwrap(), b"hunter2");
        assert!(open(&key, &sealed, "db:user:").is_none());
        assert!(open(&new_key(), &sealed, "db:password:").is_none());
        assert_ne!(text, seal(&key, Type::Str, b"hunter2", "db:password:"));
    }

    #[test]
    fn a_value_with_any_other_byte_does_not_open() {
        let key = new_key();
        let text = seal(&key, Type::Int, b"12345", "port:");
        let opens = |text: &str| {
            parse(text)
                .is_some_and(|sealed| sealed.kind == Type::Int && open(&key, &sealed, "port:").is_some())
        };
        assert!(opens(&text));
        for at in 0..text.len() {
            for byte in (0..128u8).filter(|byte| text.as_bytes()[at] != *byte) {
                let mut other = text.clone().into_bytes();
                other[at] = byte;
                assert!(!opens(std::str::from_utf8(&other).unwrap()), "byte {at} as {byte}");
            }
        }
        assert!(!opens(&format!("{text} ")) && !opens(&text[..text.len() - 1]));
    }

    /// Project Wycheproof's vectors for AES-256-GCM with whole tags, through the code that values go through.
    #[test]
    fn wycheproof_vectors_have_the_verdicts_they_should() {
        use aes_gcm::aead::consts::{U8, U64, U128};

        let set = wycheproof::aead::TestSet::load(wycheproof::aead::TestName::AesGcm).unwrap();
        let (mut opened, mut refused) = (0, 0);
        for group in set.test_groups.iter().filter(|group| group.key_size == 256 && group.tag_size == 128) {
            for test in &group.tests {
                let mut key = DataKey::default();
                key.copy_from_slice(&test.key);
                let sealed = Sealed {
                    data: test.ct.to_vec(),
                    iv: test.nonce.to_vec(),
                    tag: test.tag[..].try_into().unwrap(),
                    kind: Type::Bytes,
                };
                let text = |bytes: &[u8]| std::str::from_utf8(bytes).map(str::to_owned);
                let found = match (sealed.iv.len(), text(&test.aad)) {
                    (12 | 16 | 32, Ok(path)) => open(&key, &sealed, &path),
                    // Paths are texts; these are not, and lengths that files do not have.
                    (12, _) => open_with::<U12>(&key, &sealed, &test.aad),
                    (16, _) => open_with::<U16>(&key, &sealed, &test.aad),
                    (32, _) => open_with::<U32>(&key, &sealed, &test.aad),
                    (8, _) => open_with::<U8>(&key, &sealed, &test.aad),
                    (64, _) => open_with::<U64>(&key, &sealed, &test.aad),
                    (128, _) => open_with::<U128>(&key, &sealed, &test.aad),
                    (_, _) => open(&key, &sealed, ""),
                };
                match (found, test.result.must_fail()) {
                    (Some(found), false) => {
                        assert_eq!(found[..], test.pt[..], "test {}", test.tc_id);
                        opened += 1;
                    }
                    (None, true) => refused += 1,
                    // Lengths of the vector that the format does not have.
                    (None, false) if ![8, 12, 16, 32, 64, 128].contains(&sealed.iv.len()) => {}
                    (found, _) => panic!("test {}: {} opened: {}", test.tc_id, test.comment, found.is_some()),
                }
            }
        }
        eprintln!("Wycheproof, AES-256-GCM: {opened} opened, {refused} refused as they must be");
        assert!(opened >= 40 && refused >= 25, "{opened} opened, {refused} refused");
    }
}
