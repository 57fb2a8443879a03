//! Numbers and texts as bytes, and blocks of them with a checksum each.

use std::io::{self, Read, Write};
use std::sync::Arc;

use crate::sketch::bins::{Bins, Run};
use crate::sketch::packed::{self, Packed};
use crate::summary::Moments;

/// What stands first in a snapshot.
pub(crate) const MAGIC: &[u8; 8] = b"SWARMMON";
/// The format that is written, and the newest that is read.
pub(crate) const VERSION: u32 = 1;
/// A block is no longer. The longest there is, a series with each of its buckets as wide as can be, is shorter.
pub(crate) const LONGEST_BLOCK: u32 = 64 << 20;
/// No count in a snapshot is greater, so that sums of them are counts too.
const MOST_COUNTED: u64 = 1 << 53;
/// No value of any accuracy is in a bin further out than half of this.
const FARTHEST_BIN: u32 = 1 << 24;

/// Can be written into a snapshot and read from one.
pub(crate) trait Saved: Sized {
    fn save(&self, out: &mut Vec<u8>);
    /// `None` if it does not begin with one.
    fn load(input: &mut &[u8]) -> Option<Self>;
}

impl Saved for u8 {
    fn save(&self, out: &mut Vec<u8>) {
        out.push(*self);
    }

    fn load(input: &mut &[u8]) -> Option<Self> {
        let (&byte, rest) = input.split_first()?;
        *input = rest;
        Some(byte)
    }
}

/// As a varint.
impl Saved for u64 {
    fn save(&self, out: &mut Vec<u8>) {
        packed::put(out, *self);
    }

    fn load(input: &mut &[u8]) -> Option<Self> {
        // Ten bytes hold every number, and one that goes on for longer is none.
        let len = input.iter().take(10).position(|byte| *byte < 0x80)? + 1;
        (len < 10 || input[9] < 2).then(|| packed::take(input))
    }
}

/// Bit by bit.
impl Saved for f64 {
    fn save(&self, out: &mut Vec<u8>) {
        out.extend(self.to_le_bytes());
    }

    fn load(input: &mut &[u8]) -> Option<Self> {
        let (bytes, rest) = input.split_first_chunk()?;
        *input = rest;
        Some(f64::from_le_bytes(*bytes))
    }
}

impl Saved for String {
    fn save(&self, out: &mut Vec<u8>) {
        save_str(self, out);
    }

    fn load(input: &mut &[u8]) -> Option<Self> {
        let bytes = load_bytes(input)?;
        std::str::from_utf8(bytes).ok().map(str::to_owned)
    }
}

pub(crate) fn save_str(text: &str, out: &mut Vec<u8>) {
    save_bytes(text.as_bytes(), out);
}

pub(crate) fn save_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    (bytes.len() as u64).save(out);
    out.extend(bytes);
}

pub(crate) fn load_bytes<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(u64::load(input)?).ok()?;
    let (bytes, rest) = input.split_at_checked(len)?;
    *input = rest;
    Some(bytes)
}

impl<A: Saved, B: Saved> Saved for (A, B) {
    fn save(&self, out: &mut Vec<u8>) {
        self.0.save(out);
        self.1.save(out);
    }

    fn load(input: &mut &[u8]) -> Option<Self> {
        Some((A::load(input)?, B::load(input)?))
    }
}

impl<T: Saved> Saved for Vec<T> {
    fn save(&self, out: &mut Vec<u8>) {
        save_all(self.iter(), out);
    }

    fn load(input: &mut &[u8]) -> Option<Self> {
        let len = load_len(input)?;
        (0..len).map(|_| T::load(input)).collect()
    }
}

pub(crate) fn save_all<'a, T: Saved + 'a>(all: impl ExactSizeIterator<Item = &'a T>, out: &mut Vec<u8>) {
    (all.len() as u64).save(out);
    all.for_each(|one| one.save(out));
}

/// A number of things that follow, each at least a byte long.
pub(crate) fn load_len(input: &mut &[u8]) -> Option<usize> {
    usize::try_from(u64::load(input)?).ok().filter(|len| *len <= input.len())
}

pub(crate) fn load_count(input: &mut &[u8]) -> Option<u64> {
    u64::load(input).filter(|count| *count <= MOST_COUNTED)
}

