//! `${a.b}`, `${env:NAME:-default}` and `${vault:path#key}` in texts.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::doc::{DocBuilder, Kind, NO_KEY, Payload};
use crate::error::{Error, ErrorKind, Result};
use crate::layer::{Known, interpret, write_value};
use crate::limits::Limits;
use crate::path::{self, Dotted};
use crate::secret::{Secret, SecretError};
use crate::source::{Origin, Source};
use crate::tree::{Ref, Tree, Value};

/// How long a chain of references may be.
const CHAIN: usize = 64;

/// One part of a template.
#[derive(Debug, PartialEq)]
pub(crate) enum Piece<'t> {
    Text(&'t str),
    Reference { name: &'t str, default: Option<&'t str> },
}

/// Splits a text. `$${` is `${` as it stands.
pub(crate) fn parts(text: &str) -> Result<Vec<Piece<'_>>, &'static str> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if at > 0 && rest.as_bytes()[at - 1] == b'$' {
            parts.push(Piece::Text(&rest[..at - 1]));
            parts.push(Piece::Text("${"));
            rest = &rest[at + 2..];
            continue;
        }
        if at > 0 {
            parts.push(Piece::Text(&rest[..at]));
        }
        let end = rest[at..].find('}').ok_or("`${` without its `}`; write `$${` for the text itself")? + at;
        let inside = &rest[at + 2..end];
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        if name.trim().is_empty() {
            return Err("`${}` names nothing");
        }
        if default.is_some_and(|default| default.contains("${")) {
            return Err("a default holds no `${…}`: it is taken as it stands, up to the first `}`; \
                        write a text, or give the value in an earlier layer");
        }
        parts.push(Piece::Reference { name: name.trim(), default });
        rest = &rest[end + 1..];
    }
    if !rest.is_empty() {
        parts.push(Piece::Text(rest));
    }
    Ok(parts)
}

#[derive(Clone)]
enum Made {
    Text(String),
    /// The value of another key, whole.
    Same(Ref),
    /// A table or list, looked up again once everything else is in place.
    Later(Vec<String>),
}

#[derive(Clone)]
struct Resolved {
    made: Made,
    secret: bool,
}

type Answer = Option<Result<Secret<String>, SecretError>>;
type Ask<'l> = &'l dyn Fn(&str, &str) -> Answer;

/// Who is asked for `${scheme:reference}`, and what was answered in this load.
pub(crate) struct Asked<'l> {
    ask: Ask<'l>,
    schemes: Vec<&'l str>,
    known: HashMap<String, Answer>,
}

impl<'l> Asked<'l> {
    pub(crate) fn new(ask: Ask<'l>, schemes: Vec<&'l str>) -> Asked<'l> {
        Asked { ask, schemes, known: HashMap::new() }
    }

    /// Asks once for the same reference.
    fn get(&mut self, name: &str, scheme: &str, reference: &str) -> &Answer {
        self.known.entry(name.to_owned()).or_insert_with(|| (self.ask)(scheme, reference))
    }
}

/// What is known of templates once they are in place.
#[derive(Default)]
pub(crate) struct Referred {
    /// Paths that hold a secret now.
    pub(crate) secrets: Vec<Vec<String>>,
    /// Paths of templates, each with one that it refers to.
    pub(crate) references: Vec<(Vec<String>, Vec<String>)>,
}

