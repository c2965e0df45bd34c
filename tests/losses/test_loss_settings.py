"""Settings that make no sense are refused in one sentence that names them, by the functions and by their modules."""

import pytest
import torch
from problems import make_problem

from sce_lab.losses import LOSSES, Proposal, SampledSoftmaxLoss, make_loss, make_proposal, sampled_softmax

SIZES = {"n_buckets": 4, "bucket_size_x": 8, "bucket_size_y": 10}
NAN, INF = float("nan"), float("inf")
COUNTS = torch.arange(50)


def counts(value, dtype=torch.float64):
    return torch.ones(50, dtype=dtype).index_fill(0, torch.tensor([7]), value)


WRONG = [
    *(
        (loss, {"n_negatives": value}, f"n_negatives must be a positive whole number, got {value!r}")
        for loss in ("sampled", "bce")
        for value in (NAN, INF, None, 0, -1, 2.5, True, "5")
    ),
    *(
        ("sce", {name: value}, f"{name} must be a positive whole number, got {value!r}")
        for name in SIZES
        for value in (NAN, INF, 0, 2.5, True)
    ),
    *(
        ("sampled", {"sampling": "popularity", "item_counts": COUNTS, "exponent": value}, f"exponent .*{value!r}")
        for value in (NAN, INF, -INF)
    ),
    *(
        ("sampled", {"sampling": sampling, "item_counts": counts(value)}, f"item_counts .* got {value} at item 7")
        for sampling in ("popularity", "log_uniform", "in_batch")
        for value in (NAN, INF, -1.0)
    ),
    ("sampled", {"sampling": "popularity", "item_counts": torch.ones(5, 10)}, r"item_counts .*\(5, 10\)"),
    ("bce", {"calibration": NAN}, "calibration .*nan"),
    *((loss, {"reduction": "median"}, "reduction .*'median'") for loss in LOSSES),
    *(
        (loss, {"logit_scale": value}, f"logit_scale must be a positive number such as 1 or 20, got {value!r}")
        for loss in LOSSES
        for value in (NAN, INF, 0, -2.0, True, "2")
    ),
    *(
        (loss, {"softcap": value}, f"softcap must be a positive number such as 30, or None for none, got {value!r}")
        for loss in LOSSES
        if loss != "bce"
        for value in (NAN, INF, 0, True, "30")
    ),
    ("cce", {"softcap": 30.0, "label_smoothing": 0.1}, "label_smoothing=0.1 and softcap=30.0: leave one out, or hold"),
    *(
        (loss, {"shared_negatives": "user"}, 'shared_negatives must be True, "sequence" or False, got .user')
        for loss in ("sampled", "ce_minus", "bce")
    ),
    *(
        (loss, {name: value}, f"{name} must lie between 0 and 1, got {value!r}")
        for loss, name in (("ce", "label_smoothing"), ("bce", "calibration"))
        for value in (2, -0.1, NAN, "0.1", None, True)
    ),
    *(
        (loss, {name: "False"}, f"{name} must be True or False, got 'False'")
        for loss, name in (
            ("ce", "hold_logits"),
            ("sampled", "logq_correction"),
            ("sampled", "positive_in_denominator"),
            ("sce", "mix_x"),
        )
    ),
    *(
        (loss, {"logit_scale": value}, r"logit_scale must be one number for all logits, got torch\.\w+ of shape \(")
        for loss in LOSSES
        for value in (torch.ones(8), torch.ones(30, 1), torch.ones(0), torch.ones((), dtype=torch.complex64))
    ),
    *(
        (loss, {"ignore_index": value}, f"ignore_index must be a whole number .*, or None for none, got {value!r}")
        for loss in LOSSES
        for value in (True, 1.5, NAN, "pad")
    ),
    ("cce", {"weight": torch.ones(50, dtype=torch.complex64)}, r"weight must be .* torch\.complex64"),
    ("ce", {"weight": torch.ones(50, requires_grad=True)}, r"weight has no gradient here, .*: detach\(\) it"),
    ("sampled", {"sampling": "popularity", "item_counts": [1] * 50}, "item_counts must be a tensor .*, got a list"),
    ("cce", {"weight": torch.ones(5, 10)}, r"weight must be \(C,\), .*got shape \(5, 10\)"),
    *(
        ("sampled", {"sampling": "mixed", "uniform_share": value}, f"uniform_share must lie .* 1, got {value!r}")
        for value in (1.5, NAN, "half")
    ),
    (
        "sampled",
        {"sampling": "mixed", "shared_negatives": "sequence"},
        'shared_negatives must be True with sampling="m',
    ),
    ("sampled", {"sampling": "in_batch", "shared_negatives": False}, 'shared_negatives must be True with sampling="in'),
    ("sce", {"kmeans_steps": -1}, "kmeans_steps must be a whole number, 0 for none, got -1"),
    ("sce", {"n_negatives": 2.5}, "n_negatives must be a whole number, 0 for none, got 2.5"),
    ("sce", {"combine": "sum"}, "combine must be one of max, logsumexp, union, got 'sum'"),
    ("sce", {"items_near": "target"}, "items_near must be one of center, positions, got 'target'"),
    ("sce", {"negatives_for": "some"}, "negatives_for must be one of uncovered, all, got 'some'"),
    ("sce", {"n_negatives": 9, "negatives_for": "all"}, 'it takes combine="union", got combine=.max'),
    ("rece", {"n_buckets": 0}, "n_buckets must be a positive whole number, got 0"),
    ("rece", {"n_rounds": 0}, "n_rounds must be a positive whole number, got 0"),
    ("rece", {"n_extra_chunks": -1}, "n_extra_chunks must be a whole number, 0 for none, got -1"),
]


