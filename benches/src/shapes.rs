//! The graphs every contender runs, and the name lists every contender resolves.

/// The most dependencies a node of a [`Shape`] has; peers with typed inputs need a bound.
pub const MAX_PARENTS: usize = 3;

/// A directed acyclic graph whose nodes are numbered in topological order.
///
/// A node's value is one more than the sum of its parents' values, wrapping.
pub struct Shape {
    /// What the tables call it.
    pub name: String,
    parents: Vec<Vec<u32>>,
}

impl Shape {
    /// `steps` nodes, each after the one before.
    pub fn chain(steps: usize) -> Self {
        let parents = (0..steps as u32).map(|node| node.checked_sub(1).into_iter().collect());
        Self { name: format!("chain {}", count(steps)), parents: parents.collect() }
    }

    /// One source and `leaves` nodes that need it.
    pub fn fan_out(leaves: usize) -> Self {
        let parents = (0..=leaves).map(|node| if node == 0 { vec![] } else { vec![0] });
        Self { name: format!("fan-out {}", count(leaves)), parents: parents.collect() }
    }

    /// `width` chains side by side, `depth` nodes long.
    pub fn chains(width: usize, depth: usize) -> Self {
        let parents = (0..width * depth).map(|node| node.checked_sub(width).map(|up| up as u32));
        Self { name: format!("{width} chains of {depth}"), parents: parents.map(Vec::from_iter).collect() }
    }

    /// `depth` layers of `width` nodes; each node needs three of the layer above.
    pub fn layered(width: usize, depth: usize) -> Self {
        let parents = (0..width * depth).map(|node| {
            let Some(above) = (node / width).checked_sub(1) else { return vec![] };
            let mut parents: Vec<_> =
                (0..MAX_PARENTS).map(|k| (above * width + (node + k * 7) % width) as u32).collect();
            parents.sort_unstable();
            parents.dedup();
            parents
        });
        Self { name: format!("layered {width}x{depth}"), parents: parents.collect() }
    }

    /// `nodes` nodes, each after about three random earlier ones.
    pub fn random(nodes: usize) -> Self {
        Self { name: format!("random {}", count(nodes)), parents: random_parents(nodes) }
    }

    /// How many nodes there are.
    #[allow(clippy::len_without_is_empty, reason = "no shape is empty")]
    pub fn len(&self) -> usize {
        self.parents.len()
    }

    /// The nodes that `node` needs, ascending.
    pub fn parents(&self, node: usize) -> &[u32] {
        &self.parents[node]
    }

    /// For each node, the nodes that need it.
    pub fn children(&self) -> Vec<Vec<u32>> {
        let mut children = vec![vec![]; self.len()];
        for (node, parents) in self.parents.iter().enumerate() {
            for &parent in parents {
                children[parent as usize].push(node as u32);
            }
        }
        children
    }

    /// The value each node must end up with.
    pub fn values(&self) -> Vec<u64> {
        let mut values: Vec<u64> = Vec::with_capacity(self.len());
        for parents in &self.parents {
            values.push(sum(parents.iter().map(|&parent| values[parent as usize])));
        }
        values
    }
}

/// What a node makes of its inputs.
pub fn sum(inputs: impl IntoIterator<Item = u64>) -> u64 {
    inputs.into_iter().fold(1, u64::wrapping_add)
}

/// A list of names with the names each depends on, as a file would hold it: shuffled, dependencies spelt out,
/// about three a node.
pub struct NameList {
    text: String,
    nodes: Vec<(Span, Vec<Span>)>,
}

type Span = (u32, u32);

impl NameList {
    /// A list of `nodes` names without cycles.
    pub fn random(nodes: usize) -> Self {
        let mut numbers = SplitMix(7);
        let labels = numbers.permutation(nodes);
        let order = numbers.permutation(nodes);
        let parents = random_parents(nodes);
        let mut text = String::new();
        let mut spell = |node: u32| {
            let start = text.len() as u32;
            text.push_str(&format!("step-{:06}", labels[node as usize]));
            (start, text.len() as u32)
        };
        let nodes = order
            .iter()
            .map(|&node| (spell(node), parents[node as usize].iter().map(|&parent| spell(parent)).collect()))
            .collect();
        Self { text, nodes }
    }

    /// The names, each with the names it depends on.
    pub fn nodes(&self) -> Vec<(&str, Vec<&str>)> {
        let spelt = |&(start, end): &Span| &self.text[start as usize..end as usize];
        self.nodes.iter().map(|(name, after)| (spelt(name), after.iter().map(spelt).collect())).collect()
    }
}

/// Whether `order` holds every node once, and each after all it depends on.
pub fn is_execution_order(nodes: &[(&str, Vec<&str>)], order: &[&str]) -> bool {
    let place: std::collections::HashMap<_, _> =
        order.iter().enumerate().map(|(place, name)| (*name, place)).collect();
    order.len() == nodes.len()
        && place.len() == nodes.len()
        && nodes.iter().all(|(name, after)| after.iter().all(|before| place[before] < place[name]))
}

/// `1000` as `1k`, `1000000` as `1M`.
pub fn count(n: usize) -> String {
    match n {
        n if n >= 1_000_000 && n.is_multiple_of(1_000_000) => format!("{}M", n / 1_000_000),
        n if n >= 1_000 && n.is_multiple_of(1_000) => format!("{}k", n / 1_000),
        n => n.to_string(),
    }
}

fn random_parents(nodes: usize) -> Vec<Vec<u32>> {
    let mut numbers = SplitMix(42);
    let parents = (0..nodes).map(|node| {
        if node == 0 {
            return vec![];
        }
        let mut parents: Vec<_> = (0..MAX_PARENTS).map(|_| numbers.below(node) as u32).collect();
        parents.sort_unstable();
        parents.dedup();
        parents
    });
    parents.collect()
}

/// SplitMix64 (Steele, Lea, Flood 2014): the shapes are the same in every run.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    fn permutation(&mut self, n: usize) -> Vec<u32> {
        let mut items: Vec<u32> = (0..n as u32).collect();
        for last in (1..n).rev() {
            items.swap(last, self.below(last + 1));
        }
        items
    }
}
