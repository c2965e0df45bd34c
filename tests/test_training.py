"""Training: right gradients, the same numbers again, an exact resume, and every way to end."""

import dataclasses
import json
import re
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
import torch

from sce_lab.data.batches import history_batches, training_batches
from sce_lab.data.splits import Holdout, Sequences, Split
from sce_lab.losses import LOSSES, make_loss, sampled
from sce_lab.metrics import SEEN, ranking_metrics
from sce_lab.training import (
    Changed,
    Evaluated,
    Finished,
    Started,
    StepDone,
    Trainer,
    TrainingConfig,
    evaluate,
    evaluate_together,
    make_model,
    train,
    training_step,
)

SMALL = TrainingConfig(hidden_size=16, batch_size=16, max_length=8, max_epochs=3, dropout=0.2, learning_rate=1e-2)


def losses_of(events):
    return [event.loss for event in events if isinstance(event, StepDone)]


def test_a_step_has_the_gradients_of_plain_autograd(cycle_split):
    config = dataclasses.replace(SMALL, dropout=0.0, loss="ce")
    batch = next(training_batches(cycle_split.train, 16, 8, np.random.default_rng(0)))
    torch.manual_seed(0)
    model, loss = make_model(config, 12).double(), make_loss("ce")
    loss(model(batch.inputs), model.item_embedding, batch.targets).backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()

    class Keep(torch.optim.SGD):
        def zero_grad(self, set_to_none=True):
            pass

    training_step(model, loss, Keep(model.parameters(), lr=0.0), batch, lambda name: nullcontext())
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, expected[name], msg=name)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_learns_the_circle(cycle_split, loss):
    config = dataclasses.replace(SMALL, loss=loss, max_epochs=25, dropout=0.0)
    *_, finished = train(config, cycle_split)
    assert finished.test["HR@1"] > 0.9
    assert finished.test["HR@1"] <= finished.test["HR@5"] <= 1


def test_the_stream_of_events(cycle_split):
    events = list(train(SMALL, cycle_split))
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Finished)
    steps = [e for e in events if isinstance(e, StepDone)]
    evaluations = [e for e in events if isinstance(e, Evaluated)]
    assert events[0].n_steps_per_epoch == 4
    assert [e.step for e in steps] == list(range(1, 13))
    assert [e.epoch for e in evaluations] == [1, 2, 3]
    assert set(steps[0].seconds) == {"forward", "loss_forward", "loss_backward", "backward", "optimizer"}
    assert sum(e.n_positions for e in steps[:4]) == (cycle_split.train.lengths - 1).sum()
    assert events[-1].reason == "epochs"


def test_an_epoch_of_some_steps(cycle_split, tmp_path):
    """Of the four batches of an epoch it takes the first three; gone on with from a checkpoint, it is the same."""
    config = dataclasses.replace(SMALL, steps_per_epoch=3)
    events = list(train(config, cycle_split))
    assert events[0].n_steps_per_epoch == 3
    assert [(e.step, e.epoch) for e in events if isinstance(e, Evaluated)] == [(3, 1), (6, 2), (9, 3)]
    whole = [e.loss for e in train(SMALL, cycle_split) if isinstance(e, StepDone)]
    steps = [e.loss for e in events if isinstance(e, StepDone)]
    assert steps[:3] == whole[:3]
    assert steps[3] != whole[3]
    trainer = Trainer(config, cycle_split)
    for event in trainer.events():
        if isinstance(event, StepDone) and event.step == 5:
            trainer.save(tmp_path / "checkpoint.safetensors")
            break
    resumed = train(config, cycle_split, resume_from=tmp_path / "checkpoint.safetensors")
    assert [e.loss for e in resumed if isinstance(e, StepDone)] == steps[5:]
    assert losses_of(train(dataclasses.replace(SMALL, steps_per_epoch=99), cycle_split)) == whole


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(cycle_split):
    first, again = (losses_of(train(SMALL, cycle_split)) for _ in range(2))
    other = losses_of(train(dataclasses.replace(SMALL, seed=1), cycle_split))
    assert first == again
    assert first != other


@pytest.mark.parametrize("loss", LOSSES)
def test_the_same_numbers_again_also_on_two_threads(loss):
    rng = np.random.default_rng(0)
    walks = rng.integers(0, 2000, (600, 30))
    holdout = Holdout(Sequences.from_lists(list(walks[:, :-1])), walks[:, -1])
    split = Split(Sequences.from_lists(list(walks)), holdout, holdout, 2000, np.arange(2000))
    config = TrainingConfig(loss=loss, batch_size=200, max_epochs=2)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        first, again, third = (losses_of(train(config, split)) for _ in range(3))
    finally:
        torch.set_num_threads(threads)
    assert first == again == third


