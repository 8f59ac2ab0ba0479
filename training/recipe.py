"""Every setting of a training run: its default, its allowed values, what it means.

The fields of `Recipe` are the command's flags, the keys of a TOML file, and what is stored in the checkpoint.
"""

import hashlib
from typing import TYPE_CHECKING, Any, Literal, Self, cast, get_args, get_origin

from annotated_types import Ge, Le, MultipleOf
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from training.data.sources import parse_data

if TYPE_CHECKING:
    from models.networks.registry import Architecture

STORED: Literal["stored"] = "stored"
TYPES: dict[object, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
# A prediction set of 95 % needs 19 calibration images to be smaller than all labels.
MIN_CALIBRATION_IMAGES = 20


class Recipe(BaseModel):
    """All that decides which weights a run ends with, on one machine.

    Raises ValueError with one line that names the field, its value and the allowed range.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    data: str = Field(description="the data set, as --data names it")
    val_share: float = Field(0.1, description="share of each class for validation", ge=0.01, le=0.5)
    calibration_share: float = Field(0.1, description="share of each class for the calibration", ge=0, le=0.5)
    test_share: float = Field(0.1, description="share of each class for the test", ge=0, le=0.5)
    skip_unreadable: bool = Field(False, description="leave out images that cannot be read, and count them")
    size: int = Field(32, description="side of the network's square input, in pixels", ge=32, le=512, multiple_of=32)
    channels: Literal[1, 3] = Field(3, description="1 trains on grayscale, 3 on RGB")
    crop: Literal["center", "squash", "pad"] = Field(
        "center", description="the central square, both sides resized alike, or the whole image with bars"
    )

    architecture: str = Field("vgg16_bn", description="vgg11, vgg13, vgg16, vgg19, each also with _bn, alexnet, ...")
    head: str = Field("pooled", description="linear, paper or pooled; alexnet has paper alone")
    width: float = Field(1.0, description="multiplies every count of channels and hidden units", ge=1 / 64, le=16)
    init: str = Field("", description="the weights that the run starts from: a checkpoint, torchvision's, timm's, ...")
    init_preprocessing: Literal["stored", "imagenet"] = Field(
        STORED, description="how images are prepared for init; stored is what a checkpoint tells"
    )
    init_which: str = Field("", description="of several networks in init, the one under that key; else the averaged")
    freeze: Literal["none", "features"] = Field("none", description="which weights stay as they start")

    epochs: int = Field(20, description="passes over the training images", ge=1, le=10_000)
    batch_size: int = Field(128, description="images of a step, over all processes", ge=2, le=65_536)
    lr: float = Field(0.1, description="peak learning rate of a step", ge=1e-6, le=10)
    schedule: Literal["triangular", "one_cycle", "constant", "plateau"] = Field(
        "triangular", description="how the learning rate changes over the run"
    )
    warmup: float = Field(0.2, description="share of the steps in which the learning rate rises", ge=0, le=0.9)
    patience: int = Field(5, description="epochs without a better val accuracy until plateau divides", ge=1, le=1000)
    momentum: float = Field(0.9, description="momentum of SGD", ge=0, le=0.999)
    nesterov: bool = Field(True, description="Nesterov momentum")
    weight_decay: float = Field(5e-4, description="L2 decay of weights, not of biases or BatchNorm", ge=0, le=1)
    bias_lr_factor: float = Field(1.0, description="factor of the learning rate of BatchNorm's biases", ge=0.01, le=100)
    clip: float = Field(1.0, description="largest norm of a step's gradient", ge=1e-3, le=1e6)
    label_smoothing: float = Field(0.1, description="share of the target spread over all classes", ge=0, le=0.9)
    balance: Literal["none", "weights", "sampling"] = Field("none", description="how unequal classes are balanced")
    ema_decay: float = Field(0.99, description="decay of the averaged weights a step; 0: none", ge=0, le=0.9999)

    shift: float = Field(0.125, description="largest random shift, as a share of the side", ge=0, le=0.5)
    shrink: float = Field(0.0, description="largest random shrinking, as a share of the side", ge=0, le=0.9)
    scale_jitter: float = Field(1.0, description="largest random scale, of which a random square is cut", ge=1, le=4)
    border: Literal["reflect", "black"] = Field("reflect", description="what shows beyond an image's edge")
    flip: Literal["none", "random", "alternating"] = Field("alternating", description="mirroring from left to right")
    cutout: float = Field(0.0, description="side of a grey square put anywhere, as a share of the side", ge=0, le=1)
    contrast: float = Field(1.0, description="largest random gain of contrast", ge=1, le=16)
    invert: bool = Field(False, description="show half of the images as negatives")

    calibration: Literal["lac", "aps"] = Field("lac", description="conformal score of the prediction sets")

    threads: int = Field(0, description="CPU threads of the network; 0 is one a core", ge=0, le=1024)
    precision: Literal["auto", "float32", "bfloat16"] = Field("auto", description="auto is bfloat16 where it is fast")
    seed: int = Field(0, description="seed of the split, the first weights and everything random", ge=0, le=2**63 - 1)

    def __init__(self, **settings: Any) -> None:
        try:
            super().__init__(**settings)
        except ValidationError as error:
            raise ValueError(_first_fault(error)) from None

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        parse_data(self.data)
        self.network(num_classes=2)
        if self.freeze != "none" and not self.init:
            raise ValueError(f"freeze is {self.freeze!r}, but needs init, the weights that are to be kept")
        return self

    def with_settings(self, **settings: Any) -> "Recipe":
        """The recipe with other values for these fields, validated anew. Raises ValueError."""
        return Recipe(**{**self.model_dump(), **settings})

    def network(self, num_classes: int) -> "Architecture":
        """The network for that many classes. Raises ValueError for names that do not exist."""
        # Imported here because it loads torch, and --help must be immediate.
        from models.networks.registry import Architecture

        return Architecture(self.architecture, num_classes, self.channels, self.size, self.head, self.width)

    @property
    def train_side(self) -> int:
        """Side of the training images in memory, in pixels."""
        return round(self.size * self.scale_jitter)

    def seed_for(self, purpose: str, number: int = 0) -> int:
        """An independent seed for one purpose and, for example, one step. No random state outlives a step."""
        return int.from_bytes(hashlib.sha256(f"{self.seed} {purpose} {number}".encode()).digest()[:8])


def recipe_fields() -> dict[str, FieldInfo]:
    """The fields of a recipe by name, without `data`."""
    return {name: field for name, field in Recipe.model_fields.items() if name != "data"}


def field_type(field: FieldInfo) -> type:
    """The Python type of a field's values."""
    if get_origin(field.annotation) is Literal:
        return type(get_args(field.annotation)[0])
    return cast(type, field.annotation)


def describe_range(field: FieldInfo) -> str:
    """Which values a field allows, in words; empty where its type says everything."""
    if get_origin(field.annotation) is Literal:
        return "one of " + ", ".join(map(str, get_args(field.annotation)))
    low = next((limit.ge for limit in field.metadata if isinstance(limit, Ge)), None)
    high = next((limit.le for limit in field.metadata if isinstance(limit, Le)), None)
    step = next((limit.multiple_of for limit in field.metadata if isinstance(limit, MultipleOf)), None)
    return f"{f'a multiple of {step} ' if step else ''}from {low:g} to {high:g}" if low is not None else ""


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False)[0]
    if fault["type"] == "value_error":  # raised by _check_together, in words of its own
        return str(fault["ctx"]["error"])
    name, value = str(fault["loc"][0]), fault["input"]
    if fault["type"] == "missing":
        return f"{name} is missing"
    if fault["type"] == "extra_forbidden":
        return f"{name} is not a setting of a recipe; the settings are {', '.join(sorted(recipe_fields()))}"
    field = Recipe.model_fields[name]
    wanted = field_type(field)
    right_type = type(value) is wanted or (wanted is float and type(value) is int)
    return f"{name} is {value!r}, but must be {(right_type and describe_range(field)) or TYPES[wanted]}"