/// Replaces every template of the tree by what it stands for: all, or those of documents from the number `since` on,
/// the others being in place.
pub(crate) fn resolve(
    tree: &mut Tree,
    since: usize,
    known: &Known<'_>,
    asked: &mut Asked<'_>,
    limits: &Limits,
) -> Result<Referred> {
    let mut templates = Vec::new();
    if tree.docs[since..].iter().any(|doc| doc.refers()) {
        collect(tree.root(), since, &mut Vec::new(), &mut templates);
    }
    if templates.is_empty() {
        return Ok(Referred::default());
    }
    let mut resolver = Resolver {
        tree,
        since,
        asked,
        limits,
        done: HashMap::new(),
        chain: Vec::new(),
        bytes: 0,
        references: Vec::new(),
    };
    for (path, _) in &templates {
        resolver.template(path)?;
    }
    let (done, references) = (resolver.done, resolver.references);
    let secrets = done.iter().filter(|(_, made)| made.secret).map(|(path, _)| path.clone()).collect();
    let referred = Referred { secrets, references };

    // Texts go into a document of their own, as the items of one list.
    let source = Source::new(Origin::Code("interpolation".into()), String::new());
    let mut out = DocBuilder::new(source, limits);
    let open = out.open(0)?;
    let mut texts = Vec::new();
    for (path, at) in &templates {
        if let Some(Resolved { made: Made::Text(text), .. }) = done.get(path) {
            let kind = known.walk(path).kind().filter(|kind| *kind != Kind::Array);
            let key = out.decode(tree.value(*at).key());
            let (value, loose) = interpret(text, kind, None, limits);
            write_value(&mut out, key, &value, 0..0, loose)?;
            texts.push(*at);
        }
    }
    out.close_array(open, NO_KEY, 0)?;
    let doc = Arc::new(out.finish());
    let items = Tree::of(doc.clone()).root().at;
    let Payload::Array(items) = doc.node(items.node()).payload() else { return Ok(referred) };
    tree.add_doc(doc);
    let doc = tree.docs.len() - 1;
    let mut new: HashMap<Ref, Ref> = HashMap::new();
    for (position, at) in texts.iter().enumerate() {
        let made = Ref::new(doc, items.first + position as u32);
        new.insert(*at, made);
    }
    for (path, at) in &templates {
        let Some(resolved) = done.get(path) else { continue };
        if let Made::Same(other) = &resolved.made {
            let other = new.get(other).copied().unwrap_or(*other);
            let same = tree.add_same(*at, other);
            new.insert(*at, same);
        }
        if let Some(made) = new.get(at) {
            tree.templates.insert(*made, *at);
            if resolved.secret {
                let content = tree.value(*made).at;
                tree.mark([*made, content]);
            }
        }
    }
    replace(tree, &new);
    // What stands for a table or a list sees the texts in place, but not another of its kind.
    let later = |path: &Vec<String>| match done.get(path) {
        Some(Resolved { made: Made::Later(target), .. }) => Some(target),
        _ => None,
    };
    let paths: BTreeSet<&Vec<String>> =
        templates.iter().map(|(path, _)| path).filter(|path| later(path).is_some()).collect();
    let mut sizes: HashMap<Ref, Size> = HashMap::new();
    let mut values = 0usize;
    let mut places = HashMap::new();
    for (path, at) in &templates {
        let Some(target) = later(path) else { continue };
        let Some(value) = tree.walk(target) else { continue };
        if let Some(inner) =
            paths.range::<Vec<String>, _>(target..).next().filter(|inner| inner.starts_with(target))
        {
            let message =
                format!("`{}` holds `{}`, which stands for a table too", Dotted(target), Dotted(inner));
            return Err(wrong(tree.value(*at), path, message));
        }
        let size = *sizes.entry(value.at).or_insert_with(|| Size::of(value));
        values = values.saturating_add(size.values);
        let reached = match () {
            () if values > limits.nodes => Some((limits.nodes, "values")),
            () if path.len() + size.height > limits.max_depth() => {
                Some((limits.max_depth(), "levels of nesting"))
            }
            () => None,
        };
        if let Some((limit, what)) = reached {
            let message = format!("what references stand for takes more than {limit} {what}");
            return Err(Error::new(ErrorKind::Limit, message).in_path(Dotted(path)));
        }
        let content = value.at;
        places.insert(*at, tree.add_same(*at, content));
    }
    for (old, new) in &places {
        tree.templates.insert(*new, *old);
    }
    replace(tree, &places);
    Ok(referred)
}

/// What a value amounts to where it is used once more.
#[derive(Clone, Copy)]
struct Size {
    values: usize,
    /// Containers within each other.
    height: usize,
}

impl Size {
    fn of(value: Value<'_>) -> Size {
        let mut size =
            Size { values: 1, height: usize::from(matches!(value.kind(), Kind::Array | Kind::Object)) };
        value.children().map(Size::of).for_each(|child| {
            size.values += child.values;
            size.height = size.height.max(child.height + 1);
        });
        size
    }
}

fn replace(tree: &mut Tree, new: &HashMap<Ref, Ref>) {
    let root = tree.root;
    if !new.is_empty()
        && let Some(root) = tree.replace(root, new)
    {
        tree.root = root;
    }
}

/// Whether it is a text that refers to something, and was not put in place before.
fn is_template(value: Value<'_>, since: usize) -> bool {
    let is_new = since == 0 || value.named.as_join().is_none() && value.named.doc() >= since;
    is_new && value.as_str().is_some_and(|text| text.contains("${"))
}

