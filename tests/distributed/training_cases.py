"""A run on several ranks beside the plain one: steps, ranking, checkpoints, traffic, and what is refused."""

import dataclasses
import os
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from loss_cases import of_batches
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.tensor import DeviceMesh, Replicate, Shard, distribute_tensor

from sce_lab.data.splits import Holdout, Sequences, Split
from sce_lab.distributed import ShardedTrainer, check_alike, make_mesh, ranks_of, sharded_step, share_of_batch
from sce_lab.distributed.traffic import Sent, loss_traffic, step_traffic
from sce_lab.losses import binary_cross_entropy, cross_entropy, sampled_softmax, scalable_cross_entropy
from sce_lab.losses.proposals import Uniform
from sce_lab.memory.measure import measured_step
from sce_lab.training import StepDone, Trainer, TrainingConfig

CONFIG = TrainingConfig(max_epochs=2, batch_size=10, hidden_size=8, n_blocks=1, dropout=0.0, averaging=0.5)
CONFIGS = {
    "sce": dataclasses.replace(CONFIG, loss_settings={"n_buckets": 6, "bucket_size_x": 8, "bucket_size_y": 5}),
    "ce": dataclasses.replace(CONFIG, loss="ce"),
    "sampled": dataclasses.replace(CONFIG, loss="sampled", loss_settings={"n_negatives": 9}, sparse_gradients=True),
}
MORE = {
    "sce negatives": {"n_negatives": 7, "n_buckets": 3, "bucket_size_x": 100, "bucket_size_y": 5},  # two blocks more
    "sce moved": CONFIGS["sce"].loss_settings | {"mix_x": True, "kmeans_steps": 2, "items_near": "positions"},
}
"""Settings whose traffic is looked at, too."""


def walks(catalog_size=13, n_users=31, seed=0):
    """Users who walk around a circle of items."""
    rng = np.random.default_rng(seed)
    users = [(rng.integers(catalog_size) + np.arange(rng.integers(5, 10))) % catalog_size for _ in range(n_users)]
    held_out = [
        Holdout(Sequences.from_lists([w[:-n] for w in users]), np.array([w[-n] for w in users])) for n in (2, 1)
    ]
    return Split(
        Sequences.from_lists([w[:-2] for w in users]), *held_out, catalog_size, np.arange(catalog_size), "circle"
    )


def whole_run(rank, n, folder):
    """All that needs processes, in one start of them."""
    for name in CONFIGS:
        _equals_the_plain_run(rank, name)
    _goes_on_with_fewer_ranks(rank, folder)
    _sends_what_the_formula_says(n)
    _takes_a_share_of_memory(rank, n)
    _refusals(rank, n)


def _losses(events):
    return [event.loss for event in events if isinstance(event, StepDone)]


def _equals_the_plain_run(rank, name):
    config, split = CONFIGS[name], walks()
    events = list(ShardedTrainer(config, split, make_mesh()).events())
    if rank == 0:
        plain = list(Trainer(config, split).events())
        np.testing.assert_allclose(_losses(events), _losses(plain), atol=1e-5)
        assert (events[-1].validation, events[-1].test) == (plain[-1].validation, plain[-1].test)  # to the last digit
        assert torch.equal(events[-1].ranking.ranks, plain[-1].ranking.ranks)
        assert events[0].n_parameters == plain[0].n_parameters


