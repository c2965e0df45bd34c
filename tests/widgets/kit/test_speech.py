from sce_lab.reproduce import RECIPES
from sce_lab.widgets import Race, Reproduction
from sce_lab.widgets.kit.speech import Status


def test_what_is_said_is_seen_and_spoken_without_its_markup():
    status = Status()
    status.say("<b>SCE</b> &lt; CE", "sce-problem", 0.25)
    assert status.speech.sentence == "SCE < CE"
    assert '<div class="sce-problem"><b>SCE</b> &lt; CE</div>' in status.seen.value
    assert "width: 25.0%" in status.seen.value


def test_what_changes_all_the_time_is_not_for_ears():
    status = Status()
    status.say("Ready.")
    status.say("Epoch 0.1", aloud=False)
    assert status.speech.sentence == "Ready."
    assert "Epoch 0.1" in status.seen.value


def test_whatever_trains_has_a_status_that_is_spoken():
    for made in (Race(), Reproduction(RECIPES["amazon_beauty"]["quick"])):
        assert made._status.speech.sentence.startswith("Ready")
        assert made._status.speech in made.view.children[2].children  # it stands in the page, or nobody is told
