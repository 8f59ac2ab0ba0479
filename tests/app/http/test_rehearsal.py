"""Answers that are built before a model takes over."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from app.errors import NotReady
from app.http.rehearsal import check_answers
from app.service import Service
from app.settings import Settings
from models.probabilities import Calibration
from tests.fakes.checkpoints import write_small_checkpoint
from tests.fakes.service import ZYGOTE, pipeline_of, serving

pytestmark = pytest.mark.anyio


async def test_a_sound_model_is_accepted(tmp_path: Path) -> None:
    """Every answer of it can be built on each of its replicas, with and without a calibration."""
    calibration = Calibration(kind="aps", images=2, scores=(0.5, 0.9), energies=(-2.0, -1.0))
    for name, given in (("plain", None), ("calibrated", calibration)):
        path = tmp_path / f"{name}.safetensors"
        write_small_checkpoint(path, calibration=given)
        async with serving(path, devices="cpu,cpu") as client:
            check_answers(pipeline_of(client).model, Settings.model_validate({"checkpoint": path}))


@pytest.mark.parametrize("fault", ["nan", "error"])
async def test_an_answer_that_cannot_be_built_is_told_in_one_line(checkpoint: Path, fault: str) -> None:
    """JSON would show a probability that is no number as null, which no answer may have. The line names the file."""
    async with serving(checkpoint) as client:
        model = pipeline_of(client).model
        [classifier] = model.classifiers
        make = classifier.make_predictions

        def spoil(logits: Any) -> Any:
            if fault == "error":
                raise KeyError("no\nsuch field")
            return make(logits * float("nan"))

        classifier.make_predictions = spoil  # type: ignore[method-assign]
        with pytest.raises(ValueError, match="no answer can be made of the golden sample") as error:
            await asyncio.to_thread(check_answers, model, Settings.model_validate({"checkpoint": checkpoint}))
    assert str(error.value).startswith(f"{checkpoint}: ")
    assert "\n" not in str(error.value)


async def test_a_model_without_answers_does_not_take_over(checkpoint: Path) -> None:
    """A start fails and a reload is refused before the model answers anyone."""
    faults = [ValueError("no answer")]

    def check(*_: object) -> None:
        if faults:
            raise faults.pop()

    failing = Service(Settings.model_validate({"checkpoint": checkpoint}), ZYGOTE, check)
    await failing.start()
    assert str(failing.failure) == "no answer"
    assert not failing.health.started
    with pytest.raises(NotReady), failing.pipeline():
        pass
    service = Service(Settings.model_validate({"checkpoint": checkpoint}), ZYGOTE, check)
    await service.start()
    with service.pipeline() as before:
        pass
    faults.append(ValueError("no answer"))
    with pytest.raises(ValueError, match="no answer"):
        await service.reload()
    with service.pipeline() as after:
        assert after is before
    await service.close()
    await failing.close()
