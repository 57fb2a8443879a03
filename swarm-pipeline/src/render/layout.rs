//! Where the boxes and edges of a layered drawing go: levels from left to right, few crossings, short edges.
//!
//! After Sugiyama, Tagawa and Toda (1981): long edges get a waypoint on each level they cross, levels are ordered by
//! the barycentres of their neighbours, and heights are the least-squares fit to the neighbours' heights that
//! keeps order and distance (isotonic regression by pooling adjacent violators).

use crate::graph::Graph;

/// What the drawing has to leave room for, in pixels.
pub(super) struct Sizes {
    /// The height of a box.
    pub(super) height: f64,
    /// The width of the box of each node.
    pub(super) widths: Vec<f64>,
    /// Between boxes above each other.
    pub(super) row_gap: f64,
    /// Between boxes beside each other.
    pub(super) column_gap: f64,
    /// A level of more boxes than this is folded into several columns.
    pub(super) rows: usize,
}

pub(super) struct Layout {
    /// The left upper corner of each node's box.
    pub(super) corners: Vec<(f64, f64)>,
    /// Ordered by dependent.
    pub(super) edges: Vec<Edge>,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// An edge from a dependency to a dependent, and the points it leads through.
pub(super) struct Edge {
    pub(super) from: u32,
    pub(super) to: u32,
    pub(super) points: Vec<(f64, f64)>,
}

/// Boxes (below `nodes`) and waypoints (from there on) by level.
struct Layers<'s> {
    sizes: &'s Sizes,
    nodes: usize,
    levels: Vec<Vec<usize>>,
    before: Vec<Vec<usize>>,
    after: Vec<Vec<usize>>,
    /// The place in its level, then the height of the middle.
    y: Vec<f64>,
}

pub(super) fn layered(graph: &Graph, sizes: &Sizes) -> Layout {
    let level = graph.levels();
    let depth = level.iter().max().map_or(0, |deepest| *deepest as usize + 1);
    let nodes = graph.len();
    let mut layers = Layers {
        sizes,
        nodes,
        levels: vec![Vec::new(); depth],
        before: vec![Vec::new(); nodes],
        after: vec![Vec::new(); nodes],
        y: Vec::new(),
    };
    for &node in graph.order() {
        layers.levels[level[node as usize] as usize].push(node as usize);
    }
    // Beyond this many waypoints a drawing is a thicket anyway, and edges may pass behind boxes.
    let mut budget = nodes * 4 + 64;
    let mut routes = Vec::with_capacity(graph.edge_count());
    for to in 0..nodes as u32 {
        for &from in graph.dependencies(to) {
            let (first, last) = (level[from as usize] as usize + 1, level[to as usize] as usize);
            let mut route = vec![from as usize];
            if last - first <= budget {
                budget -= last - first;
                for crossed in first..last {
                    let waypoint = layers.before.len();
                    layers.levels[crossed].push(waypoint);
                    layers.before.push(Vec::new());
                    layers.after.push(Vec::new());
                    route.push(waypoint);
                }
            }
            route.push(to as usize);
            for pair in route.windows(2) {
                layers.after[pair[0]].push(pair[1]);
                layers.before[pair[1]].push(pair[0]);
            }
            routes.push((from, to, route));
        }
    }
    layers.order();
    layers.heights();
    layers.place(routes)
}

