"""The training loop: from a data set and a recipe to weights and their history.

Owns the steps and epochs of a run, and the state between two steps.
"""

import math
import time
from dataclasses import dataclass
from signal import SIGTERM
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.networks.registry import build_network
from models.normalise import normalise
from training.data.augment import Augmentation
from training.data.dataset import Dataset
from training.device import report_out_of_memory
from training.distributed import Processes, convert_sync_batchnorm
from training.errors import TrainingError
from training.evaluation.metrics import accuracy_metrics, compute_logits
from training.finetune import InitialWeights, freeze_features, load_weights
from training.optim import Ema, lr_at, set_lr, sgd
from training.recipe import Recipe
from training.run_state import RunIdentity, StateFile, StopFlag, StoppedError

Record = dict[str, float]  # the metrics of one epoch, as the history has them


class DivergedError(TrainingError):
    """A loss that is not finite. The message has the epoch, the step and the learning rate."""

    def __init__(self, what: str, loss: float, epoch: int, step: int, lr: float) -> None:
        where = f"epoch {epoch}, step {step}, at a learning rate of {lr:.3g}"
        super().__init__(f"the {what} loss is {loss} in {where}; a lower lr may help")


@dataclass(frozen=True, slots=True)
class Step:
    """A completed step of `images` images; `loss` and `accuracy` are its epoch's means so far.

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
    """Is called after each step and each epoch."""

    def step(self, step: Step) -> None: ...

    def epoch(self, record: Record) -> None: ...


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """The averaged network, in evaluation mode, and its history."""

    model: nn.Module
    history: tuple[Record, ...]


class Run:
    """The state of a run between two steps, and the step itself.

    Randomness in a step depends on the seed and on the step's number alone. So this state, with `global_step`, the
    number of completed steps, is all that a run needs to continue. Seeds torch's global generator, which dropout
    draws from. `start` has the weights that the run starts from. Raises TrainingError.
    """

    def __init__(
        self, dataset: Dataset, recipe: Recipe, processes: Processes, start: InitialWeights | None = None
    ) -> None:
        self.recipe, self.preprocessing, self.processes = recipe, dataset.preprocessing, processes
        images = {identity: name for split in dataset.images.values() for identity, name in split.items()}
        version = start.version if start else ""
        self.identity = RunIdentity(recipe.model_dump(), dataset.fingerprint, version, images)
        self.train, self.val = (dataset.splits[name].to(processes.device) for name in ("train", "val"))
        self.augment = Augmentation(recipe, count=len(self.train))
        self.steps_per_epoch = math.ceil(len(self.train) / recipe.batch_size)
        self.steps = recipe.epochs * self.steps_per_epoch
        counts = self.train.labels.bincount(minlength=len(dataset.labels))
        self.class_weights = len(self.train) / (len(counts) * counts)  # their mean over the images is 1
        torch.manual_seed(recipe.seed_for("weights"))
        model = build_network(recipe.network(len(dataset.labels)))
        if start:
            load_weights(model, start, dataset.labels)
        if processes.size > 1:
            convert_sync_batchnorm(model)
        self.model = model.to(processes.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if recipe.freeze == "features":
            freeze_features(self.model)
        self.network = processes.wrap_ddp(self.model)
        self.ema = Ema(self.model, recipe.ema_decay)
        self.optimizer = sgd(self.model, recipe)
        self.global_step, self.history = 0, list[Record]()
        self.order: tuple[Tensor, ...] | None = None  # the current epoch's batches
        self.sums = {"loss": 0.0, "right": 0.0, "images": 0.0, "seconds": 0.0}  # of the current epoch

    def step(self) -> Step:
        """Trains on the next batch."""
        started = time.perf_counter()
        epoch, i = divmod(self.global_step, self.steps_per_epoch)
        if self.order is None or i == 0:
            self.order = self.batches(epoch)
        indices = self.order[i]
        loss, right = self.train_step(epoch, indices)
        self.global_step += 1
        seconds = time.perf_counter() - started
        news = {"loss": loss, "right": right, "images": len(indices), "seconds": seconds}
        self.sums = {name: self.sums[name] + new for name, new in news.items()}
        means = (self.sums["loss"] / self.sums["images"], self.sums["right"] / self.sums["images"])
        return Step(epoch + 1, self.recipe.epochs, self.global_step, self.steps, len(indices), *means)

    def finish_epoch(self) -> Record:
        """The record of the epoch whose last step was the last one done, with the metrics of the validation images."""
        started, lr = time.perf_counter(), self.lr_at(self.global_step - 1)
        metrics = accuracy_metrics(self.val_logits(), self.val.labels.cpu())
        epoch, sums = len(self.history) + 1, self.sums
        if not math.isfinite(metrics["loss"]):
            raise DivergedError("validation", metrics["loss"], epoch, self.global_step, lr)
        record = {
            "epoch": epoch,
            "train_loss": sums["loss"] / sums["images"],
            "train_accuracy": sums["right"] / sums["images"],
            **{f"val_{name}": value for name, value in metrics.items()},
            "lr": lr,
            "seconds": round(sums["seconds"] + time.perf_counter() - started, 3),
        }
        self.history.append(record)
        self.sums = dict.fromkeys(sums, 0.0)
        return record

    def batches(self, epoch: int) -> tuple[Tensor, ...]:
        """The training images' indices in random order, in batches whose sizes differ by one at most.

        Every image is seen in every epoch, and no batch is too small for BatchNorm. With balanced sampling each class
        is drawn equally often, and an image may be drawn twice or not at all.
        """
        generator = torch.Generator().manual_seed(self.recipe.seed_for("order", epoch))
        count = len(self.train)
        if self.recipe.balance == "sampling":
            chances = self.class_weights[self.train.labels].cpu()
            order = torch.multinomial(chances, count, replacement=True, generator=generator)
        else:
            order = torch.randperm(count, generator=generator)
        return order.tensor_split(self.steps_per_epoch)

    def train_step(self, epoch: int, indices: Tensor) -> tuple[float, float]:
        """Updates the weights on these images; returns the sum of their losses and how many were right."""
        set_lr(self.optimizer, lr := self.lr_at(self.global_step))
        images, labels = self.batch(epoch, indices)
        with torch.autocast(self.processes.device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16"):
            logits = self.network(normalise(images, self.preprocessing))
        losses = self.losses(logits.float(), labels)
        loss, right = self.processes.all_reduce_sum(losses.item(), float((logits.argmax(1) == labels).sum()))
        if not math.isfinite(loss):
            raise DivergedError("training", loss, epoch + 1, self.global_step + 1, lr)
        loss_of_shard = losses * self.processes.size / len(indices)  # DDP takes the mean over the processes
        loss_of_shard.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.update()
        return loss, right

    def batch(self, epoch: int, indices: Tensor) -> tuple[Tensor, Tensor]:
        """This process's shard of the batch: (N, S, S, C) uint8 images, augmented, and (N,) labels."""
        where = indices.to(self.processes.device)
        generator = torch.Generator().manual_seed(self.recipe.seed_for("augmentation", self.global_step))
        images = self.augment(self.train.images[where], indices, epoch, generator)
        torch.manual_seed(self.recipe.seed_for("dropout", self.global_step * self.processes.size + self.processes.rank))
        return self.processes.shard(images), self.processes.shard(self.train.labels[where])

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The sum of the images' cross-entropies."""
        weights = self.class_weights if self.recipe.balance == "weights" else None
        smoothing = self.recipe.label_smoothing
        return F.cross_entropy(logits, labels, weights, label_smoothing=smoothing, reduction="sum")

    def lr_at(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        return lr_at(step, self.steps, self.recipe, [record["val_accuracy"] for record in self.history])

    def val_logits(self) -> Tensor:
        """(N, K) logits of the averaged network for the validation images."""
        images = self.processes.shard(self.val.images)
        return self.processes.gather(compute_logits(self.ema.model, images, self.preprocessing, self.recipe.batch_size))

    def state_dict(self) -> dict[str, Any]:
        """The whole state as tensors and primitives."""
        return {
            **self.identity.to_state(),
            "global_step": self.global_step,
            "history": self.history,
            "sums": self.sums,
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from that state. Raises StateError if it is of another recipe, other data or another `start`."""
        self.identity.check_same(state)
        self.global_step, self.history, self.sums = state["global_step"], state["history"], state["sums"]
        self.order = None
        self.model.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])


def train(
    dataset: Dataset,
    recipe: Recipe,
    processes: Processes,
    callback: Callback,
    *,
    start: InitialWeights | None = None,
    state_file: StateFile | None = None,
    stop: StopFlag | None = None,
) -> Trained:
    """A whole run, or the rest of the run whose state is in `state_file`.

    The same recipe gives the same weights, to the bit, on the same machine, however often the run was interrupted.
    The recipe's precision must be resolved and torch configured for it (`training.device`). Raises StoppedError when
    `stop` asks for it, DivergedError, StateError, and TrainingError where the device's memory is too small or another
    process is lost.
    """
    try:
        with report_out_of_memory(processes.device):
            run = Run(dataset, recipe, processes, start)
            if state_file:
                state_file.check_room(sum(tensor.nbytes for tensor in run.model.state_dict().values()))
                if state := state_file.read():
                    run.load_state_dict(state)
            while run.global_step < run.steps:
                callback.step(run.step())
                if epoch_ends := run.global_step % run.steps_per_epoch == 0:
                    callback.epoch(run.finish_epoch())
                [asked] = processes.all_reduce_sum(bool(stop))
                if state_file and processes.is_main_process and (epoch_ends or asked or state_file.is_due()):
                    state_file.write(run.state_dict())
                if stop is not None and asked and run.global_step < run.steps:
                    raise StoppedError(
                        f"stopped after step {run.global_step} of {run.steps}", stop.signal_number or SIGTERM
                    )
    except RuntimeError as error:
        if processes.size == 1:
            raise
        raise TrainingError("another process of the run is lost; --resume goes on from the last state") from error
    return Trained(run.ema.model, tuple(run.history))
