"""A model card in Hugging Face's form: YAML for their Hub, then Markdown for people.

Owns its text and the escaping of names. Everything in it comes from the checkpoint's metadata.
"""

import json
import re
import shlex
from typing import Any

from models.metadata import CheckpointMetadata
from models.preprocess import Preprocessing

CHECKPOINT_NAME = "model.safetensors"
COUNTS = ("images",)  # metrics that say how much was measured, not how well
# What YAML does not take as it is, or takes for the end of a line: controls, surrogates, U+2028, U+FEFF, …
UNPRINTABLE = re.compile("[^\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|&~$])")


def model_card(metadata: CheckpointMetadata, version: str, file_name: str = CHECKPOINT_NAME) -> str:
    """The text of a README.md that lies beside the checkpoint `file_name`, whose version is `version`."""
    d = metadata
    sections = [
        _front_matter(d),
        _head(d, version),
        _metrics(d),
        _use(d, file_name),
        _labels(d),
        _limits(d),
        _origin(d),
    ]
    return "\n".join(sections)


def _front_matter(d: CheckpointMetadata) -> str:
    """The values are JSON, which is YAML as well. So no name can be read as a field."""
    fields: dict[str, Any] = {
        "license": "unknown",  # that of weights depends on data that only their owner knows
        "library_name": "vggserve",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "vgg" if d.architecture.name.startswith("vgg") else d.architecture.name],
    }
    if results := [_result(d, split) for split in d.metrics if _measured(d, split)]:
        fields["model-index"] = [{"name": d.architecture.name, "results": results}]
    return "\n".join(["---", *(f"{name}: {_json(value)}" for name, value in fields.items()), "---", ""])


def _result(d: CheckpointMetadata, split: str) -> dict[str, Any]:
    name = _dataset(d) or "unknown"
    return {
        "task": {"type": "image-classification"},
        "dataset": {"name": name, "type": name, "split": split},
        "metrics": [{"type": metric, "value": value} for metric, value in _measured(d, split).items()],
    }


def _measured(d: CheckpointMetadata, split: str) -> dict[str, float]:
    return {name: round(value, 4) for name, value in d.metrics[split].items() if name not in COUNTS}


def _head(d: CheckpointMetadata, version: str) -> str:
    a, p = d.architecture, d.preprocessing
    trained_on = f" trained on {_text(dataset)}" if (dataset := _dataset(d)) else ""
    width = "" if a.width == 1 else f" and {a.width:g} times the usual channels"
    return f"""\
# {a.name}{trained_on}

An image classifier for {a.num_classes} labels: {a.name} with the head `{a.head}`{width}. Version `{version}`.

{_geometry(p)} Their values, from 0 to 1, become (value - mean) / std by channel, with
mean {_numbers(p.mean)} and std {_numbers(p.std)}. {_colours(p)}
"""


def _geometry(p: Preprocessing) -> str:
    colours = "RGB" if p.channels == 3 else "grayscale"
    filter_name = f"({p.interpolation}, antialiased)"
    if p.crop == "squash":
        return f"An image in {colours} is resized to {p.size} x {p.size} pixels {filter_name}, whatever its shape."
    if p.crop == "pad":
        return (
            f"Of an image in {colours}, the longer side is resized to {p.size} pixels {filter_name}, and bars of the "
            f"mean colour make it {p.size} x {p.size}."
        )
    return (
        f"Of an image in {colours}, the shorter side is resized to {p.resize} pixels {filter_name} and the central "
        f"{p.size} x {p.size} pixels are cut out."
    )


def _colours(p: Preprocessing) -> str:
    if p.color == "srgb":
        return "Colours of an embedded profile are converted to sRGB before; other runtimes have to do so themselves."
    return "An embedded colour profile is ignored."


def _metrics(d: CheckpointMetadata) -> str:
    names = list(dict.fromkeys(name for values in d.metrics.values() for name in values))
    if not names:
        return "## Metrics\n\nNone were recorded: measure it on images of your own before you rely on it.\n"
    rows = [["", *d.metrics], ["---", *("---:" for _ in d.metrics)]]
    rows += [[name, *(_cell(values.get(name)) for values in d.metrics.values())] for name in names]
    table = "\n".join("| " + " | ".join(map(_text, row)) + " |" for row in rows)
    return f"## Metrics\n\nEach column was measured on the split that it names.\n\n{table}\n"


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}".rstrip("0").rstrip(".")


def _use(d: CheckpointMetadata, file_name: str) -> str:
    return f"""\
## Use

```sh
# in a checkout of the project:
python -m app --checkpoint {_printable(shlex.quote(file_name))}
curl --data-binary @photo.jpg http://127.0.0.1:8000/predict
```

The answer has a probability for each label: the softmax of the logits, which a temperature of {d.temperature:g}
divides before. Labels, preprocessing and temperature are in the file.
"""


def _labels(d: CheckpointMetadata) -> str:
    return f"## Labels\n\n```json\n{_json(dict(enumerate(d.labels)), indent=2)}\n```\n"


def _limits(d: CheckpointMetadata) -> str:
    p = d.preprocessing
    if d.calibration:
        trust = (
            f"The probabilities were calibrated on {d.calibration.images} images, and hold for images like those. "
            "In the service's answers, a low `typicality` marks an image unlike them."
        )
    else:
        trust = "The probabilities were not calibrated: 0.9 need not mean right in nine cases of ten."
    return f"""\
## Limits

- It gives one of its {len(d.labels)} labels to any image, also to one that shows nothing of the kind.
- {trust}
- {_unseen(p)}
- The licence of the weights depends on the images that they were trained on; their owner has to state it.
"""


def _unseen(p: Preprocessing) -> str:
    outside = "lies outside the central square, or " if p.crop == "center" else ""
    return f"What {outside}is finer than {p.size} x {p.size} pixels show, it does not see."


def _origin(d: CheckpointMetadata) -> str:
    """All that is needed to train the network again."""
    origin = {name: getattr(d, name) for name in ("dataset", "recipe", "seed", "versions", "created_at")}
    return f"## Training\n\n```json\n{_json(origin, indent=2)}\n```\n"


def _dataset(d: CheckpointMetadata) -> str:
    """The data set's short name: the last part of `folder:/home/me/photos`."""
    return re.split(r"[:/\\]", str(d.dataset.get("name", "")).rstrip("/\\"))[-1]


def _json(value: object, indent: int | None = None) -> str:
    """JSON on one line, or indented. No line of it can end a fenced block of Markdown."""
    return _printable(json.dumps(value, ensure_ascii=False, indent=indent))


def _printable(text: str) -> str:
    return UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _text(text: str) -> str:
    """The text on one line of Markdown, which is shown as it is."""
    return MARKDOWN.sub(r"\\\1", _printable(" ".join(text.split())))


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
