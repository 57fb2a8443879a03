//! The format of what a [`FileStore`](super::FileStore) writes: text that is sealed with a checksum.
//!
//! A log is one JSON object a line. The first line is the header, every other one a record:
//!
//! ```text
//! {"crc":"58707fb3","format":1,"kind":"swarm-pipeline run"}
//! {"crc":"ab8e2b25","seq":0,"token":1,"event":{"any":"object"}}
//! ```
//!
//! `crc` is the CRC-32 (IEEE) of every byte between its own last digit and the end of the line, the newline
//! left out. It stands first, at a fixed place, so that checking compares byte slices and serialises nothing.
//! The bytes before it are constant, it has one spelling, and CRC-32 finds every change of one byte: no flip
//! goes unseen.
//!
//! Later formats keep the header's beginning up to and including the format number, and its checksum.

use crate::error::ErrorKind;
use crate::store::Record;

const FORMAT: u64 = 1;
const OPEN: &[u8] = br#"{"crc":""#;
const CRC_DIGITS: usize = 8;
const LOG_KIND: &str = r#","kind":"swarm-pipeline run"}"#;
const BLOB_KIND: &str = r#","kind":"swarm-pipeline blob"}"#;

/// What a log holds, and how far it can be kept.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    pub(super) records: Vec<Record>,
    /// The highest fencing token that wrote a record, 0 if there is none.
    pub(super) token: u64,
    /// How many bytes of the log are whole lines. 0 means that not even the header is.
    pub(super) keep: usize,
    /// Whether the last line that is kept lacks its newline.
    pub(super) newline_missing: bool,
}

/// Why stored bytes cannot be trusted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Damage {
    pub(super) kind: ErrorKind,
    pub(super) offset: usize,
    pub(super) what: String,
}

impl Damage {
    fn corrupt(offset: usize, what: impl Into<String>) -> Self {
        Damage { kind: ErrorKind::Corrupt, offset, what: what.into() }
    }

    fn newer(format: u64) -> Self {
        let what = format!("format {format} is newer than {FORMAT}, the newest that this version knows");
        Damage { kind: ErrorKind::NewerFormat, offset: 0, what }
    }
}

