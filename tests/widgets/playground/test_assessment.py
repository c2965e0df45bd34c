import dataclasses

import numpy as np
import pandas as pd
import pytest

from sce_lab.data import DATASETS as REGISTERED
from sce_lab.data import load_dataset
from sce_lab.figures import LOOKS
from sce_lab.memory import predict_memory
from sce_lab.widgets.playground import assessment
from sce_lab.widgets.playground.assessment import Facts, assess, open_data
from sce_lab.widgets.playground.controls import DATASETS
from sce_lab.widgets.playground.settings import Settings, Source

PLENTY = 2**45
SMALL = Settings(catalog_size=1000, batch_size=32, n_buckets=32, bucket_size_x=32, bucket_size_y=64)


def changed(**settings):
    return dataclasses.replace(SMALL, **settings)


def loss_memory(answer, loss, part="peak"):
    return int(answer.memory.set_index("loss").loc[loss, part])


def test_memory_is_predicted_for_every_loss_at_the_typical_step():
    answer = assess(SMALL, PLENTY)
    assert list(answer.memory["loss"]) == list(LOOKS)
    assert answer.problem == ""
    for loss in LOOKS:
        expected = predict_memory(SMALL.config(loss), 1000, n_sequences=32, length=17)
        assert loss_memory(answer, loss) == expected.peak
    assert answer.notes["training"].text.startswith("N ≈ 32 × 17 = 544 positions, 94 steps")


def test_a_synthetic_catalog_is_not_drawn_to_answer():
    opened = assessment._open.cache_info().misses
    assess(changed(catalog_size=10_000_000), PLENTY)
    assess(changed(catalog_size=5_000_000), PLENTY)
    assert assessment._open.cache_info().misses <= opened + 1


def test_the_facts_of_a_synthetic_world_are_those_of_the_data_it_makes():
    for size in (100, 199, 200, 2000):
        facts = Facts.of(changed(catalog_size=size))
        split, _ = open_data(Source("synthetic", size))
        assert facts.catalog_size == split.catalog_size == size
        assert facts.n_users == len(split.train)
        positions = np.minimum(split.train.lengths - 1, 50).mean()
        assert facts.positions_per_user == pytest.approx(positions, rel=0.01)


def test_more_items_cost_cross_entropy_most():
    small, large = assess(SMALL, PLENTY), assess(changed(catalog_size=100_000), PLENTY)
    growth = {loss: loss_memory(large, loss) - loss_memory(small, loss) for loss in LOOKS}
    assert growth["ce"] > 3 * growth["sce"] > 0


def test_too_large_is_a_problem_that_says_what_would_fit():
    settings = changed(losses="ce", catalog_size=1_000_000)
    answer = assess(settings, 2**31)
    assert answer.problem.startswith("Cross-entropy over 1,000,000 items needs ")
    assert (
        "free. Its logits never held, it would fit; and so would CE-, Sampled softmax, RECE, SCE and BCE."
        in answer.problem
    )
    assert answer.notes["loss"].level == "problem"
    assert assess(dataclasses.replace(settings, losses="sce"), 2**31).problem == ""
    assert "Try fewer items or a smaller batch" in assess(settings, 2**20).problem


def test_the_copy_of_the_best_weights_counts_too():
    answer = assess(SMALL, PLENTY)
    peak, weights = loss_memory(answer, "sce"), loss_memory(answer, "sce", "parameters")
    assert assess(SMALL, peak + weights).problem == ""
    assert assess(SMALL, peak + weights - 1).problem != ""


@pytest.mark.parametrize(
    ("settings", "card", "sentence"),
    [
        ({"losses": "sampled", "n_negatives": 2048}, "loss", "More negatives than items"),
        ({"bucket_size_x": 1024}, "sce", "A step has 544 positions: a bucket takes all of them"),
        ({"bucket_size_y": 2048}, "sce", "There are 1,000 items: a bucket takes all of them"),
        ({"n_buckets": 2, "bucket_size_x": 17}, "sce", "Coverage at most 6%: the others do not learn in a step"),
        ({"n_buckets": 512, "bucket_size_x": 512}, "sce", "more than CE's"),
    ],
)
def test_unwise_settings_are_warned_of_beside_the_control_and_allowed(settings, card, sentence):
    answer = assess(changed(**settings), PLENTY)
    assert sentence in answer.notes[card].text
    assert answer.notes[card].level == "warning"
    assert answer.problem == ""