def _goes_on_with_fewer_ranks(rank, folder):
    """Saved by all ranks after an epoch, continued by 4, 2 and 1."""
    split, path = walks(), os.path.join(folder, "checkpoint")
    one = dataclasses.replace(CONFIGS["sce"], max_epochs=1)
    begun = ShardedTrainer(one, split, make_mesh())
    list(begun.events())
    begun.save(path)
    full = CheckpointException("save", {0: (OSError("no space"), None)})
    with (
        mock.patch.object(dcp, "save", side_effect=full),
        pytest.raises(OSError, match=r"could not be written \(no space\); the checkpoint before it is there"),
    ):
        begun.save(path)  # of the same step
    dist.barrier()
    begun.save(path)
    if rank == 0:
        assert len(list(Path(folder).glob("checkpoint-*"))) == 1
    dist.barrier()
    found = []
    for n in (4, 2, 1):
        mesh = DeviceMesh("cpu", list(range(n)))
        if rank < n:
            trainer = ShardedTrainer(CONFIGS["sce"], split, mesh)
            trainer.load(path)
            assert trainer.epoch == 1
            events = list(trainer.events())
            found.append((_losses(events), events[-1].test, trainer.best_state["norm.weight"].full_tensor()))
        dist.barrier()
    for losses, test, weights in found:
        assert len(losses) == 4
        np.testing.assert_allclose(losses, found[0][0], atol=1e-5)
        assert test == found[0][1]
        torch.testing.assert_close(weights, found[0][2], atol=1e-5, rtol=1e-5)
    if rank == 0:
        other = dataclasses.replace(CONFIGS["sce"], learning_rate=0.5)
        alone = ShardedTrainer(other, split, mesh)
        with pytest.raises(ValueError, match=r"was made with learning_rate=0\.001, not 0\.5"):
            alone.load(path)
        alone = ShardedTrainer(CONFIGS["sce"], split, mesh)
        for part in Path(path).glob("*.distcp"):
            part.write_bytes(b"damaged")
        with pytest.raises(ValueError, match="checkpoint is damaged"):
            alone.load(path)


def _sends_what_the_formula_says(n):
    split = walks(64, 32)
    more = {name: dataclasses.replace(CONFIG, loss_settings=settings) for name, settings in MORE.items()}
    for name, config in (CONFIGS | more).items():
        trainer = ShardedTrainer(dataclasses.replace(config, batch_size=32), split, make_mesh())
        batch = next(_batches(trainer))
        sizes = [None] * n
        dist.all_gather_object(sizes, batch.n_positions)
        with Sent(n) as sent:
            trainer._step(trainer.model, trainer.loss, trainer.optimizer, batch, _no_phase)
        exchanged = sum(nbytes for call, nbytes in sent.calls if call == "alltoall_base_")
        whole, loss = (f(trainer.config, 64, max(sizes), n) for f in (step_traffic, loss_traffic))
        encoder = next(nbytes for formula, _, nbytes in whole.terms if " P " in formula)
        assert sent.nbytes - exchanged == pytest.approx(loss.bytes + encoder, rel=1e-9), name
        # Who looks up how much on whom depends on the data, but not what all ranks look up together.
        together = [None] * n
        dist.all_gather_object(together, exchanged)
        lookups = sum(_of_lookup(trainer.config, size, n) for size in sizes)
        assert sum(together) == pytest.approx(lookups, rel=1e-9), name


def _of_lookup(config, n_positions, n):
    whole, loss = (f(config, 64, n_positions, n) for f in (step_traffic, loss_traffic))
    return whole.bytes - loss.bytes - next(nbytes for formula, _, nbytes in whole.terms if " P " in formula)


def _batches(trainer):
    from sce_lab.data.batches import training_batches

    config, rng = trainer.config, np.random.default_rng(0)
    ranks = ranks_of(trainer.mesh)
    for batch in training_batches(trainer.split.train, config.batch_size, config.max_length, rng):
        yield share_of_batch(batch, ranks.rank, ranks.n)


def _no_phase(name):
    import contextlib

    return contextlib.nullcontext()


def _takes_a_share_of_memory(rank, n):
    """Rows, gradients and Adam's state of the table are those of 1 / n of the items."""
    split, config = walks(4096, 40), dataclasses.replace(CONFIGS["sampled"], sparse_gradients=False, batch_size=40)
    trainer = ShardedTrainer(config, split, make_mesh())
    batch = next(_batches(trainer))
    step = sharded_step(trainer.mesh, 4096)
    for _ in range(2):
        use = measured_step(trainer.model, trainer.loss, trainer.optimizer, batch, step=step).memory
    table = 4096 * config.hidden_size * 4
    for part, copies in ((use.parameters, 1), (use.gradients, 1), (use.optimizer_state, 2)):
        assert part == pytest.approx(copies * table / n, rel=0.05)


