"""Which settings a run gets: a data set's, a named recipe's, a file's, and those that are given."""

from pathlib import Path

import pytest

from models.probabilities import KINDS
from training.config import DATA_SETS, Recipe, settings
from training.recipes import DEFAULTS, RECIPES, recipe_for


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("data", DATA_SETS)
def test_every_recipe_is_sound_for_every_data_set(data: str, name: str) -> None:
    """The settings exist, lie in their ranges, and name a network that can be built."""
    recipe = recipe_for("folder:x" if data == "folder" else data, {}, name)
    assert recipe.network(10).num_classes == 10
    assert set(DEFAULTS) == set(DATA_SETS)


def test_what_is_given_wins() -> None:
    """What is given is put over the recipe's, that over the data set's, and that over the field's own."""
    assert recipe_for("digits", {}).flip == "none"
    assert recipe_for("digits", {}, "blog").flip == "random"
    assert recipe_for("digits", {"flip": "alternating"}, "blog").flip == "alternating"
    assert recipe_for("cifar10", {}).flip == Recipe(data="cifar10").flip


def test_the_yardstick_is_what_it_says() -> None:
    """`blog` has its seed, its head and one rate; `paper` what section 3.1 gives."""
    blog, paper = (recipe_for("cifar10", {}, name) for name in ("blog", "paper"))
    assert (blog.seed, blog.head, blog.schedule) == (2022, "blog", "constant")
    assert (paper.momentum, paper.weight_decay, paper.schedule, paper.head) == (0.9, 5e-4, "plateau", "paper")
    assert (paper.batch_size, paper.epochs, paper.nesterov) == (256, 74, False)
    assert paper.scale_jitter > 2


def test_a_file_has_settings_over_a_recipe(tmp_path: Path) -> None:
    """A TOML file may name the recipe that it changes; the command line changes both."""
    file = tmp_path / "mine.toml"
    file.write_text('recipe = "blog"\nepochs = 7\nrate = 1\n')
    recipe = recipe_for("cifar10", {"rate": 0.5}, str(file))
    assert (recipe.seed, recipe.epochs, recipe.rate) == (2022, 7, 0.5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epoch = 7", ["epoch is no setting", "epochs"]),
        ("epochs = 'seven'", ["epochs", "seven", "whole number"]),
        ("epochs = ", ["mine.toml", "cannot be read"]),
        ("recipe = 'slow'", ["slow", "fast, blog, paper"]),
        ("data = 'digits'", ["data is no setting"]),
    ],
)
def test_a_file_with_a_fault_is_named_with_it(tmp_path: Path, text: str, words: list[str]) -> None:
    """An unknown key, a wrong type, a wrong value and what is no TOML are errors."""
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(ValueError, match=words[0]) as error:
        recipe_for("cifar10", {}, str(file))
    assert all(word in str(error.value) for word in words), str(error.value)


def test_an_unknown_recipe_is_named() -> None:
    """So is a file that is not there."""
    with pytest.raises(ValueError, match=r"recipe is 'slow', but must be one of fast, blog, paper, or FILE\.toml"):
        recipe_for("cifar10", {}, "slow")
    with pytest.raises(ValueError, match=r"no\.toml"):
        recipe_for("cifar10", {}, "no.toml")


def test_a_start_from_weights_is_gentle() -> None:
    """A run that starts from a checkpoint has its network, and a smaller rate."""
    start = {"architecture": "vgg11", "head": "pooled", "width": 0.5, "channels": 3, "size": 64}
    recipe = recipe_for("folder:x", {}, start=start)
    assert (recipe.architecture, recipe.size, recipe.width) == ("vgg11", 64, 0.5)
    assert recipe.rate < recipe_for("folder:x", {}).rate


def test_alexnet_has_its_head() -> None:
    """It has one alone, so it need not be asked for; another is refused."""
    assert recipe_for("cifar10", {"architecture": "alexnet"}, "blog").head == "paper"
    with pytest.raises(ValueError, match="head"):
        recipe_for("cifar10", {"architecture": "alexnet", "head": "blog"})


def test_the_kinds_of_scores_are_those_that_exist() -> None:
    """The settings load no torch, so they repeat the names that the arithmetic has."""
    [calibration] = [setting for setting in settings() if setting.name == "calibration"]
    assert set(calibration.metadata["allowed"].values) == set(KINDS)
