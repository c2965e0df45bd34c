"""A small text whose words follow one another by a rule that can be learned."""

import random

import pytest


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """Reading keeps nothing outside of the test's folder."""
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / "cache")


@pytest.fixture
def texts(tmp_path, own_cache):
    return write_texts(tmp_path / "texts")


def write_texts(folder, n_words=120):
    """Thirty files: after a word comes the next of the circle, or the one after it; some words are rare."""
    folder.mkdir()
    words = [f"w{i}" for i in range(12)]
    for number in range(30):
        rng, at, text = random.Random(number), 0, []
        for _ in range(n_words):
            at = (at + rng.choice((1, 1, 1, 2))) % 12
            text.append(words[at] if rng.random() < 0.97 else f"rare{rng.randrange(6)}")
        (folder / f"a{number}.txt").write_text(" ".join(text))
    return folder