impl Layers<'_> {
    /// Sorts each level by where its neighbours are, to and fro.
    fn order(&mut self) {
        self.y = vec![0.0; self.before.len()];
        let mut levels = std::mem::take(&mut self.levels);
        for level in &levels {
            self.number(level);
        }
        for pass in 0..8 {
            let forth = pass % 2 == 0;
            for at in 0..levels.len() {
                let level = if forth { at } else { levels.len() - 1 - at };
                let neighbours = if forth { &self.before } else { &self.after };
                let mut keyed: Vec<(f64, usize)> = levels[level]
                    .iter()
                    .map(|&v| (mean(neighbours[v].iter().map(|n| self.y[*n])).unwrap_or(self.y[v]), v))
                    .collect();
                keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
                levels[level] = keyed.into_iter().map(|(_, v)| v).collect();
                self.number(&levels[level]);
            }
        }
        self.levels = levels;
    }

    /// Spreads a level over 0 to 1, so that levels of different sizes compare.
    fn number(&mut self, level: &[usize]) {
        for (at, &v) in level.iter().enumerate() {
            self.y[v] = (at as f64 + 0.5) / level.len() as f64;
        }
    }

    fn columns(&self, level: &[usize]) -> usize {
        level.iter().filter(|v| **v < self.nodes).count().div_ceil(self.sizes.rows.max(1)).max(1)
    }

    /// The level from top to bottom: rows of up to `columns` boxes, or one waypoint.
    fn rows(&self, level: &[usize]) -> Vec<Vec<usize>> {
        let columns = self.columns(level);
        let mut rows: Vec<Vec<usize>> = Vec::new();
        for &v in level {
            match rows.last_mut() {
                Some(row) if v < self.nodes && row[0] < self.nodes && row.len() < columns => row.push(v),
                _ => rows.push(vec![v]),
            }
        }
        rows
    }

    fn heights(&mut self) {
        let levels: Vec<Vec<Vec<usize>>> = self.levels.iter().map(|level| self.rows(level)).collect();
        let room = |row: &[usize]| match row[0] < self.nodes {
            true => self.sizes.height + self.sizes.row_gap,
            false => self.sizes.row_gap.max(6.0),
        };
        let rooms: Vec<Vec<f64>> =
            levels.iter().map(|rows| rows.iter().map(|row| room(row)).collect()).collect();
        for (rows, rooms) in levels.iter().zip(&rooms) {
            let mut top = -rooms.iter().sum::<f64>() / 2.0;
            for (row, room) in rows.iter().zip(rooms) {
                row.iter().for_each(|v| self.y[*v] = top + room / 2.0);
                top += room;
            }
        }
        for pass in 0..9 {
            for at in 0..levels.len() {
                let level = if pass % 2 == 0 { at } else { levels.len() - 1 - at };
                let wanted = |row: &Vec<usize>| {
                    let (before, after) = (pass % 2 == 0 || pass == 8, pass % 2 == 1 || pass == 8);
                    let near = row.iter().flat_map(|v| {
                        let before = self.before[*v].iter().filter(move |_| before);
                        before.chain(self.after[*v].iter().filter(move |_| after))
                    });
                    mean(near.map(|v| self.y[*v])).unwrap_or(self.y[row[0]])
                };
                let wanted: Vec<f64> = levels[level].iter().map(wanted).collect();
                for (row, y) in levels[level].iter().zip(spread(&wanted, &rooms[level])) {
                    row.iter().for_each(|v| self.y[*v] = y);
                }
            }
        }
        let half = |v: usize| if v < self.nodes { self.sizes.height / 2.0 } else { 2.0 };
        let top = (0..self.y.len()).map(|v| self.y[v] - half(v)).fold(f64::INFINITY, f64::min);
        self.y.iter_mut().for_each(|y| *y -= top);
    }

    fn place(self, routes: Vec<(u32, u32, Vec<usize>)>) -> Layout {
        // The left and right ends of each box or waypoint.
        let mut ends = vec![(0.0, 0.0); self.y.len()];
        let mut left: f64 = 0.0;
        let mut right: f64 = 0.0;
        for level in &self.levels {
            let boxes = level.iter().filter(|v| **v < self.nodes);
            let widest = boxes.map(|v| self.sizes.widths[*v]).fold(0.0, f64::max);
            let step = widest + self.sizes.column_gap / 2.0;
            right = left + step * (self.columns(level) - 1) as f64 + widest;
            for row in self.rows(level) {
                for (column, &v) in row.iter().enumerate() {
                    let x = left + step * column as f64;
                    ends[v] = match v < self.nodes {
                        true => (x, x + self.sizes.widths[v]),
                        false => (left, right),
                    };
                }
            }
            left = right + self.sizes.column_gap;
        }
        let points = |route: &[usize]| {
            let mut points = Vec::with_capacity(route.len() * 2);
            for (at, &v) in route.iter().enumerate() {
                points.extend((at > 0).then_some((ends[v].0, self.y[v])));
                points.extend((at + 1 < route.len()).then_some((ends[v].1, self.y[v])));
            }
            points
        };
        let edges = routes
            .iter()
            .map(|(from, to, route)| Edge { from: *from, to: *to, points: points(route) })
            .collect();
        let half = self.sizes.height / 2.0;
        let corners = (0..self.nodes).map(|v| (ends[v].0, self.y[v] - half)).collect();
        let bottom = |v: usize| self.y[v] + if v < self.nodes { half } else { 2.0 };
        let height = (0..self.y.len()).map(bottom).fold(0.0, f64::max);
        Layout { corners, edges, width: right, height }
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0_u32), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

