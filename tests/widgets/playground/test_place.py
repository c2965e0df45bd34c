"""Where the playground trains: a control, a sentence, what is free there, and what is written down of it."""

import json
from types import SimpleNamespace

import pytest
import torch

from sce_lab.memory import free_memory
from sce_lab.training import device, places
from sce_lab.widgets.lessons import memory_wall, race
from sce_lab.widgets.playground import forecast
from sce_lab.widgets.playground.assessment import assess
from sce_lab.widgets.playground.controls import devices
from sce_lab.widgets.playground.records import RunRecord, restore
from sce_lab.widgets.playground.settings import Settings, read_line, usual_here
from sce_lab.widgets.playground.status import ready, run_words

GIB = 2**30


@pytest.fixture
def gpu(monkeypatch):
    """A made-up GPU."""

    def have(problem=""):
        properties = SimpleNamespace(name="NVIDIA L4", total_memory=22 * GIB)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
        monkeypatch.setattr(device, "_cuda_problem", lambda name: problem)
        monkeypatch.delenv(device.VARIABLE, raising=False)
        places.cache_clear()

    yield have
    places.cache_clear()


def test_without_a_gpu_the_page_says_nothing_of_it():
    assert Settings().place == "cpu"
    assert usual_here() == {}
    assert "on the" not in ready(assess(Settings(), 8 * GIB))
    assert devices()[:2] == [("Automatic", "auto"), ("GPU, none here", "cuda")]


def test_a_gpu_that_a_line_asks_for_and_that_is_not_here_is_a_problem_with_a_way_out():
    asked = read_line('{"device": "cuda"}')
    found = assess(asked, 8 * GIB)
    assert found.problem == "There is no device 'cuda' to train on here; use cpu"
    assert found.notes["training"].level == "problem"
    assert found.memory["peak"].min() > 0  # the prediction stands


def test_with_a_gpu_the_page_begins_there_with_more_to_do(gpu):
    gpu()
    assert Settings().place == "cuda"
    assert Settings().config("sce").device == "cuda"
    assert usual_here()["batch_size"] > Settings().batch_size
    assert ("NVIDIA L4, 22 GiB", "cuda") in devices()
    assert Settings(device="cpu").config("sce").device == "cpu"
    assert race.default_configs()["sce"].device == "cuda"
    assert race.default_configs("cpu")["sce"].batch_size == 32 < race.default_configs()["sce"].batch_size
    assert memory_wall.Wall(device="cuda").config("ce").device == "cuda"


def test_a_gpu_that_cannot_be_used_is_said_on_the_page(gpu):
    gpu("the driver is too old")
    assert Settings().place == "cpu"
    said = ready(assess(Settings(), 8 * GIB))
    assert "on the CPU" in said
    assert "NVIDIA L4, 22 GiB cannot be used (the driver is too old)" in said


def test_what_is_free_is_asked_of_the_device_that_is_meant(gpu, monkeypatch):
    gpu()
    asked = []
    monkeypatch.setattr(forecast, "free_memory", lambda place: asked.append(place) or 5 * GIB)
    monkeypatch.setattr(forecast, "assess", lambda settings, free: assess(Settings(device="cpu"), free))
    made = forecast.Forecast(Settings(), lambda: False, lambda s: (), lambda s: None, lambda: None)
    made.at_start(Settings(device="cpu"))
    made.submit(Settings())
    made.settle(30)
    assert asked[:2] == ["cuda", "cpu"]
    assert asked[2] == "cuda"


def test_a_run_keeps_the_device_it_had(gpu):
    gpu()
    record = RunRecord(1, Settings(device="cuda"), "sce")
    assert "on cuda" in run_words(record)
    assert json.loads(record.settings.line())["device"] == "cuda"
    assert "on cuda" not in run_words(RunRecord(2, Settings(device="cpu"), "sce"))


def test_a_run_from_before_there_was_a_choice_was_on_the_cpu(tmp_path, gpu):
    folder = tmp_path / "run"
    folder.mkdir()
    config = {"dataset": "synthetic", "source": {}, "config": {"loss": "sce", "device": "cpu"}}
    (folder / "config.json").write_text(json.dumps(config))
    settings = {"catalog_size": 500, "losses": ["sce"]}
    old = {"settings": settings, "loss": "sce", "predicted_memory": {}, "catalog_size": 500, "ceiling": {}}
    (folder / "playground.json").write_text(json.dumps(old | {"shown": True}))
    gpu()
    assert [record.settings.device for record in restore(tmp_path)] == ["cpu"]


def test_the_free_memory_of_the_cpu_is_asked_as_before():
    assert free_memory(Settings().place) > 0
