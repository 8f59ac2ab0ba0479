"""The processes that train one network together, as torchrun starts them; mostly it is one alone.

Owns every exchange between them. They share each batch, so that the result is that of one process, but for the rounding
of sums.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True, slots=True)
class Processes:
    """This process's number, `rank`, among `size`, and the device that it computes on."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main_process(self) -> bool:
        """Whether this is the one process that writes and prints."""
        return self.rank == 0

    def shard(self, rows: Tensor) -> Tensor:
        """This process's part of the rows; the parts' lengths differ by one at most."""
        return rows.tensor_split(self.size)[self.rank]

    def all_reduce_sum(self, *values: float) -> list[float]:
        """Each value's sum over the processes."""
        if self.size == 1:
            return list(values)
        sums = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(sums)
        totals: list[float] = sums.tolist()
        return totals

    def gather(self, rows: Tensor) -> Tensor:
        """The rows of all processes, in CPU memory, in the order that `share` gave them out."""
        if self.size == 1:
            return rows
        parts: list[Any] = [None] * self.size
        distributed.all_gather_object(parts, rows)
        return torch.cat(parts)

    def wrap_ddp(self, model: nn.Module) -> nn.Module:
        """The network whose gradients are the mean over the processes."""
        if self.size == 1:
            return model
        return DistributedDataParallel(model)

    @contextmanager
    def main_process_first(self) -> Iterator[None]:
        """The leader's block comes first, the others' when it has ended: what one downloads, the others find."""
        if not self.is_main_process:
            distributed.barrier()
        yield
        if self.is_main_process and self.size > 1:
            distributed.barrier()


@contextmanager
def join_processes(device: torch.device) -> Iterator[Processes]:
    """The team that torchrun made of this process, while the block runs; without torchrun, one alone."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield Processes(0, 1, device)
        return
    if device == torch.device("cuda"):
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size(), device)
        distributed.barrier()  # none leaves while another still needs it
    finally:
        distributed.destroy_process_group()


class SyncBatchNorm(nn.BatchNorm2d):
    """BatchNorm over the images of all processes, on CPUs as on GPUs; torch's own SyncBatchNorm needs a GPU."""

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> the same, normalised by the mean and variance of all processes' (N, H, W)."""
        if not self.training:
            return F.batch_norm(images, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        x = images.float()
        count = torch.full((1,), x.numel() / x.shape[1], device=x.device)
        sums: Tensor = _Sum.apply(torch.cat([x.sum((0, 2, 3)), count]))
        total = sums[-1]
        mean = sums[:-1] / total
        centred = x - mean[:, None, None]
        variance = _Sum.apply(centred.square().sum((0, 2, 3))) / total
        self._remember(mean.detach(), variance.detach() * total / (total - 1))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        normalised: Tensor = centred * scale[:, None, None] + self.bias[:, None, None]
        return normalised.to(images.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)


class _Sum(torch.autograd.Function):
    """A sum over the processes; the gradient of each one's part is the sum of all their gradients."""

    @staticmethod
    def forward(_: Any, values: Tensor) -> Tensor:
        sums = values.clone()
        distributed.all_reduce(sums)
        return sums

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        distributed.all_reduce(gradient)
        return gradient


def convert_sync_batchnorm(model: nn.Module) -> None:
    """Makes every BatchNorm of the network one over all processes, with the same names and weights."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                shared = SyncBatchNorm(child.num_features, child.eps, child.momentum)
                shared.load_state_dict(child.state_dict())
                setattr(module, name, shared)
