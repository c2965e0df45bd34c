"""LossBlocks: what the page computes by itself is what the library computes, and every attribute is a control."""

from pathlib import Path

import numpy as np
import pytest
import torch
from javascript import run

from sce_lab import cross_entropy, sampled_softmax, scalable_cross_entropy_reference, scalable_cross_entropy_statistics
from sce_lab.losses import reduced_cross_entropy
from sce_lab.widgets.lessons import loss_blocks
from sce_lab.widgets.lessons.loss_blocks import LossBlocks, World, draws
from sce_lab.widgets.lessons.loss_blocks.steps import LOSSES, STEPS, lines_of

HERE = Path(loss_blocks.__file__).parent
CORE, PICTURE = ((HERE / name).read_text() for name in ("core.js", "picture.js"))
BASE = {"n_buckets": 6, "bucket_size_x": 9, "bucket_size_y": 14, "mix_x": False, "n_negatives": 12, "seed": 3}
CASES = [
    {"loss": "ce"},
    {"loss": "sampled"},
    {"loss": "sampled", "n_negatives": 90, "seed": 8},
    {"loss": "in_batch"},
    {"loss": "sce"},
    {"loss": "sce", "mix_x": True, "seed": 11},
    {"loss": "sce", "n_buckets": 1, "bucket_size_x": 1, "bucket_size_y": 1},
    {"loss": "sce", "n_buckets": 24, "bucket_size_x": 30, "bucket_size_y": 70},
    {"loss": "rece"},
    {"loss": "rece", "n_buckets": 1},
    {"loss": "rece", "n_buckets": 24, "mix_x": True, "seed": 5},
]


def random_world(dim):
    rng = np.random.default_rng(dim)
    return World(1.5 * rng.normal(size=(30, dim)), rng.normal(size=(70, dim)), rng.integers(0, 70, 30))


@pytest.fixture(scope="module", params=[2, 7], ids=lambda dim: f"D={dim}")
def world(request):
    return random_world(request.param)


@pytest.fixture(scope="module")
def computed(world):
    """What the page says of every case."""
    program = """
    return given.cases.map((settings) => {
      const result = evaluate(given.world, settings), { losses, winner, gradient, logits, blocks, centers } = result;
      const { coverage, captured_mass, n_missed, cells, looked_at } = result, list = (numbers) => Array.from(numbers);
      const { inPositions, inItems } = backward(result), exact = evaluate(given.world, { ...settings, loss: "ce" });
      return { losses: list(losses), winner: list(winner), coverage, captured_mass, n_missed, cells, looked_at,
        centers: centers.map(list),
        inPositions: list(inPositions), inItems: list(inItems), order: arrange(result, (v) => v.slice(0, 2), 0),
        rows: blocks.map((b) => b.rows), items: blocks.map((b) => b.items),
        compared: compare(backward(result), backward(exact)), logits: list(logits) };
    });"""
    cases = [{**BASE, **case} for case in CASES]
    return list(zip(cases, run(CORE, program, {"world": world.as_dict(), "cases": cases})))


def tensors(world):
    x, w = (torch.from_numpy(a.copy()).requires_grad_() for a in (world.positions, world.items))
    return x, w, torch.from_numpy(world.targets)


def by_the_library(world, case, reduction="none"):
    """Losses (N,), statistics if there are any, and the gradients of the mean."""
    x, w, target = tensors(world)
    statistics = None
    if case["loss"] == "ce":
        losses = cross_entropy(x, w, target, reduction=reduction)
    elif case["loss"] == "sampled":
        drawn = torch.from_numpy(draws.negatives(len(w), case["n_negatives"], case["seed"]))
        losses = sampled_softmax(x, w, target, negatives=drawn, reduction=reduction)
    elif case["loss"] == "in_batch":
        losses = sampled_softmax(x, w, target, sampling="in_batch", n_negatives=len(x), reduction=reduction)
    elif case["loss"] == "rece":
        centers = torch.from_numpy(draws.centers(world.positions, case["n_buckets"], case["mix_x"], case["seed"]))
        rounds = {"n_buckets": case["n_buckets"], "centers": centers.unsqueeze(0)}
        losses = reduced_cross_entropy(x, w, target, **rounds, reduction=reduction)
    else:
        settings = {name: case[name] for name in ("n_buckets", "bucket_size_x", "bucket_size_y")}
        settings["centers"] = torch.from_numpy(
            draws.centers(world.positions, case["n_buckets"], case["mix_x"], case["seed"])
        )
        losses = scalable_cross_entropy_reference(x, w, target, **settings, reduction=reduction)
        statistics = scalable_cross_entropy_statistics(x, w, target, **settings)
    losses.sum().backward()
    return losses.detach().numpy(), statistics, x.grad.numpy(), w.grad.numpy()