fn collect(value: Value<'_>, since: usize, path: &mut Vec<String>, found: &mut Vec<(Vec<String>, Ref)>) {
    if is_template(value, since) {
        found.push((path.clone(), value.named));
    }
    for (key, child) in value.entries() {
        path.push(key.to_owned());
        collect(child, since, path, found);
        path.pop();
    }
    for (position, child) in value.items().enumerate() {
        path.push(position.to_string());
        collect(child, since, path, found);
        path.pop();
    }
}

fn wrong(value: Value<'_>, path: &[String], message: impl Into<String>) -> Error {
    let (source, span) = value.place();
    // What looks like a reference may be a piece of the secret.
    let is_reference =
        || value.as_str().is_some_and(|text| matches!(parts(text).as_deref(), Ok([Piece::Reference { .. }])));
    let message = match value.is_secret() && !is_reference() {
        true => "a reference in it leads nowhere; write `$${` for `${` itself".to_owned(),
        false => message.into(),
    };
    let error = Error::new(ErrorKind::Interpolation, message).at(&source, span).in_path(Dotted(path));
    let error = error.masking(value.tree.masked(&[]));
    if value.is_secret() { error.hiding_lines() } else { error }
}

fn unprovided(value: Value<'_>, path: &[String], name: &str, why: SecretError) -> Error {
    let (source, span) = value.place();
    let error = Error::new(ErrorKind::Secret, format!("`{name}`: {why}")).at(&source, span);
    // The text around a reference may be secret, the reference is not.
    let error = error.in_path(Dotted(path)).hiding_lines();
    if why.is_retryable() { error.retryable() } else { error }
}

/// Whether a text is one reference to a provider and nothing else, so that it gives nothing away.
pub(crate) fn is_reference(text: &str) -> bool {
    matches!(parts(text).as_deref(), Ok([Piece::Reference { name, default: None }]) if name.contains(':'))
}

struct Resolver<'t, 'l> {
    tree: &'t Tree,
    since: usize,
    asked: &'t mut Asked<'l>,
    limits: &'t Limits,
    done: HashMap<Vec<String>, Resolved>,
    chain: Vec<Vec<String>>,
    /// All texts that were made.
    bytes: usize,
    references: Vec<(Vec<String>, Vec<String>)>,
}

impl Resolver<'_, '_> {
    /// What the template at a path stands for.
    fn template(&mut self, path: &[String]) -> Result<Resolved> {
        if let Some(done) = self.done.get(path) {
            return Ok(done.clone());
        }
        let Some(value) = self.tree.walk(path) else {
            return Err(Error::new(ErrorKind::Interpolation, "names nothing").in_path(Dotted(path)));
        };
        if let Some(from) = self.chain.iter().position(|before| before == path) {
            let ring: Vec<String> = self.chain[from..].iter().map(|path| Dotted(path).to_string()).collect();
            let message = format!("refers back to itself: {} -> {}", ring.join(" -> "), Dotted(path));
            return Err(wrong(value, path, message));
        }
        if self.chain.len() == CHAIN {
            let error = Error::new(ErrorKind::Limit, format!("more than {CHAIN} references in a row"));
            return Err(error.in_path(Dotted(path)));
        }
        self.chain.push(path.to_vec());
        let text = value.as_str().unwrap_or_default();
        let parts = parts(text).map_err(|message| wrong(value, path, message))?;
        let resolved = self.parts(value, path, &parts)?;
        self.chain.pop();
        if let Made::Text(text) = &resolved.made {
            self.bytes += text.len();
            if self.bytes > self.limits.max_bytes() {
                let message =
                    format!("what references stand for takes more than {} bytes", self.limits.max_bytes());
                return Err(Error::new(ErrorKind::Limit, message).in_path(Dotted(path)));
            }
        }
        self.done.insert(path.to_vec(), resolved.clone());
        Ok(resolved)
    }

