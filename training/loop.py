"""The training loop: from a data set and a recipe to weights and their history.

Owns the steps and epochs of a run, and the state between two steps. Knows nothing of where images come from,
of terminals, or of how a state is kept.
"""

import math
import time
from dataclasses import asdict, dataclass
from signal import SIGTERM
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.checkpoint import Checkpoint
from models.networks.registry import build_network
from models.preprocess import normalise
from training.data.augment import Augmentation
from training.data.dataset import Dataset
from training.device import report_out_of_memory
from training.distributed import Processes, convert_sync_batchnorm
from training.evaluation.metrics import accuracy_metrics, compute_logits
from training.finetune import freeze_features, load_weights
from training.optim import Ema, lr_at, set_lr, sgd
from training.recipe import Recipe, TrainingError
from training.run_state import StateError, StateFile, StopFlag, StoppedError

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


class Callback(Protocol):
    """Sees a run go by."""

    def step(self, step: Step) -> None: ...

    def epoch(self, record: Record) -> None: ...


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """The averaged network, in evaluation mode, and how it got there."""

    model: nn.Module
    history: tuple[Record, ...]


class Run:
    """The state of a run between two steps, and the step itself.

    What is random in a step depends on the seed and on the step's number alone, so that this state, with
    `done`, the number of steps, is all that a run needs to go on. Seeds torch's global generator, which
    dropout draws from. `start` is a checkpoint whose weights to begin with. Raises TrainingError.
    """

    def __init__(self, dataset: Dataset, recipe: Recipe, team: Processes, start: Checkpoint | None = None) -> None:
        self.recipe, self.preprocessing, self.team = recipe, dataset.preprocessing, team
        self.fingerprint = dataset.fingerprint
        self.train, self.val = (dataset.splits[name].to(team.device) for name in ("train", "val"))
        self.augment = Augmentation(recipe, count=len(self.train))
        self.steps_per_epoch = math.ceil(len(self.train) / recipe.batch_size)
        self.steps = recipe.epochs * self.steps_per_epoch
        counts = self.train.labels.bincount(minlength=len(dataset.labels))
        self.class_weights = len(self.train) / (len(counts) * counts)  # their mean over the images is 1
        torch.manual_seed(recipe.seed_for("weights"))
        model = build_network(recipe.network(len(dataset.labels)))
        if start:
            load_weights(model, start, dataset.labels)
        if team.size > 1:
            convert_sync_batchnorm(model)
        self.model = model.to(team.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if recipe.freeze == "features":
            freeze_features(self.model)
        self.network = team.together(self.model)
        self.ema = Ema(self.model, recipe.ema_decay)
        self.optimizer = sgd(self.model, recipe)
        self.done, self.history = 0, list[Record]()
        self.order: tuple[Tensor, ...] | None = None  # the present epoch's batches
        self.sums = {"loss": 0.0, "right": 0.0, "images": 0.0, "seconds": 0.0}  # of the present epoch

    def advance(self) -> Step:
        """One step."""
        started = time.perf_counter()
        epoch, i = divmod(self.done, self.steps_per_epoch)
        if self.order is None or i == 0:
            self.order = self.batches(epoch)
        indices = self.order[i]
        loss, right = self.learn(epoch, indices)
        self.done += 1
        seconds = time.perf_counter() - started
        news = {"loss": loss, "right": right, "images": len(indices), "seconds": seconds}
        self.sums = {name: self.sums[name] + new for name, new in news.items()}
        means = (self.sums["loss"] / self.sums["images"], self.sums["right"] / self.sums["images"])
        return Step(epoch + 1, self.recipe.epochs, self.done, self.steps, len(indices), *means)

    def finish_epoch(self) -> Record:
        """The record of the epoch whose last step was the last one done, with what the held-out images say."""
        started, rate = time.perf_counter(), self.rate(self.done - 1)
        metrics = accuracy_metrics(self.val_logits(), self.val.labels.cpu())
        epoch, sums = len(self.history) + 1, self.sums
        if not math.isfinite(metrics["loss"]):
            raise DivergedError("validation", metrics["loss"], epoch, self.done, rate)
        record = {
            "epoch": epoch,
            "train_loss": sums["loss"] / sums["images"],
            "train_accuracy": sums["right"] / sums["images"],
            **{f"val_{name}": value for name, value in metrics.items()},
            "rate": rate,
            "seconds": round(sums["seconds"] + time.perf_counter() - started, 3),
        }
        self.history.append(record)
        self.sums = dict.fromkeys(sums, 0.0)
        return record

    def batches(self, epoch: int) -> tuple[Tensor, ...]:
        """The training images' indices in random order, in batches whose sizes differ by one at most.

        So every image is seen in every epoch, and no batch is too small for BatchNorm. With balanced sampling
        each class is drawn as often as any other, and an image may come twice or not at all.
        """
        generator = torch.Generator().manual_seed(self.recipe.seed_for("order", epoch))
        count = len(self.train)
        if self.recipe.balance == "sampling":
            chances = self.class_weights[self.train.labels].cpu()
            order = torch.multinomial(chances, count, replacement=True, generator=generator)
        else:
            order = torch.randperm(count, generator=generator)
        return order.tensor_split(self.steps_per_epoch)

    def learn(self, epoch: int, indices: Tensor) -> tuple[float, float]:
        """Learns from the images with these indices; gives the sum of their losses and how many were right."""
        set_lr(self.optimizer, rate := self.rate(self.done))
        images, labels = self.batch(epoch, indices)
        with torch.autocast(self.team.device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16"):
            logits = self.network(normalise(images, self.preprocessing))
        losses = self.losses(logits.float(), labels)
        loss, right = self.team.total(losses.item(), float((logits.argmax(1) == labels).sum()))
        if not math.isfinite(loss):
            raise DivergedError("training", loss, epoch + 1, self.done + 1, rate)
        loss_of_share = losses * self.team.size / len(indices)  # the gradient is the mean over the team
        loss_of_share.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.update()
        return loss, right

    def batch(self, epoch: int, indices: Tensor) -> tuple[Tensor, Tensor]:
        """This process's share of the batch: (N, S, S, C) uint8 images, changed at random, and (N,) labels."""
        where = indices.to(self.team.device)
        generator = torch.Generator().manual_seed(self.recipe.seed_for("augmentation", self.done))
        images = self.augment(self.train.images[where], indices, epoch, generator)
        torch.manual_seed(self.recipe.seed_for("dropout", self.done * self.team.size + self.team.rank))
        return self.team.share(images), self.team.share(self.train.labels[where])

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The sum of the images' cross-entropies."""
        weights = self.class_weights if self.recipe.balance == "weights" else None
        smoothing = self.recipe.label_smoothing
        return F.cross_entropy(logits, labels, weights, label_smoothing=smoothing, reduction="sum")

    def rate(self, step: int) -> float:
        return lr_at(step, self.steps, self.recipe, [record["val_accuracy"] for record in self.history])

    def val_logits(self) -> Tensor:
        """What the averaged network says of the held-out images, as it will say when served."""
        images = self.team.share(self.val.images)
        return self.team.joined(compute_logits(self.ema.model, images, self.preprocessing, self.recipe.batch_size))

    def state_dict(self) -> dict[str, Any]:
        """All of it as tensors and primitives."""
        return {
            "recipe": asdict(self.recipe),
            "fingerprint": self.fingerprint,
            "done": self.done,
            "history": self.history,
            "sums": self.sums,
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from there. Raises StateError if it is of another recipe or other data."""
        for name, value in asdict(self.recipe).items():
            if state["recipe"].get(name) != value:
                raise StateError(f"{name} is {value!r}, but the unfinished run has {state['recipe'].get(name)!r}")
        if state["fingerprint"] != self.fingerprint:
            raise StateError(f"{self.recipe.data} has changed since the unfinished run began")
        self.done, self.history, self.sums = state["done"], state["history"], state["sums"]
        self.order = None
        self.model.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])


def train(
    dataset: Dataset,
    recipe: Recipe,
    team: Processes,
    watch: Callback,
    *,
    start: Checkpoint | None = None,
    kept: StateFile | None = None,
    stop: StopFlag | None = None,
) -> Trained:
    """A whole run, or what is left of the one whose state is `kept`.

    The same recipe gives the same weights, to the bit, on the same machine, however often the run was cut
    off. What the recipe leaves to the machine must be resolved and torch made ready for it (`training.device`).
    Raises StoppedError where `stop` says so, DivergedError, StateError, and TrainingError
    where the device's memory is too small or another process of the team is lost.
    """
    try:
        with report_out_of_memory(team.device):
            run = Run(dataset, recipe, team, start)
            if kept:
                kept.check_room(sum(tensor.nbytes for tensor in run.model.state_dict().values()))
                if state := kept.read():
                    run.load_state_dict(state)
            while run.done < run.steps:
                watch.step(run.advance())
                if epoch_ends := run.done % run.steps_per_epoch == 0:
                    watch.epoch(run.finish_epoch())
                [asked] = team.total(bool(stop))
                if kept and team.leads and (epoch_ends or asked or kept.due()):
                    kept.write(run.state_dict())
                if stop is not None and asked and run.done < run.steps:
                    raise StoppedError(f"stopped after step {run.done} of {run.steps}", stop.signal_number or SIGTERM)
    except RuntimeError as error:
        if team.size == 1:
            raise
        raise TrainingError("another process of the run is lost; --resume goes on from the last state") from error
    return Trained(run.ema.model, tuple(run.history))
