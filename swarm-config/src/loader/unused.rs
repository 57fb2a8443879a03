//! Patterns that fit nothing: a misspelt one would let a secret be seen.

use super::{ConfigLoader, Loaded, nearest};
use crate::layer::Known;
use crate::path::Pattern;
use crate::report::{Finding, Severity};

impl ConfigLoader {
    /// A warning for each path of [`secret`](ConfigLoader::secret) and [`merge_with`](ConfigLoader::merge_with) at which no
    /// layer has a value, and schema and type no key.
    pub(super) fn unused(&self, loaded: &Loaded, known: &Known<'_>) -> Vec<Finding> {
        let secrets = self.secrets.iter().map(|path| ("secret", path));
        let strategies = self.strategies.iter().map(|(path, _)| ("merge_with", path));
        let finding = |(what, text): (&str, &String)| {
            let Pattern(pattern) = Pattern::parse(text).ok()?;
            let tree = &loaded.tree;
            let mut fits = known.may_have(&pattern);
            for root in tree.origins.layers.iter().copied().chain([tree.root]) {
                tree.value(root).matching(&pattern, &mut |_| fits = true);
            }
            if fits {
                return None;
            }
            let near = pattern
                .split_last()
                .and_then(|(key, parent)| nearest(key, tree.walk(parent)?.entries().map(|(key, _)| key)));
            let message = format!("nothing is known of `{text}`, which `{what}` names");
            let finding = Finding::of("unused-pattern", Severity::Warning, Vec::new(), message);
            Some(Finding { suggestion: near.map(|near| format!("did you mean `{near}`?")), ..finding })
        };
        secrets.chain(strategies).filter_map(finding).collect()
    }
}
