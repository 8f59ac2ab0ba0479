"""Every setting of a training run, as data: its default, its allowed values, what it means.

Owns the `Recipe` that lands in the checkpoint. Knows nothing of which values go well together
(`training.recipes`), of images or of the command line, and loads no network library before a recipe is made.
"""

import hashlib
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.networks.registry import Architecture


@dataclass(frozen=True, slots=True)
class Range:
    """The numbers from `low` to `high`, both included; only multiples of `step`, if there is one."""

    low: float
    high: float
    step: int | None = None

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high and (self.step is None or value % self.step == 0)

    def __str__(self) -> str:
        return f"{f'a multiple of {self.step} ' if self.step else ''}from {self.low:g} to {self.high:g}"


@dataclass(frozen=True, slots=True)
class OneOf:
    """A few values."""

    values: tuple[object, ...]

    def __contains__(self, value: object) -> bool:
        return value in self.values

    def __str__(self) -> str:
        return "one of " + ", ".join(map(str, self.values))


YES_NO = OneOf((True, False))
ANY_NAME = None  # checked where the names are known
DATA_SETS = ("digits", "cifar10", "cifar100", "stl10", "folder")
TYPES: dict[object, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
# 19 are what a prediction set of 95 % needs to be less than all labels.
FEWEST_CALIBRATION_IMAGES = 20


class TrainingError(Exception):
    """A run that cannot go on. The message is one line that names the thing and the fault."""

    signal_number = 0  # of the signal that stopped it, if one did


def one_line_message(error: BaseException) -> str:
    """What an error says, on one line; its kind, where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def _setting(default: Any, meaning: str, allowed: Range | OneOf | None) -> Any:
    return field(default=default, metadata={"meaning": meaning, "allowed": allowed})


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All that decides which weights a run ends with, on one machine.

    Raises ValueError, naming the field, its value and the allowed range.
    """

    data: str = _setting(MISSING, "what to learn: digits, cifar10, cifar100, stl10 or folder:PATH", ANY_NAME)
    val_share: float = _setting(0.1, "share of each class to choose among runs by", Range(0.01, 0.5))
    calibration_share: float = _setting(0.1, "share of each class for the calibration", Range(0, 0.5))
    test_share: float = _setting(0.1, "share of each class for the final figures", Range(0, 0.5))
    skip_unreadable: bool = _setting(False, "leave out images that cannot be read, and count them", YES_NO)
    size: int = _setting(32, "side of the network's square input, in pixels", Range(32, 512, step=32))
    channels: int = _setting(3, "1 trains on grayscale, 3 on RGB", OneOf((1, 3)))

    architecture: str = _setting("vgg16_bn", "vgg11, vgg13, vgg16, vgg19, each also with _bn, alexnet, ...", ANY_NAME)
    head: str = _setting("pooled", "linear, paper or pooled; alexnet has paper alone", ANY_NAME)
    width: float = _setting(1.0, "multiplies every count of channels and hidden units", Range(1 / 64, 16))
    init: str = _setting("", "a checkpoint whose weights to start from", ANY_NAME)
    freeze: str = _setting("none", "what keeps the weights it starts from", OneOf(("none", "features")))

    epochs: int = _setting(20, "passes over the training images", Range(1, 10_000))
    batch_size: int = _setting(128, "images a step, of all processes together", Range(2, 65_536))
    rate: float = _setting(0.1, "peak learning rate of a step", Range(1e-6, 10))
    schedule: str = _setting("triangular", "the rate's way", OneOf(("triangular", "one_cycle", "constant", "plateau")))
    warmup: float = _setting(0.2, "share of the steps on which the rate rises", Range(0, 0.9))
    patience: int = _setting(5, "epochs without a better val accuracy before plateau divides by 10", Range(1, 1000))
    momentum: float = _setting(0.9, "of SGD", Range(0, 0.999))
    nesterov: bool = _setting(True, "looks ahead by the momentum (Nesterov)", YES_NO)
    weight_decay: float = _setting(5e-4, "L2 decay of weights, not of biases or BatchNorm", Range(0, 1))
    bias_rate: float = _setting(1.0, "multiplies the rate of BatchNorm's biases", Range(0.01, 100))
    clip: float = _setting(1.0, "largest norm of a step's gradient", Range(1e-3, 1e6))
    label_smoothing: float = _setting(0.1, "share of the target spread over all classes", Range(0, 0.9))
    balance: str = _setting("none", "what evens out classes of unequal size", OneOf(("none", "weights", "sampling")))
    ema_decay: float = _setting(0.99, "decay a step of the averaged weights; 0 for no average", Range(0, 0.9999))

    shift: float = _setting(0.125, "largest random shift, as a share of the side", Range(0, 0.5))
    shrink: float = _setting(0.0, "largest random shrinking, as a share of the side", Range(0, 0.9))
    scale_jitter: float = _setting(1.0, "largest random scale, of which a random square is cut", Range(1, 4))
    border: str = _setting("reflect", "what shows beyond an image's edge", OneOf(("reflect", "black")))
    flip: str = _setting("alternating", "mirroring left to right", OneOf(("none", "random", "alternating")))
    cutout: float = _setting(0.0, "side of a grey square put anywhere, as a share of the side", Range(0, 1))
    contrast: float = _setting(1.0, "largest random gain of contrast", Range(1, 16))
    invert: bool = _setting(False, "shows half of the images as negatives", YES_NO)

    calibration: str = _setting("lac", "score of the prediction sets", OneOf(("lac", "aps")))

    threads: int = _setting(0, "CPU threads of the network; 0 is one a core", Range(0, 1024))
    precision: str = _setting("auto", "auto is bfloat16 where it is fast", OneOf(("auto", "float32", "bfloat16")))
    seed: int = _setting(0, "of the split, the first weights and all that is random", Range(0, 2**63 - 1))

    def __post_init__(self) -> None:
        for f in fields(self):
            value, allowed = getattr(self, f.name), f.metadata["allowed"]
            fits = type(value) is f.type or (f.type is float and type(value) is int)
            if not fits:
                raise ValueError(f"{f.name} is {value!r}, but must be {TYPES[f.type]}")
            if allowed is not ANY_NAME and value not in allowed:
                raise ValueError(f"{f.name} is {value!r}, but must be {allowed}")
        dataset_kind(self.data)
        self.network(num_classes=2)
        if self.freeze != "none" and not self.init:
            raise ValueError(f"freeze is {self.freeze!r}, but needs init, the checkpoint whose weights are to be kept")

    def network(self, num_classes: int) -> "Architecture":
        """The network for that many classes."""
        from models.networks.registry import Architecture

        return Architecture(self.architecture, num_classes, self.channels, self.size, self.head, self.width)

    @property
    def train_side(self) -> int:
        """Of the training images in memory, in pixels."""
        return round(self.size * self.scale_jitter)

    def seed_for(self, purpose: str, number: int = 0) -> int:
        """An independent seed for one purpose and, say, one step: no random state outlives a step."""
        return int.from_bytes(hashlib.sha256(f"{self.seed} {purpose} {number}".encode()).digest()[:8])


def dataset_kind(data: str) -> str:
    """`folder` for `folder:PATH`, else the data set's own name. Raises ValueError."""
    name, _, path = data.partition(":")
    if name not in DATA_SETS or (name == "folder") != bool(path):
        known = ", ".join(name if name != "folder" else "folder:PATH" for name in DATA_SETS)
        raise ValueError(f"data is {data!r}, but must be one of {known}")
    return name


def recipe_fields() -> list[Field[Any]]:
    """The fields of a recipe but `data`, each with `meaning` and `allowed` in its metadata."""
    return [f for f in fields(Recipe) if f.name != "data"]
