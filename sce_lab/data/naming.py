"""Which column says who, what and when: by the name it usually has, if only one has such a name; and saying so."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sce_lab.data.interactions import unix_unit

ORDER = ""
"""In place of a column of times: the rows stand in the order of time."""

_WORDS = """
user: user user_id uid user_name reviewer reviewer_id visitor visitor_id household household_id household_key customer
    customer_id cust_id client client_id member member_id session session_id account account_id buyer_id person
    person_id profile_id player_id listener_id device_id
item: item item_id iid asin parent_asin movie movie_id product product_id sku sku_id book book_id isbn song_id track_id
    article article_id video_id business_id game_id app_id goods_id content_id poi_id venue_id location_id place_id
    beer_id recipe_id news_id stock_code
timestamp: timestamp ts time date datetime unix_review_time unix_time unix_timestamp event_time event_timestamp
    created_at transaction_timestamp invoice_date order_date purchase_date t_dat
"""
USUAL = {key: words.split() for key, words in re.findall(r"^(\w+):([^:]*)$", _WORDS, re.MULTILINE)}
"""Names that say who, what and when, in any case and with or without the marks between words."""

LIKE_A_TIME = re.compile(r'"?[-+]?\d[-+.:\dTZ ]*"?')
_DATE = re.compile(r"\d{4}-(0\d|1[0-2])-[0-3]\d([T ].*)?")
_NUMBER = re.compile(r"[1-9]\d*(\.\d+)?")
_CLOCK = re.compile(r"\d?\d:\d\d(:\d\d(\.\d+)?)?")
_OPTION = {"user": "--user", "item": "--item", "timestamp": "--time"}
_SAYS = {"user": "who", "item": "what", "timestamp": "when"}
_HINTS = {"user": ("user",), "item": ("item",), "timestamp": ("time", "date", r"\bday\b")}


@dataclass(frozen=True)
class Columns:
    """The columns of a file that say who, what and when.

    user, item: their names; numbers from 1 where the file has no header.
    timestamp: likewise; :data:`ORDER` if the order of the rows is that of time.
    header: whether the file names its columns.
    guessed: whether any of them was chosen by its name or place, and not named by a person.
    """

    user: str
    item: str
    timestamp: str
    header: bool = True
    guessed: bool = False

    @property
    def names(self) -> dict[str, str]:
        """What is to be read, under "user", "item" and, unless the order says it, "timestamp"."""
        names = {"user": self.user, "item": self.item}
        return names | ({} if self.timestamp == ORDER else {"timestamp": self.timestamp})

    @property
    def sentence(self) -> str:
        """Which column is what, for people."""
        column = repr if self.header else lambda number: f"column {number}"
        parts = [f"{column(name)} says {_SAYS[key]}" for key, name in self.names.items()]
        text = ("" if self.header else "There is no header; ") + ", ".join(parts)
        if self.timestamp == ORDER:
            text += "; no column says when, so the order of the lines is taken for it"
        return text + "."


class ColumnsError(ValueError):
    """Which columns are meant cannot be told.

    names: what a person can choose among: the names of all columns; numbers from 1 where the file has no header.
    header: whether the file names its columns.
    """

    def __init__(self, problem: str, names: Sequence[str], header: bool) -> None:
        super().__init__(problem)
        self.names, self.header = list(names), header


def called(found: Sequence[str], header: bool) -> list[str]:
    """What the columns of a file are called; ``found`` as in :func:`choose`."""
    return list(found) if header else [str(number + 1) for number in range(len(found))]


def choose(
    file: str,
    found: Sequence[str],
    asked: Mapping[str, str | None],
    rows: Sequence[Sequence[str]],
    named: bool = False,
) -> Columns:
    """The columns that were asked for; those that were not, by their usual names.

    Args:
        file: its name, for messages.
        found: the names of all columns, in their order; of a file without a header the fields of its first row.
        asked: for "user", "item" and "timestamp" the name of a column, None to choose one, and ORDER for no time.
        rows: some rows as text, "" where a value is missing; they tell a time by what it looks like.
        named: whether ``found`` surely are names; if not, it is the first of ``rows``, too.

    Raises:
        ColumnsError: a column is missing or there twice, several could be meant, or one is meant for two things.
    """
    header = named or not _no_header(found, asked)
    try:
        _check_different(asked.values())
        if not header:
            return _by_place(file, len(found), asked, rows)
        if not named:
            rows = rows[1:]
        columns: dict[str, str] = {}
        for key in USUAL:
            columns[key] = _one(file, found, {**asked, **columns}, key, rows)
        _check_different(columns.values())
    except ValueError as error:
        raise ColumnsError(str(error), called(found, header), header) from None
    return Columns(**columns, guessed=any(asked.get(key) is None and columns[key] != key for key in columns))


def surely_times(values: Sequence[str]) -> bool:
    """Whether all of these that say anything are ISO dates, or all Unix times of 1990 to 2100 of one unit."""
    said = [value.strip() for value in values if value.strip()]
    if said and all(map(_NUMBER.fullmatch, said)):
        return unix_unit(np.array(said, dtype=np.float64)) is not None
    return bool(said) and all(map(_DATE.fullmatch, said))


def plain(name: str) -> str:
    """A name without case and without the marks between its words."""
    return re.sub(r"[\s_.-]", "", name.lower())


def _one(
    file: str, found: Sequence[str], asked: Mapping[str, str | None], key: str, rows: Sequence[Sequence[str]]
) -> str:
    """The column that says ``key``."""
    name = asked.get(key)
    if name == ORDER:
        if key == "timestamp":
            return ORDER
        raise ValueError(f"the column that says the {key} has no name: {_how(key, 'NAME')}")
    times = Counter(found)
    taken = [other for other in asked.values() if other]
    if name is None:
        usual = {plain(word) for word in USUAL[key]}
        fitting = [column for column in dict.fromkeys(found) if plain(column) in usual and column not in taken]
        own = [column for column in fitting if column == key] or [c for c in fitting if plain(c) == key]
        fitting = own if len(own) == 1 else fitting
        if not fitting:
            return _nothing(file, found, taken, key, rows)
        if len(fitting) > 1:
            raise ValueError(f"{file} has several columns that could say the {key}: {_which(key, fitting)}")
        (name,) = fitting
    if not times[name]:
        raise ValueError(f"{file} has no column {name!r}, it has {_listed(found)}; {_how(key, 'NAME')}")
    if times[name] > 1:
        raise ValueError(
            f"{file} has {times[name]} columns {name!r}, and which of them says the {key} cannot be known; "
            f"give them different names"
        )
    return name


def _nothing(file: str, found: Sequence[str], taken: Sequence[str], key: str, rows: Sequence[Sequence[str]]) -> str:
    """What to do where no column has a usual name: for times, the order of the rows if none comes near one."""
    free = {name: _values(rows, at, len(found)) for at, name in enumerate(found) if name not in taken}
    alike = [name for name in free if any(re.search(hint, name.lower().replace("_", " ")) for hint in _HINTS[key])]
    clocks = []
    if key == "timestamp":
        clocks = [name for name in alike if _of_the_day(free[name])]
        alike = [name for name, values in free.items() if surely_times(values)] or alike
        alike = [name for name in alike if name not in clocks]
        if not alike and not clocks:
            return ORDER
    advice = f"is it {_which(key, alike)}" if alike else _how(key, "NAME")
    if clocks and not alike:
        advice = f"{_listed(clocks)} looks like a time of the day, which alone does not say when; {advice}"
    raise ValueError(
        f"{file} has no column with a usual name for the {key} ({', '.join(USUAL[key][:4])}, ...), it has "
        f"{_listed(found)}; {advice}"
    )


def _values(rows: Sequence[Sequence[str]], at: int, n: int) -> list[str]:
    """What some rows have in a column; rows of another length, which are refused later, say nothing."""
    return [row[at] for row in rows if len(row) == n]


def _of_the_day(values: Sequence[str]) -> bool:
    """Whether these are written as 16:31, or as 1631."""
    said = [value.strip() for value in values if value.strip()]
    if said and all(re.fullmatch(r"\d{1,4}", value) for value in said):
        numbers = [int(value) for value in said]
        return max(numbers) >= 100 and all(number < 2400 and number % 100 < 60 for number in numbers)
    return bool(said) and all(map(_CLOCK.fullmatch, said))


def _listed(names: Sequence[str]) -> str:
    """Names of columns, not too many and none too long."""
    shown = [repr(name if len(name) <= 40 else name[:37] + "...") for name in names[:20]]
    return ", ".join(shown) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def _no_header(found: Sequence[str], asked: Mapping[str, str | None]) -> bool:
    """Whether the first row looks like the others: no column is called 17 or 2024-05-01."""
    usual = {plain(word) for words in USUAL.values() for word in words}
    named = any(name in found for name in asked.values() if name and not name.isdecimal())
    return (
        not named and not any(plain(n) in usual for n in found) and any(LIKE_A_TIME.fullmatch(n.strip()) for n in found)
    )


def _by_place(file: str, n: int, asked: Mapping[str, str | None], rows: Sequence[Sequence[str]]) -> Columns:
    """Columns of a file without a header: user, item and, if one column of the others is surely that, the time.

    A file whose first or second column is surely a time has another order, and nothing is guessed.
    """
    columns = {"user": asked.get("user") or "1", "item": asked.get("item") or "2", "timestamp": asked.get("timestamp")}
    head = ",".join(rows[0])
    sure = [str(c + 1) for c in range(n) if surely_times(_values(rows, c, n))]
    if early := [columns[key] for key in ("user", "item") if asked.get(key) is None and columns[key] in sure]:
        raise ValueError(
            f"{file} has no line that names its columns, it begins with {head!r}, and column {early[0]} holds times, "
            f"so that which column says who and which says what cannot be seen; type --user, --item and --time with "
            f"their numbers, counted from 1, in Python user='1' and so on, or add a first line such as "
            f"user,timestamp,item"
        )
    if columns["timestamp"] is None:
        times = [number for number in sure if number not in columns.values()]
        if n > 2 and len(times) != 1:
            raise ValueError(
                f"{file} has no line that names its columns, it begins with {head!r}, and which column says when "
                f"cannot be seen; {_how('timestamp', '3')}, counted from 1, or add a first line such as "
                f"user,item,timestamp"
            )
        columns["timestamp"] = times[0] if n > 2 else ORDER
    for key, number in columns.items():
        if number != ORDER and not (number.isdecimal() and 1 <= int(number) <= n):
            raise ValueError(
                f"{file} has no line that names its columns, it begins with {head!r}: the {key} is one of the columns "
                f"1 to {n}, not {number!r}"
            )
    _check_different(columns.values())
    return Columns(**columns, header=False, guessed=any(asked.get(key) is None for key in columns))


def _check_different(names: Iterable[str | None]) -> None:
    names = [name for name in names if name]
    if len(set(names)) < len(names):
        raise ValueError(f"user, item and timestamp must be different columns, got {', '.join(names)}")


def _which(key: str, names: Sequence[str]) -> str:
    return " or ".join(names) + f"? {_how(key, names[0])}"


def _how(key: str, name: str) -> str:
    order = " (or '' if the rows stand oldest first)" if key == "timestamp" else ""
    return f"type {_OPTION[key]} {name}, in Python {key}={name!r}{order}"