/// Writes the first line of a log, with its newline.
pub(super) fn encode_header(out: &mut Vec<u8>) {
    let start = open(out);
    out.extend_from_slice(br#"","format":"#);
    push_number(out, FORMAT);
    out.extend_from_slice(LOG_KIND.as_bytes());
    seal(out, start);
    out.push(b'\n');
}

/// Writes the line of one record, with its newline.
pub(super) fn encode_record(out: &mut Vec<u8>, token: u64, record: &Record) {
    let start = open(out);
    out.extend_from_slice(br#"","seq":"#);
    push_number(out, record.seq);
    out.extend_from_slice(br#","token":"#);
    push_number(out, token);
    out.extend_from_slice(br#","event":"#);
    out.extend_from_slice(record.body.as_bytes());
    out.push(b'}');
    seal(out, start);
    out.push(b'\n');
}

/// Reads a whole log.
///
/// A last line that is not whole is left out, for a crash in the middle of a write leaves one. It is told
/// from a damaged line by its newline, which is written last: a line that has one was whole once. A line
/// whose checksum is right is kept though its newline is lost, because every byte that counts is there.
pub(super) fn scan(log: &[u8]) -> Result<Scan, Damage> {
    let mut scan = Scan::default();
    let mut at = 0;
    while at < log.len() {
        let rest = &log[at..];
        let (line, used) = match rest.iter().position(|byte| *byte == b'\n') {
            Some(end) => (&rest[..end], end + 1),
            None => match sealed_prefix(rest) {
                Some(end) if is_lost_newline(&rest[end..]) => {
                    scan.newline_missing = true;
                    (&rest[..end], rest.len())
                }
                Some(end) => return Err(Damage::corrupt(at + end, "there is no newline after a line")),
                None if is_torn(rest, at == 0) => break,
                None => return Err(Damage::corrupt(at, "this is not the beginning of a line")),
            },
        };
        let sealed =
            unseal(line).ok_or_else(|| Damage::corrupt(at, "the checksum is not that of the line"))?;
        if at == 0 {
            check_kind(sealed, LOG_KIND)?;
        } else {
            let (token, record) =
                parse_record(sealed).ok_or_else(|| Damage::corrupt(at, "the line is not a record"))?;
            let expected = scan.records.len() as u64;
            if record.seq != expected {
                let what = format!("record {} stands where record {expected} belongs", record.seq);
                return Err(Damage::corrupt(at, what));
            }
            if token < scan.token.max(1) {
                let what = format!("a writer with token {token} wrote after one with token {}", scan.token);
                return Err(Damage::corrupt(at, what));
            }
            scan.token = token;
            scan.records.push(record);
        }
        scan.keep = at + line.len() + usize::from(!scan.newline_missing);
        at += used;
    }
    Ok(scan)
}

/// Writes a blob's file: one sealed line, then the bytes, all under one checksum.
pub(super) fn encode_blob(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 80);
    let start = open(&mut out);
    out.extend_from_slice(br#"","format":"#);
    push_number(&mut out, FORMAT);
    out.extend_from_slice(BLOB_KIND.as_bytes());
    out.push(b'\n');
    out.extend_from_slice(body);
    seal(&mut out, start);
    out
}

/// Answers the bytes that [`encode_blob`] was given.
pub(super) fn decode_blob(mut file: Vec<u8>) -> Result<Vec<u8>, Damage> {
    let sealed =
        unseal(&file).ok_or_else(|| Damage::corrupt(0, "the checksum is not that of the contents"))?;
    let end = sealed.iter().position(|byte| *byte == b'\n');
    let line = end.map_or(sealed, |end| &sealed[..end]);
    check_kind(line, BLOB_KIND)?;
    let body = OPEN.len() + CRC_DIGITS + line.len() + 1;
    if body > file.len() {
        return Err(Damage::corrupt(file.len(), "there is no newline after the first line"));
    }
    file.drain(..body);
    Ok(file)
}

fn open(out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(OPEN);
    let start = out.len();
    out.extend_from_slice(&[b'0'; CRC_DIGITS]);
    start
}

/// Puts the checksum of everything after its place into its place.
fn seal(out: &mut [u8], start: usize) {
    let (crc, sealed) = out[start..].split_at_mut(CRC_DIGITS);
    crc.copy_from_slice(&hex(crc32fast::hash(sealed)));
}

/// Answers what is under the checksum, if the checksum is right.
fn unseal(text: &[u8]) -> Option<&[u8]> {
    let (crc, sealed) = text.strip_prefix(OPEN)?.split_at_checked(CRC_DIGITS)?;
    (hex(crc32fast::hash(sealed)) == crc).then_some(sealed)
}

/// The length of the whole line that `tail` begins with, wherever that line ends.
fn sealed_prefix(tail: &[u8]) -> Option<usize> {
    let (crc, sealed) = tail.strip_prefix(OPEN)?.split_at_checked(CRC_DIGITS)?;
    let mut hasher = crc32fast::Hasher::new();
    let mut done = 0;
    for (at, byte) in sealed.iter().enumerate() {
        if *byte == b'}' {
            hasher.update(&sealed[done..=at]);
            done = at + 1;
            if hex(hasher.clone().finalize()) == crc {
                return Some(OPEN.len() + CRC_DIGITS + done);
            }
        }
    }
    None
}

/// Whether `after`, which follows a whole line up to the end of the log, is its newline, missing or changed.
fn is_lost_newline(after: &[u8]) -> bool {
    after.len() <= 1 || after.iter().all(|byte| *byte == 0)
}

/// Whether `tail` is the beginning of a line, or zeros that a file system left where a write did not arrive.
fn is_torn(tail: &[u8], is_header: bool) -> bool {
    let written = tail.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let written = &tail[..written];
    if is_header {
        let mut header = Vec::new();
        encode_header(&mut header);
        header.starts_with(written)
    } else {
        written.starts_with(OPEN) || OPEN.starts_with(written)
    }
}

fn check_kind(sealed: &[u8], kind: &str) -> Result<(), Damage> {
    let foreign = || Damage::corrupt(0, "the first line is not that of a file of this kind");
    let rest = sealed.strip_prefix(br#"","format":"#).ok_or_else(foreign)?;
    let (format, rest) = take_number(rest).ok_or_else(foreign)?;
    match format {
        _ if format > FORMAT => Err(Damage::newer(format)),
        FORMAT if rest == kind.as_bytes() => Ok(()),
        _ => Err(foreign()),
    }
}

fn parse_record(sealed: &[u8]) -> Option<(u64, Record)> {
    let (seq, rest) = take_number(sealed.strip_prefix(br#"","seq":"#)?)?;
    let (token, rest) = take_number(rest.strip_prefix(br#","token":"#)?)?;
    let body = rest.strip_prefix(br#","event":"#)?.strip_suffix(b"}")?;
    let body = std::str::from_utf8(body).ok()?.to_owned();
    Some((token, Record { seq, body }))
}

fn take_number(text: &[u8]) -> Option<(u64, &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = text.split_at(digits);
    Some((std::str::from_utf8(number).ok()?.parse().ok()?, rest))
}

fn push_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[first..]);
}

fn hex(crc: u32) -> [u8; CRC_DIGITS] {
    let mut digits = [0; CRC_DIGITS];
    for (at, digit) in digits.iter_mut().enumerate() {
        let nibble = (crc >> (28 - 4 * at)) as usize & 0xf;
        *digit = b"0123456789abcdef"[nibble];
    }
    digits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(seq: u64, body: &str) -> Record {
        Record { seq, body: body.to_owned() }
    }

    fn log(records: &[(u64, Record)]) -> Vec<u8> {
        let mut out = Vec::new();
        encode_header(&mut out);
        for (token, record) in records {
            encode_record(&mut out, *token, record);
        }
        out
    }

    fn damage(log: &[u8]) -> (ErrorKind, usize) {
        let damage = scan(log).expect_err("the log is damaged");
        (damage.kind, damage.offset)
    }

    #[test]
    fn a_line_has_one_spelling() {
        let text = String::from_utf8(log(&[(7, record(0, r#"{"any":"object"}"#))])).expect("it is text");
        let expected = concat!(
            r#"{"crc":"58707fb3","format":1,"kind":"swarm-pipeline run"}"#,
            "\n",
            r#"{"crc":"17d776e2","seq":0,"token":7,"event":{"any":"object"}}"#,
            "\n",
        );
        assert_eq!(text, expected);
        for line in text.lines() {
            serde_json::from_str::<serde_json::Value>(line).expect("it is JSON");
        }
    }

    #[test]
    fn a_newer_format_is_told_from_a_damaged_header() {
        let mut out = br#"{"crc":"00000000","format":2,"anything":["new"]}"#.to_vec();
        seal(&mut out, OPEN.len());
        out.extend_from_slice(b"\nlines of another kind\n");
        assert_eq!(damage(&out), (ErrorKind::NewerFormat, 0));
        out[OPEN.len()] ^= 1;
        assert_eq!(damage(&out), (ErrorKind::Corrupt, 0));
    }

    #[test]
    fn lines_with_a_right_checksum_still_have_to_follow() {
        let (zero, one) = (record(0, "{}"), record(1, "{}"));
        let header = log(&[]).len();
        let second = log(&[(1, zero.clone())]).len();
        let cases = [
            (vec![(1, one.clone())], header),
            (vec![(1, zero.clone()), (1, zero.clone())], second),
            (vec![(1, zero.clone()), (1, record(2, "{}"))], second),
            (vec![(2, zero.clone()), (1, one.clone())], second),
            (vec![(0, zero.clone())], header),
        ];
        for (records, offset) in cases {
            assert_eq!(damage(&log(&records)), (ErrorKind::Corrupt, offset), "{records:?}");
        }
        let header_twice = [log(&[]), log(&[])].concat();
        assert_eq!(damage(&header_twice), (ErrorKind::Corrupt, header));
    }

    #[test]
    fn a_tail_is_cut_only_if_a_crash_could_have_left_it() {
        let whole = log(&[(1, record(0, r#"{"a":{}}"#))]);
        let tails: [(&[u8], bool); 7] = [
            (b"", true),
            (b"{", true),
            (br#"{"crc":"0123"#, true),
            (br#"{"crc":"01234567","seq":1,"token":1,"event":{"#, true),
            (b"\0\0\0\0", true),
            (b"{\"crc\":\"01\0\0\0", true),
            (b"something else", false),
        ];
        for (tail, is_torn) in tails {
            let found = scan(&[&whole, tail].concat()).map(|scan| (scan.keep, scan.records.len()));
            match is_torn {
                true => assert_eq!(found, Ok((whole.len(), 1)), "{tail:?}"),
                false => assert_eq!(found.expect_err("it is foreign").offset, whole.len(), "{tail:?}"),
            }
        }
        for lost_newline in [&b""[..], b"}", b"\0", b"\0\0\0\0"] {
            let line = whole.strip_suffix(b"\n").expect("a line ends so");
            let scan = scan(&[line, lost_newline].concat()).expect("the record is whole");
            assert_eq!((scan.keep, scan.records.len(), scan.newline_missing), (line.len(), 1, true));
        }
        assert_eq!(damage(b"a note without a newline"), (ErrorKind::Corrupt, 0));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_scanned_again(bodies in proptest::collection::vec("\\{[^\n]{0,40}\\}", 0..8)) {
            let records: Vec<_> = (0..).zip(&bodies).map(|(seq, body)| (seq / 3 + 1, record(seq, body))).collect();
            let text = log(&records);
            let scan = scan(&text).expect("nothing is damaged");
            prop_assert_eq!(scan.keep, text.len());
            prop_assert_eq!(scan.token, records.last().map_or(0, |last| last.0));
            prop_assert_eq!(scan.records, records.into_iter().map(|(_, record)| record).collect::<Vec<_>>());
        }

        #[test]
        fn numbers_are_written_as_the_standard_library_writes_them(number: u64) {
            let mut out = Vec::new();
            push_number(&mut out, number);
            prop_assert_eq!(out, number.to_string().into_bytes());
        }

        #[test]
        fn blobs_come_back(body: Vec<u8>, at: prop::sample::Index, mask in 1u8..) {
            let mut file = encode_blob(&body);
            prop_assert_eq!(decode_blob(file.clone()), Ok(body));
            let at = at.index(file.len());
            file[at] ^= mask;
            prop_assert!(decode_blob(file).is_err());
        }
    }
}
