"""Preprocessing by name: what published weights were trained and measured with.

Owns which settings of a preprocessing a command takes: those that are given, those of a preset, or those of an export.
"""

from typing import Any

from models.preprocess import Preprocessing

PRESETS = {  # imagenet: torchvision's and timm's weights for classification
    "imagenet": Preprocessing(
        size=224, resize=256, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), color="srgb"
    ),
}
SETTINGS = ("mean", "std", "input_size", "resize", "interpolation")  # that a command takes one by one


def choose_preprocessing(given: dict[str, Any], preset: str | None, told: Preprocessing | None) -> dict[str, Any]:
    """The values of SETTINGS: those of the preset, those given, or those that an export tells of itself.

    Raises ValueError if both a preset and single settings are given, or if nothing tells mean and std.
    """
    is_given = any(value is not None for value in given.values())
    if preset and is_given:
        raise ValueError(
            "--preprocessing stands for --mean, --std, --input-size, --resize and --interpolation; give it or them"
        )
    whole = PRESETS[preset] if preset else told
    if whole and not is_given:
        values = (whole.mean, whole.std, whole.size, whole.resize, whole.interpolation)
        return dict(zip(SETTINGS, values, strict=True))
    if given["mean"] is None or given["std"] is None:
        raise ValueError(
            "the weights do not tell how images are normalised; give --mean and --std, or --preprocessing imagenet"
        )
    return given
