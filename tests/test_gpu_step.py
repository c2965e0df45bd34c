"""What a GPU's step is made of, on a CPU: the same numbers as the packed path, few launches, nothing that waits."""

import dataclasses
import gc
import threading
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
import torch
from torch import nn

from sce_lab.attention import into_rows
from sce_lab.data.batches import Batch, training_batches
from sce_lab.data.splits import Sequences
from sce_lab.draws import drawing_from
from sce_lab.encoders import ENCODERS
from sce_lab.metrics import rank_items
from sce_lab.model import SASRec
from sce_lab.training import StepDone, Stopwatch, Trainer, TrainingConfig, make_model, make_optimizer, training_step
from sce_lab.training import trainer as trainer_module
from sce_lab.training.launches import FusedAttention, Launches
from sce_lab.transfer import Late, ahead, send

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.fixture
def batch():
    """40 histories of 1 to 8 positions, as Beauty's are: most of them short."""
    rng = np.random.default_rng(0)
    lists = [list(rng.integers(0, 30, 2 + min(rng.geometric(0.3), 12))) for _ in range(40)]
    return next(training_batches(Sequences.from_lists(lists), 40, 8, rng))


def padded(batch, width=None):
    return dataclasses.replace(batch, inputs=batch.inputs.padded(width))


class PlainLoss(nn.Module):
    """Cross-entropy in three lines: what a loss launches is counted elsewhere."""

    def forward(self, head, table, targets):
        logits = head @ table.T
        return (logits.logsumexp(1) - (head * table.index_select(0, targets)).sum(1)).mean()


# --------------------------------------------------------------------------------------------------- equal outputs


@pytest.mark.parametrize("width", [None, 13])
@pytest.mark.parametrize("settings", [{}, {"n_heads": 2, "low_pass": 0.5}, {"n_blocks": 3, "n_heads": 4}])
@pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_outputs_and_gradients_are_those_of_the_packed_path(batch, settings, width, dtype, within):
    generator = torch.Generator().manual_seed(0)
    model = SASRec(30, 8, 16, dropout=0.0, generator=generator, **settings).to(dtype)
    weights = torch.randn(batch.n_positions, 16, generator=generator).to(dtype)
    found = []
    for inputs in (batch.inputs, batch.inputs.padded(width)):
        model.zero_grad()
        outputs = model(inputs)
        outputs.backward(weights)
        found.append([outputs.detach(), *(p.grad.clone() for p in model.parameters())])
    for packed, other in zip(*found, strict=True):
        torch.testing.assert_close(other, packed, rtol=within, atol=within)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_encoder_has_its_values_on_a_padded_layout(batch, encoder):
    model = make_model(TrainingConfig(encoder=encoder, hidden_size=16, max_length=8, dropout=0.0), 30)
    with torch.no_grad():
        packed, other = model(batch.inputs), model(batch.inputs.padded(8))
    torch.testing.assert_close(other, packed, rtol=1e-5, atol=1e-5)


def test_a_slot_is_a_sequence_and_an_offset(batch):
    inputs = batch.inputs.padded(9)
    rows = into_rows(inputs.positions[:, None] + 1, inputs.rows).view(-1, 9)  # 0 is no position
    lengths = [length for n, length in inputs.runs for _ in range(n)]
    assert rows.shape == (len(lengths), 9)
    for row, length in zip(rows.tolist(), lengths):
        assert row == [*range(8 - length + 1, 9), *[0] * (9 - length)]


def test_a_position_sees_neither_what_follows_nor_other_sequences(batch):
    model = SASRec(30, 8, 16, dropout=0.0).eval()
    inputs = batch.inputs.padded()
    changed = inputs.items.clone()
    changed[inputs.last] = (changed[inputs.last] + 1) % 30
    same = torch.ones(len(changed), dtype=torch.bool)
    same[inputs.last] = False
    with torch.no_grad():
        before, after = model(inputs), model(dataclasses.replace(inputs, items=changed))
    torch.testing.assert_close(after[same], before[same])
    assert (after[~same] != before[~same]).any(1).all()