@pytest.mark.parametrize(("loss", "settings", "message"), WRONG, ids=str)
def test_a_module_refuses_at_once_and_a_call_does_too(loss, settings, message):
    with pytest.raises(ValueError, match=message) as refused:
        make_loss(loss, **settings)
    assert len(str(refused.value).splitlines()) == 1
    module = make_loss(loss)
    for name, value in settings.items():
        setattr(module, name, value)
    with pytest.raises(ValueError, match=message):
        module(*make_problem().arguments)


WRONG_FOR_THESE_INPUTS = [
    *(
        (loss, {"negatives": negatives}, message)
        for loss in ("sampled", "bce")
        for negatives, message in (
            (torch.zeros(0, dtype=torch.int64), r"negatives .*k at least 1, got shape \(0,\)"),
            (torch.zeros(30, 0, dtype=torch.int64), r"negatives .*got shape \(30, 0\)"),
            (torch.tensor([3, 50]), "negative 50 is outside the catalog of 50 items"),
            (torch.tensor([3, -1]), "negative -1 is outside the catalog of 50 items"),
            (torch.tensor([3.0]), "negatives .*float32"),
            (torch.tensor(3), r"negatives .*got shape \(\)"),
        )
    ),
    ("sce", {"centers": torch.full((4, 8), NAN)}, "centers must be finite"),
    ("sce", {"centers": torch.full((4, 8), INF)}, "centers must be finite"),
    ("rece", {"centers": torch.full((1, 4, 8), NAN)}, "centers must be finite"),
    ("rece", {"centers": torch.ones(1, 0, 8)}, "n_buckets must be a positive whole number, got 0"),
    *((loss, {"sparse_grad": "False"}, "sparse_grad must be True or False") for loss in ("sampled", "sce", "bce")),
    *(
        (loss, {"workspace_bytes": value}, f"workspace_bytes must be a positive whole number, got {value!r}")
        for loss in ("cce", "sampled", "sce")
        for value in (0, -1, 2.5, True)
    ),
    *((loss, {"backend": "cuda"}, "backend must be one of .*'cuda'") for loss in ("cce", "sampled", "sce")),
    ("sampled", {"sampling": "popularity", "item_counts": torch.ones(51)}, r"item_counts .*\(50,\).*\(51,\)"),
    ("sampled", {"sampling": "in_batch", "item_counts": torch.ones(49)}, r"item_counts .*\(50,\).*\(49,\)"),
    ("cce", {"weight": torch.ones(49)}, r"weight must be one number for each of the 50 items, got shape \(49,\)"),
    ("rece", {"n_buckets": 4, "centers": torch.ones(2, 4, 8)}, r"centers must be .* = \(1, 4, 8\), got \(2, 4, 8\)"),
    ("ce_minus", {"shared_negatives": "sequence"}, r"give lengths, .* or a target \(B, L\); got a target .*\(30,\)"),
    ("bce", {"shared_negatives": "sequence"}, r"give lengths, .* or a target \(B, L\); got a target .*\(30,\)"),
]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("bias", [torch.ones(49), torch.ones(50, 1), torch.ones(50, dtype=torch.int64)])
def test_a_bias_that_does_not_fit_is_refused(loss, bias):
    with pytest.raises(ValueError, match="linear_bias must be one floating point number for each of the 50 items, got"):
        make_loss(loss)(*make_problem().arguments, linear_bias=bias)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_table_without_dimensions_is_refused(loss):
    with pytest.raises(ValueError, match=r"linear_weight must be .* at least one dimension, got shape \(5, 0\)"):
        make_loss(loss)(torch.ones(3, 0), torch.ones(5, 0), torch.zeros(3, dtype=torch.int64))


