//! Decrypting what a file holds, and checking that nobody changed it.

use std::collections::HashMap;

use subtle::ConstantTimeEq as _;

use super::cipher::{self, DataKey, Type};
use super::keys::AgeKeys;
use super::mac::Mac;
use super::text::Scalar;
use super::{SopsFile, outline};
use crate::doc::{Doc, DocBuilder, NO_KEY, Node, Payload, Text};
use crate::error::{Error, ErrorKind, Result};
use crate::path::Dotted;

/// A value that was decrypted, by the number of its node; nothing for a comment that stands as an item of a list.
pub(super) type Values = HashMap<u32, Option<Scalar>>;

impl SopsFile {
    /// Decrypts every value, and compares the MAC.
    pub(super) fn values(&self, key: &DataKey) -> Result<Values> {
        let mut mac = Mac::new(self.meta.mac_only_encrypted);
        let mut values = Values::new();
        for leaf in outline::leaves(&self.doc, self.format) {
            let node = self.doc.node(leaf.node);
            let wrong = |what: &str| {
                let error = Error::new(ErrorKind::Secret, what).at(&self.doc.source, node.span());
                error.in_path(Dotted(&leaf.path)).without_frame()
            };
            let encrypted = self.meta.rule.covers(&leaf.path);
            let value = match node.payload() {
                Payload::Null => continue,
                Payload::Text(text) if encrypted && !self.doc.text(text).is_empty() => {
                    let sealed = cipher::parse(self.doc.text(text))
                        .ok_or_else(|| wrong("this value should be encrypted, and is not or was damaged"))?;
                    let plain = cipher::open(key, &sealed, &leaf.aad())
                        .ok_or_else(|| wrong("this value does not decrypt: it was changed, or moved here"))?;
                    if sealed.kind == Type::Comment {
                        values.insert(leaf.node, None);
                        continue;
                    }
                    let value = Scalar::of_plain(sealed.kind, &plain, self.format)
                        .ok_or_else(|| wrong("this value is not of the type that it is marked as"))?;
                    values.insert(leaf.node, Some(value.clone()));
                    value
                }
                Payload::Text(_) => Scalar::of_node(&self.doc, node),
                _ if encrypted => return Err(wrong("this value should be encrypted, and is not")),
                _ => Scalar::of_node(&self.doc, node),
            };
            mac.add(&value, encrypted, self.format);
        }
        let expected = cipher::parse(&self.meta.mac)
            .and_then(|sealed| cipher::open(key, &sealed, &self.meta.modified))
            .ok_or_else(|| self.error("the MAC does not decrypt: it or `lastmodified` was changed"))?;
        if !bool::from(expected.ct_eq(mac.finish().as_bytes())) {
            return Err(self.error("the MAC is another: values were changed, added, removed or moved"));
        }
        Ok(values)
    }

    /// The document with its values decrypted and marked as secret, at their places in the encrypted file.
    pub(crate) fn open_doc(&self, keys: &AgeKeys) -> Result<Doc> {
        let values = self.values(&self.unlock(keys)?)?;
        let mut out = DocBuilder::new(self.doc.source.clone(), &self.limits);
        self.copy(&mut out, self.doc.root(), NO_KEY, &values)?;
        Ok(out.finish())
    }

    fn copy(&self, out: &mut DocBuilder<'_>, at: u32, key: Text, values: &Values) -> Result<()> {
        let node = self.doc.node(at);
        let children = match node.payload() {
            Payload::Array(children) | Payload::Object(children) => children,
            payload => {
                let found = values.get(&at).and_then(Option::as_ref);
                let payload = match (found, payload) {
                    (Some(Scalar::Text(text)), _) => Payload::Text(out.decode(text)),
                    (Some(Scalar::Int(value)), _) => Payload::Int(*value),
                    (Some(Scalar::Float(value)), _) => Payload::Float(*value),
                    (Some(Scalar::Bool(value)), _) => Payload::Bool(*value),
                    (None, Payload::Text(text)) => Payload::Text(self.doc.copy_text(text, out)),
                    (None, payload) => payload,
                };
                let new = Node::new(key, node.span(), payload);
                let new = if node.is_loose() { new.loose() } else { new };
                return out.push(if found.is_some() { new.secret() } else { new });
            }
        };
        let open = out.open(node.span().start)?;
        let object = matches!(node.payload(), Payload::Object(_));
        for child in children.range() {
            let child = child as u32;
            let dropped = matches!(values.get(&child), Some(None));
            let metadata = at == self.doc.root() && outline::is_metadata(self.doc.key(child), self.format);
            if dropped || metadata {
                continue;
            }
            let key = self.doc.copy_text(self.doc.node(child).key(), out);
            self.copy(out, child, key, values)?;
        }
        let end = node.span().end;
        match object {
            true => out.close_object(open, key, end),
            false => out.close_array(open, key, end),
        }
        .map(drop)
    }
}