def test_a_loss_is_told_where_sequences_end(cycle_split, monkeypatch):
    """The negatives of a user are the same at all of the user's positions, and no one else's."""
    told = []
    monkeypatch.setattr(
        "sce_lab.losses.sampled.cut_sequences",
        lambda lengths, *a, cut=sampled.cut_sequences: told.append(lengths) or cut(lengths, *a),
    )
    config = dataclasses.replace(SMALL, loss="ce_minus", loss_settings={"shared_negatives": "sequence"}, max_epochs=1)
    losses_of(train(config, cycle_split))
    batches = training_batches(cycle_split.train, config.batch_size, config.max_length, np.random.default_rng(0))
    assert sum(map(len, told)) == 60
    assert sum(lengths.sum() for lengths in told) == sum(batch.n_positions for batch in batches)


def test_two_trainings_that_take_turns_do_not_disturb_each_other(cycle_split):
    alone = losses_of(train(SMALL, cycle_split))
    turns = [losses_of(pair) for pair in zip(*zip(train(SMALL, cycle_split), train(SMALL, cycle_split), strict=True))]
    assert turns == [alone, alone]


ALL_KINDS = [
    {"loss": "sce"},
    {"loss": "sce", "loss_settings": {"mix_x": True}, "low_pass": 0.5, "n_heads": 2},
    {"loss": "sampled", "loss_settings": {"sampling": "popularity"}},
    {"loss": "sampled", "loss_settings": {"sampling": "in_batch"}},
    {"loss": "bce", "item_dropout": 0.2},
    {"loss": "ce_minus", "loss_settings": {"shared_negatives": "sequence", "n_negatives": 8}},
    {"loss": "rece", "loss_settings": {"n_buckets": 5, "n_rounds": 2}},
    {"loss": "sce", "loss_settings": {"combine": "union", "n_negatives": 8, "negatives_for": "all", "kmeans_steps": 1}},
]


@pytest.mark.parametrize("settings", ALL_KINDS)
def test_a_cell_that_draws_numbers_changes_no_run_and_is_not_changed(cycle_split, settings):
    """A cell draws while a run is made, between its phases and between its steps."""
    config = dataclasses.replace(SMALL, **settings)
    alone = losses_of(train(config, cycle_split))

    def disturbed(model, loss, optimizer, batch, phase):
        @contextmanager
        def drawing(name):
            torch.rand(7)
            with phase(name):
                torch.rand(3)
                yield

        return training_step(model, loss, optimizer, batch, drawing)

    torch.manual_seed(5)
    state = torch.get_rng_state()
    quiet = list(train(config, cycle_split))
    assert torch.equal(torch.get_rng_state(), state)
    assert losses_of(quiet) == alone
    torch.manual_seed(6)
    assert losses_of(train(config, cycle_split, step=disturbed)) == alone


def test_every_part_of_a_model_draws_from_its_generator():
    """Initial weights, and dropout of embeddings, attention, running mean and feed-forward layer."""

    def model(seed):
        torch.manual_seed(np.random.default_rng().integers(2**31))
        config = dataclasses.replace(SMALL, dropout=0.5, low_pass=0.5)
        return make_model(config, 12, torch.Generator().manual_seed(seed))

    first, again, other = (model(seed).state_dict() for seed in (0, 0, 1))
    for name, weights in first.items():
        assert torch.equal(weights, again[name])
        if "norm" not in name:
            assert not torch.equal(weights, other[name]), name
    bias, fan_in = first["blocks.0.inner.bias"], 16
    assert 0.1 < bias.abs().max() <= fan_in**-0.5  # as torch's Linear


def test_the_state_of_torchs_generator_survives_the_best_model(cycle_split):
    trainer = Trainer(SMALL, cycle_split)
    state = torch.get_rng_state()
    trainer.best_model()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("after", [2, 4, 6])
