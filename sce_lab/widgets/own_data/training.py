"""Train a plan, with error bars by its seeds and users; and say what can be told apart."""

from __future__ import annotations

import html
import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import ipywidgets as widgets
import numpy as np
import pandas as pd
import torch

from sce_lab.data import written
from sce_lab.figures import METRICS, Spec, intervals_spec, label
from sce_lab.memory import format_bytes, format_seconds
from sce_lab.metrics import difference, gains, interval
from sce_lab.runs import Run, runs_root
from sce_lab.sweeps import DONE, Sweep
from sce_lab.widgets.kit.legend import losses_key, swatch
from sce_lab.widgets.kit.live import stop_all
from sce_lab.widgets.kit.stage import stage, table, text
from sce_lab.widgets.kit.sweep import SweepBoard
from sce_lab.widgets.own_data.file import OwnData
from sce_lab.widgets.own_data.plan import Plan


class Training:
    """The panel: Start, Stop, and the results of the plan as they come. What was trained before is there at once.

    From Python: :meth:`start`, :meth:`wait`, :meth:`results`.

    Attributes:
        board: the trainings; None while there is no plan.
    """

    def __init__(self, plan: Plan) -> None:
        stop_all()
        # The last batch of an epoch may be small, and a warning would land in whatever cell ran last.
        warnings.filterwarnings("ignore", "bucket_size_.*each bucket takes all", RuntimeWarning)
        self.plan, self.board = plan, None
        self._ended_before: list[Callable[[], None]] = []
        self._place, self._read = widgets.VBox([]), text("")
        self.view = stage(self._place, self._read)
        self._show()
        plan.when_made(self._renew)

    def _repr_mimebundle_(self, **keywords: Any) -> Any:
        return self.view._repr_mimebundle_(**keywords)

    def start(self) -> bool:
        """Train what is left. False if that is going on, or nothing is left or planned."""
        return self.board is not None and self.board.start()

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the end; see :meth:`sce_lab.widgets.LiveRun.wait`."""
        if self.board is not None:
            self.board.wait(timeout)
        self._show()

    def when_ended(self, do: Callable[[], None]) -> None:
        """Call ``do`` whenever a training has ended or other ones are planned, and now if one has ended."""
        self._ended_before.append(do)
        if self.done:
            do()

    @property
    def own(self) -> OwnData | None:
        """The data that are trained on, whatever has been brought meanwhile."""
        return None if self.board is None else self.board.own

    @property
    def done(self) -> dict[str, list[Run]]:
        """By loss, the runs that have ended, seed after seed."""
        return {} if self.board is None else _done(self.board.sweep)

    @property
    def best(self) -> Run | None:
        """A run of the loss with the best mean on validation: that whose own validation is best."""
        runs = self.done
        if not runs:
            return None
        reach = {loss: [run.summary["validation"]["NDCG@10"] for run in of] for loss, of in runs.items()}
        loss = max(reach, key=lambda name: np.mean(reach[name]))
        return runs[loss][int(np.argmax(reach[loss]))]

    def intervals(self) -> pd.DataFrame:
        """A row a loss and metric: ``loss``, ``metric``, ``low``, ``mean``, ``high``, ``seeds``, on the test users."""
        return _intervals(self.done)

    def told(self, metric: str = "NDCG@10") -> list[dict[str, Any]]:
        """Every two losses, and each beside popularity: which is ahead, how far, and whether they are told apart."""
        data = self.own
        tables = {loss: np.concatenate([run.ranks.gains(metric) for run in runs]) for loss, runs in self.done.items()}
        if data is None or not tables:
            return []
        names = {loss: label(loss) for loss in tables} | {"popularity": "popularity"}
        tables["popularity"] = _gained(data.popularity, metric)[None]
        found = []
        for one, other in combinations(sorted(tables, key=lambda name: -tables[name].mean()), 2):
            gap = difference(tables[one], tables[other])
            found.append(
                {"metric": metric, "ahead": names[one], "behind": names[other], "mean": gap.mean}
                | {"low": gap.low, "high": gap.high, "told_apart": gap.told_apart}
            )
        return found

    def results(self) -> dict[str, Any]:
        """What came out, as plain data."""
        board = self.board.results() if self.board else {"state": "idle", "left": 0}
        return {
            "state": board["state"],
            "left": board["left"],
            "intervals": self.intervals().to_dict("records"),
            "told": self.told(),
            "best": self.best.config.loss if self.best else "",
        }

    # ------------------------------------------------------------------------------------------------- what follows

    def _renew(self) -> None:
        trials, own = self.plan.trials, self.plan.own
        if self.board is not None:
            same = [trial.name for trial in trials] == [trial.name for trial in self.board.sweep.trials]
            same = same and own is not None and own.version == self.board.own.version
            if same or self.board.live.active:
                return  # what is trained is trained to its end, which renews the plan
        if not trials or own is None:
            self.board = None
        else:
            sweep = Sweep(trials, runs_root() / "own_data" / "trained", tested=True)
            losses = list(dict.fromkeys(trial.config.loss for trial in trials))
            key = losses_key(losses, "Bar: 95 % interval over test users and seeds. Dotted: popularity.")
            busy = lambda: self._read_if_written(own)  # noqa: E731
            self.board = _Board(sweep, own, lambda of: _figure(of, losses, own), key, busy, self._show)
            self.board.when_ended(self.plan.renew)
        self._place.children = () if self.board is None else (self.board.view,)
        self._show()

    def _read_if_written(self, own: OwnData) -> str:
        """Why nothing is trained now: what is trained and what it is compared with must be of the same file."""
        if written(str(own.path)) == own.version:
            return ""
        self.plan.data.read_again()
        return f"{own.name} was written to since it was read. It is read again: press Start then."

    def _show(self) -> None:
        if self.board is None:
            self._read.value = '<div class="sce-empty">Nothing is planned yet: bring a file and choose losses.</div>'
        else:
            self._show_results()
        for do in self._ended_before:
            do()

    def _show_results(self) -> None:
        rows = []
        found = self.intervals().set_index(["loss", "metric"])
        for loss, runs in self.done.items():
            row = {"loss": f"{swatch(loss)}{label(loss)}"}
            for metric in METRICS:
                each = found.loc[(loss, metric)]
                row[metric] = f"{each['mean']:.4f} [{each['low']:.4f}, {each['high']:.4f}]"
            row |= {"seeds": str(len(runs))}
            row["a run"] = format_seconds(np.mean([run.summary["seconds"] for run in runs]))
            memory = [run.summary["memory"]["peak"] for run in runs if run.summary.get("memory")]
            row["peak memory"] = format_bytes(max(memory)) if memory else ""
            rows.append(row)
        said = "".join(f"<span>{html.escape(_sentence(each))}</span>" for each in self.told())
        self._read.value = table(rows, left=("loss",)) + f'<div class="sce-caption sce-told-apart">{said}</div>'


class _Board(SweepBoard):
    """Trainings on ``own``, that say when there is news."""

    def __init__(
        self,
        sweep: Sweep,
        own: OwnData,
        figure: Callable[[Sweep], Spec],
        key: str,
        busy: Callable[[], str],
        news: Callable[[], None],
    ) -> None:
        self.own, self._news = own, news
        super().__init__(sweep, [figure], key=key, busy=busy)

    def _refresh(self) -> None:
        super()._refresh()
        self._news()


def _figure(sweep: Sweep, losses: Sequence[str], own: OwnData) -> Spec:
    reach = {name: float(_gained(own.popularity, name).mean()) for name in METRICS}
    return intervals_spec(_intervals(_done(sweep)), losses, reach)


def _gained(ranks: np.ndarray, metric: str) -> np.ndarray:
    return gains(torch.from_numpy(ranks), metric).numpy()


def _done(sweep: Sweep) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = {}
    for trial in sweep.trials:
        if sweep.state(trial) == DONE:
            found.setdefault(trial.config.loss, []).append(sweep.run(trial))
    return found


def _intervals(done: Mapping[str, Sequence[Run]]) -> pd.DataFrame:
    rows = []
    for loss, runs in done.items():
        for metric in METRICS:
            gained = np.concatenate([run.ranks.gains(metric) for run in runs])
            found = interval(gained)
            row = {"loss": loss, "metric": metric, "low": found.low, "mean": found.mean, "high": found.high}
            rows.append(row | {"seeds": gained.mean(1).tolist()})
    return pd.DataFrame(rows, columns=["loss", "metric", "low", "mean", "high", "seeds"])


def _sentence(told: dict[str, Any]) -> str:
    ends = f"{told['mean']:+.4f} [{told['low']:+.4f}, {told['high']:+.4f}]"
    if told["told_apart"]:
        return f"{told['ahead']} is ahead of {told['behind']} in {told['metric']}: {ends}."
    return f"{told['ahead']} and {told['behind']} are not told apart in {told['metric']}: {ends}."