def test_a_batch_for_another_device_than_a_cpu_is_padded_and_whole(batch):
    sent = batch.to("meta", width=8)
    assert sent.inputs.rows.shapes == ((40, 8),)
    assert sent.inputs.rows.slots.shape == sent.targets.shape == batch.targets.shape
    assert sent.inputs.items.device.type == "meta"
    assert sent.to("meta") is sent
    assert not batch.to("cpu").inputs.rows.fused


# ------------------------------------------------------------------------------------------------- random numbers


def test_dropout_is_drawn_from_the_generator_of_the_run_and_from_nobody_elses(batch):
    generator = torch.Generator().manual_seed(0)
    model, inputs = SASRec(30, 8, 16, dropout=0.5, generator=generator), batch.inputs.padded()
    torch.manual_seed(7)
    state = torch.get_rng_state()
    found = []
    for seed in (3, 3, 4):
        generator.manual_seed(seed)
        found.append(model(inputs))
        torch.rand(5)  # somebody else's
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert not torch.equal(model(inputs), model(inputs))  # it goes on
    torch.manual_seed(7)
    model(inputs)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_failure_leaves_the_global_generator_as_it_was():
    state = torch.get_rng_state()
    with pytest.raises(RuntimeError), drawing_from(torch.Generator()):
        torch.rand(3) @ torch.rand(4)
    assert torch.equal(torch.get_rng_state(), state)


def test_fused_dropout_keeps_the_mean():
    drop = SASRec(4, 4, 8, dropout=0.25).drop
    y = drop.fused(torch.ones(1000, 64))
    assert y.mean().item() == pytest.approx(1, abs=0.02)
    assert y.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert drop.eval().fused(y) is y


# -------------------------------------------------------------------------------------------- launches and waiting


def counted(batch, **settings):
    """Launches by phase of a second step on the padded layout, and the counter."""
    config = TrainingConfig(batch_size=40, max_length=8, dropout=0.6, hidden_size=16, **settings)
    model, mode, phases = make_model(config, 30).train(), Launches(), {}
    optimizer = make_optimizer(config, model)
    training_step(model, PlainLoss(), optimizer, padded(batch, 8), lambda name: mode_phase(Launches(), name, {}))
    with FusedAttention(), mode:
        training_step(model, PlainLoss(), optimizer, padded(batch, 8), lambda name: mode_phase(mode, name, phases))
    return phases, mode


@contextmanager
def mode_phase(mode, name, phases):
    before = mode.total
    yield
    phases[name] = mode.total - before


def test_a_step_of_the_papers_model_has_few_launches(batch):
    """Two blocks, one head, dropout: 250 for all of it is the aim. What a loss launches is apart."""
    phases, _ = counted(batch)
    apart = phases["loss_forward"] + phases["loss_backward"]
    assert phases["forward"] <= 42
    assert phases["backward"] <= 82
    assert sum(phases.values()) - apart <= 130


def test_launches_do_not_grow_with_the_number_of_lengths(batch):
    short = dataclasses.replace(batch, inputs=dataclasses.replace(batch.inputs, runs=((batch.n_positions, 1),)))
    assert counted(batch)[0] == counted(short)[0]
    packed = Launches()
    with packed:
        make_model(TrainingConfig(hidden_size=16, max_length=8), 30).train()(batch.inputs)
    assert packed.total > 2 * counted(batch)[0]["forward"]  # the counter tells them apart


@pytest.mark.parametrize("settings", [{}, {"low_pass": 0.5, "n_heads": 2}, {"dtype": "bfloat16"}])
def test_nothing_in_a_step_waits(batch, settings):
    _, mode = counted(batch, **settings)
    assert not mode.waits


@pytest.mark.parametrize("seen", ["exclude", "keep"])
def test_an_evaluation_waits_for_nothing_before_its_end(cycle_split, monkeypatch, seen):
    """What comes back, ranks and lists, comes once, however many chunks of users there are."""
    back = []
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: back.append(self.shape) or self)
    outputs, items = torch.randn(60, 4), torch.randn(12, 4)
    with Launches() as mode:
        ranking = rank_items(outputs, items, cycle_split.test, seen=seen, k_max=5, chunk_bytes=4 * 12 * 7)
    assert mode.waits.total() == (seen == "exclude")  # targets that repeat, when ranks are on the CPU
    assert mode.launches["topk"] == 9
    assert back == [(60,), (60, 5)]
    monkeypatch.undo()
    whole = rank_items(outputs, items, cycle_split.test, seen=seen, k_max=5)
    assert torch.equal(ranking.ranks, whole.ranks)


