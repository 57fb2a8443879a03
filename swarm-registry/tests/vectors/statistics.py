"""Makes statistics.json: reference figures for the tests of the judge.

    pip install numpy==2.4.6 scipy==1.17.1 statsmodels
    python statistics.py > statistics.json
"""
import json
from fractions import Fraction
from math import comb

import numpy as np
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep, proportions_ztest

rng = np.random.default_rng(20261121)
samples = [
    ("normal", rng.normal(10, 2, 12), rng.normal(11, 3, 17)),
    ("exponential", rng.exponential(1, 40), rng.exponential(1.4, 25)),
    ("large", rng.normal(0, 1, 300), rng.normal(0.2, 1, 200)),
    ("ties", rng.integers(0, 5, 30).astype(float), rng.integers(1, 6, 30).astype(float)),
    ("mostly_equal", np.r_[np.zeros(25), np.ones(5)], np.r_[np.zeros(18), np.ones(12)]),
    ("tiny_spread", 1e3 + rng.normal(0, 1e-3, 15), 1e3 + rng.normal(1e-3, 1e-3, 15)),
    ("huge_and_small", rng.normal(1e-9, 1e-10, 20), rng.normal(2e-9, 1e-9, 20)),
    ("far_apart", rng.normal(0, 1, 20), rng.normal(50, 1, 20)),
]
out = {"welch": [], "mann_whitney": [], "proportions": [], "student": [], "normal": [], "chi_square": []}
for name, a, b in samples:
    for level in (0.05, 0.001):
        welch = stats.ttest_ind(b, a, equal_var=False)  # typos:ignore-line
        interval = welch.confidence_interval(1 - level)
        out["welch"].append({
            "name": name, "a": a.tolist(), "b": b.tolist(), "level": level,
            "difference": float(b.mean() - a.mean()), "p": float(welch.pvalue),
            "low": float(interval.low), "high": float(interval.high),
            "effect": float((b.mean() - a.mean()) / np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2))})
        rank = stats.mannwhitneyu(b, a, method="asymptotic", use_continuity=True)
        pairs = np.sort((b[:, None] - a[None, :]).ravel())
        n, m = len(a), len(b)
        _, counts = np.unique(np.r_[a, b], return_counts=True)
        ties = float((counts.astype(float) ** 3 - counts).sum())
        deviation = np.sqrt(n * m / 12 * ((n + m + 1) - ties / ((n + m) * (n + m - 1))))
        cut = int(np.floor(n * m / 2 - stats.norm.isf(level / 2) * deviation))
        out["mann_whitney"].append({
            "name": name, "a": a.tolist(), "b": b.tolist(), "level": level,
            "difference": float(np.median(pairs)), "p": float(rank.pvalue),
            "low": float(pairs[cut - 1]), "high": float(pairs[n * m - cut]),
            "effect": float(2 * rank.statistic / (n * m) - 1)})
for a, b in [((15, 100), (3, 100)), ((0, 50), (4, 60)), ((990, 1000), (950, 1000)), ((12, 40), (40, 100)), ((50, 50), (49, 50)), ((990, 1000), (9, 10)), ((4000, 5000), (1500, 2000)), ((3, 10**9), (9, 10**6))]:
    for level in (0.05, 0.001):
        _, p = proportions_ztest([b[0], a[0]], [b[1], a[1]])
        pooled = (a[0] + b[0]) / (a[1] + b[1])
        if min(a[1], b[1]) * min(pooled, 1 - pooled) < 100:
            # In whole numbers: scipy's logarithms of factorials lose eight digits of the row of a thousand million.
            side = min(range(2), key=lambda side: (a[0] + b[0], a[1] - a[0] + b[1] - b[0])[side])
            (x, y) = (a[0], b[0]) if side == 0 else (a[1] - a[0], b[1] - b[0])
            ways = [(k, comb(b[1], k) * comb(a[1], x + y - k)) for k in range(min(b[1], x + y) + 1)]
            tails = [sum(w for k, w in ways if k >= y), sum(w for k, w in ways if k <= y)]
            p = min(1.0, 2 * float(Fraction(min(tails), comb(a[1] + b[1], x + y))))
        low, high = confint_proportions_2indep(b[0], b[1], a[0], a[1], method="newcomb", compare="diff", alpha=level)
        h = 2 * np.arcsin(np.sqrt(b[0] / b[1])) - 2 * np.arcsin(np.sqrt(a[0] / a[1]))
        out["proportions"].append({"a": a, "b": b, "level": level, "difference": b[0] / b[1] - a[0] / a[1],
                                   "p": float(p), "low": float(low), "high": float(high), "effect": float(h)})
for freedom in (1.0, 1.7, 5.0, 19.5, 39.9, 40.1, 300.0, 9e4, 1.1e5, 1e8):
    for t in (1e-6, 0.5, 1.96, 3.3, 8.0, 30.0):
        out["student"].append([t, freedom, float(2 * stats.t.sf(t, freedom))])
for z in (-3.0, 0.0, 0.1, 1.96, 5.0, 12.0):
    out["normal"].append([z, float(stats.norm.sf(z))])
for freedom in (1, 2, 3, 7, 99, 9999):
    for scale in (0.01, 0.5, 1.0, 1.05, 1.5, 4.0):
        x = freedom * scale
        out["chi_square"].append([x, freedom, float(stats.chi2.sf(x, freedom))])
print(json.dumps(out, indent=0))
