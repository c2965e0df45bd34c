"""A text as numbers: the same each time, divided by the names of its files."""

import sys

import numpy as np
import pytest

from sce_lab.language import read_corpus
from sce_lab.language import reading as reading_module
from sce_lab.language.corpus import part_of
from sce_lab.language.reading import LEFT_OUT, standard_library
from sce_lab.language.tokens import source_tokens, text_tokens


def test_source_has_its_marks_and_text_has_words():
    source = b'def f(x_1):\n    "Say it\'s so."  # two-fold\n    return 3.5 + x_1\n'
    assert " ".join(source_tokens(source)) == (
        'def f ( x_1 ) : <newline> <indent> " Say it \' s so . " # two - fold <newline> '
        "return 3.5 + x_1 <newline> <dedent>"
    )
    assert text_tokens("A first, a 2nd\n\nline.") == ["A", "first", ",", "a", "2nd", "line", "."]


@pytest.mark.parametrize("content", [b"def f(:\n  '''", b"\xff\xfe", b"if x:\n        a\n   b\n"])
def test_what_is_no_source_is_left_out(content):
    assert source_tokens(content) is None


def test_the_same_files_give_the_same_corpus_cached_or_not(texts, monkeypatch):
    first = read_corpus(12, texts)
    read = []
    monkeypatch.setattr(reading_module, "_tokenised", lambda contents: read.append(contents))
    again = read_corpus(12, texts)  # from what was kept
    assert read == []
    monkeypatch.undo()
    (kept,) = (texts.parent / "cache" / "language").glob("*.npz")
    kept.write_bytes(kept.read_bytes()[:100])  # damaged: read again
    third = read_corpus(12, texts)
    for other in (again, third):
        assert (other.vocabulary, other.fingerprint, other.statistics) == (
            first.vocabulary, first.fingerprint, first.statistics,
        )  # fmt: skip
        for part in ("train", "validation", "test"):
            assert np.array_equal(getattr(other, part), getattr(first, part))
    (texts / "a0.txt").write_text("another text")
    assert read_corpus(12, texts).fingerprint != first.fingerprint


def test_parts_are_whole_files_by_their_names_and_words_by_their_frequency(texts):
    corpus = read_corpus(8, texts)
    files = sorted(texts.glob("*.txt"))
    of_part = {part: [f for f in files if part_of(f.name) == part] for part in ("train", "validation", "test")}
    assert corpus.statistics["files"] == {part: len(found) for part, found in of_part.items()}
    words = [word for file in of_part["train"] for word in file.read_text().split()]
    usual = sorted(set(words), key=lambda word: (-words.count(word), word))
    usual = [word for word in usual if words.count(word) > 1]
    assert corpus.vocabulary == ("<unk>", "<file>", *usual[:6])
    expected = [
        text for file in of_part["test"]
        for text in ("<file>", *(w if w in usual[:6] else "<unk>" for w in file.read_text().split()))
    ]  # fmt: skip
    assert [corpus.vocabulary[token] for token in corpus.test] == expected
    assert corpus.counts.sum() == len(corpus.train)
    assert corpus.counts[0] > 0
    assert read_corpus(10**6, texts).statistics["vocabulary"] == 2 + len(usual)


def test_a_word_that_is_there_once_is_unknown(texts):
    file = next(file for file in sorted(texts.glob("*.txt")) if part_of(file.name) == "train")
    file.write_text(file.read_text() + " hapax")
    corpus = read_corpus(10**6, texts)
    assert "hapax" not in corpus.vocabulary
    assert (corpus.train == 0).sum() == 1


def test_a_single_file_is_cut_into_pieces(tmp_path, own_cache):
    path = tmp_path / "novel.txt"
    path.write_text("the quick brown fox jumps over the lazy dog " * 5000)
    corpus = read_corpus(20, path)
    assert corpus.name == "novel"
    assert sum(corpus.statistics["files"].values()) == 45
    assert sum(corpus.statistics["tokens"].values()) == 45_000 + 45


def test_the_library_is_that_of_this_python_without_its_tests(own_cache, monkeypatch):
    contents = {}
    monkeypatch.setattr(reading_module, "_tokenised", lambda found: contents.update(found) or _nothing())
    words = standard_library()
    assert {"ast.py", "json/decoder.py"} <= set(contents)
    assert not any(LEFT_OUT & set(name.split("/")[:-1]) for name in contents)
    assert f"Python {sys.version_info.major}.{sys.version_info.minor}" in words.licence
    assert "PSF" in words.licence


def _nothing():
    empty = np.array("")
    return {"files": empty, "words": empty, "tokens": np.zeros(0), "ends": np.zeros(0), "unreadable": np.array(0)}


def test_bad_input_is_one_sentence(texts, tmp_path, own_cache):
    with pytest.raises(ValueError, match="at least 4 words, got 3"):
        read_corpus(3, texts)
    with pytest.raises(ValueError, match=r"there is no text .*nowhere"):
        read_corpus(10, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"has no .py, .txt"):
        read_corpus(10, tmp_path / "empty")
    (tmp_path / "short.txt").write_text("a few words")
    with pytest.raises(ValueError, match=r"part of short has \d+ tokens"):
        read_corpus(10, tmp_path / "short.txt")
    (tmp_path / "odd.txt").write_bytes("größer".encode("latin-1"))
    with pytest.raises(ValueError, match=r"odd.txt is no text in UTF-8 \(byte 2\)"):
        read_corpus(10, tmp_path / "odd.txt")
    (tmp_path / "void.txt").write_text(" \n")
    with pytest.raises(ValueError, match=r"no words in void.txt"):
        read_corpus(10, tmp_path / "void.txt")