@pytest.mark.parametrize("loss", LOSSES)
def test_autocast_does_not_make_one_dtype_of_float64(loss):
    problem = make_problem(dtype=torch.float64)
    message = r"input is torch\.float32 but linear_weight is torch\.float64: give both the same dtype$"
    with torch.autocast("cpu", dtype=torch.bfloat16), pytest.raises(ValueError, match=message):
        make_loss(loss)(problem.input.float(), problem.linear_weight, problem.target)


@pytest.mark.parametrize(
    "lengths",
    [torch.tensor([3, 20]), torch.tensor([30.0]), torch.tensor([[30]]), torch.ones(30, dtype=torch.bool)],
)
def test_lengths_that_do_not_add_up_are_refused(lengths):
    loss = make_loss("ce_minus", shared_negatives="sequence")
    with pytest.raises(ValueError, match=r"lengths must be .* add up to the 30 positions, got"):
        loss(*make_problem().arguments, lengths=lengths)
    with pytest.raises(ValueError, match=r"negatives must be \(2, 'k'\) .*got shape \(3, 4\)"):
        loss(*make_problem().arguments, lengths=torch.tensor([10, 20]), negatives=torch.zeros(3, 4, dtype=torch.int64))


@pytest.mark.parametrize(("loss", "settings", "message"), WRONG_FOR_THESE_INPUTS, ids=str)
def test_what_only_the_inputs_show_is_refused_by_the_call(loss, settings, message):
    with pytest.raises(ValueError, match=message) as refused:
        make_loss(loss, **(SIZES if loss == "sce" else {}), **settings)(*make_problem().arguments)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("loss", LOSSES)
def test_unknown_settings_are_named_with_the_known_ones(loss):
    with pytest.raises(ValueError, match=r"knows no setting temprature; it knows .*reduction"):
        make_loss(loss, temprature=0.1)


def test_fixed_settings_are_no_settings():
    with pytest.raises(ValueError, match="knows no setting hold_logits"):
        make_loss("cce", hold_logits=True)


@pytest.mark.parametrize("loss", LOSSES)
def test_ignore_index_none_ignores_none(loss):
    problem = make_problem()
    problem.target[3] = -100
    settings = {"n_negatives": 3} if "n_negatives" in LOSSES[loss].dials else SIZES if loss == "sce" else {}
    with pytest.raises(ValueError, match="target -100 is outside the catalog"):
        make_loss(loss, **settings, ignore_index=None)(*problem.arguments)
    problem.target[3] = 0
    torch.manual_seed(0)
    every = make_loss(loss, **settings, ignore_index=None, reduction="none")(*problem.arguments)
    torch.manual_seed(0)
    assert torch.equal(every, make_loss(loss, **settings, reduction="none")(*problem.arguments))


