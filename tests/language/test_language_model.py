"""Training, exact probabilities, and what is fitted afterwards."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from sce_lab.data.batches import Batch
from sce_lab.language import (
    LANGUAGE_CONFIG,
    Correction,
    corrections,
    evaluate_language,
    evaluation_batches,
    fitted_bias,
    fitted_scale,
    read_corpus,
    train_language_model,
    training_batch,
    unigram_nats,
)
from sce_lab.language import evaluation as evaluation_module
from sce_lab.losses import cross_entropy, make_loss
from sce_lab.metrics import calibration_error
from sce_lab.training.step import StepResult

SMALL = dataclasses.replace(LANGUAGE_CONFIG, hidden_size=16, n_blocks=1, n_heads=1, max_length=8, batch_size=8)


@pytest.fixture
def corpus(texts):
    return read_corpus(50, texts)


def trained(corpus, steps=30, **settings):
    config = dataclasses.replace(SMALL, **settings)
    return list(train_language_model(corpus, config, steps=steps))


def naive(model, batches, scale=1.0, bias=None):
    """Nats, ranks and confidences of each position by itself, in float64."""
    nats, ranks, confidence, hits = [], [], [], []
    w = model.item_embedding.detach().double()
    for batch in batches:
        with torch.no_grad():
            outputs = model.eval()(batch.inputs).double()
        for x, t in zip(outputs, batch.targets.tolist()):
            logits = [scale * float(x @ row) + (0.0 if bias is None else float(bias[i])) for i, row in enumerate(w)]
            log_z = math.log(sum(math.exp(logit) for logit in logits))
            nats.append(log_z - logits[t])
            ranks.append(sum(logit >= logits[t] for logit in logits) - 1)
            confidence.append(math.exp(max(logits) - log_z))
            hits.append(ranks[-1] == 0)
    return np.array(nats), np.array(ranks), confidence, hits


@pytest.mark.parametrize("at_a_time", [2**23, 100])
def test_perplexity_is_that_of_the_whole_vocabulary(corpus, monkeypatch, at_a_time):
    monkeypatch.setattr(evaluation_module, "_AT_A_TIME", at_a_time)
    model = trained(corpus)[-1].model
    batches = evaluation_batches(corpus.test, 5, 8, at_a_time=2)
    bias = torch.linspace(-1, 1, len(corpus.vocabulary))
    for scale, b in ((1.0, None), (1.7, bias)):
        found = evaluate_language(model, batches, Correction(scale, b))
        nats, ranks, confidence, hits = naive(model, batches, scale, b)
        assert found.perplexity == pytest.approx(math.exp(nats.mean()), rel=1e-5)
        assert found.nats == pytest.approx(nats.mean(), rel=1e-5)
        assert found.top1 == pytest.approx((ranks == 0).mean())
        assert found.top10 == pytest.approx((ranks < 10).mean())
        assert found.calibration_error == pytest.approx(calibration_error(confidence, hits), abs=1e-5)
        assert found.by_window == pytest.approx(nats.reshape(5, 8).mean(axis=1), rel=1e-5)


def test_ties_are_no_hits(corpus):
    model = trained(corpus, 1)[-1].model
    with torch.no_grad():
        model.item_embedding.zero_()
    found = evaluate_language(model, evaluation_batches(corpus.test, 4, 8))
    assert found.top1 == found.top10 == 0
    assert found.perplexity == pytest.approx(len(corpus.vocabulary), rel=1e-5)


def test_windows_predict_the_next_word_and_do_not_overlap(corpus):
    seen = []
    for batch in evaluation_batches(corpus.test, 10**6, 8):
        for x, t in zip(batch.inputs.items.view(-1, 8), batch.targets.view(-1, 8)):
            assert x[1:].tolist() == t[:-1].tolist()
            seen += t.tolist()
    assert seen == corpus.test[1 : len(seen) + 1].tolist()
    assert len(seen) > len(corpus.test) - 9
    one, same, other = (training_batch(corpus.train, 4, 8, 0, step) for step in (1, 1, 2))
    assert torch.equal(one.inputs.items, same.inputs.items)
    assert not torch.equal(one.inputs.items, other.inputs.items)
    with pytest.raises(ValueError, match="a window has 8 positions"):
        evaluation_batches(corpus.test[:8], 1, 8)


def test_batches_and_first_weights_are_the_same_for_all_losses(corpus, monkeypatch):
    seen = {}
    for loss in ("cce", "sce"):
        batches = seen[loss] = []
        monkeypatch.setattr(
            "sce_lab.language.training.training_step",
            lambda model, loss, optimizer, batch, phase, batches=batches: (
                batches.append((batch, model.item_embedding.clone())) or StepResult(torch.tensor(1.0))
            ),
        )  # fmt: skip
        trained(corpus, 3, loss=loss)
    for (ours, table), (theirs, other) in zip(*seen.values()):
        assert torch.equal(ours.targets, theirs.targets)
        assert torch.equal(table, other)


def test_it_learns_and_comes_out_the_same_again(corpus):
    windows = evaluation_batches(corpus.validation, 30, 8)
    config, looked = dataclasses.replace(SMALL, learning_rate=1e-2), {"evaluate_at": {1, 150}, "evaluate_on": windows}
    runs = [
        [p.quality.nats for p in train_language_model(corpus, config, steps=150, **looked) if p.quality]
        for _ in range(2)
    ]  # fmt: skip
    assert runs[0] == runs[1]
    assert runs[0][1] < unigram_nats(corpus.counts, windows) - 0.5 < runs[0][0]


def test_the_finish_is_exact_cross_entropy_and_nothing_before_it_changes(corpus, monkeypatch):
    def losses_of(**more):
        return [(p.loss, p.finishing) for p in train_language_model(corpus, config, steps=6, **more)]

    config = dataclasses.replace(SMALL, loss="sce", loss_settings={"n_buckets": 4, "bucket_size_y": 4})
    plain, finished = losses_of(), losses_of(finish=2)
    assert finished[:4] == plain[:4]
    assert [finishing for _, finishing in finished] == [False] * 4 + [True] * 2
    *_, after = train_language_model(corpus, config, steps=4)
    batch = training_batch(corpus.train, config.batch_size, config.max_length, config.seed, 5)
    with torch.no_grad():
        exact = cross_entropy(after.model.eval()(batch.inputs), after.model.item_embedding, batch.targets)
    assert finished[4][0] == pytest.approx(float(exact), rel=1e-5)
    assert finished[4][0] != plain[4][0]
    for steps, finish in ((0, 0), (3, 4), (3, -1)):
        with pytest.raises(ValueError, match="steps must be at least 1 and finish between"):
            next(train_language_model(corpus, config, steps=steps, finish=finish))


def test_a_word_bias_brings_frequencies_back_and_a_scale_is_the_best_there_is(corpus):
    """The bias that a loss left out is found again, up to a number that changes nothing."""
    model = trained(corpus, 60, learning_rate=1e-2)[-1].model
    windows = evaluation_batches(corpus.train, 60, 8)
    plain = evaluate_language(model, windows)
    taken = torch.linspace(-3, 3, len(corpus.vocabulary))
    lost = evaluate_language(model, windows, Correction(bias=taken))

    class Spoilt(torch.nn.Module):  # logits of the model plus `taken`, through one more dimension
        def __init__(self):
            super().__init__()
            self.item_embedding = torch.cat([model.item_embedding.detach(), taken[:, None]], dim=1)

        def forward(self, inputs):
            return torch.nn.functional.pad(model(inputs), (0, 1), value=1.0)

    spoilt = Spoilt()
    assert evaluate_language(spoilt, windows).nats == pytest.approx(lost.nats, rel=1e-5)
    bias = fitted_bias(spoilt, windows, corpus.counts, rounds=30)
    mended = evaluate_language(spoilt, windows, Correction(bias=bias))
    assert mended.nats < plain.nats + 0.01 < lost.nats - 0.5
    once = evaluate_language(spoilt, windows, Correction(bias=fitted_bias(spoilt, windows, corpus.counts, rounds=1)))
    assert mended.nats < once.nats < lost.nats
    hot = Spoilt()
    hot.item_embedding = 4 * torch.nn.functional.pad(model.item_embedding.detach(), (0, 1))
    scale = fitted_scale(hot, windows).scale
    nats = [evaluate_language(hot, windows, Correction(near * scale)).nats for near in (0.9, 1.0, 1.1)]
    assert nats[1] == min(nats)
    assert set(corrections(model, windows, windows, corpus.counts)) == {"none", "scale", "word bias"}


def test_the_stratum_makes_an_unbiased_partition_where_the_union_alone_leaves_mass_out(corpus):
    """e to the loss is Z over e to the target's logit: its mean over draws, against the whole sum in float64."""
    model = trained(corpus, 40, learning_rate=1e-2)[-1].model
    batch: Batch = evaluation_batches(corpus.test, 4, 8)[0]
    with torch.no_grad():
        x = model.eval()(batch.inputs)
    w = model.item_embedding.detach()
    logits = x.double() @ w.double().T
    exact = (logits.logsumexp(dim=1) - logits.gather(1, batch.targets[:, None])[:, 0]).exp()
    shared = {"n_buckets": 3, "bucket_size_x": 12, "bucket_size_y": 3, "combine": "union", "reduction": "none"}
    shared["centers"] = torch.randn(3, x.shape[1], generator=torch.Generator().manual_seed(1))
    alone = make_loss("sce", **shared)(x, w, batch.targets)
    covered = alone > 0
    assert (alone.double().exp()[covered] < 0.9 * exact[covered]).all()
    generator = torch.Generator().manual_seed(0)
    stratum = make_loss("sce", **shared, n_negatives=4, negatives_for="all", generator=generator)
    drawn = torch.stack([stratum(x, w, batch.targets).double().exp() for _ in range(400)])
    away = (drawn.mean(dim=0) - exact) / (drawn.std(dim=0) / len(drawn) ** 0.5 + 1e-6 * exact)
    assert away.abs().max() < 4.5
    assert drawn.std(dim=0).max() > 0.05