@pytest.mark.parametrize(
    ("loss", "settings"),
    [("sce", {}), ("sampled", {}), ("sce", {"averaging": 0.9}), ("sce", {"low_pass": 0.5, "item_dropout": 0.2})],
)
def test_resume_continues_as_if_never_interrupted(cycle_split, tmp_path, after, loss, settings):
    config = dataclasses.replace(SMALL, loss=loss, **settings)
    whole = list(train(config, cycle_split))
    trainer = Trainer(config, cycle_split)
    events = trainer.events()
    while trainer.step < after:
        next(events)
    trainer.save(tmp_path / "c.safetensors")
    rest = list(train(config, cycle_split, resume_from=tmp_path / "c.safetensors"))
    assert losses_of(rest) == losses_of(whole)[after:]
    assert rest[-1].test == whole[-1].test
    assert rest[-1].validation == whole[-1].validation
    assert [p.name for p in tmp_path.iterdir()] == ["c.safetensors"]


def test_a_finished_run_can_be_given_more_epochs(cycle_split, tmp_path):
    trainer = Trainer(dataclasses.replace(SMALL, max_epochs=2), cycle_split)
    list(trainer.events())
    trainer.save(tmp_path / "c.safetensors")
    longer = losses_of(train(SMALL, cycle_split, resume_from=tmp_path / "c.safetensors"))
    assert longer == losses_of(train(SMALL, cycle_split))[8:]


def test_patience_ends_a_run_that_does_not_improve(cycle_split):
    config = dataclasses.replace(SMALL, learning_rate=1e-12, dropout=0.0, max_epochs=50, patience=2)
    events = list(train(config, cycle_split))
    evaluations = [e for e in events if isinstance(e, Evaluated)]
    assert events[-1].reason == "patience"
    assert events[-1].best_epoch == 1
    assert [e.is_best for e in evaluations] == [True, False, False]


def test_the_test_metrics_are_those_of_the_best_epoch(cycle_split):
    trainer = Trainer(dataclasses.replace(SMALL, max_epochs=1), cycle_split)
    for event in trainer.events():
        if isinstance(event, Evaluated):
            best = evaluate(trainer.model, cycle_split.test)
            with torch.no_grad():
                trainer.model.item_embedding.normal_()  # what happens after the best epoch does not count
    assert event.test == best


@pytest.fixture(scope="module")
def circling():
    """Users who go around a circle of 6 items for longer than that: most targets repeat, and are easy to predict."""
    rng = np.random.default_rng(0)
    walks = [(rng.integers(6) + np.arange(rng.integers(5, 12))) % 6 for _ in range(60)]
    parts = [
        Holdout(Sequences.from_lists([w[:end] for w in walks]), np.array([w[end] for w in walks])) for end in (-2, -1)
    ]
    return Split(parts[0].histories, *parts, 6, np.arange(6), "circling")


def test_a_run_is_judged_by_its_rule_about_seen_items(circling):
    share = circling.test.repeats.mean()
    assert 0.5 < share < 1
    found = {}
    for seen in SEEN:
        config = dataclasses.replace(SMALL, max_length=12, learning_rate=1e-2, max_epochs=15, seen=seen)
        trainer = Trainer(config, circling)
        *_, last = trainer.events()
        assert last.test == evaluate(trainer.best_model(), circling.test, seen=seen)
        assert last.validation == evaluate(trainer.best_model(), circling.validation, seen=seen)
        assert last.test["repeats"] == last.ranking.repeats.double().mean() + (share if seen == "new" else 0)
        found[seen] = last.test["HR@1"]
    assert found["exclude"] <= 1 - share  # whatever the model knows, a repeat is a miss
    assert found["keep"] > 0.9
    assert found["new"] > 0.9


def test_where_targets_came_out_is_told_at_the_end_unless_the_test_is_not_to_be_looked_at(cycle_split):
    *_, told = Trainer(SMALL, cycle_split).events()
    assert ranking_metrics(told.ranking, 12) == told.test
    *_, untold = (trainer := Trainer(SMALL, cycle_split, when_to_test="never")).events()
    assert (untold.test, untold.ranking) == ({}, None)
    assert untold.validation == told.validation
    assert torch.equal(trainer.rank_test().ranks, told.ranking.ranks)  # it can be opened later


