"""The training loop: from a data set and a recipe to weights, their metrics and their history.

Owns the steps and epochs of a run. Knows nothing of where images come from, of terminals or of files.
"""

import math
import time
from dataclasses import asdict, dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.checkpoint import Description
from models.golden import record
from models.preprocess import Preprocessing, normalise
from models.registry import build
from training.augment import Augmentation
from training.config import Recipe, TrainingError
from training.data import Dataset, Split, to_image
from training.optim import Ema, rate_at, sgd

Record = dict[str, float]  # what the history says of one epoch


class DivergedError(TrainingError):
    """A loss that is not finite; says where, and at which rate."""

    def __init__(self, what: str, loss: float, epoch: int, step: int, rate: float) -> None:
        where = f"epoch {epoch}, step {step}, at a rate of {rate:.3g}"
        super().__init__(f"the {what} loss is {loss} in {where}; a lower rate may help")


@dataclass(frozen=True, slots=True)
class Step:
    """One step that is done, of `images` images; `loss` and `accuracy` are its epoch's means so far.

    `epoch` counts from 1, and so does `number`, throughout the run.
    """

    epoch: int
    epochs: int
    number: int
    steps: int
    images: int
    loss: float
    accuracy: float


class Watch(Protocol):
    """Sees a run go by."""

    def step(self, step: Step) -> None: ...

    def epoch(self, record: Record) -> None: ...


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """The averaged network, on the CPU in evaluation mode, and how it got there."""

    model: nn.Module
    history: tuple[Record, ...]
    metrics: dict[str, dict[str, float]]


class Run:
    """The state of a run between two steps, and the step itself.

    What is random in a step depends on the seed and on the step's number alone, so that this state and
    that number are all a run needs to go on. Seeds torch's global generator, which dropout draws from.
    """

    def __init__(self, dataset: Dataset, recipe: Recipe, device: torch.device) -> None:
        self.recipe, self.preprocessing, self.device = recipe, dataset.preprocessing, device
        self.data = {name: split.to(device) for name, split in dataset.splits.items()}
        self.augment = Augmentation(recipe, count=len(self.data["train"]))
        self.steps_per_epoch = math.ceil(len(self.data["train"]) / recipe.batch_size)
        self.steps = recipe.epochs * self.steps_per_epoch
        torch.manual_seed(recipe.seed_for("weights"))
        model = build(recipe.network(len(dataset.labels)))
        self.model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema = Ema(self.model, recipe.ema_decay)
        self.optimizer = sgd(self.model, recipe)

    def epoch(self, epoch: int, watch: Watch) -> Record:
        """One pass over the training images, in a new order, and one over the held-out ones."""
        started, losses, hits, seen = time.perf_counter(), 0.0, 0, 0
        for i, indices in enumerate(self.batches(epoch)):
            step = epoch * self.steps_per_epoch + i
            loss, correct = self.step(step, epoch, indices)
            losses, hits, seen = losses + loss * len(indices), hits + correct, seen + len(indices)
            done = (epoch + 1, self.recipe.epochs, step + 1, self.steps, len(indices))
            watch.step(Step(*done, losses / seen, hits / seen))
        metrics = measure(self.logits("val"), self.data["val"].labels.cpu())
        rate = rate_at(step, self.steps, self.recipe)
        if not math.isfinite(metrics["loss"]):
            raise DivergedError("validation", metrics["loss"], epoch + 1, step + 1, rate)
        return {
            "epoch": epoch + 1,
            "train_loss": losses / seen,
            "train_accuracy": hits / seen,
            "val_loss": metrics["loss"],
            "val_accuracy": metrics["accuracy"],
            "rate": rate,
            "seconds": round(time.perf_counter() - started, 3),
        }

    def batches(self, epoch: int) -> tuple[Tensor, ...]:
        """The training images' indices in random order, in batches whose sizes differ by one at most.

        So every image is seen in every epoch, and no batch is too small for BatchNorm.
        """
        generator = torch.Generator().manual_seed(self.recipe.seed_for("order", epoch))
        return torch.randperm(len(self.data["train"]), generator=generator).tensor_split(self.steps_per_epoch)

    def step(self, step: int, epoch: int, indices: Tensor) -> tuple[float, int]:
        """Learns from the images with these indices; gives the mean loss and how many were right."""
        train, where = self.data["train"], indices.to(self.device)
        rate = rate_at(step, self.steps, self.recipe)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        generator = torch.Generator().manual_seed(self.recipe.seed_for("augmentation", step))
        torch.manual_seed(self.recipe.seed_for("dropout", step))
        images, labels = self.augment(train.images[where], indices, epoch, generator), train.labels[where]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16"):
            logits = self.model(normalise(images, self.preprocessing))
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=self.recipe.label_smoothing)
        if not math.isfinite(mean := loss.item()):
            raise DivergedError("training", mean, epoch + 1, step + 1, rate)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.update()
        return mean, int((logits.argmax(1) == labels).sum())

    def logits(self, name: str) -> Tensor:
        """What the averaged network says of a split, as it will say when served."""
        return predict(self.ema.model, self.data[name], self.preprocessing, self.recipe.batch_size)


def train(dataset: Dataset, recipe: Recipe, device: torch.device, watch: Watch) -> Trained:
    """A whole run. The same recipe gives the same weights, to the bit, on the same machine.

    What the recipe leaves to the machine must be resolved (`training.device.resolved`). Sets how many
    threads torch has. Raises DivergedError, and TrainingError where the device's memory is too small.
    """
    torch.set_num_threads(recipe.threads)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    history: list[Record] = []
    try:
        run = Run(dataset, recipe, device)
        for epoch in range(recipe.epochs):
            history.append(run.epoch(epoch, watch))
            watch.epoch(history[-1])
    except torch.OutOfMemoryError as error:
        raise TrainingError(f"{device} is out of memory; a smaller batch_size, size or width may help") from error
    last = {"accuracy": history[-1]["val_accuracy"], "loss": history[-1]["val_loss"]}
    return Trained(run.ema.model.cpu(), tuple(history), {"val": {**last, "images": len(dataset.splits["val"])}})


@torch.inference_mode()
def predict(model: nn.Module, split: Split, preprocessing: Preprocessing, batch_size: int) -> Tensor:
    """(N, K) logits of a split in float32, in CPU memory; `model` is in evaluation mode."""
    return torch.cat([model(normalise(batch, preprocessing)).cpu() for batch in torch.split(split.images, batch_size)])


def measure(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy, and cross-entropy in nats, of (N, K) logits against (N,) labels."""
    accuracy = (logits.argmax(1) == labels).double().mean()
    return {"accuracy": float(accuracy), "loss": float(F.cross_entropy(logits.double(), labels))}


def describe(trained: Trained, dataset: Dataset, recipe: Recipe) -> Description:
    """All that the checkpoint says of a run; its golden sample is the first held-out image."""
    golden = record(trained.model, dataset.preprocessing, to_image(dataset.splits["val"].images[0]))
    return Description(
        architecture=recipe.network(len(dataset.labels)),
        labels=dataset.labels,
        preprocessing=dataset.preprocessing,
        golden=golden,
        metrics=trained.metrics,
        history=trained.history,
        dataset={
            "name": dataset.name,
            "fingerprint": dataset.fingerprint,
            "splits": {name: len(split) for name, split in dataset.splits.items()},
            "unreadable": len(dataset.unreadable),
        },
        recipe=asdict(recipe),
        seed=recipe.seed,
    )
