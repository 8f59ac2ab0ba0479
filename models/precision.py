"""What a processor computes fast in.

Owns the question; knows nothing of networks. Training and serving ask it alike.
"""

import torch


def cpu_multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for products of bfloat16: AVX512-BF16 or AMX."""
    # No public name for these two in every torch from 2.9 on.
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