    fn parts(&mut self, value: Value<'_>, path: &[String], parts: &[Piece<'_>]) -> Result<Resolved> {
        if let [Piece::Reference { name, default }] = parts {
            return self.reference(value, path, name, *default);
        }
        let mut text = String::new();
        let mut secret = value.is_secret();
        for part in parts {
            match part {
                Piece::Text(part) => text.push_str(part),
                Piece::Reference { name, default } => {
                    let found = self.reference(value, path, name, *default)?;
                    secret |= found.secret;
                    match found.made {
                        Made::Text(part) => text.push_str(&part),
                        Made::Same(at) => match self.tree.value(at).payload() {
                            Payload::Text(_) => {
                                text.push_str(self.tree.value(at).as_str().unwrap_or_default())
                            }
                            Payload::Null => {
                                return Err(wrong(
                                    value,
                                    path,
                                    format!("`{name}` is null, which is no text"),
                                ));
                            }
                            _ => text.push_str(&plain(self.tree.value(at))),
                        },
                        Made::Later(_) => {
                            let message =
                                format!("`{name}` is a table or a list, which does not go into a text");
                            return Err(wrong(value, path, message));
                        }
                    }
                }
            }
            if text.len() > self.limits.string {
                let message = format!("more than {} bytes in a string", self.limits.string);
                return Err(Error::new(ErrorKind::Limit, message).in_path(Dotted(path)));
            }
        }
        Ok(Resolved { made: Made::Text(text), secret })
    }

    fn reference(
        &mut self,
        value: Value<'_>,
        path: &[String],
        name: &str,
        default: Option<&str>,
    ) -> Result<Resolved> {
        let secret = value.is_secret();
        let text = |text: &str| Ok(Resolved { made: Made::Text(text.to_owned()), secret });
        if let Some((scheme, rest)) = name.split_once(':') {
            return match self.asked.get(name, scheme, rest) {
                Some(Ok(found)) if found.expose().len() > self.limits.string => {
                    let message = format!("`{name}` has more than {} bytes", self.limits.string);
                    Err(Error::new(ErrorKind::Limit, message).in_path(Dotted(path)))
                }
                Some(Ok(found)) => Ok(Resolved { made: Made::Text(found.expose().clone()), secret: true }),
                Some(Err(SecretError::NotFound)) if default.is_some() => text(default.unwrap_or_default()),
                Some(Err(SecretError::NotFound)) if scheme == "env" => {
                    Err(wrong(value, path, format!("the environment variable {rest} is not set")))
                }
                Some(Err(error)) => Err(unprovided(value, path, name, *error)),
                None => {
                    let there = self.asked.schemes.iter().map(|scheme| format!("`{scheme}:`"));
                    let there = there.collect::<Vec<_>>().join(", ");
                    Err(wrong(value, path, format!("nobody provides `{scheme}:`; there is {there}")))
                }
            };
        }
        let named = path::parse(name).map_err(|_| wrong(value, path, format!("`{name}` is no path")))?;
        let (target, below_secret) = self.followed(named)?;
        let secret = secret || below_secret;
        let Some(found) = self.tree.walk(&target) else {
            return match default {
                Some(default) => text(default),
                None if is_variable(name) => {
                    Err(wrong(value, path, format!("there is no `{name}`; a variable is `${{env:{name}}}`")))
                }
                None => Err(wrong(value, path, format!("there is no `{name}`"))),
            };
        };
        self.references.push((path.to_vec(), target.clone()));
        if matches!(found.kind(), Kind::Array | Kind::Object) {
            if path.starts_with(&target) {
                return Err(wrong(value, path, format!("refers back to itself: it is in `{name}`")));
            }
            return Ok(Resolved { made: Made::Later(target), secret: secret || found.is_secret() });
        }
        if is_template(found, self.since) {
            let mut resolved = self.template(&target)?;
            resolved.secret |= secret;
            return Ok(resolved);
        }
        Ok(Resolved { made: Made::Same(found.named), secret: secret || found.is_secret() })
    }

    /// Where a path leads that goes on below a reference to a table, and whether a secret is on the way.
    fn followed(&mut self, mut target: Vec<String>) -> Result<(Vec<String>, bool)> {
        let mut secret = false;
        for _ in 0..CHAIN {
            let mut value = self.tree.root();
            let stop = target.iter().position(|part| match value.child(part) {
                Some(child) => {
                    value = child;
                    false
                }
                None => true,
            });
            let Some(stop) = stop.filter(|_| is_template(value, self.since)) else { break };
            let Resolved { made: Made::Later(table), secret: is_secret } = self.template(&target[..stop])?
            else {
                break;
            };
            secret |= is_secret;
            target.splice(..stop, table);
        }
        Ok((target, secret))
    }
}

/// Whether it looks like the name of an environment variable.
fn is_variable(name: &str) -> bool {
    name.bytes().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == b'_')
}

/// A number or a boolean as text.
fn plain(value: Value<'_>) -> String {
    match value.payload() {
        Payload::Bool(value) => value.to_string(),
        Payload::Int(value) => value.to_string(),
        Payload::Uint(value) => value.to_string(),
        Payload::Float(value) => value.to_string(),
        _ => String::new(),
    }
}
