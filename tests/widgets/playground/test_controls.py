from sce_lab.encoders import ENCODERS
from sce_lab.widgets.kit.slider import StepSlider
from sce_lab.widgets.playground.controls import CONTROLS, ENCODER_TITLES, make_controls
from sce_lab.widgets.playground.settings import Settings


def test_every_setting_has_a_control_with_help_and_its_first_value():
    first = Settings()
    controls = make_controls(vars(first))
    assert set(controls) == set(CONTROLS) == set(vars(first))
    for name, control in controls.items():
        assert control.value == getattr(first, name)
        assert len(CONTROLS[name].help.split()) > 5
    assert {CONTROLS[n].symbol[:8] for n in ("catalog_size", "batch_size")} == {"C", "s"}
    assert all(CONTROLS[n].symbol for n in ("n_buckets", "bucket_size_x", "bucket_size_y"))


def test_no_markup_stands_where_it_is_shown_as_it_is():
    controls = make_controls(vars(Settings()))
    assert "<i>D</i>" in controls["hidden_size"].description  # a slider reads it
    for name in CONTROLS:
        assert "<" not in (controls[name].tooltip or "")
        if not isinstance(controls[name], StepSlider):
            assert "<" not in getattr(controls[name], "description", "")
    assert controls["paper_rule"].description == "As in the paper 2√N"


def test_every_encoder_can_be_chosen():
    assert [name for _, name in ENCODER_TITLES] == list(ENCODERS)