pub(crate) fn save_tags(tags: &[(Arc<str>, Arc<str>)], out: &mut Vec<u8>) {
    (tags.len() as u64).save(out);
    for (name, value) in tags {
        save_str(name, out);
        save_str(value, out);
    }
}

impl Saved for Moments {
    fn save(&self, out: &mut Vec<u8>) {
        self.count.save(out);
        if self.count > 0 {
            [self.sum, self.squares, self.min, self.max].iter().for_each(|number| number.save(out));
        }
    }

    fn load(input: &mut &[u8]) -> Option<Self> {
        let count = load_count(input)?;
        if count == 0 {
            return Some(Moments::default());
        }
        let mut next = || f64::load(input).filter(|number| number.is_finite());
        let moments = Moments { count, sum: next()?, squares: next()?, min: next()?, max: next()? };
        (moments.min <= moments.max).then_some(moments)
    }
}

/// Bins that hold something, each with its number.
impl Saved for Run {
    fn save(&self, out: &mut Vec<u8>) {
        let held = || self.iter().filter(|(_, count)| *count > 0);
        (held().count() as u64).save(out);
        for (index, count) in held() {
            // From -1 on upwards 1, 3, 5, … and from 0 on 0, 2, 4, …, so that small ones are short.
            u64::from(((index << 1) ^ (index >> 31)).cast_unsigned()).save(out);
            count.save(out);
        }
    }

    fn load(input: &mut &[u8]) -> Option<Self> {
        let mut run = Run::default();
        for _ in 0..load_len(input)? {
            let folded = u32::try_from(u64::load(input)?).ok().filter(|folded| *folded <= FARTHEST_BIN)?;
            let index = (folded >> 1).cast_signed() ^ -(folded & 1).cast_signed();
            run.add(index, load_count(input)?);
        }
        Some(run)
    }
}

impl Saved for Bins {
    fn save(&self, out: &mut Vec<u8>) {
        self.negative.save(out);
        self.zero.save(out);
        self.positive.save(out);
    }

    fn load(input: &mut &[u8]) -> Option<Self> {
        Some(Bins { negative: Run::load(input)?, zero: load_count(input)?, positive: Run::load(input)? })
    }
}

impl Saved for Packed {
    fn save(&self, out: &mut Vec<u8>) {
        let mut bins = Bins::default();
        self.add_to(&mut bins);
        bins.save(out);
    }

    fn load(input: &mut &[u8]) -> Option<Self> {
        Some(Packed::new(&Bins::load(input)?))
    }
}

/// A block: its length, its checksum, itself.
pub(crate) fn write_block(out: &mut impl Write, block: &[u8]) -> io::Result<()> {
    let len = u32::try_from(block.len()).ok().filter(|len| *len <= LONGEST_BLOCK);
    let len = len.ok_or_else(|| io::Error::other("a series is too long for a snapshot"))?;
    out.write_all(&len.to_le_bytes())?;
    out.write_all(&crc32fast::hash(block).to_le_bytes())?;
    out.write_all(block)
}

/// Why there is no next block.
pub(crate) enum NoBlock {
    /// The system could not read it.
    Unread(io::Error),
    /// It is not whole.
    Damaged,
}

pub(crate) fn read_block(input: &mut impl Read, block: &mut Vec<u8>) -> Result<(), NoBlock> {
    let mut head = [0; 8];
    fill(input, &mut head)?;
    let [a, b, c, d, rest @ ..] = head;
    let (len, sum) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes(rest));
    if len > LONGEST_BLOCK {
        return Err(NoBlock::Damaged);
    }
    block.clear();
    // Not more room than there are bytes, whatever the length says.
    input.take(len.into()).read_to_end(block).map_err(NoBlock::Unread)?;
    if block.len() != len as usize || crc32fast::hash(block) != sum {
        return Err(NoBlock::Damaged);
    }
    Ok(())
}

pub(crate) fn fill(input: &mut impl Read, bytes: &mut [u8]) -> Result<(), NoBlock> {
    input.read_exact(bytes).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => NoBlock::Damaged,
        _ => NoBlock::Unread(error),
    })
}