def test_models_together_are_ranked_by_the_sum_of_their_scores(cycle_split):
    torch.manual_seed(0)
    models = [make_model(dataclasses.replace(SMALL, hidden_size=size), 12) for size in (16, 8)]
    for model in models:
        torch.nn.init.normal_(model.item_embedding)  # scores far from ties
    holdout = cycle_split.test
    ranks = []
    for history, target in zip(holdout.histories, holdout.targets):
        scores = torch.zeros(12)
        for model in models:
            packed, _ = next(history_batches(Sequences.from_lists([history]), SMALL.max_length))
            scores += (model.eval()(packed)[-1] @ model.item_embedding.T).detach()
        others = np.setdiff1d(np.arange(12), [*history, target])
        ranks.append(1 + int((scores[others] >= scores[target]).sum()))
    found = evaluate_together(models, holdout)
    assert found["HR@1"] == pytest.approx(np.mean(np.array(ranks) == 1))
    assert found["MRR@10"] == pytest.approx(np.mean([1 / rank if rank <= 10 else 0 for rank in ranks]))
    assert found != evaluate(models[0], holdout)
    assert evaluate_together(models[:1], holdout) == evaluate(models[0], holdout)


def test_the_best_model_has_the_weights_of_the_best_epoch_not_of_the_last(cycle_split):
    trainer = Trainer(dataclasses.replace(SMALL, max_epochs=4), cycle_split)
    for event in trainer.events():
        if isinstance(event, Evaluated) and event.epoch == 1:
            trainer.best_metrics = {"NDCG@10": 2.0}  # nothing after it is better
            best = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    found = trainer.best_model().state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in best.items())
    assert not torch.equal(found["item_embedding"], trainer.model.item_embedding)


def test_models_of_different_catalogs_are_not_added_up(cycle_split):
    models = [make_model(SMALL, size) for size in (12, 13)]
    with pytest.raises(ValueError, match="must have one catalog, got sizes 12, 13"):
        evaluate_together(models, cycle_split.test)
    with pytest.raises(ValueError, match="no models"):
        evaluate_together([], cycle_split.test)


def test_with_item_dropout_an_epoch_has_the_same_steps_and_fewer_positions(cycle_split):
    config = dataclasses.replace(SMALL, item_dropout=0.3)
    plain, thinned = (
        [event.n_positions for event in train(c, cycle_split) if isinstance(event, StepDone)] for c in (SMALL, config)
    )
    assert len(thinned) == len(plain)
    assert sum(thinned) < 0.9 * sum(plain)


def test_averaging_evaluates_the_moving_average_of_the_weights(cycle_split):
    plain = Trainer(SMALL, cycle_split)
    trainer = Trainer(dataclasses.replace(SMALL, averaging=0.9), cycle_split)
    average = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    differed, checked = False, 0
    for event, same in zip(trainer.events(), plain.events()):
        if isinstance(event, StepDone):
            assert event.loss == same.loss  # the training itself is not touched
            kept = min(0.9, event.step / (9 + event.step))
            average = {n: kept * a + (1 - kept) * trainer.model.state_dict()[n] for n, a in average.items()}
            torch.testing.assert_close(trainer.average, average)
        if isinstance(event, Evaluated):
            before = plain.model.state_dict()
            assert all(torch.equal(before[n], w) for n, w in trainer.model.state_dict().items())
            averaged = make_model(trainer.config, 12)
            averaged.load_state_dict(trainer.average)
            assert event.metrics == evaluate(averaged, cycle_split.validation)
            differed |= event.metrics != same.metrics
            if event.is_best:
                best, checked = evaluate(averaged, cycle_split.test), checked + 1
    assert differed
    assert checked
    assert event.test == best


def test_stop_is_asked_before_every_step(cycle_split):
    trainer = Trainer(SMALL, cycle_split, stop=lambda: trainer.step >= 5)
    *_, finished = trainer.events()
    assert (finished.reason, finished.step, finished.test) == ("stopped", 5, {})
    trainer = Trainer(SMALL, cycle_split, stop=lambda: trainer.step >= 5, when_to_test="always")
    *_, finished = trainer.events()
    assert finished.test["HR@50"] == 1.0


def test_a_setting_of_the_loss_can_change_between_two_steps(cycle_split):
    def shapes(change):
        trainer = Trainer(dataclasses.replace(SMALL, loss="sampled", max_epochs=1), cycle_split)
        values = []
        for event in trainer.events():
            values += losses_of([event])
            if len(values) == 2 and change:
                trainer.loss.n_negatives = 1
        return values

    plain, changed = shapes(False), shapes(True)
    assert plain[:2] == changed[:2]
    assert plain[2] != changed[2]


def test_evaluating_is_not_training(cycle_split):
    every = losses_of(train(SMALL, cycle_split))
    rarely = losses_of(train(dataclasses.replace(SMALL, evaluate_every=3), cycle_split))
    assert every == rarely


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_that_is_not_a_number_is_an_error_with_advice(cycle_split, loss):
    trainer = Trainer(dataclasses.replace(SMALL, loss=loss), cycle_split)
    with torch.no_grad():
        trainer.model.item_embedding.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match=r"loss became nan at step 1.*learning_rate below 0.01"):
        list(trainer.events())


