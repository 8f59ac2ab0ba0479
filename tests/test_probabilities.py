"""Softmax, applied once, in one place."""

import pytest
import torch

from models.probabilities import softmax


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_probabilities_sum_to_one(dtype: torch.dtype) -> None:
    """Whatever the logits' type, each row is float32 and sums to 1 within float32's rounding."""
    torch.manual_seed(0)
    probabilities = softmax(torch.randn(16, 1000).to(dtype))
    assert probabilities.dtype == torch.float32
    assert probabilities.shape == (16, 1000)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(16), rtol=0, atol=1e-6)


def test_values_are_those_of_the_definition() -> None:
    """The logits ln 1, ln 2, ln 5 give 1/8, 2/8, 5/8."""
    torch.testing.assert_close(softmax(torch.tensor([[1.0, 2.0, 5.0]]).log()), torch.tensor([[0.125, 0.25, 0.625]]))


def test_extreme_logits_stay_finite() -> None:
    """Logits far beyond what exp can hold give probabilities of 0 and 1."""
    assert softmax(torch.tensor([[1e30, -1e30, 0.0]])).tolist() == [[1.0, 0.0, 0.0]]


def test_temperature_divides_the_logits() -> None:
    """A temperature of 2 flattens: it is softmax of the logits' halves."""
    logits = torch.tensor([[4.0, 2.0, 0.0]])
    assert torch.equal(softmax(logits, temperature=2.0), softmax(logits / 2))
    assert softmax(logits, temperature=2.0).max() < softmax(logits).max()
