from sce_lab.widgets.playground.controls import CONTROLS, make_controls
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
