"""Which device is taken, by a made-up answer of what there is; nothing here needs a GPU."""

import dataclasses
import json
from types import SimpleNamespace

import pytest
import torch

from sce_lab.memory import RanOutOfMemoryError, check_fits, explaining_out_of_memory, free_memory, guard
from sce_lab.training import (
    Place,
    StepDone,
    Trainer,
    TrainingConfig,
    check_device,
    choose_device,
    device,
    places,
    training_on,
    where,
)

SMALL = TrainingConfig(hidden_size=16, batch_size=16, max_length=8, max_epochs=1, dropout=0.2)


@pytest.fixture
def machine(monkeypatch):
    """Say what there is: GPUs by name, why CUDA has no kernel, whether there is an Apple GPU, why it cannot train."""

    def have(*gpus, problem="", mps=False, mps_problem=""):
        properties = [SimpleNamespace(name=name, total_memory=22 * 2**30 + 2**28) for name in gpus]
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(gpus))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(gpus))
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties[device.index or 0])
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr(device, "_cuda_problem", lambda name: problem)
        monkeypatch.setattr(device, "_mps_problem", lambda: mps_problem)
        monkeypatch.delenv(device.VARIABLE, raising=False)
        places.cache_clear()

    yield have
    places.cache_clear()


def test_without_a_gpu_it_is_the_cpu_and_nothing_is_said(machine):
    machine()
    assert choose_device() == "cpu"
    assert where("cpu") == ""
    assert training_on("cpu").startswith("Training on the CPU")


def test_a_gpu_is_taken_and_named(machine):
    machine("NVIDIA L4")
    assert choose_device() == "cuda"
    assert choose_device("cpu") == "cpu"
    assert training_on("cuda") == training_on("cuda:0") == "Training on NVIDIA L4, 22 GiB."
    assert where("cuda") == " on NVIDIA L4, 22 GiB"
    check_device("cuda:0")
    with pytest.raises(ValueError, match="no device 'cuda:1' to train on here; use cpu or cuda"):
        choose_device("cuda:1")


def test_of_several_gpus_each_can_be_asked_for(machine):
    machine("NVIDIA L4", "NVIDIA T4")
    assert choose_device() == "cuda"
    assert choose_device("cuda:1") == "cuda:1"
    assert training_on("cuda:1") == "Training on NVIDIA T4, 22 GiB."


def test_the_environment_says_what_auto_is(machine, monkeypatch):
    machine("NVIDIA L4")
    monkeypatch.setenv("SCE_LAB_DEVICE", "cpu")
    assert choose_device() == TrainingConfig(device="auto").device == "cpu"
    assert choose_device("cuda") == "cuda"
    monkeypatch.setenv("SCE_LAB_DEVICE", "gpu")
    with pytest.raises(ValueError, match="no device 'gpu' to train on here; use cpu or cuda"):
        choose_device()


def test_a_gpu_that_cannot_be_used_is_said_in_a_sentence_and_the_cpu_is_taken(machine):
    machine("NVIDIA K80", problem="no kernel image is available")
    assert choose_device() == "cpu"
    why = "NVIDIA K80, 22 GiB cannot be used (no kernel image is available)"
    assert why in training_on("cpu")
    assert where("cpu").startswith(" on the CPU")
    with pytest.raises(
        ValueError, match=r"NVIDIA K80, 22 GiB cannot be used \(no kernel image is available\); use cpu"
    ):
        choose_device("cuda")


def test_an_apple_gpu_is_taken_if_every_operation_is_there_and_never_before_cuda(machine):
    machine(mps=True)
    assert choose_device() == "mps"
    machine(mps=True, mps_problem="float64 is not there")
    assert choose_device() == "cpu"
    assert "(float64 is not there)" in training_on("cpu")
    machine("NVIDIA L4", mps=True)
    assert choose_device() == "cuda"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_the_trial_itself_says_what_is_wrong_in_one_line():
    assert len(device._cuda_problem("cuda").splitlines()) == 1
    assert device._cuda_problem("cpu") == ""


def test_the_trial_of_an_apple_gpu_is_a_step_with_every_loss(monkeypatch):
    """It is tried on a CPU here, which has all operations; one that is missing is named."""
    assert device.trial("cpu") == ""

    def missing(*args, **keywords):
        raise NotImplementedError("The operator 'aten::topk' is not there\nadvice for programmers")

    monkeypatch.setattr(torch.Tensor, "backward", missing)
    assert device.trial("cpu") == "The operator 'aten::topk' is not there"


def test_a_configuration_keeps_the_device_and_not_the_wish(machine):
    machine("NVIDIA L4")
    config = TrainingConfig(device="auto")
    assert json.loads(json.dumps(dataclasses.asdict(config)))["device"] == "cuda"
    machine()
    assert TrainingConfig(device="auto").device == "cpu"
    assert TrainingConfig(device="cuda").device == "cuda"  # a record from elsewhere can be read


def test_a_record_from_a_gpu_goes_on_on_a_cpu_with_a_warning(cycle_split, tmp_path):
    trainer = Trainer(dataclasses.replace(SMALL, max_epochs=2), cycle_split)
    for event in trainer.events():
        if isinstance(event, StepDone) and event.step == 3:
            break
    trainer.config = dataclasses.replace(trainer.config, device="cuda")  # what stands in its record
    trainer.save(tmp_path / "checkpoint")
    again = Trainer(dataclasses.replace(SMALL, max_epochs=2), cycle_split)
    again.load(tmp_path / "checkpoint")
    assert again.step == 3
    with pytest.warns(UserWarning, match="was trained on cuda and goes on on cpu: from here its digits are other"):
        assert list(again.events())[-1].step == 8


# ------------------------------------------------------------------------------------------------- memory of a GPU


@pytest.fixture
def full_gpu(machine, monkeypatch):
    """A GPU of which 198 MiB are nobody's, and 2 MiB are this process's and not in use."""
    machine("NVIDIA L4")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (198 * 2**20, 22 * 2**30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 7 * 2**20)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 5 * 2**20)
    on_cpu = guard.predict_memory  # the prediction for a GPU needs a PyTorch with CUDA
    monkeypatch.setattr(
        guard,
        "predict_memory",
        lambda config, *args, **keywords: on_cpu(dataclasses.replace(config, device="cpu"), *args, **keywords),
    )


def test_free_is_what_nobody_holds_and_what_this_process_keeps_for_later(full_gpu):
    assert free_memory("cuda") == 200 * 2**20


def test_the_guard_asks_the_gpu(full_gpu):
    with pytest.raises(ValueError, match=r"needs .* a step and 200 MiB is free on NVIDIA L4, 22 GiB: loss=cce"):
        check_fits(TrainingConfig(device="cuda", loss="ce"), 20_000)
    assert check_fits(TrainingConfig(device="cpu", loss="ce"), 20_000).peak > 200 * 2**20  # there is room for it


def test_out_of_memory_on_a_gpu_is_explained_and_its_cache_given_back(full_gpu, monkeypatch):
    emptied = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(True))
    config = TrainingConfig(device="cuda", loss="ce")
    with (
        pytest.raises(RanOutOfMemoryError, match=r"memory ran out on NVIDIA L4, 22 GiB: ce .* would fit") as said,
        explaining_out_of_memory(config, 20_000),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
    assert emptied
    assert "\n" not in str(said.value)


def test_places_are_what_they_say():
    *gpus, cpu = places()
    assert isinstance(cpu, Place)
    assert cpu.name == "cpu"
    assert not cpu.problem
    assert bool(gpus) == (torch.cuda.is_available() or torch.backends.mps.is_available())
