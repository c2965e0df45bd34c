"""Corners where something was once lost without a word."""

import pytest
import torch
from problems import make_problem

from sce_lab.losses import Uniform, make_loss, reduced_cross_entropy, sampled_softmax, scalable_cross_entropy


class Learned(Uniform):
    """A proposal whose probabilities have a gradient."""

    def __init__(self, catalog_size):
        super().__init__()
        self.logits = torch.nn.Parameter(torch.zeros(catalog_size, dtype=torch.float64))

    def log_probability(self, items, catalog_size):
        return self.logits.log_softmax(dim=0)[items]


def test_a_learned_proposal_has_its_gradient_whatever_the_reduction():
    found = []
    for reduction in ("mean", "none"):
        problem, proposal = make_problem(n=20, c=50), Learned(50)
        generator = torch.Generator().manual_seed(0)
        loss = sampled_softmax(
            *problem.arguments, n_negatives=8, sampling=proposal, reduction=reduction, generator=generator
        )
        loss.mean().backward()
        found.append(proposal.logits.grad)
    assert found[0].abs().sum() > 0
    torch.testing.assert_close(*found)


def test_lengths_below_zero_are_named():
    problem = make_problem(n=30)
    loss = make_loss("ce_minus", shared_negatives="sequence", n_negatives=4)
    with pytest.raises(ValueError, match="lengths must be"):
        loss(*problem.arguments, lengths=torch.tensor([40, -10]))


def test_given_centers_say_how_many_buckets_there_are():
    problem = make_problem(n=30, d=8)
    centers = torch.randn(5, 8, dtype=torch.float64)
    expected = scalable_cross_entropy(*problem.arguments, n_buckets=5, centers=centers)
    torch.testing.assert_close(scalable_cross_entropy(*problem.arguments, centers=centers), expected)
    rounds = centers.unsqueeze(0)
    expected = reduced_cross_entropy(*problem.arguments, n_buckets=5, centers=rounds)
    torch.testing.assert_close(reduced_cross_entropy(*problem.arguments, centers=rounds), expected)