def test_the_counter_sees_what_would_wait():
    for wait in (
        lambda t: t.sum().item(),
        lambda t: t[t > 1],
        lambda t: t.unique(),
        lambda t: t.nonzero(),
        lambda t: bool((t > 1).any()),
    ):
        with Launches() as mode:
            wait(torch.arange(3.0))
        assert mode.waits


# ------------------------------------------------------------------------------------------ ahead, and read later


def test_the_next_batch_is_made_by_another_thread_while_the_present_is_worked_on():
    made, started = [], threading.Event()

    def prepare(n):
        made.append((n, threading.current_thread() is threading.main_thread()))
        if n == 1:
            started.set()
        return -n

    items = ahead(iter(range(3)), prepare, "cuda")
    assert next(items) == 0
    assert started.wait(5)  # while 0 is worked on
    assert list(items) == [-1, -2]
    assert made == [(n, False) for n in range(3)]
    assert list(ahead(iter(range(3)), prepare, "cpu")) == [0, -1, -2]
    assert made[3:] == [(n, True) for n in range(3)]


def test_an_error_in_the_thread_arrives_and_dropping_the_batches_ends_it():
    def prepare(n):
        return 1 // (1 - n)

    with pytest.raises(ZeroDivisionError):
        list(ahead(iter(range(3)), prepare, "cuda"))
    items = ahead(iter(range(10**9)), lambda n: n, "cuda")
    next(items)
    items.close()
    gc.collect()
    assert not [t for t in threading.enumerate() if t.name.startswith("sce-lab-batches")]


class Slow(Late):
    """A loss that comes only when ``allowed`` steps have been begun."""

    begun, behind = 0, 3

    def __init__(self, number):
        super().__init__(number)
        Slow.begun += 1
        self.number = Slow.begun

    @property
    def there(self):
        return Slow.begun >= self.number + Slow.behind


SMALL = TrainingConfig(hidden_size=16, batch_size=16, max_length=8, max_epochs=3, dropout=0.2, learning_rate=1e-2)


@pytest.mark.parametrize("behind", [3, 10**9])
def test_losses_that_come_late_are_told_all_and_in_order(cycle_split, monkeypatch, behind):
    expected = list(Trainer(SMALL, cycle_split).events())
    monkeypatch.setattr(Slow, "behind", behind)
    monkeypatch.setattr(Slow, "begun", 0)
    monkeypatch.setattr(trainer_module, "Late", Slow)
    trainer = Trainer(SMALL, cycle_split)
    events, ahead_of = [], []
    for event in trainer.events():
        events.append(event)
        if isinstance(event, StepDone):
            ahead_of.append(trainer.step - event.step)
    assert max(ahead_of) == 3
    for one, other in zip(expected, events, strict=True):
        assert type(one) is type(other)
        if isinstance(one, StepDone):
            assert (one.step, one.epoch, one.loss) == (other.step, other.epoch, other.loss)
            assert one.seconds.keys() == other.seconds.keys()


def test_a_loss_that_is_no_number_is_named_by_its_step_within_some_steps(cycle_split, monkeypatch):
    config = dataclasses.replace(SMALL, batch_size=2, max_epochs=1)
    monkeypatch.setattr(Slow, "behind", 10**9)
    monkeypatch.setattr(trainer_module, "Late", Slow)

    def broken(model, loss, optimizer, batch, phase):
        result = training_step(model, loss, optimizer, batch, phase)
        return dataclasses.replace(result, loss=result.loss * torch.nan) if trainer.step == 4 else result

    trainer = Trainer(config, cycle_split, step=broken)
    with pytest.raises(FloatingPointError, match=r"the loss became nan at step 5: try a learning_rate below 0\.01"):
        list(trainer.events())
    assert trainer.step <= 5 + trainer_module.UNDER_WAY