def test_both_languages_draw_the_same():
    program = """return given.map(([seed, stream, n]) => [Array.from(uniforms(seed, stream, n)),
                                                         Array.from(normals(seed, stream, n))]);"""
    asked = [[0, 1, 7], [1, 1, 8], [99, 3, 101], [12345, 2, 50]]
    for (seed, stream, n), (uniform, normal) in zip(asked, run(CORE, program, asked)):
        assert uniform == draws.uniforms(seed, stream, n).tolist()
        np.testing.assert_allclose(normal, draws.normals(seed, stream, n), rtol=1e-12, atol=1e-12)


def test_draws_are_random_and_differ_by_seed_and_stream():
    many = draws.normals(0, draws.CENTERS, 20_000)
    assert abs(many.mean()) < 0.03
    assert abs(many.std() - 1) < 0.02
    assert abs(np.corrcoef(many[:-1], many[1:])[0, 1]) < 0.03
    first = {tuple(draws.uniforms(seed, stream, 3)) for seed in range(100) for stream in (1, 2, 3)}
    assert len(first) == 300
    assert draws.uniforms(5, 1, 1000).max() < 1


def test_the_page_computes_what_the_library_computes(world, computed):
    for case, page in computed:
        losses, statistics, _, _ = by_the_library(world, case)
        mine = np.array([np.nan if value is None else value for value in page["losses"]])
        covered = np.isfinite(mine)
        np.testing.assert_allclose(mine[covered], losses[covered], rtol=1e-9, err_msg=str(case))
        assert (losses[~covered] == 0).all()
        _, _, in_positions, in_items = by_the_library(world, case, "mean")
        np.testing.assert_allclose(page["inPositions"], in_positions.ravel(), atol=1e-12, err_msg=str(case))
        np.testing.assert_allclose(page["inItems"], in_items.ravel(), atol=1e-12, err_msg=str(case))
        if statistics is not None:
            assert page["coverage"] == pytest.approx(float(statistics.coverage), abs=1e-6)
            assert page["captured_mass"] == pytest.approx(float(statistics.captured_mass), abs=1e-6)
        else:
            assert page["coverage"] == 1


def test_rece_is_a_softmax_over_a_chunk_and_its_neighbours(world, computed):
    case, page = next((case, page) for case, page in computed if case["loss"] == "rece")
    assert sorted(n for rows in page["rows"] for n in rows) == list(range(30))  # everybody, once
    centers = draws.centers(world.positions, 6, False, case["seed"])
    np.testing.assert_allclose(page["centers"], centers)
    by_hash = [np.argsort((centers @ a.T).argmax(0), kind="stable") for a in (world.positions, world.items)]
    chunks = [
        [order[round(c * size) : round((c + 1) * size)] for c in range(6)] for order, size in zip(by_hash, (5, 70 / 6))
    ]
    for c, rows in enumerate(chunks[0]):
        items = np.concatenate(chunks[1][max(c - 1, 0) : c + 2])
        for n in rows:
            logits = world.items @ world.positions[n]
            kept = np.union1d(items, world.targets[n])
            expected = np.log(np.exp(logits[kept]).sum()) - logits[world.targets[n]]
            assert page["losses"][n] == pytest.approx(expected)


def test_readouts_are_what_they_say(world, computed):
    logits = world.positions @ world.items.T
    mass = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    wrong = logits.copy()
    wrong[np.arange(30), world.targets] = -np.inf
    exact = dict(zip(("x", "w"), by_the_library(world, {"loss": "ce"}, "mean")[2:]))
    for _, page in computed:
        looked = np.zeros_like(mass, dtype=bool)
        for rows, items in zip(page["rows"], page["items"]):
            looked[np.ix_(rows, items)] = True
            looked[rows, world.targets[rows]] = True
        assert page["looked_at"] == looked.sum()
        assert page["cells"] == sum(len(r) * len(i) for r, i in zip(page["rows"], page["items"]))
        taken = [set(page["items"][b]) if b >= 0 else set() for b in page["winner"]]
        covered = [n for n in range(30) if page["winner"][n] >= 0]
        assert page["captured_mass"] == pytest.approx(np.mean([mass[n, list(taken[n])].sum() for n in covered]))
        assert page["n_missed"] == sum(wrong[n].argmax() not in taken[n] for n in range(30))
        mine = np.concatenate([page["inPositions"], page["inItems"]])
        theirs = np.concatenate([exact["x"].ravel(), exact["w"].ravel()])
        assert page["compared"]["length"] == pytest.approx(np.linalg.norm(mine) / np.linalg.norm(theirs))
        cosine = mine @ theirs / np.linalg.norm(mine) / np.linalg.norm(theirs)
        assert page["compared"]["cosine"] == pytest.approx(cosine)


