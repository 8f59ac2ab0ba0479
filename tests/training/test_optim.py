"""The rate's way, the optimiser's groups, and the average of the weights."""

import pytest
import torch
from torch import nn

from training.optim import Ema, lr_at, set_lr, sgd
from training.recipes import make_recipe

STEPS = 101


@pytest.mark.parametrize("schedule", ["triangular", "one_cycle"])
def test_the_rate_rises_to_its_peak_and_falls_to_almost_nothing(schedule: str) -> None:
    """The peak is the recipe's rate, at the recipe's share of the steps; the last step's rate is the smallest."""
    recipe = make_recipe("digits", {"lr": 0.5, "warmup": 0.2, "schedule": schedule})
    rates = [lr_at(step, STEPS, recipe) for step in range(STEPS)]
    peak = rates.index(max(rates))
    assert peak == 20
    assert rates[peak] == pytest.approx(0.5)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert 0 < rates[-1] < 0.01


def test_the_triangle_is_straight() -> None:
    """Halfway up and halfway down the triangular rate is half of its peak."""
    recipe = make_recipe("digits", {"lr": 1.0, "warmup": 0.2, "schedule": "triangular"})
    assert lr_at(9, STEPS, recipe) == pytest.approx(10 / 21)
    assert lr_at(61, STEPS, recipe) == pytest.approx(40 / 81)


def test_no_warm_up_begins_at_the_peak() -> None:
    """A share of 0 starts at the full rate; a run of one step has one rate."""
    recipe = make_recipe("digits", {"lr": 0.3, "warmup": 0.0})
    assert lr_at(0, STEPS, recipe) == pytest.approx(0.3)
    assert lr_at(0, 1, recipe) == pytest.approx(0.3)


def test_only_weights_decay() -> None:
    """Biases and BatchNorm's own parameters are in a group without decay; no parameter is left out."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    decaying, *others = sgd(model, make_recipe("digits", {"weight_decay": 0.01})).param_groups
    assert [group["weight_decay"] for group in (decaying, *others)] == [0.01, 0.0, 0.0]
    assert {parameter.ndim for parameter in decaying["params"]} == {2, 4}
    assert sum(len(group["params"]) for group in (decaying, *others)) == len(list(model.parameters()))


def test_biases_of_batch_norm_have_a_rate_of_their_own() -> None:
    """Theirs is `bias_lr_factor` times that of everything else; what is frozen is in no group."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    model[3].requires_grad_(requires_grad=False)
    optimizer = sgd(model, make_recipe("digits", {"bias_lr_factor": 8.0}))
    set_lr(optimizer, 0.5)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rates[id(model[1].bias)] == 4.0
    assert rates[id(model[1].weight)] == rates[id(model[0].weight)] == 0.5
    assert id(model[3].weight) not in rates


def test_a_constant_rate_stays() -> None:
    """Every step of it has the recipe's rate."""
    recipe = make_recipe("cifar10", {"schedule": "constant", "lr": 0.3})
    assert {lr_at(step, STEPS, recipe) for step in range(STEPS)} == {0.3}


def test_a_plateau_divides_by_ten() -> None:
    """Each time that `patience` epochs bring nothing better the rate falls to a tenth, and not before."""
    recipe = make_recipe("cifar10", {"schedule": "plateau", "lr": 1.0, "patience": 2})
    for accuracies, rate in (
        ((), 1.0),
        ((0.5, 0.4), 1.0),
        ((0.5, 0.5, 0.4), 0.1),
        ((0.5, 0.4, 0.6, 0.5), 1.0),
        ((0.5, 0.4, 0.4, 0.6, 0.6, 0.6), 0.01),
    ):
        assert lr_at(7, STEPS, recipe, accuracies) == pytest.approx(rate), accuracies


def test_the_average_is_that_of_the_formula() -> None:
    """After each step the average moves by 1 - decay towards the weights; BatchNorm's statistics move along."""
    model = nn.BatchNorm1d(1)
    ema = Ema(model, decay=0.5)
    expected = 1.0
    for step, value in enumerate((2.0, 4.0, 8.0)):
        nn.init.constant_(model.weight, value)
        assert model.running_mean is not None
        model.running_mean.fill_(value)
        ema.update()
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
        assert float(ema.model.state_dict()["weight"]) == pytest.approx(expected)
    assert float(ema.model.state_dict()["running_mean"]) > 1


def test_without_decay_the_average_is_the_model() -> None:
    """A decay of 0 keeps the last weights."""
    model = nn.Linear(2, 2)
    ema = Ema(model, decay=0.0)
    nn.init.constant_(model.weight, 3.0)
    ema.update()
    assert torch.equal(ema.model.state_dict()["weight"], model.weight)
