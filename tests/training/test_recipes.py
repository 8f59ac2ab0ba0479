"""Which settings a run gets: a data set's, a named recipe's, a file's, and those that are given."""

from pathlib import Path
from typing import get_args

import pytest

from models.probabilities import KINDS
from training.data.sources import DATA_SETS
from training.recipe import Recipe, recipe_fields
from training.recipes import RECIPES, make_recipe


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("data", DATA_SETS)
def test_every_recipe_is_sound_for_every_data_set(data: str, name: str) -> None:
    """The settings exist, lie in their ranges, and name a network that can be built."""
    recipe = make_recipe(f"{data}:x" if DATA_SETS[data].needs_path else data, {}, name)
    assert recipe.network(10).num_classes == 10


def test_what_is_given_wins() -> None:
    """What is given is put over the recipe's, that over the data set's, and that over the field's own."""
    assert make_recipe("digits", {}).flip == "none"
    assert make_recipe("digits", {}, "baseline").flip == "random"
    assert make_recipe("digits", {"flip": "alternating"}, "baseline").flip == "alternating"
    assert make_recipe("cifar10", {}).flip == Recipe(data="cifar10").flip


def test_the_yardstick_is_what_it_says() -> None:
    """`baseline` has its seed, its head and one rate; `paper` what section 3.1 gives."""
    baseline, paper = (make_recipe("cifar10", {}, name) for name in ("baseline", "paper"))
    assert (baseline.seed, baseline.head, baseline.schedule) == (2022, "linear", "constant")
    assert (paper.momentum, paper.weight_decay, paper.schedule, paper.head) == (0.9, 5e-4, "plateau", "paper")
    assert (paper.batch_size, paper.epochs, paper.nesterov) == (256, 74, False)
    assert paper.scale_jitter > 2


def test_a_file_has_settings_over_a_recipe(tmp_path: Path) -> None:
    """A TOML file may name the recipe that it changes; the command line changes both."""
    file = tmp_path / "mine.toml"
    file.write_text('recipe = "baseline"\nepochs = 7\nlr = 1\n')
    recipe = make_recipe("cifar10", {"lr": 0.5}, str(file))
    assert (recipe.seed, recipe.epochs, recipe.lr) == (2022, 7, 0.5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epoch = 7", ["epoch is not a setting", "epochs"]),
        ("epochs = 'seven'", ["epochs", "seven", "whole number"]),
        ("epochs = ", ["mine.toml", "cannot be read"]),
        ("recipe = 'slow'", ["slow", "fast, baseline, paper"]),
        ("data = 'digits'", ["data is not a setting"]),
    ],
)
def test_a_file_with_a_fault_is_named_with_it(tmp_path: Path, text: str, words: list[str]) -> None:
    """An unknown key, a wrong type, a wrong value and what is no TOML are errors."""
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(ValueError, match=words[0]) as error:
        make_recipe("cifar10", {}, str(file))
    assert all(word in str(error.value) for word in words), str(error.value)


def test_an_unknown_recipe_is_named() -> None:
    """So is a file that is not there."""
    with pytest.raises(ValueError, match=r"recipe is 'slow', but must be one of fast, baseline, paper, or FILE\.toml"):
        make_recipe("cifar10", {}, "slow")
    with pytest.raises(ValueError, match=r"no\.toml"):
        make_recipe("cifar10", {}, "no.toml")


def test_a_start_from_weights_is_gentle() -> None:
    """A run that starts from a checkpoint has its network, and a smaller rate."""
    start = {"architecture": "vgg11", "head": "pooled", "width": 0.5, "channels": 3, "size": 64}
    recipe = make_recipe("folder:x", {}, start=start)
    assert (recipe.architecture, recipe.size, recipe.width) == ("vgg11", 64, 0.5)
    assert recipe.lr < make_recipe("folder:x", {}).lr


def test_alexnet_has_its_head() -> None:
    """It has one alone, so it need not be asked for; another is refused."""
    assert make_recipe("cifar10", {"architecture": "alexnet"}, "baseline").head == "paper"
    with pytest.raises(ValueError, match="head"):
        make_recipe("cifar10", {"architecture": "alexnet", "head": "linear"})


def test_the_kinds_of_scores_are_those_that_exist() -> None:
    """The settings load no torch, so they repeat the names that the arithmetic has."""
    assert set(get_args(recipe_fields()["calibration"].annotation)) == set(KINDS)