def _draws_that_differ(outputs, rows, targets, other):
    """What some ranks draw or are given is not what others are."""

    def refused(loss, what, **settings):
        with pytest.raises(ValueError, match=f"the same {what}, but those of rank 2, 3 are not those of rank 0"):
            loss(outputs, rows, targets, **settings)

    sce = partial(scalable_cross_entropy, n_buckets=2, bucket_size_x=3, bucket_size_y=3)
    generator, alike = torch.Generator().manual_seed(other), torch.Generator().manual_seed(0)
    same, counts = torch.tensor([1, 5, 0]), 1 + other * torch.arange(13.0)
    centers = torch.eye(2, 8)
    popular = {"sampling": "popularity", "item_counts": counts}
    refused(sampled_softmax, "negatives", generator=generator)
    refused(sampled_softmax, "negatives", negatives=same + other)
    refused(sampled_softmax, "negatives", negatives=same, **popular)
    refused(sampled_softmax, "negatives", negatives=torch.tensor([0, 3] if other else [2, 2]))
    refused(sce, "centres of buckets", generator=generator)
    refused(sce, "centres of buckets", generator=generator, mix_x=True)
    refused(sce, "centres of buckets", centers=centers + other)
    refused(sce, "centres of buckets", centers=centers, bucket_size_y=3 + other)
    refused(sce, "negatives", negatives=same + other, generator=alike)
    torch.manual_seed(other)  # of which nothing is drawn
    assert sampled_softmax(outputs, rows, targets, negatives=same) > 0
    assert sce(outputs, rows, targets, centers=centers) > 0


class Learned(Uniform):
    """A sampler whose probabilities have a gradient."""

    def __init__(self):
        super().__init__()
        self.level = torch.nn.Parameter(torch.zeros(()))

    def log_probability(self, items, catalog_size):
        return super().log_probability(items, catalog_size) + self.level


def _refusals(rank, n):
    mesh = make_mesh()
    with pytest.raises(ValueError, match=rf"a mesh of {n + 1} devices does not match the launch of {n} processes"):
        make_mesh(n + 1)
    with pytest.raises(ValueError, match=r"all ranks must have the same seed, but rank 1 has 1 and rank 0 has 0"):
        check_alike(mesh, seed=str(min(rank, 1)))
    with pytest.raises(ValueError, match="must have the same data, but rank 2"):
        ShardedTrainer(CONFIG, walks(seed=int(rank == 2)), mesh)
    with pytest.raises(
        ValueError, match=r"sharded items go with encoder='sasrec' or 'sasrec_gated', got 'sasrec_published'"
    ):
        ShardedTrainer(dataclasses.replace(CONFIG, encoder="sasrec_published"), walks(), mesh)
    outputs, targets, table = of_batches(13, [3], torch.float32)
    for placement in (Shard(1), Replicate()):
        other = distribute_tensor(table, mesh, [placement], src_data_rank=None)
        with pytest.raises(ValueError, match=r"linear_weight must be sharded by rows, \[Shard\(0\)\]"):
            cross_entropy(outputs, other, targets)
    rows = distribute_tensor(table, mesh, [Shard(0)], src_data_rank=None)
    _draws_that_differ(outputs, rows, targets, int(rank > 1))
    with pytest.raises(ValueError, match="this loss needs the whole item table"):
        binary_cross_entropy(outputs, rows, targets)
    with pytest.raises(ValueError, match="label_smoothing does not go with a sharded item table"):
        cross_entropy(outputs, rows, targets, label_smoothing=0.1)
    with pytest.raises(ValueError, match="linear_bias does not go with a sharded item table"):
        cross_entropy(outputs, rows, targets, linear_bias=table[:, 0])
    with pytest.raises(ValueError, match=r"sparse_grad=True needs the rows of each rank to be a parameter"):
        sampled_softmax(outputs, torch.nn.Parameter(rows), targets, sparse_grad=True)
    alike = torch.Generator().manual_seed(0)
    with pytest.raises(ValueError, match="samplers without a gradient, but log_probability of this one has one"):
        sampled_softmax(outputs, rows, targets, sampling=Learned(), generator=alike)
    assert sampled_softmax(outputs, rows, targets, sampling=Learned(), logq_correction=False, generator=alike) > 0
    with pytest.raises(ValueError, match="got shared_negatives='sequence'"):
        sampled_softmax(outputs[None], rows, targets[None], shared_negatives="sequence")