class Even(Proposal):
    """Only items of even number, by a table."""

    def __init__(self, catalog_size):
        super().__init__()
        self.register_buffer("items", torch.arange(0, catalog_size, 2), persistent=False)

    def draw(self, shape, catalog_size, device, generator):
        drawn = torch.randint(len(self.items), shape, generator=generator)
        return self.items[drawn].to(device)

    def log_probability(self, items, catalog_size):
        return torch.where(items % 2 == 0, 1 / len(self.items), 0.0).log()


@pytest.mark.parametrize("shared", [True, False])
def test_a_proposal_of_ones_own(shared):
    problem, proposal = make_problem(), Even(50)
    generator = torch.Generator().manual_seed(0)
    loss = SampledSoftmaxLoss(sampling=proposal, n_negatives=9, shared_negatives=shared, generator=generator)
    got = problem.backward(loss(*problem.arguments))
    drawn = proposal.draw((9,) if shared else (30, 9), 50, "cpu", torch.Generator().manual_seed(0))
    uniform_over_25 = sampled_softmax(*problem.arguments, negatives=drawn, logq_correction=False)
    by_function = sampled_softmax(*problem.arguments, negatives=drawn, sampling=proposal)
    for ours, theirs in zip(got, problem.backward(by_function)):
        torch.testing.assert_close(ours, theirs)
    assert got[0] != uniform_over_25
    assert make_proposal(proposal) is proposal
    touched = set((got[2] != 0).any(dim=1).nonzero().flatten().tolist())
    assert touched <= set(range(0, 50, 2)) | set(problem.target.tolist())


class Wrong(Even):
    """A sampler that does not do as it is told."""

    def __init__(self, items=None, log_q=None):
        super().__init__(50)
        self.drawn, self.log_q = items, log_q

    def draw(self, shape, *_):
        return torch.zeros(shape, dtype=torch.int64) if self.drawn is None else self.drawn

    def log_probability(self, items, catalog_size):
        return torch.zeros(items.shape) if self.log_q is None else self.log_q


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (Wrong(torch.zeros(3, dtype=torch.int64)), r"draw of Wrong must return whole numbers of shape .*\(3,\)"),
        (Wrong(torch.zeros(9)), "draw of Wrong must return whole numbers of shape .*float32"),
        (Wrong(log_q=torch.zeros(50)), r"log_probability of Wrong must return one number for each .*\(50,\)"),
        (Wrong(log_q=torch.tensor(0.0)), r"log_probability of Wrong must return one number for each .*\(\)"),
    ],
)
def test_a_proposal_that_returns_something_else_is_named(wrong, message, shared):
    loss = SampledSoftmaxLoss(sampling=wrong, n_negatives=9, shared_negatives=shared)
    with pytest.raises(ValueError, match=message):
        loss(*make_problem().arguments)


def test_a_proposal_that_draws_from_elsewhere_is_named():
    loss = SampledSoftmaxLoss(sampling=Wrong(torch.full((9,), 50)), n_negatives=9)
    with pytest.raises(ValueError, match=r"negative 50 is outside the catalog of 50 items .*; draw of Wrong returned"):
        loss(*make_problem().arguments)


def test_a_proposal_moves_with_the_loss_and_stays_out_of_its_state():
    loss = SampledSoftmaxLoss(sampling=Even(50))
    assert loss.to("meta").sampling.items.is_meta
    assert loss.state_dict() == {}
    assert "sampling" not in repr(loss) or "Even" in repr(loss)
    copied = SampledSoftmaxLoss(sampling="popularity", item_counts=COUNTS + 1).to("meta")
    assert copied.item_counts.is_meta