def test_a_chosen_bucket_becomes_a_rectangle_at_the_corner(computed):
    for case, page in computed:
        assert sorted(page["order"]["rows"]) == list(range(30))
        assert sorted(page["order"]["columns"]) == list(range(70))
        if case["loss"] == "sce":
            assert page["order"]["rows"][: len(page["rows"][0])] == page["rows"][0]
            assert page["order"]["columns"][: len(page["items"][0])] == page["items"][0]
        if case["loss"] in ("sampled", "in_batch"):
            drawn = set(page["items"][0])
            assert set(page["order"]["columns"][: len(drawn)]) == drawn


def test_what_a_cell_looks_like(world):
    """Kinds: 0 grey, 1 of the loss, 2 orange, 3 a band, 4 masked."""
    program = """
    const result = evaluate(given.world, given.settings);
    return { looked: Array.from(result.looked), gradient: Array.from(result.gradient), rows: result.blocks[2].rows,
      items: result.blocks[2].items, winner: Array.from(result.winner),
      kinds: [0, 1, 2, 3, 4, 5, 6, 7, 8].map((step) => Array.from(paint(result, step, step === 7 ? -1 : 2).kind)) };"""
    drawn = run(CORE + PICTURE, program, {"world": world.as_dict(), "settings": {**BASE, "loss": "sce"}})
    kinds = [np.reshape(kind, (30, 70)) for kind in drawn["kinds"]]
    looked, rows, items = np.reshape(drawn["looked"], (30, 70)), drawn["rows"], drawn["items"]
    inside = np.zeros((30, 70), dtype=bool)
    inside[np.ix_(rows, items)] = True
    targets = np.zeros_like(inside)
    targets[np.arange(30), world.targets] = True
    assert (kinds[0] == looked).all()
    assert not kinds[1].any()
    assert not kinds[2].any()
    assert (kinds[3][rows] == 3).all()
    assert (kinds[3] == 3).sum() == len(rows) * 70
    assert ((kinds[4] == 1) == inside).all()
    assert ((kinds[5] == 4) == (inside & targets)).all()
    assert ((kinds[5] == 1) == (inside & ~targets)).all()
    own = targets.copy()
    own[[n for n in range(30) if n not in rows]] = False
    assert ((kinds[6] == 1) == (inside | own)).all()
    assert set(np.flatnonzero((kinds[7] == 1).any(1))) == {n for n, b in enumerate(drawn["winner"]) if b >= 0}
    gradient = np.reshape(drawn["gradient"], (30, 70))
    assert ((kinds[8] == 2) == (gradient > 0)).all()
    assert ((kinds[8] == 1) == (gradient < 0)).all()


def test_the_largest_world_and_the_most_buckets_can_be_drawn():
    """Functions of as many arguments as there are cells overflow the stack."""
    rng = np.random.default_rng(0)
    world = World(rng.normal(size=(150, 2)), rng.normal(size=(500, 2)), rng.integers(0, 500, 150))
    settings = {**BASE, "loss": "sce", "n_buckets": 24, "bucket_size_x": 150, "bucket_size_y": 500}
    program = """
    const result = evaluate(given.world, given.settings);
    return [0, 1, 2, 3, 4, 5, 6, 7, 8].map((step) => paint(result, step, -1).kind.length);"""
    drawn = run(CORE + PICTURE, program, {"world": world.as_dict(), "settings": settings})
    assert drawn == [75_000] * 9


