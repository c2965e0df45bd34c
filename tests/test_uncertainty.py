"""Intervals against closed forms, another implementation, and how often they hold the truth."""

import numpy as np
import pytest
from scipy import stats

from sce_lab.metrics import difference, interval


def test_one_seed_is_students_interval_of_a_mean():
    gains = np.random.default_rng(0).random(50)
    found = interval(gains)
    low, high = stats.t.interval(0.95, 49, gains.mean(), stats.sem(gains))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert (found.mean, found.n_users, found.n_seeds) == (pytest.approx(gains.mean()), 50, 1)


def test_the_bootstrap_over_users_says_the_same():
    rng = np.random.default_rng(1)
    ours, theirs = (rng.random(800) < 0.2), (rng.random(800) < 0.25)
    sampled = stats.bootstrap(
        (ours.astype(float), theirs.astype(float)),
        lambda a, b, axis: a.mean(axis) - b.mean(axis),
        paired=True,
        method="percentile",
        random_state=rng,  # its name until scipy 1.15
        n_resamples=4000,
        vectorized=True,
    ).confidence_interval
    exact = difference(ours, theirs)
    width = exact.high - exact.low
    assert exact.low == pytest.approx(sampled.low, abs=0.06 * width)
    assert exact.high == pytest.approx(sampled.high, abs=0.06 * width)


def crossed(rng, n_users, n_seeds, mean, sd_user, sd_seed, sd_own):
    """Gains of users and seeds that are both drawn, with what is of one user in one run."""
    users, seeds = rng.normal(0, sd_user, n_users), rng.normal(0, sd_seed, (n_seeds, 1))
    return users, mean + users + seeds + rng.normal(0, sd_own, (n_seeds, n_users))


@pytest.mark.parametrize(
    ("n_users", "n_seeds", "sd_user", "sd_seed", "sd_own"),
    [
        (60, 1, 0.1, 0.0, 0.1),
        (60, 5, 0.1, 0.0, 0.1),  # seeds change nothing by themselves
        (200, 4, 0.05, 0.02, 0.1),  # seeds decide
        (40, 5, 0.1, 0.02, 0.05),
    ],
)
def test_the_interval_holds_the_truth_in_some_95_of_100_samples(n_users, n_seeds, sd_user, sd_seed, sd_own):
    rng = np.random.default_rng(2)
    n = 2000
    held = 0
    for _ in range(n):
        _, gains = crossed(rng, n_users, n_seeds, 0.5, sd_user, sd_seed, sd_own)
        found = interval(gains)
        held += found.low <= 0.5 <= found.high
    assert 0.925 <= held / n <= 0.975  # chance is half of that; where few seeds decide, it is .93


def test_seeds_are_not_taken_for_more_users():
    """Five runs judged on the same users: stacking their gains would give half the interval and hold too rarely."""
    rng = np.random.default_rng(3)
    _, gains = crossed(rng, 100, 5, 0.5, 0.1, 0.0, 0.001)
    one, five = interval(gains[0]), interval(gains)
    assert five.high - five.low == pytest.approx(one.high - one.low, rel=0.02)


def test_the_difference_of_two_models_holds_the_truth_in_95_of_100_samples():
    rng = np.random.default_rng(4)
    n, held, narrower = 1500, 0, 0
    for _ in range(n):
        users, ours = crossed(rng, 80, 3, 0.5, 0.2, 0.01, 0.05)
        theirs = 0.48 + users + rng.normal(0, 0.01, (4, 1)) + rng.normal(0, 0.05, (4, 80))
        found = difference(ours, theirs)
        held += found.low <= 0.02 <= found.high
        narrower += found.high - found.low < interval(ours).high - interval(ours).low
    assert 0.935 <= held / n <= 0.985
    assert narrower > 0.95 * n  # what all find easy or hard falls out


def test_hits_of_few_users():
    """268 users, an HR of .16: the interval is .16 +- .04, as for any proportion, and holds it about as often."""
    hits = np.arange(268) < 43
    found = interval(hits)
    assert (found.low, found.high) == pytest.approx((0.160 - 0.044, 0.160 + 0.044), abs=1e-3)
    rng = np.random.default_rng(5)
    held = sum(f.low <= 0.16 <= f.high for f in (interval(rng.random(268) < 0.16) for _ in range(2000)))
    assert 0.93 <= held / 2000 <= 0.965


def test_what_is_told_apart():
    hits = np.arange(300) < 60
    assert difference(hits, np.roll(hits, 5)).told_apart is False
    assert difference(hits, np.arange(300) < 30).told_apart is True
    same = difference(hits, hits)
    assert (same.mean, same.low, same.high, same.told_apart) == (0, 0, 0, False)
    flipped = difference(np.roll(hits, 5), hits)
    assert (flipped.low, flipped.high) == pytest.approx(tuple(-x for x in reversed(_ends(hits, np.roll(hits, 5)))))


def _ends(ours, theirs):
    found = difference(ours, theirs)
    return found.low, found.high


def test_an_interval_stays_between_0_and_1():
    assert interval([0] * 9 + [1]).low == 0
    assert interval([1] * 9 + [0]).high == 1


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="same users on both sides, got 3 and 4"):
        difference([0, 1, 0], [0, 1, 0, 1])
    with pytest.raises(ValueError, match=r"two users or more.*\(1, 1\)"):
        interval([1])
    with pytest.raises(ValueError, match=r"between 0 and 1, got 95"):
        interval([1, 0], confidence=95)
