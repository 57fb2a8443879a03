use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::error::{Error, Result};
use crate::name;

/// All the traffic, in basis points.
pub(crate) const WHOLE: u16 = 10_000;

/// How the traffic of a channel is divided: weights over versions that make 100 %, keys with a version of their own, and
/// perhaps a mirror.
///
/// ```
/// use swarm_registry::Split;
///
/// let split = Split::of([("v1.0", 80.0), ("v2.0", 20.0)])?.pin("tester@example.org", "v2.0");
/// assert_eq!(split.to_string(), "v1.0 80%, v2.0 20%");
/// assert!(split.weights().eq([("v1.0", 80.0), ("v2.0", 20.0)]));
/// assert!(Split::of([("v1.0", 0.8), ("v2.0", 0.2)]).is_err()); // fractions
/// # Ok::<(), swarm_registry::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    pub(crate) weights: Vec<(String, u16)>,
    pub(crate) mirror: Option<(String, u16)>,
    pub(crate) pins: BTreeMap<String, String>,
}

impl Split {
    /// Divides by percentages with at most two decimals. Versions with 0 are left out.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) where a weight is NaN, infinite, negative, over 100 or
    /// finer than 0.01, a version stands twice, or the sum is not 100; it says so where the weights look like fractions.
    pub fn of<V: Into<String>>(percentages: impl IntoIterator<Item = (V, f64)>) -> Result<Self> {
        let percentages: Vec<(String, f64)> = percentages.into_iter().map(|(v, p)| (v.into(), p)).collect();
        let sum: f64 = percentages.iter().map(|(_, percent)| percent).sum();
        let mut points = Vec::with_capacity(percentages.len());
        for (version, percent) in percentages {
            let fail = |why: &str| Err(Error::input(format!("the weight {percent} of {version:?} {why}")));
            if (sum - 1.0).abs() < 1e-9 && (0.0..=1.0).contains(&percent) {
                return fail("looks like a fraction; weights are percentages and make 100");
            }
            match basis_points(percent) {
                Ok(exact) => points.push((version, exact)),
                Err(why) => return fail(why),
            }
        }
        Split::of_basis_points(points)
    }

    /// Divides by basis points, of which 10,000 are the whole.
    ///
    /// # Errors
    /// As [`of`](Split::of).
    pub fn of_basis_points<V: Into<String>>(points: impl IntoIterator<Item = (V, u16)>) -> Result<Self> {
        let mut weights: Vec<(String, u16)> = Vec::new();
        let mut seen = BTreeSet::new();
        let mut sum = 0_u64;
        for (version, points) in points {
            let version = version.into();
            name::check("version id", &version)?;
            if !seen.insert(version.clone()) {
                return Err(Error::input(format!("{version:?} stands twice in a split")));
            }
            sum += u64::from(points);
            if points > 0 {
                weights.push((version, points));
            }
        }
        if sum != u64::from(WHOLE) {
            let percent = sum as f64 / 100.0;
            return Err(Error::input(format!("the weights make {percent} %, not 100 %")));
        }
        Ok(Split { weights, mirror: None, pins: BTreeMap::new() })
    }

    /// Everything to one version. In place of a split, that is a blue-green switch.
    pub fn all(version: impl Into<String>) -> Self {
        Split { weights: vec![(version.into(), WHOLE)], mirror: None, pins: BTreeMap::new() }
    }

    /// Gives `key` this version, whatever the weights say: a tester, a large customer.
    #[must_use]
    pub fn pin(mut self, key: impl Into<String>, version: impl Into<String>) -> Self {
        self.pins.insert(key.into(), version.into());
        self
    }

    /// Names a version that shall see a copy of `percent` of the traffic, its answers not used:
    /// [`Routed::mirror`](crate::Routed::mirror) tells for which keys. With 0 there is no mirror.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) where the percentage is NaN, infinite, negative, over 100
    /// or finer than 0.01.
    pub fn mirror(mut self, version: impl Into<String>, percent: f64) -> Result<Self> {
        let version = version.into();
        let points = basis_points(percent).map_err(|why| {
            Error::input(format!("the percentage {percent} of the mirror {} {why}", name::quoted(&version)))
        })?;
        self.mirror = (points > 0).then_some((version, points));
        Ok(self)
    }

    /// The versions and their percentages, in the order they were given: what [`of`](Split::of) takes.
    pub fn weights(&self) -> impl Iterator<Item = (&str, f64)> {
        self.basis_points().map(|(version, points)| (version, f64::from(points) / 100.0))
    }

    /// The versions and their basis points, in the order they were given: what
    /// [`of_basis_points`](Split::of_basis_points) takes, and exact.
    pub fn basis_points(&self) -> impl Iterator<Item = (&str, u16)> {
        self.weights.iter().map(|(version, points)| (&**version, *points))
    }

    /// Every version that it names.
    pub(crate) fn versions(&self) -> BTreeSet<&str> {
        named(&self.weights, self.mirror.as_ref(), &self.pins).collect()
    }
}

/// Every version that is weighed, mirrored to or pinned. One can come more than once.
pub(crate) fn named<'a, V: AsRef<str>>(
    weights: &'a [(V, u16)],
    mirror: Option<&'a (V, u16)>,
    pins: &'a BTreeMap<String, V>,
) -> impl Iterator<Item = &'a str> {
    let shares = weights.iter().chain(mirror).map(|(version, _)| version);
    shares.chain(pins.values()).map(AsRef::as_ref)
}

/// The basis points of a percentage, or what is wrong with it.
fn basis_points(percent: f64) -> Result<u16, &'static str> {
    if !percent.is_finite() {
        return Err("is not a number");
    }
    if percent < 0.0 {
        return Err("is negative");
    }
    if percent > 100.0 {
        return Err("is over 100 %");
    }
    let exact = percent * 100.0;
    if (exact - exact.round()).abs() > 1e-6 {
        return Err("is finer than 0.01 %");
    }
    // At most 10,000, which was checked above.
    Ok(exact.round() as u16)
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (version, points)) in self.weights.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{version} {}%", f64::from(*points) / 100.0)?;
        }
        Ok(())
    }
}
