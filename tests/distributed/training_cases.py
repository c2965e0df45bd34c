"""A run on several ranks beside the plain one: steps, ranking, checkpoints, traffic, and what is refused."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from loss_cases import of_batches
from torch.distributed.tensor import DeviceMesh, Replicate, Shard, distribute_tensor

from sce_lab.data.splits import Holdout, Sequences, Split
from sce_lab.distributed import ShardedTrainer, check_alike, make_mesh, ranks_of, sharded_step, share_of_batch
from sce_lab.distributed.traffic import Sent, loss_traffic, step_traffic
from sce_lab.losses import binary_cross_entropy, cross_entropy, sampled_softmax
from sce_lab.memory.measure import measured_step
from sce_lab.training import StepDone, Trainer, TrainingConfig

CONFIG = TrainingConfig(max_epochs=2, batch_size=10, hidden_size=8, n_blocks=1, dropout=0.0, averaging=0.5)
CONFIGS = {
    "sce": dataclasses.replace(CONFIG, loss_settings={"n_buckets": 6, "bucket_size_x": 8, "bucket_size_y": 5}),
    "ce": dataclasses.replace(CONFIG, loss="ce"),
    "sampled": dataclasses.replace(CONFIG, loss="sampled", loss_settings={"n_negatives": 9}, sparse_gradients=True),
}


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
    for name, config in CONFIGS.items():
        trainer = ShardedTrainer(dataclasses.replace(config, batch_size=32), split, make_mesh())
        batch = next(_batches(trainer))
        longest = torch.tensor(batch.n_positions)
        dist.all_reduce(longest, dist.ReduceOp.MAX)
        # of the lookup it depends on the data how much is another rank's
        with Sent(n) as sent:
            trainer._step(trainer.model, trainer.loss, trainer.optimizer, batch, _no_phase)
        exchanged = sum(nbytes for call, nbytes in sent.calls if call == "alltoall_base_")
        whole = step_traffic(trainer.config, 64, int(longest), n)
        loss = loss_traffic(trainer.config, 64, int(longest), n)
        encoder = next(nbytes for formula, _, nbytes in whole.terms if " P " in formula)
        assert sent.nbytes - exchanged == pytest.approx(loss.bytes + encoder, rel=1e-9), name
        assert exchanged == pytest.approx(whole.bytes - loss.bytes - encoder, rel=0.6), name


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


def _refusals(rank, n):
    mesh = make_mesh()
    with pytest.raises(ValueError, match=rf"a mesh of {n + 1} devices does not match the launch of {n} processes"):
        make_mesh(n + 1)
    with pytest.raises(ValueError, match=r"all ranks must have the same seed, but rank 1 has 1 and rank 0 has 0"):
        check_alike(mesh, seed=str(min(rank, 1)))
    with pytest.raises(ValueError, match="must have the same data, but rank 2"):
        ShardedTrainer(CONFIG, walks(seed=int(rank == 2)), mesh)
    with pytest.raises(ValueError, match=r"sharded items go with encoder='sasrec', got 'sasrec_published'"):
        ShardedTrainer(dataclasses.replace(CONFIG, encoder="sasrec_published"), walks(), mesh)
    outputs, targets, table = of_batches(13, [3], torch.float32)
    for placement in (Shard(1), Replicate()):
        other = distribute_tensor(table, mesh, [placement], src_data_rank=None)
        with pytest.raises(ValueError, match=r"linear_weight must be sharded by rows, \[Shard\(0\)\]"):
            cross_entropy(outputs, other, targets)
    rows = distribute_tensor(table, mesh, [Shard(0)], src_data_rank=None)
    with pytest.raises(ValueError, match="the generator of rank 1, 2, 3 is not in the state of that of rank 0"):
        sampled_softmax(outputs, rows, targets, generator=torch.Generator().manual_seed(min(rank, 1)))
    with pytest.raises(ValueError, match="this loss needs the whole item table"):
        binary_cross_entropy(outputs, rows, targets)
    with pytest.raises(ValueError, match="label_smoothing does not go with a sharded item table"):
        cross_entropy(outputs, rows, targets, label_smoothing=0.1)
    with pytest.raises(ValueError, match="linear_bias does not go with a sharded item table"):
        cross_entropy(outputs, rows, targets, linear_bias=table[:, 0])
    with pytest.raises(ValueError, match=r"sparse_grad=True needs the rows of each rank to be a parameter"):
        sampled_softmax(outputs, torch.nn.Parameter(rows), targets, sparse_grad=True)
    with pytest.raises(ValueError, match="got shared_negatives='sequence'"):
        sampled_softmax(outputs[None], rows, targets[None], shared_negatives="sequence")
