"""Losses over a sharded table are those over a whole one."""

import loss_cases
from launching import on_ranks


def test_values_and_gradients_are_those_of_one_device():
    on_ranks(loss_cases.equal_to_whole, 4)
