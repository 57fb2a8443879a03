"""Writes drift.json: samples, and what scipy and river make of them.

Run with scipy 1.17.1 and river 0.26.1: python3 drift.py > drift.json
"""
import json
import random

from river.drift import ADWIN, PageHinkley
from scipy import stats

random.seed(11)


def rounded(values):
    return [round(value, 6) for value in values]


def normal(n, mean, deviation):
    return rounded(random.gauss(mean, deviation) for _ in range(n))


def exponential(n, mean):
    return rounded(random.expovariate(1 / mean) for _ in range(n))


def counts(n, mean):
    return [float(sum(random.random() < mean / 50 for _ in range(50))) for _ in range(n)]


PAIRS = [
    (normal(40, 0, 1), normal(30, 0, 1)),
    (normal(40, 0, 1), normal(30, 1, 1)),
    (normal(25, 50, 5), normal(60, 47, 9)),
    (exponential(80, 3), exponential(20, 3)),
    (exponential(80, 3), exponential(50, 6)),
    (counts(60, 4), counts(45, 4)),
    (counts(60, 4), counts(45, 6)),
    (normal(7, 5, 1), normal(9, 8, 1)),
    (normal(400, 0, 1), normal(300, 0.2, 1)),
    ([1.0, 1.0, 2.0, 2.0, 3.0], [2.0, 3.0, 3.0, 4.0, 4.0, 4.0]),
]

pairs = []
for baseline, recent in PAIRS:
    welch = stats.ttest_ind(recent, baseline, equal_var=False)
    ks = stats.ks_2samp(baseline, recent, method="exact")
    asymptotic = stats.ks_2samp(baseline, recent, method="asymp")
    mann = stats.mannwhitneyu(recent, baseline, method="asymptotic", use_continuity=True)
    pairs.append(
        {
            "baseline": baseline,
            "recent": recent,
            "welch": [welch.statistic, welch.pvalue],
            "ks_exact": [ks.statistic, ks.pvalue],
            "ks_asymptotic": [asymptotic.statistic, asymptotic.pvalue],
            "mann_whitney": [mann.statistic, mann.pvalue],
        }
    )

STREAMS = {
    "step": normal(600, 0, 1) + normal(600, 3, 1) + normal(600, -2, 1),
    "steady": normal(1500, 10, 2),
    "ramp": rounded(at / 200 + random.gauss(0, 0.5) for at in range(1500)),
    "bits": [float(random.random() < (0.2 if at < 900 else 0.6)) for at in range(1800)],
}

streams = []
for name, values in STREAMS.items():
    adwin, found, widths = ADWIN(), [], []
    for at, value in enumerate(values):
        adwin.update(value)
        if adwin.drift_detected:
            found.append(at)
        if at % 100 == 99:
            widths.append([at, adwin.width, adwin.estimation, adwin.variance])
    hinkley = {}
    for mode in ["up", "down", "both"]:
        detector, at_change = PageHinkley(mode=mode), []
        for at, value in enumerate(values):
            detector.update(value)
            if detector.drift_detected:
                at_change.append(at)
        hinkley[mode] = at_change
    streams.append({"name": name, "values": values, "adwin": found, "adwin_window": widths, "page_hinkley": hinkley})

TAILS = {
    "student": [[t, f, 2 * stats.t.sf(t, f)] for t in [0.1, 1.0, 2.5, 9.0] for f in [1, 3.7, 30, 1e6]],
    "chi_square": [[x, f, stats.chi2.sf(x, f)] for x in [0.5, 4.0, 30.0, 120.0] for f in [1, 9, 40]],
}

print(json.dumps({"scipy": "1.17.1", "river": "0.26.1", "pairs": pairs, "streams": streams, **TAILS}))