def test_a_change_comes_after_all_steps_before_it(cycle_split, monkeypatch):
    monkeypatch.setattr(Slow, "behind", 10**9)
    monkeypatch.setattr(trainer_module, "Late", Slow)
    trainer = Trainer(dataclasses.replace(SMALL, loss="sampled", max_epochs=2), cycle_split)
    told = []
    for event in trainer.events():
        told.append((type(event).__name__, getattr(event, "step", 0)))
        if told[-1] == ("Evaluated", 4):
            trainer.change(n_negatives=7)
    at = told.index(("Changed", 4))
    assert [step for name, step in told[:at] if name == "StepDone"] == [1, 2, 3, 4]


class FakeEvent:
    """Of a stream whose clock is told."""

    now, waited = 0.0, 0

    def __init__(self, enable_timing=False):
        pass

    def record(self, stream=None):
        self.at = FakeEvent.now

    def synchronize(self):
        FakeEvent.waited += 1

    def elapsed_time(self, other):
        return other.at - self.at


def test_the_stopwatch_of_a_gpu_waits_for_nobody_until_it_is_read(monkeypatch):
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: pytest.fail("it waited"))
    monkeypatch.setattr(FakeEvent, "waited", 0)
    watch = Stopwatch("cuda")
    for name, milliseconds in (("forward", 2), ("backward", 5), ("forward", 1)):
        with watch(name):
            FakeEvent.now += milliseconds
    assert FakeEvent.waited == 0
    assert watch.seconds == pytest.approx({"forward": 0.003, "backward": 0.005})


# ------------------------------------------------------------------------------------------------------- on a GPU


@pytest.mark.gpu
@needs_cuda
class TestOnAGpu:
    """What only a GPU can say."""

    def test_it_trains_as_on_a_cpu(self, cycle_split):
        runs = []
        for device in ("cpu", "cuda"):
            config = dataclasses.replace(SMALL, device=device, dropout=0.0, loss="ce", seed=1)
            trainer = Trainer(config, cycle_split)
            trainer.model.load_state_dict(make_model(dataclasses.replace(config, device="cpu"), 12,
                                                     torch.Generator().manual_seed(0)).state_dict())  # fmt: skip
            runs.append([event.loss for event in trainer.events() if isinstance(event, StepDone)])
        assert runs[1] == pytest.approx(runs[0], rel=1e-3)

    def test_no_step_waits(self, cycle_split):
        trainer = Trainer(dataclasses.replace(SMALL, device="cuda", loss="sce", max_epochs=1), cycle_split)
        events = trainer.events()
        for event in events:
            if isinstance(event, StepDone):
                break
        trainer.loss = PlainLoss()  # whether a loss waits is asked elsewhere
        torch.cuda.set_sync_debug_mode("error")
        try:
            batch = next(training_batches(cycle_split.train, 16, 8, np.random.default_rng(0)))
            trainer._train_on(send_batch(batch))
        finally:
            torch.cuda.set_sync_debug_mode("default")

    def test_a_cell_beside_it_changes_nothing(self, cycle_split):
        config = dataclasses.replace(SMALL, device="cuda", loss="ce", dropout=0.5)
        state = torch.cuda.get_rng_state()
        first = [event.loss for event in Trainer(config, cycle_split).events() if isinstance(event, StepDone)]
        assert torch.equal(torch.cuda.get_rng_state(), state)
        torch.rand(3, device="cuda")
        again = [event.loss for event in Trainer(config, cycle_split).events() if isinstance(event, StepDone)]
        assert again == pytest.approx(first, rel=1e-4)

    def test_a_run_goes_on_on_a_cpu_and_back(self, cycle_split, tmp_path):
        at = None
        for device in ("cuda", "cpu", "cuda"):
            trainer = Trainer(dataclasses.replace(SMALL, device=device), cycle_split)
            if at is not None:
                trainer.load(tmp_path / "checkpoint")
                assert trainer.step == at
            with pytest.warns(UserWarning, match="its digits are other ones") if at else nullcontext():
                for event in trainer.events():
                    if isinstance(event, StepDone) and event.step == (at or 0) + 3:
                        break
            trainer.save(tmp_path / "checkpoint")
            at = trainer.step


def send_batch(batch: Batch) -> Batch:
    """On the GPU, from pinned memory."""
    assert send(batch.targets, "cuda").is_cuda
    return batch.to("cuda", 8)