def test_python_evaluates_what_is_shown(world):
    cases = [{**BASE, "loss": loss} for loss in LOSSES]
    program = """return given.cases.map((settings) => {
      const result = evaluate(given.world, settings);
      return [result.coverage, result.captured_mass, result.losses.reduce((a, b) => a + Math.max(b, 0), 0)];
    });"""
    for case, (coverage, mass, total) in zip(cases, run(CORE, program, {"world": world.as_dict(), "cases": cases})):
        found = LossBlocks(world, **case).evaluate()
        assert found["loss"] == pytest.approx(total / (30 * coverage))
        assert found["coverage"] == pytest.approx(coverage)
        assert found["captured_mass"] == pytest.approx(mass)


@pytest.mark.parametrize(
    ("name", "value", "range_"),
    [("n_buckets", 0, "1 to 24"), ("bucket_size_x", 31, "1 to 30"), ("bucket_size_y", 71, "1 to 70"),
     ("n_negatives", 0, "1 to 70"), ("seed", -1, "0 to 99"), ("step", 9, "0 to 8"), ("bucket", 6, "-1 to 5")],
)  # fmt: skip
def test_a_value_out_of_range_is_refused_and_changes_nothing(name, value, range_):
    blocks = LossBlocks(random_world(2), **BASE)
    before = getattr(blocks, name)
    with pytest.raises(ValueError, match=f"{name} must be {range_} here, got {value}"):
        setattr(blocks, name, value)
    assert getattr(blocks, name) == before
    with pytest.raises(ValueError, match="loss must be one of ce, sampled, in_batch, sce, rece, got 'bce'"):
        LossBlocks(loss="bce")


def test_first_values_fit_a_world_of_any_size():
    tiny = World(np.eye(2), np.eye(2), [0, 1])
    blocks = LossBlocks(tiny)
    assert (blocks.bucket_size_x, blocks.bucket_size_y, blocks.n_negatives) == (2, 2, 2)
    blocks.bucket = 7
    blocks.n_buckets = 3
    assert blocks.bucket == -1  # there is no such bucket any more


def test_a_world_that_is_none_is_refused():
    good = np.zeros((3, 2))
    for arguments, message in [
        ((good, np.zeros((4, 3)), [0, 0, 0]), "one D of at least 2"),
        ((good, np.zeros((501, 2)), [0, 0, 0]), "2 to 500 items, got 3 and 501; World.part_of"),
        ((good, np.zeros((4, 2)), [0, 0, 4]), "one of the 4 items"),
        ((good + np.nan, np.zeros((4, 2)), [0, 0, 0]), "finite"),
    ]:
        with pytest.raises(ValueError, match=message):
            World(*arguments)


def test_a_part_of_a_real_batch_keeps_its_targets():
    x, w, target = torch.randn(500, 16), torch.randn(3000, 16), torch.randint(3000, (500,))
    part = World.part_of(x, w, target, n_positions=40, n_items=120, seed=1)
    assert (part.positions.shape, part.items.shape) == ((40, 16), (120, 16))
    rows = [int(np.abs(x.numpy() - row).max(1).argmin()) for row in part.positions]
    for row, own in zip(rows, part.targets):
        np.testing.assert_allclose(part.items[own], w[target[row]], atol=1e-5)
    plane = part.plane()
    np.testing.assert_allclose(plane.T @ plane, np.eye(2), atol=1e-5)
    assert (World.small().plane() == np.eye(2)).all()


def test_every_step_shows_its_lines_of_the_readable_implementation():
    for step in STEPS[1:]:
        for name in step.names:
            assert name in lines_of((name,)), step.title
    blocks = LossBlocks()
    assert "topk(sizes.bucket_size_x" in blocks.texts["steps"][3]["code"]
    assert "topk(sizes.bucket_size_y" in blocks.texts["steps"][4]["code"]
    assert blocks.texts["steps"][8]["code"].endswith("loss.backward()")
    assert list(blocks.texts["losses"]) == list(LOSSES)


def test_the_small_world_shows_what_the_losses_differ_in():
    """With as many logits, SCE captures several times the mass of sampled softmax; and it leaves positions out."""
    program = """return given.cases.map((settings) => {
      const result = evaluate(given.world, settings);
      return [result.captured_mass, result.cells, result.coverage];
    });"""
    blocks = LossBlocks()
    settings = {name: getattr(blocks, name) for name in BASE}
    cases = [{**settings, "loss": "sce"}, {**settings, "loss": "sampled", "n_negatives": 27}]
    (sce, sce_cells, coverage), (sampled, cells, _) = run(CORE, program, {"world": blocks.world, "cases": cases})
    assert cells >= sce_cells
    assert sce > 4 * sampled
    assert 0.3 < coverage < 0.8
