import pytest
import traitlets

from sce_lab.widgets.kit.slider import Slider, StepSlider, octaves, round_steps


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
    slider.set_state({"label": "4"})  # what the arrow key does
    assert slider.value == 4
    assert told == [(4, 100), (100, 2), (2, 4)]


def test_the_front_end_is_sent_the_new_step(slider):
    slider.value = 100
    assert slider.labels == ["1", "2", "4", "8", "64", "100", "128"]
    assert slider.index == 5


@pytest.mark.parametrize("value", [0, 129, 2.5, "many", float("nan")])
def test_other_values_are_refused_by_name(slider, value):
    with pytest.raises(traitlets.TraitError, match=r"Buckets takes whole numbers from 1 to 128"):
        slider.value = value
    assert slider.value == 4


def test_large_steps_are_short_enough_for_their_place():
    assert StepSlider(round_steps(100, 10_000_000), 10_000_000).label == "10 M"
    assert StepSlider(round_steps(100, 10_000_000), 500_000).label == "500,000"
    billions = StepSlider(round_steps(100, 10**9), 10**9)
    assert (billions.label, billions.labels[-2]) == ("1 G", "500 M")
    billions.value = 2_345_000
    assert billions.label == "2,345,000"


def test_a_slider_knows_the_steps_beside_its_own():
    slider = StepSlider([1, 2, 5, 10, 20], 5)
    assert slider.near(1) == [10, 2]
    assert slider.near(9) == [10, 2, 20, 1]
    slider.value = 7
    assert slider.near(1) == [10, 5]
    slider.value = 20
    assert slider.near(2) == [10, 7]


def typed(slider, words):
    """What the page sends when ``words`` are typed and Enter is pressed."""
    slider._handle_custom_msg({"typed": words}, [])
    return slider.value


@pytest.mark.parametrize(
    ("words", "value"), [("100", 100), (" 64 ", 64), ("1e2", 100), ("0.1k", 100), ("1 2 8", 128), ("1,2_8", 128)]
)
def test_a_number_that_is_typed_is_set(slider, words, value):
    assert typed(slider, words) == value
    assert (slider.refusal, slider.label) == ("", str(value))


@pytest.mark.parametrize("words", ["abc", "", "1000", "2.5", "-1", "1.2.3", "8 8 8 8", "1e999", "nan"])
def test_what_cannot_be_set_is_refused_in_a_sentence_and_nothing_moves(slider, words):
    told = []
    slider.observe(lambda change: told.append(change.new), "value")
    assert typed(slider, words) == 4
    assert slider.refusal.startswith("Buckets takes whole numbers from 1 to 128, got ")
    assert (slider.label, told) == ("4", [])
    slider.set_state({"label": "8"})
    assert slider.refusal == ""


def test_large_numbers_may_be_typed_as_they_are_shown():
    slider = StepSlider(round_steps(100, 10**9), 100)
    for words, value in (("2 M", 2_000_000), ("1 G", 10**9), ("2.5m", 2_500_000), ("1,000", 1000)):
        assert typed(slider, words) == value


def test_a_place_that_is_gone_moves_nothing(slider):
    slider.value = 100
    slider.value = 50  # the step 100 is gone; a page that has not heard of it yet moves there
    slider.set_state({"label": "100"})
    assert (slider.value, slider.label) == (50, "50")


def test_a_slider_over_named_values_takes_their_names_and_numbers():
    slider = Slider([("10 times", 10), ("100 times", 100), ("1,000 times", 1000)], 100, tooltip="Your guess")
    assert (slider.label, slider.index) == ("100 times", 1)
    assert typed(slider, "10") == 10
    assert typed(slider, "1,000 times") == 1000
    assert typed(slider, "20") == 1000
    assert slider.refusal == "Your guess is one of 10 times to 1,000 times, got 20"
    with pytest.raises(traitlets.TraitError):
        slider.value = 20


def test_handle_and_field_have_a_name_and_the_value_as_people_read_it(slider):
    state = slider.get_state()
    assert {"tooltip": "Buckets", "label": "4", "disabled": False}.items() <= state.items()
    for word in ('"aria-label", model.get("tooltip")', '"aria-valuetext", label', '"role", "alert"'):
        assert word in slider._esm


def test_other_places_are_offered_under_other_names():
    made = Slider([("0: forward, 1 GiB", 0), ("1: loss, 2 GiB", 1)], 1, tooltip="Moment")
    told = []
    made.observe(lambda change: told.append(change.new), "value")
    made.offer([("0: forward, 3 KiB", 0), ("1: loss, 4 KiB", 1), ("2: Adam, 1 KiB", 2)], 1)
    assert (made.value, made.label, told) == (1, "1: loss, 4 KiB", [])  # what is spoken is what is so now
    made.offer([("0: forward, 3 KiB", 0)], 0)
    assert (made.value, made.label, told) == (0, "0: forward, 3 KiB", [0])
    made.type("1")
    assert made.refusal.startswith("Moment is one of 0: forward, 3 KiB")