def test_nothing_to_learn_from_is_said(cycle_split):
    empty = dataclasses.replace(cycle_split, train=Sequences.from_lists([[1], [2]]))
    with pytest.raises(ValueError, match="two items or more"):
        list(train(SMALL, empty))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("loss", "bpr"),
        ("loss", None),
        ("batch_size", 0),
        ("batch_size", 2.5),
        ("batch_size", True),
        ("batch_size", "16"),
        ("batch_size", 10**12),
        ("hidden_size", 10**8),
        ("n_blocks", -1),
        ("n_heads", 3),
        ("max_epochs", -1),
        ("dropout", 1.0),
        ("dropout", float("nan")),
        ("low_pass", 1.5),
        ("item_dropout", 1.0),
        ("averaging", 1.0),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("betas", (2, 0)),
        ("betas", (0.9,)),
        ("betas", None),
        ("seed", -1),
        ("device", "tpu9"),
        ("device", ""),
        ("sparse_gradients", 1),
        ("loss_settings", None),
    ],
)
def test_a_bad_setting_is_named_with_its_value(setting, value):
    shown = re.escape(f"{value:,}" if isinstance(value, int) and value > 10**7 else str(value))
    with pytest.raises(ValueError, match=rf"{setting} must .*got .*{shown}"):
        TrainingConfig(**{setting: value})


