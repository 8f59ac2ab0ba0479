"""A recipe: its types and ranges, and what follows from it."""

from typing import Any

import pytest

from training.recipe import Recipe, recipe_fields
from training.recipes import make_recipe


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"epochs": 0}, ["epochs", "0", "1"]),
        ({"lr": -0.1}, ["lr", "-0.1"]),
        ({"size": 33}, ["size", "33", "32"]),
        ({"channels": 2}, ["channels", "2", "1, 3"]),
        ({"schedule": "cosine"}, ["schedule", "cosine", "triangular"]),
        ({"architecture": "vgg17"}, ["vgg17", "vgg16"]),
        ({"head": "big"}, ["head", "big", "pooled"]),
        ({"label_smoothing": 1.0}, ["label_smoothing", "0.9"]),
        ({"epochs": 2.5}, ["epochs", "2.5", "whole number"]),
        ({"epochs": True}, ["epochs", "True", "whole number"]),
        ({"lr": "high"}, ["lr", "high", "a number"]),
        ({"nesterov": 1}, ["nesterov", "1", "true or false"]),
        ({"freeze": "features"}, ["freeze", "features", "init"]),
        ({"colour": "red"}, ["colour", "epochs"]),
    ],
)
def test_a_value_out_of_range_is_named_with_it(setting: dict[str, Any], words: list[str]) -> None:
    """The error names the setting, the value and what is allowed."""
    with pytest.raises(ValueError, match=words[0]) as error:
        make_recipe("digits", setting)
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize("data", ["mnist", "folder", "folder:", "", "digits:x"])
def test_an_unknown_data_set_is_named(data: str) -> None:
    """A data set that is not there, or a folder without a path, is refused with those that are."""
    with pytest.raises(ValueError, match="cifar10"):
        make_recipe(data, {})


def test_seeds_are_independent_and_repeatable() -> None:
    """Each purpose and step has a seed of its own, which depends on the run's seed alone."""
    first, second = make_recipe("digits", {}), make_recipe("digits", {"seed": 1})
    drawn = {recipe.seed_for(purpose, i) for recipe in (first, second) for purpose in ("a", "b") for i in range(3)}
    assert len(drawn) == 12
    assert first.seed_for("a", 2) == make_recipe("digits", {"epochs": 3}).seed_for("a", 2)


def test_every_setting_says_what_it_means() -> None:
    """Flags and documents come from the fields, so each has its meaning."""
    assert all(field.description for field in recipe_fields().values())
    assert set(recipe_fields()) == set(Recipe.model_fields) - {"data"}
