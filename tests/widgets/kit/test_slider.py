import pytest
import traitlets

from sce_lab.widgets.kit.slider import StepSlider, octaves, round_steps


@pytest.fixture
def slider():
    return StepSlider([1, 2, 4, 8, 64, 128], 4, tooltip="Buckets")


def test_steps_are_round_and_span_decades():
    assert round_steps(100, 10_000_000)[:4] == [100, 200, 500, 1000]
    assert round_steps(100, 10_000_000)[-1] == 10_000_000
    assert octaves(4, 100) == [4, 6, 8, 12, 16, 24, 32, 48, 64, 96]
    assert octaves(1, 4)[:4] == [1, 2, 3, 4]


def test_any_whole_number_in_range_can_be_set_and_is_told_once(slider):
    told = []
    slider.observe(lambda change: told.append((change.old, change.new)), "value")
    slider.value = 100
    assert (slider.value, slider.label) == (100, "100")
    slider.value = 2
    slider.index += 1  # what the arrow key does
    assert slider.value == 4
    assert told == [(4, 100), (100, 2), (2, 4)]


def test_the_front_end_is_sent_the_new_step(slider):
    slider.value = 100
    assert slider._options_labels == ("1", "2", "4", "8", "64", "100", "128")
    assert slider.index == 5


@pytest.mark.parametrize("value", [0, 129, 2.5, "many", float("nan")])
def test_other_values_are_refused_by_name(slider, value):
    with pytest.raises(traitlets.TraitError, match=r"Buckets takes whole numbers from 1 to 128"):
        slider.value = value
    assert slider.value == 4


def test_large_steps_are_short_enough_for_their_place():
    assert StepSlider(round_steps(100, 10_000_000), 10_000_000).label == "10 M"
    assert StepSlider(round_steps(100, 10_000_000), 500_000).label == "500,000"


def test_a_slider_knows_the_steps_beside_its_own():
    slider = StepSlider([1, 2, 5, 10, 20], 5)
    assert slider.near(1) == [10, 2]
    assert slider.near(9) == [10, 2, 20, 1]
    slider.value = 7
    assert slider.near(1) == [10, 5]
    slider.value = 20
    assert slider.near(2) == [10, 7]