@pytest.mark.parametrize(
    ("loss", "settings", "sentence"),
    [
        ("sce", {"n_rounds": 3}, "the loss sce takes bucket_size_x, .*; got a setting 'n_rounds'"),
        ("ce", {"reduction": "none"}, "the loss ce takes .*; got a setting 'reduction'"),
        ("sampled", {"item_counts": [1, 2]}, "got a setting 'item_counts'"),
        ("sampled", {"generator": None}, "got a setting 'generator'"),
        ("sampled", {"sampling": "zipf"}, "sampling must be one of .* got 'zipf'"),
        ("sampled", {"n_negatives": "many"}, "many"),
        ("sampled", {"n_negatives": [3]}, r"n_negatives must be a number, a word or None, got \[3\]"),
        ("sce", {"n_buckets": 0}, "n_buckets must be a positive whole number, got 0"),
    ],
)
def test_a_bad_setting_of_the_loss_is_refused_at_once(loss, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        TrainingConfig(loss=loss, loss_settings=settings)


def test_numbers_of_numpy_become_pythons():
    config = TrainingConfig(batch_size=np.int64(16), learning_rate=np.float32(0.5))
    assert json.loads(json.dumps(dataclasses.asdict(config)))["batch_size"] == 16


@pytest.mark.parametrize("device", ["cuda", "cuda:7", "mps", "meta", "xpu"])
def test_a_device_that_is_not_there_is_named(cycle_split, device):
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(ValueError, match=f"no device '{device}' to train on here; use cpu"):
        Trainer(dataclasses.replace(SMALL, device=device), cycle_split)


def test_a_configuration_survives_json():
    config = TrainingConfig(loss_settings={"n_buckets": 3}, betas=(0.5, 0.6))
    assert TrainingConfig(**json.loads(json.dumps(dataclasses.asdict(config)))) == config


def test_settings_of_the_loss_change_between_two_events_and_the_change_is_told(cycle_split, tmp_path):
    config = dataclasses.replace(SMALL, loss="sampled", loss_settings={"n_negatives": 4})

    def losses(change_at, resumed=None):
        trainer, told, seen = Trainer(config, cycle_split), [], []
        if resumed:
            trainer.load(resumed)
        for event in trainer.events():
            if isinstance(event, Changed):
                told.append((event.step, event.settings))
            if isinstance(event, StepDone):
                seen.append(event.loss)
                if event.step == change_at:
                    trainer.change(n_negatives=8)
                if event.step == 5 and not resumed:
                    trainer.save(tmp_path / "checkpoint")
        return told, seen

    told, changed = losses(change_at=3)
    _, plain = losses(change_at=None)
    assert told == [(3, {"n_negatives": 8})]
    assert changed[:3] == plain[:3]
    assert changed[3:] != plain[3:]
    losses(change_at=3)  # writes the checkpoint of the changed run
    _, after = losses(change_at=None, resumed=tmp_path / "checkpoint")
    assert after == changed[5:]  # a resumed run goes on with the changed setting


@pytest.mark.parametrize("when", ["before it is read", "and told after it was read"])
def test_a_change_outlives_two_checkpoints(cycle_split, tmp_path, when):
    config = dataclasses.replace(SMALL, loss="sampled", loss_settings={"n_negatives": 4}, max_epochs=2)
    first = Trainer(config, cycle_split, stop=lambda: first.step >= 3)
    list(first.events())
    first.save(tmp_path / "a")
    second = Trainer(config, cycle_split, stop=lambda: second.step >= 6)
    if when == "before it is read":
        second.change(n_negatives=8)
    second.load(tmp_path / "a")
    if when != "before it is read":
        second.change(n_negatives=8)
    told = [(event.step, event.settings) for event in second.events() if isinstance(event, Changed)]
    assert told == [(3, {"n_negatives": 8})]
    second.save(tmp_path / "b")
    third = Trainer(config, cycle_split)
    third.load(tmp_path / "b")
    assert (third.loss.n_negatives, second.loss.n_negatives) == (8, 8)
    second.load(tmp_path / "a")  # from before the change
    assert (second.loss.n_negatives, second.changed) == (4, {})
    assert not [event for event in second.events() if isinstance(event, Changed)]


def test_a_change_after_the_last_step_of_an_epoch_is_told_before_its_checkpoint(cycle_split):
    config = dataclasses.replace(SMALL, loss="sampled", loss_settings={"n_negatives": 4}, max_epochs=2)
    trainer, told = Trainer(config, cycle_split), []
    for event in trainer.events():
        told.append(type(event))
        if isinstance(event, StepDone) and event.step == 4:
            trainer.change(n_negatives=8)
    assert told[4:7] == [StepDone, Changed, Evaluated]


def test_a_change_that_the_loss_refuses_changes_nothing(cycle_split):
    config = dataclasses.replace(SMALL, loss="sampled", loss_settings={"n_negatives": 4})
    trainer = Trainer(config, cycle_split)
    with pytest.raises(ValueError, match="n_negatives"):
        trainer.change(n_negatives=0)
    with pytest.raises(ValueError, match="n_buckets"):
        trainer.change(n_buckets=3)
    assert trainer.loss.n_negatives == 4
    assert trainer.changed == {}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"sampling": "zipf"}, "sampling must be one of"),
        ({"n_negatives": None}, "n_negatives=None cannot be changed to"),
        ({"item_counts": torch.ones(12)}, "got a setting 'item_counts'"),
        ({"generator": None}, "generator"),
        ({"reduction": "none"}, "got a setting 'reduction'"),
        ({"n_negatives": 8, "exponent": [1]}, "exponent must be a number"),
    ],
)
def test_a_change_that_would_fail_later_is_refused_now(cycle_split, settings, sentence):
    trainer = Trainer(dataclasses.replace(SMALL, loss="sampled"), cycle_split)
    before = dict(vars(trainer.loss))
    with pytest.raises(ValueError, match=sentence):
        trainer.change(**settings)
    assert vars(trainer.loss) == before
    assert trainer.changed == {}
    assert losses_of(trainer.events()) == losses_of(train(trainer.config, cycle_split))


def test_averages_of_bfloat16_weights_move(cycle_split):
    """In bfloat16 itself 1 + 1e-3 * 0.5 is 1, however often."""
    trainer = Trainer(dataclasses.replace(SMALL, dtype="bfloat16", averaging=0.999), cycle_split)
    trainer.step = 10**6
    name = "norm.weight"
    with torch.no_grad():
        trainer.model.norm.weight.fill_(1.5)
    for _ in range(2000):
        trainer._update_average()
    assert trainer.average[name][0].item() == pytest.approx(1.5 - 0.5 * 0.999**2000, abs=1e-3)


def test_what_is_kept_of_an_average_has_the_dtype_of_the_model(cycle_split, tmp_path):
    config = dataclasses.replace(SMALL, dtype="bfloat16", averaging=0.9)
    trainer = Trainer(config, cycle_split)
    list(trainer.events())
    assert {tensor.dtype for tensor in trainer.best_state.values()} == {torch.bfloat16}
    assert {tensor.dtype for tensor in trainer.average.values()} == {torch.float32}
    trainer.save(tmp_path / "c")
    again = Trainer(config, cycle_split)
    again.load(tmp_path / "c")
    assert torch.equal(again.rank_test().ranks, trainer.rank_test().ranks)
    torch.testing.assert_close(again.average, trainer.average)
