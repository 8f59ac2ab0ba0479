"""Which device to use, and whether it is fast in bfloat16. Training and serving use the same functions."""

import torch


def find_device(name: str) -> torch.device:
    """The device of that name: auto (CUDA where there is one, else the CPU), cpu, cuda or cuda:N. Raises ValueError."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    usable = ["auto", "cpu", *(["cuda"] if count else []), *(f"cuda:{number}" for number in range(count))]
    if name not in usable:
        raise ValueError(f"device is {name!r}, but must be one of {', '.join(usable)} on this machine")
    if name == "auto":
        name = "cuda" if count else "cpu"
    return torch.device(name)


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for products of bfloat16: on a CPU AVX512-BF16 or AMX."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # No public name for these two in every torch from 2.9 on.
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
