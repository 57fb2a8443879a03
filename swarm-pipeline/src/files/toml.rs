//! TOML with positions.

use ::toml::Spanned;
use ::toml::de::{DeTable, DeValue};

use super::tree::{DEPTH_LIMIT, Data, Fault, Item, Key};

pub(super) fn read(text: &str) -> Result<Item, Vec<Fault>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let fault = |error: &::toml::de::Error| {
            let at = error.span().map_or(0, |span| span.start);
            // The error's own display would print the line, which may hold a secret.
            Fault::new(at as u32, error.message().replace('\n', "; "))
        };
        return Err(errors.iter().take(100).map(fault).collect());
    }
    let at = document.span().start as u32;
    let data = table(document.get_ref(), 0).map_err(|fault| vec![fault])?;
    Ok(Item { at, data })
}

fn item(value: &Spanned<DeValue<'_>>, depth: usize) -> Result<Item, Fault> {
    let at = value.span().start as u32;
    let fault = |message: &str| Fault::new(at, message);
    if depth > DEPTH_LIMIT {
        return Err(fault(&format!("nested more than {DEPTH_LIMIT} deep")));
    }
    let data = match value.get_ref() {
        DeValue::String(text) => Data::Text(text.to_string()),
        DeValue::Boolean(value) => Data::Bool(*value),
        DeValue::Datetime(time) => Data::Text(time.to_string()),
        DeValue::Integer(int) => i64::from_str_radix(int.as_str(), int.radix())
            .map(Data::Int)
            .map_err(|_| fault("a number that does not fit 64 bits"))?,
        DeValue::Float(float) => {
            let read: Option<f64> = float.as_str().parse().ok();
            let finite = read.filter(|float| float.is_finite());
            Data::Float(finite.ok_or_else(|| fault("a number that JSON cannot hold"))?)
        }
        DeValue::Array(items) => {
            Data::List(items.iter().map(|value| item(value, depth + 1)).collect::<Result<_, _>>()?)
        }
        DeValue::Table(entries) => table(entries, depth)?,
    };
    Ok(Item { at, data })
}

fn table(entries: &DeTable<'_>, depth: usize) -> Result<Data, Fault> {
    let entry = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
        let name: &std::borrow::Cow<'_, str> = key.get_ref();
        Ok((Key { at: key.span().start as u32, name: name.to_string() }, item(value, depth + 1)?))
    };
    let mut entries: Vec<(Key, Item)> = entries.iter().map(entry).collect::<Result<_, Fault>>()?;
    // The parser sorts by name.
    entries.sort_by_key(|(key, _)| key.at);
    Ok(Data::Table(entries))
}
