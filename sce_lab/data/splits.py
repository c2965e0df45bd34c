"""From interactions to what a sequential recommender trains on and is judged by.

Two protocols, both of the papers this lab reproduces: ``leave_one_out``, which looks at each user alone, and
``temporal_split``, which divides the whole data set at one moment so that nothing of the future can leak into training.
Both keep repeated interactions (a user who consumes an item again) as they are in the data.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from sce_lab.data.interactions import check_interactions, count
from sce_lab.data.labels import as_labels
from sce_lab.data.sequences import Holdout, Sequences, Split, offsets_of


def leave_one_out(interactions: pd.DataFrame, *, catalog_size: int | None = None, name: str = "") -> Split:
    """Hold out the last item of every user for test and the one before for validation; train on the rest.

    A user's order is that of the timestamps; equal timestamps keep the order of the rows. Users with fewer than three
    interactions cannot be held out and are used for training only, with everything they have.

    Args:
        interactions: DataFrame with the columns user, item, timestamp.
        catalog_size: if given, items already are rows 0..catalog_size-1 (some may never occur); otherwise the catalog
            is every item that occurs anywhere in the data, in the order of first appearance.
        name: passed on to the split.

    Raises:
        ValueError: no user has three interactions, items outside a given catalog, or interactions that are unusable.
    """
    everything, _, labels = _by_user(interactions, catalog_size)
    held_out = everything.lengths >= 3
    if not held_out.any():
        raise ValueError(
            f"leave-one-out needs users with at least 3 interactions (training, validation, test), "
            f"but the longest of {count(len(everything), 'user')} has {everything.lengths.max()}"
        )
    enough = everything.take(held_out)
    return Split(
        train=everything.heads(everything.lengths - 2 * held_out),
        validation=_hold_out(enough, enough.lengths - 2),
        test=_hold_out(enough, enough.lengths - 1),
        catalog_size=len(labels),
        item_labels=labels,
        name=name,
    )


def temporal_split(
    interactions: pd.DataFrame,
    *,
    quantile: float = 0.95,
    min_users_per_item: int | None = 5,
    min_items_per_user: int | None = 20,
    catalog_size: int | None = None,
    name: str = "",
) -> Split:
    """Divide the whole data set at one moment: learn from the users of the past, predict those of the future.

    1. Drop items with fewer than ``min_users_per_item`` different users, then users with fewer than
       ``min_items_per_user`` different items: once, in this order (so an item may end up just below its threshold).
    2. The division is the ``quantile`` of the timestamps that remain.
    3. A user with any interaction after the division is a test user, and is absent from training altogether.
    4. Of a test user's interactions after the division the last is the test target and the second-last the validation
       target; the history is everything that this user did before the target, on both sides of the division.

    A test user with a single interaction after the division is in the test but not in the validation holdout. A target
    with no history at all is left out (possible only when the user filter is switched off). Order and ties are those
    of ``leave_one_out``.

    Source: SCE paper (arXiv 2409.18721), section 4. The authors' published code differs from it in details that matter
    when comparing with its numbers: see ``published_temporal_split``.

    Args:
        interactions: DataFrame with the columns user, item, timestamp.
        quantile: share of the interactions up to the division, between 0 and 1.
        min_users_per_item: None or 0 keeps all items.
        min_items_per_user: None or 0 keeps all users.
        catalog_size: as in ``leave_one_out``; otherwise the catalog is what the filters have left.
        name: passed on to the split.

    Raises:
        ValueError: the filters leave nothing, nobody is left to train on, or nobody is left to validate or test on.
    """
    _check_quantile(quantile)
    kept = drop_rare(interactions, min_users_per_item, min_items_per_user)
    everything, timestamps, labels = _by_user(kept, catalog_size)
    division = np.quantile(timestamps, quantile)
    user = np.repeat(np.arange(len(everything)), everything.lengths)
    n_after = np.bincount(user[timestamps > division], minlength=len(everything))
    training = everything.take(n_after == 0)
    test = everything.take((n_after >= 1) & (everything.lengths >= 2))
    validation = everything.take((n_after >= 2) & (everything.lengths >= 3))
    _check_everyone(quantile, len(everything), np.count_nonzero(n_after), training, validation, test)
    return Split(
        train=training,
        validation=_hold_out(validation, validation.lengths - 2),
        test=_hold_out(test, test.lengths - 1),
        catalog_size=len(labels),
        item_labels=labels,
        name=name,
    )


def published_temporal_split(
    interactions: pd.DataFrame,
    *,
    quantile: float = 0.95,
    min_users_per_item: int | None = 5,
    min_items_per_user: int | None = 20,
    name: str = "",
) -> Split:
    """The temporal split as the code of the SCE paper makes it, for comparing with the paper's figures.

    It differs from ``temporal_split`` in this:

    - the division is a timestamp that occurs, the one nearest to the quantile, and what happens at that very moment
      lies after it;
    - the catalog is what occurs in training: other items are removed from the histories and the targets;
    - a test user's history starts at the division: what the user did before is neither shown to the model nor
      excluded from the recommendations;
    - both holdouts have the same users, those with at least three interactions left after the division.

    Everything but the filters makes the task another one: histories are shorter, and no target is unknown. Figures of
    the two splits cannot be compared.

    Source: github.com/AIRI-Institute/Scalable-SASRec, ``data.py``, ``get_dataset(splitting="temporal")``. Its ties in
    time are broken at random with a fixed seed, ours by the order of the rows.

    Args and errors are those of ``temporal_split``.
    """
    _check_quantile(quantile)
    kept = drop_rare(interactions, min_users_per_item, min_items_per_user)
    division = np.quantile(kept["timestamp"], quantile, method="nearest")
    after = kept["timestamp"] >= division
    is_test_user = kept["user"].isin(kept.loc[after, "user"].unique())
    n_users, n_active = kept["user"].nunique(), kept.loc[is_test_user, "user"].nunique()
    nobody = Sequences.from_lists([])
    if is_test_user.all():
        _check_everyone(quantile, n_users, n_active, nobody, nobody, nobody)
    training, _, labels = _by_user(kept[~is_test_user], None)
    later = kept[after & kept["item"].isin(labels)]
    test = nobody
    if len(later):
        rows = pd.Index(labels).get_indexer(later["item"])
        everybody, _, _ = _by_user(later.assign(item=rows), len(labels))
        test = everybody.take(everybody.lengths >= 3)
    _check_everyone(quantile, n_users, n_active, training, test, test)
    return Split(
        train=training,
        validation=_hold_out(test, test.lengths - 2),
        test=_hold_out(test, test.lengths - 1),
        catalog_size=len(labels),
        item_labels=labels,
        name=name,
    )


SPLITS: dict[str, Callable[..., Split]] = {
    "leave_one_out": leave_one_out,
    "temporal": temporal_split,
    "published_temporal": published_temporal_split,
}
"""The split rules by the name that ``Dataset.split`` uses."""


def drop_rare(
    interactions: pd.DataFrame, min_users_per_item: int | None = 5, min_items_per_user: int | None = 20
) -> pd.DataFrame:
    """Drop items with few different users, then users with few different items: once, in this order.

    The defaults are those of the SCE paper; None or 0 keeps all.

    Raises:
        ValueError: nothing is left, or interactions that are unusable.
    """
    for name, least in (("min_users_per_item", min_users_per_item), ("min_items_per_user", min_items_per_user)):
        if not (least is None or least >= 0):
            raise ValueError(f"{name} must be a number of at least 0, or None to keep all, got {least}")
    kept = interactions = check_interactions(interactions)
    if min_users_per_item:
        kept = kept[kept.groupby("item", observed=True)["user"].transform("nunique") >= min_users_per_item]
    if min_items_per_user:
        kept = kept[kept.groupby("user", observed=True)["item"].transform("nunique") >= min_items_per_user]
    if kept.empty:
        raise ValueError(
            f"nothing is left of {count(len(interactions), 'interaction')} after dropping items with fewer than "
            f"{min_users_per_item or 0} users and then users with fewer than {min_items_per_user or 0} items; "
            f"lower min_users_per_item or min_items_per_user, or divide by leave_one_out, which keeps what is rare"
        )
    return kept


def _check_quantile(quantile: float) -> None:
    if not 0 < quantile < 1:
        raise ValueError(f"quantile must lie between 0 and 1, got {quantile}; the paper's is 0.95")


def _check_everyone(
    quantile: float, n_users: int, n_active: int, training: Sequences, validation: Sequences, test: Sequences
) -> None:
    for part, users in (("train on", training), ("validate on", validation), ("test on", test)):
        if not len(users):
            raise ValueError(
                f"the temporal split at the {quantile:.0%} quantile of the timestamps leaves no users to {part}: of "
                f"{count(n_users, 'user')}, {n_active:,} {'is' if n_active == 1 else 'are'} active after it; choose "
                f"another quantile or use leave_one_out"
            )


def _by_user(interactions: pd.DataFrame, catalog_size: int | None) -> tuple[Sequences, np.ndarray, np.ndarray]:
    """Return every user's items and timestamps, oldest first, and the labels of the item rows."""
    interactions = check_interactions(interactions)
    users, _ = pd.factorize(interactions["user"])
    if catalog_size is None:
        items, labels = pd.factorize(interactions["item"])
    else:
        items, labels = _as_rows(interactions["item"], catalog_size), np.arange(catalog_size)
    timestamps = interactions["timestamp"].to_numpy()
    order = np.lexsort((timestamps, users))  # stable: equal timestamps keep the order of the rows
    sequences = Sequences(items[order].astype(np.int64), offsets_of(np.bincount(users)))
    return sequences, timestamps[order], as_labels(labels)


def _as_rows(items: pd.Series, catalog_size: int) -> np.ndarray:
    if not (isinstance(catalog_size, (int, np.integer)) and catalog_size >= 1):
        raise ValueError(f"catalog_size must be a whole number of at least 1, got {catalog_size!r}")
    whole = pd.api.types.is_integer_dtype(items)
    if not whole or items.min() < 0 or items.max() >= catalog_size:
        found = f"from {items.min()} to {items.max()}" if whole else f"such as {items.iloc[0]!r}"
        raise ValueError(
            f"with catalog_size={catalog_size} items must be whole numbers 0..{catalog_size - 1}, got "
            f"{items.dtype} {found}; leave catalog_size out to have items numbered"
        )
    return items.to_numpy()


def _hold_out(sequences: Sequences, position: np.ndarray) -> Holdout:
    """Make item number ``position[i]`` of every sequence i the target, and everything before it the history."""
    return Holdout(sequences.heads(position), sequences.items[sequences.offsets[:-1] + position])