@pytest.mark.parametrize(
    ("loss", "sentence"),
    [
        ("ce", "N × C = 544 × 1,000 = 544,000 scores"),
        ("sampled", "544 × 256 = 139,264 scores"),
        ("sce", "only the items of a position's buckets"),
    ],
)
def test_notes_say_how_many_scores_a_step_takes(loss, sentence):
    answer = assess(changed(losses=loss), PLENTY)
    assert sentence in answer.notes["loss"].text
    assert answer.notes["sce"].text == "32 × 32 × 64 = 65,536 scores, 12% of CE's"


def own_file(path):
    return changed(dataset="file", path=str(path))


def test_a_file_of_ones_own_is_read_and_read_again_when_it_changes(tmp_path):
    path = tmp_path / "mine.csv"

    def write(n_items):
        rows = [(u, (u + i) % n_items, i) for u in range(40) for i in range(8)]
        pd.DataFrame(rows, columns=["user", "item", "timestamp"]).to_csv(path, index=False)

    write(20)
    facts = assess(own_file(path), PLENTY).facts
    assert (facts.n_users, facts.catalog_size, facts.positions_per_user) == (40, 20, 5.0)
    write(30)
    assert assess(own_file(path), PLENTY).facts.catalog_size == 30


def test_a_folder_is_read_again_when_a_part_comes_to_it_and_its_columns_are_said(tmp_path):
    folder = tmp_path / "events.2024"
    folder.mkdir()

    def write(part, n_items):
        rows = [(u, (u + i) % n_items, i) for u in range(40) for i in range(8)]
        pd.DataFrame(rows, columns=["user_id", "sku", "ts"]).to_parquet(folder / part)

    write("a.parquet", 20)
    answer = assess(own_file(folder), PLENTY)
    assert answer.facts.catalog_size == 20
    assert "'user_id' says who, 'sku' says what, 'ts' says when" in answer.notes["data"].text
    write("b.parquet", 30)
    assert assess(own_file(folder), PLENTY).facts.catalog_size == 30


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "There is no file "),
        ("", "is empty"),
        ("user,thing,timestamp\n1,2,3\n", "Here: choose it in Who, What and When"),
        ("user,item,timestamp\n1,2,3\n", "."),
    ],
)
def test_a_file_that_cannot_be_used_is_explained(tmp_path, content, sentence):
    path = tmp_path / "mine.csv"
    if content is not None:
        path.write_text(content)
    answer = assess(own_file(path), PLENTY)
    assert sentence in answer.problem
    assert answer.problem[0].isupper() or answer.problem.startswith("mine.csv")
    assert answer.notes["data"].level == "problem"
    assert answer.memory.empty


def test_no_path_yet_and_no_network_are_explained_too(monkeypatch):
    assert "ype the path of a file" in assess(own_file(""), PLENTY).problem

    def offline(*args, **keywords):
        raise ConnectionError("HTTPSConnectionPool(host=...): a page of text")

    monkeypatch.setattr(assessment, "_open", offline)
    answer = assess(changed(dataset="amazon_beauty"), PLENTY)
    assert answer.problem.startswith("The download failed. Go online, or put amazon_beauty/Beauty.txt into a folder")


def test_every_data_set_can_be_chosen_and_what_is_not_here_says_how_to_get_it(tmp_path, monkeypatch):
    assert {name for _, name in DATASETS} == {"synthetic", "file", *REGISTERED}
    monkeypatch.setenv("SCE_LAB_DATA", str(tmp_path))
    assessment._open.cache_clear()
    answer = assess(changed(dataset="gowalla_sepgcn"), PLENTY)
    assert answer.problem == answer.notes["data"].text
    assert "made from github.com/tanloc49/SEP-GCN" in answer.problem
    assert (
        "Put gowalla_sepgcn/gowalla_sepgcn.txt.gz into a folder and set SCE_LAB_DATA to that folder" in answer.problem
    )


def test_real_data_have_their_own_catalog():
    try:
        load_dataset("amazon_beauty", progress=False)
    except OSError as error:
        pytest.skip(f"no Amazon Beauty here: {error}")
    answer = assess(changed(dataset="amazon_beauty"), PLENTY)
    assert (answer.facts.catalog_size, answer.facts.n_users) == (12_101, 22_363)