/// The middles nearest to `wanted`, in the sense of least squares, at which rows of these heights do not overlap.
fn spread(wanted: &[f64], rooms: &[f64]) -> Vec<f64> {
    // Without the distances that are due anyway, the middles only have to be in ascending order.
    let mut due = 0.0;
    let mut offsets = Vec::with_capacity(rooms.len());
    for (at, room) in rooms.iter().enumerate() {
        due += if at == 0 { 0.0 } else { (rooms[at - 1] + room) / 2.0 };
        offsets.push(due);
    }
    let mut blocks: Vec<(f64, usize)> = Vec::new();
    for (wanted, offset) in wanted.iter().zip(&offsets) {
        let mut block = (wanted - offset, 1);
        while let Some((sum, count)) = blocks.pop_if(|(sum, n)| *sum / *n as f64 > block.0 / block.1 as f64) {
            block = (block.0 + sum, block.1 + count);
        }
        blocks.push(block);
    }
    let level = blocks.iter().flat_map(|(sum, count)| std::iter::repeat_n(sum / *count as f64, *count));
    level.zip(offsets).map(|(level, offset)| level + offset).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn boxes_never_overlap_and_edges_lead_right(
            edges in prop::collection::vec((0_usize..40, 0_usize..40), 0..120),
            rows in 1_usize..12,
        ) {
            let names: Vec<String> = (0..40).map(|n| format!("s{n}")).collect();
            let mut dependencies = vec![Vec::new(); 40];
            for (a, b) in edges.into_iter().filter(|(a, b)| a != b) {
                dependencies[a.max(b)].push(&*names[a.min(b)]);
            }
            let graph = Graph::resolve(names.iter().map(|name| &**name).zip(dependencies)).unwrap();
            let widths: Vec<f64> = (0..40).map(|n| 40.0 + f64::from(n)).collect();
            let sizes = Sizes { height: 20.0, widths, row_gap: 6.0, column_gap: 30.0, rows };
            let layout = layered(&graph, &sizes);
            for (a, one) in layout.corners.iter().enumerate() {
                prop_assert!(one.0 >= 0.0 && one.1 >= -1e-6);
                prop_assert!(one.0 + sizes.widths[a] <= layout.width && one.1 + 20.0 <= layout.height + 1e-6);
                for (b, other) in layout.corners.iter().enumerate().skip(a + 1) {
                    let beside = one.0 + sizes.widths[a] <= other.0 || other.0 + sizes.widths[b] <= one.0;
                    prop_assert!(beside || (one.1 - other.1).abs() >= 20.0, "{a} and {b}");
                }
            }
            prop_assert_eq!(layout.edges.len(), graph.edge_count());
            for Edge { from, to, points } in &layout.edges {
                prop_assert!(points.is_sorted_by_key(|point| point.0), "{from} to {to}");
            }
        }
    }
}
