"""The two models that the Open Inference Protocol shows: images in, and normalised pixels in.

Owns their names, tensors and metadata. There are two because a client fills every input of a model.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from app.errors import NotFound
from app.protocols.errors import quote

if TYPE_CHECKING:
    from app.serving.pipeline import LoadedModel

Datatype = Literal["BYTES", "FP32"]
CONFIG_TYPES = {"BYTES": "TYPE_STRING", "FP32": "TYPE_FP32"}  # as model_config.proto of Triton names them
TENSOR_SUFFIX = "_tensor"
PLATFORM = "pytorch"
NO_BATCH = -1  # a dimension of any size


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor's name, datatype and shape, in which -1 stands for the number of images."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]

    def metadata(self) -> dict[str, Any]:
        """The protocol's $metadata_tensor."""
        return {"name": self.name, "datatype": self.datatype, "shape": self.shape}

    def config(self) -> dict[str, Any]:
        """Triton's ModelInput or ModelOutput, whose shape leaves out the number of images."""
        return {"name": self.name, "data_type": CONFIG_TYPES[self.datatype], "dims": self.shape[1:]}


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model of the protocol. All have the same outputs, of which the first is the default.

    `pixels` is the shape (C, S, S) of one image's normalised pixels.
    """

    name: str
    version: str
    input: TensorInfo
    outputs: tuple[TensorInfo, ...]
    labels: tuple[str, ...]
    pixels: tuple[int, int, int]

    def metadata(self) -> dict[str, Any]:
        """The protocol's $metadata_model_response."""
        return {
            "name": self.name,
            "versions": [self.version],
            "platform": PLATFORM,
            "inputs": [self.input.metadata()],
            "outputs": [output.metadata() for output in self.outputs],
        }

    def config(self, max_images: int) -> dict[str, Any]:
        """The part of Triton's ModelConfig that says how to ask: the batcher, and the images of a request at most."""
        return {
            "name": self.name,
            "platform": PLATFORM,
            "backend": PLATFORM,
            "max_batch_size": max_images,
            "input": [self.input.config()],
            "output": [output.config() for output in self.outputs],
            "dynamic_batching": {},
        }


def list_models(model: "LoadedModel") -> tuple[ModelInfo, ModelInfo]:
    """The model with images as its input, and the one with normalised pixels."""
    metadata, preprocessing = model.metadata, model.metadata.preprocessing
    name, classes = metadata.architecture.name, len(metadata.labels)
    outputs = (
        TensorInfo("probabilities", "FP32", (NO_BATCH, classes)),
        TensorInfo("logits", "FP32", (NO_BATCH, classes)),
        TensorInfo("label", "BYTES", (NO_BATCH,)),
    )
    pixels = (preprocessing.channels, preprocessing.size, preprocessing.size)
    images = TensorInfo("image", "BYTES", (NO_BATCH,))
    normalised = TensorInfo("input", "FP32", (NO_BATCH, *pixels))
    return (
        ModelInfo(name, model.version, images, outputs, metadata.labels, pixels),
        ModelInfo(name + TENSOR_SUFFIX, model.version, normalised, outputs, metadata.labels, pixels),
    )


def find_model(model: "LoadedModel", name: str, version: str | None = None) -> ModelInfo:
    """Raises NotFound for another name or version than those of `list_models`."""
    models = list_models(model)
    found = next((candidate for candidate in models if candidate.name == name), None)
    if found is None:
        names = " and ".join(candidate.name for candidate in models)
        raise NotFound(f"There is no model {quote(name)}; there are {names}.")
    if version not in (None, found.version):
        raise NotFound(f"{found.name} has no version {quote(version)}; its version is {found.version}.")
    return found
