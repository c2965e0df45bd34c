"""What a record of the experiment says: a table, and Markdown with sentences that follow from it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from sce_lab.language.records import EXACT
from sce_lab.language.study import CAP
from sce_lab.memory import format_bytes
from sce_lab.metrics import Interval, difference

CORRECTIONS = {"none": "as it is", "scale": "with a scale", "word bias": "with word bias and scale"}
"""What is done to the logits after training, in words."""
MEASURES = ("perplexity", "nats", "top1", "top10", "calibration_error", "log_z", "log_z_spread")
_BEST = {"none": "as trained", "word bias": "with word bias and scale"}
_SEVERAL = 3  # seeds from which on something is claimed


def language_table(record: dict[str, Any]) -> pd.DataFrame:
    """A row an entry and correction that has been trained, on the test windows.

    Columns: entry, words, loss, correction, seeds, workspace (bytes), pace (seconds a step), steps, finish_steps,
    seconds (of the thread, as they were), ``log sum bias``; the means over seeds of perplexity, nats, top1, top10,
    calibration_error, log_z, log_z_spread, each with its standard deviation over seeds, ``... sd`` (0 for one seed);
    ``behind``, ``behind low`` and ``behind high``: nats more than cross-entropy as it is, on the same windows and with
    the same seeds, that is first weights and batches, with a 95 % interval over windows and seeds (NaN where
    cross-entropy is not trained); ``at equal steps``: perplexity on validation after as many steps as it has.
    """
    entries = {name: entry for name, entry in record["entries"].items() if entry["seeds"]}
    exact = entries.get(EXACT)
    rows = []
    for name, entry in entries.items():
        shared = {"entry": name, "words": entry["words"], "loss": entry["loss"], "seeds": len(entry["seeds"])}
        shared |= {key: entry[key] for key in ("workspace", "pace", "steps", "finish_steps")}
        shared["seconds"] = statistics.fmean(seed["cpu_seconds"] for seed in entry["seeds"].values())
        biases = [seed["log sum bias"] for seed in entry["seeds"].values() if seed["log sum bias"] is not None]
        shared["log sum bias"] = statistics.fmean(biases) if biases else math.nan
        shared["at equal steps"] = _at_step(entry, entries.get(EXACT, {}).get("steps"))
        for correction in CORRECTIONS:
            row = shared | {"correction": correction}
            for measure in MEASURES:
                values = [seed["test"][correction][measure] for seed in entry["seeds"].values()]
                row[measure] = statistics.fmean(values)
                row[f"{measure} sd"] = statistics.stdev(values) if len(values) > 1 else 0.0
            found = _behind_exact(entry, correction, exact)
            rows.append(row | {"behind": found.mean, "behind low": found.low, "behind high": found.high})
    return pd.DataFrame(rows)


def language_markdown(records: Sequence[dict[str, Any]]) -> str:
    """For each record a table, and what it says."""
    parts = [part for record in records for part in _of_record(record)]
    return "\n\n".join(parts) or "Nothing of this has been recorded yet: `sce-lab language --record` does it."


def for_people(table: pd.DataFrame) -> pd.DataFrame:
    """The table as text: a row an entry, perplexity as it is and corrected."""
    rows = []
    for _, of_entry in table.groupby("entry", sort=False):
        by = of_entry.set_index("correction")
        plain = by.loc["none"]
        row = {"loss": plain["words"], "holds": format_bytes(plain["workspace"])}
        row |= {"steps": f"{plain['steps']:,}", "s used": f"{plain['seconds']:.1f}", "seeds": str(plain["seeds"])}
        row |= {f"perplexity {words}": _give_or_take(by.loc[key]) for key, words in CORRECTIONS.items()}
        row |= {"at equal steps": "" if math.isnan(plain["at equal steps"]) else f"{plain['at equal steps']:.0f}"}
        row |= {"top-1": f"{plain['top1']:.1%}", "top-10": f"{plain['top10']:.1%}"}
        row |= {"calibration error": f"{plain['calibration_error']:.3f}"}
        row |= {"corrected": f"{by.loc['word bias']['calibration_error']:.3f}"}
        row |= {
            "log-sum bias": "" if math.isnan(plain["log sum bias"]) else f"{round(plain['log sum bias'], 2) + 0.0:+.2f}"
        }
        rows.append(row)
    return pd.DataFrame(rows)


def _of_record(record: dict[str, Any]) -> list[str]:
    table = language_table(record)
    if table.empty:
        return []
    corpus, rules, counted = record["corpus"], record["rules"], record["corpus"]["statistics"]
    config = rules["config"]
    heading = (
        f"**{counted['vocabulary']:,} words: {corpus['name']}** ({counted['licence']} "
        f"{counted['tokens']['train']:,} words of training, {counted['unknown']['test']:.1%} of the test is `<unk>`; "
        f"word frequencies alone: perplexity {corpus['unigram perplexity']:.0f})"
    )
    how = (
        f"{rules['seconds']:g} s of one thread each, {config['batch_size']} windows of {config['max_length']} words a "
        f"step, width {config['hidden_size']}, {config['n_blocks']} blocks, Adam at {config['learning_rate']:g}."
    )
    shown = for_people(table)
    sides = ["---", *["--:"] * (len(shown.columns) - 1)]
    lines = ["| " + " | ".join(line) + " |" for line in (shown.columns, sides, *shown.to_numpy())]
    return [heading, how, "\n".join(lines), "\n".join(f"- {sentence}" for sentence in findings(table))]


def findings(table: pd.DataFrame) -> list[str]:
    """What follows from a table of :func:`language_table`, in sentences; intervals are 95 %."""
    few = table[table["seeds"] < _SEVERAL]["words"].unique()
    which = "" if len(few) == table["entry"].nunique() else f" of {'; '.join(few)}"
    said = [f"Fewer than {_SEVERAL} seeds{which}: a first look, and no claim."] if len(few) else []
    lowest = {words: table[table["correction"] == key].nsmallest(1, "nats").iloc[0] for key, words in _BEST.items()}
    listed = [f"{words}, {row['words']} ({row['perplexity']:.0f})" for words, row in lowest.items()]
    said.append(f"Lowest perplexity: {'; '.join(listed)}.")
    plain, biased = (table[table["correction"] == key].set_index("entry") for key in ("none", "word bias"))
    if EXACT not in plain.index:
        return said
    exact = plain.loc[EXACT]
    others = plain[plain["seeds"] >= min(_SEVERAL, exact["seeds"])].drop(index=[EXACT, "ce"], errors="ignore")
    worse = others[(others["behind low"] > 0) & (others["top10"] >= exact["top10"])]
    if len(worse):
        listed = [f"{row['words']} ({row['top10']:.1%}, {_behind(row)})" for _, row in worse.iterrows()]
        said.append(
            f"Ranks as well as cross-entropy or better (top-10 {exact['top10']:.1%}) and is still the worse "
            f"probability, in nats a word: {'; '.join(listed)}."
        )
    if "sce" in plain.index:
        said += _ways_back(plain, biased)
    over = table[table["workspace"] > CAP]["words"].unique()
    if len(over):
        said.append(f"Holds more than {format_bytes(CAP)}: {', '.join(over)}.")
    return said


def _ways_back(plain: pd.DataFrame, biased: pd.DataFrame) -> list[str]:
    """How far SCE is behind cross-entropy, and each correction of it; then that of both with a word bias."""
    ways = {"as it is": plain.loc["sce"], "with a word bias and a scale": biased.loc["sce"]}
    ways |= {plain.loc[key, "words"]: plain.loc[key] for key in ("sce-stratum", "sce-finish") if key in plain.index}
    listed = [f"{words} {_behind(row)}" for words, row in ways.items()]
    best = biased.loc[EXACT]
    return [
        f"Nats a word that SCE is behind cross-entropy (minus: ahead), in equal seconds: {'; '.join(listed)}.",
        f"Cross-entropy with a word bias and a scale: {_behind(best)}, perplexity {best['perplexity']:.0f}.",
    ]


def _behind(row: pd.Series) -> str:
    return f"{row['behind']:+.2f} [{row['behind low']:+.2f}, {row['behind high']:+.2f}]"


def _give_or_take(row: pd.Series) -> str:
    return f"{row['perplexity']:.0f}" + (f" ± {row['perplexity sd']:.0f}" if row["seeds"] > 1 else "")


def _behind_exact(entry: dict[str, Any], correction: str, exact: dict[str, Any] | None) -> Interval:
    """Nats more than ``exact`` as it is, over the seeds that both have."""
    seeds = [seed for seed in entry["seeds"] if exact and seed in exact["seeds"]]
    if not seeds:
        return Interval(math.nan, math.nan, math.nan, 0, 0)
    ours, theirs = (
        np.array([of["seeds"][seed]["test"][how]["by_window"] for seed in seeds])  # (seeds, windows)
        for of, how in ((entry, correction), (exact, "none"))
    )
    return difference(ours - theirs, np.zeros_like(ours))


def _at_step(entry: dict[str, Any], step: int | None) -> float:
    """Mean perplexity on validation after this step; NaN where nobody looked."""
    curves = [seed["curve"] for seed in entry["seeds"].values()]
    values = [point["perplexity"] for curve in curves for point in curve if point["step"] == step]
    return statistics.fmean(values) if values else math.nan
