"""Folders as people have them: splits by their usual names, links, litter, and what is refused by name."""

import os
import re
from pathlib import Path

import pytest

from tests.fakes.folders import fill, scan_all_but
from training.data.folders import read_folder
from training.data.items import SPLIT_NAMES, DataError, Source
from training.data.walk import describe_fault

BOTH = {"cat": 2, "dog": 2}


def names(source: Source, split: str = "train") -> list[str]:
    """The images' paths within the data set."""
    assert source.root is not None
    return [str(path.relative_to(source.root)) for path, _ in source.parts[split] if isinstance(path, Path)]


@pytest.mark.parametrize(("split", "name"), [(split, name) for split, names in SPLIT_NAMES.items() for name in names])
def test_splits_have_their_usual_names_in_any_case(tmp_path: Path, split: str, name: str) -> None:
    """`valid` and `Validation` mean val, `Testing` means test."""
    fill(tmp_path / "Training", BOTH)
    if split != "train":
        fill(tmp_path / name.title(), BOTH)
    source = read_folder(tmp_path)
    assert source.labels == ("cat", "dog")
    assert {part: len(items) for part, items in source.parts.items()} == dict.fromkeys({"train", split}, 4)


@pytest.mark.parametrize(
    ("trees", "message"),
    [
        (["train", "val", "extra"], r"has train/, which is a split, and beside it extra/; splits are train, training"),
        (["train", "val", "Validation"], "has Validation/ and val/, which both mean the split val"),
        (["val"], "has val/, but no train/"),
        (["bus", "car", "train"], r"train/, which is a split, and beside it bus/, car/; .* into one folder train/"),
        (["cat", "dog/Train"], "dog/Train has the name of a split, but lies in dog/, which is a label"),
        (["cat", "dog", "dog/cat"], "dog/cat has the name of the label cat, but lies in dog/"),
        (["Cat", "cat"], "has the labels 'Cat' and 'cat', which look alike"),
    ],
)
def test_folders_that_are_not_understood_are_named(tmp_path: Path, trees: list[str], message: str) -> None:
    """Nothing is taken for something else in silence."""
    for tree in trees:
        fill(tmp_path / tree, BOTH if tree.casefold() in {"train", "val", "extra", "validation"} else {"x": 1})
    with pytest.raises(DataError, match=message):
        read_folder(tmp_path)


def test_linked_folders_and_files_are_followed_once(tmp_path: Path) -> None:
    """A link gives images under its own folder's label; links upwards and second links are passed over and said."""
    data = fill(tmp_path / "data", BOTH)
    fill(tmp_path, {"elsewhere": 3})
    for link in ("a", "b"):
        (data / "cat" / link).symlink_to(tmp_path / "elsewhere")
    (data / "cat" / "up").symlink_to("..")
    (data / "cat" / "far").symlink_to(tmp_path)
    (data / "dog" / "0.jpg").symlink_to(tmp_path / "elsewhere" / "0.png")
    source = read_folder(data)
    cats = [label for _, label in source.parts["train"]].count(0)
    assert (cats, len(source.parts["train"])) == (5, 8)
    assert "dog/0.jpg" in names(source)
    assert any(note.endswith("already (3): cat/b, cat/far, cat/up") for note in source.notes), source.notes


@pytest.mark.parametrize("link", ["dog/more", "emu"])
def test_a_folder_under_two_labels_is_refused(tmp_path: Path, link: str) -> None:
    """Its images would have both labels."""
    fill(tmp_path, BOTH)
    (tmp_path / link).symlink_to(tmp_path / "cat")
    with pytest.raises(DataError, match=f"{link} is the same folder as one of .*cat, so its images are in both"):
        read_folder(tmp_path)


def test_a_split_that_is_a_link_to_another_is_refused(tmp_path: Path) -> None:
    """It would be the training images once more."""
    fill(tmp_path / "train", BOTH)
    (tmp_path / "val").symlink_to("train")
    with pytest.raises(DataError, match=r"val/cat is the same folder as one of .*train/cat"):
        read_folder(tmp_path)


def test_a_link_that_leads_nowhere_is_a_fault(tmp_path: Path) -> None:
    """Under an image's name it is a file that cannot be read; under another it may have been a folder of images."""
    fill(tmp_path, BOTH)
    (tmp_path / "cat" / "x.jpg").symlink_to("/nonexistent")
    (tmp_path / "cat" / "y.jpg").symlink_to("y.jpg")
    [first, second] = read_folder(tmp_path).faults
    assert first.path == tmp_path / "cat" / "x.jpg"
    assert first.why == "is a link to /nonexistent, which cannot be followed"
    assert second.path.name == "y.jpg"
    (tmp_path / "emu").symlink_to("/nonexistent")
    with pytest.raises(DataError, match="emu is a link to /nonexistent, which cannot be followed"):
        read_folder(tmp_path)


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path) -> None:
    """It may hold images, so it is never passed over."""
    fill(tmp_path, {"cat": 2, "dog": 2, "cat/more": 1})
    with pytest.raises(DataError, match=r"cat/more cannot be listed \(Permission denied\)"):
        read_folder(tmp_path, scan_all_but(tmp_path / "cat" / "more"))


def test_litter_of_the_system_is_passed_over_and_counted(tmp_path: Path) -> None:
    """macOS, Windows, Synology and notebooks leave folders and files that nobody asked for."""
    fill(tmp_path, BOTH)
    for name in ("__MACOSX/cat/._0.png", ".ipynb_checkpoints/0.png", "cat/@eaDir/0.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    for name in ("cat/._0.png", "cat/Thumbs.db", "dog/.DS_Store", "desktop.ini"):
        (tmp_path / name).touch()
    source = read_folder(tmp_path)
    assert source.labels == ("cat", "dog")
    assert len(source.parts["train"]) == 4
    assert [note.split(":")[0] for note in source.notes] == ["passed over, hidden or of the system (7)"]


def test_what_is_no_image_is_a_fault_at_once(tmp_path: Path) -> None:
    """Content decides where the suffix says nothing: text is a fault, an image without a suffix is an image."""
    fill(tmp_path, BOTH)
    (tmp_path / "cat" / "notes.txt").write_text("hello")
    (tmp_path / "cat" / "0.png").rename(tmp_path / "cat" / "photo of a train")
    (tmp_path / "cat" / "1.png").rename(tmp_path / "cat" / "1.PNG")
    os.mkfifo(tmp_path / "dog" / "pipe.jpg")
    source = read_folder(tmp_path)
    assert names(source)[:2] == ["cat/1.PNG", "cat/photo of a train"]
    text, pipe = source.faults
    assert (text.path.name, pipe.path.name) == ("notes.txt", "pipe.jpg")
    assert text.why.startswith("is no image of a format that is read (JPEG, PNG")
    assert pipe.why == "is neither a file nor a folder"


def test_files_beside_class_folders_have_no_label(tmp_path: Path) -> None:
    """An image there is an error, also beside splits; other files are said not to be used."""
    fill(tmp_path / "train", BOTH)
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    assert read_folder(tmp_path).notes == ("not used, files that are no images (1): labels.txt",)
    (tmp_path / "train" / "cat" / "0.png").rename(tmp_path / "stray.png")
    with pytest.raises(DataError, match=r"has images outside of its class folders, which have no label: stray\.png"):
        read_folder(tmp_path)


def test_metadata_beside_the_images_want_their_own_reader(tmp_path: Path) -> None:
    """They may contradict the folders' names."""
    fill(tmp_path, BOTH)
    (tmp_path / "metadata.csv").write_text("file_name,label\n")
    with pytest.raises(DataError, match=r"metadata\.csv lies beside the images; read the folder as imagefolder:PATH"):
        read_folder(tmp_path)


def test_folders_within_class_folders_are_said(tmp_path: Path) -> None:
    """Their images have the outer folder's label, which may be a surprise."""
    fill(tmp_path, {"animals/cat": 1, "animals/dog": 1, "plants/fern": 2})
    source = read_folder(tmp_path)
    assert source.labels == ("animals", "plants")
    [note] = source.notes
    assert "whose images have the outer folder's label (3): animals/cat, animals/dog, plants/fern" in note


def test_labels_are_sorted_in_one_form(tmp_path: Path) -> None:
    """Two systems that write an accent in two ways get the same labels in the same order."""
    fill(tmp_path / "train", {"cafe\u0301": 1, "cafz": 1})
    fill(tmp_path / "val", {"caf\u00e9": 1, "cafz": 1})
    source = read_folder(tmp_path)
    assert source.labels == ("cafz", "caf\u00e9")
    assert [label for _, label in source.parts["val"]] == [0, 1]


def test_the_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell does not replace the tilde behind a colon."""
    monkeypatch.setenv("HOME", str(fill(tmp_path, {"pets/cat": 1, "pets/dog": 1})))
    assert read_folder(Path("~/pets")).labels == ("cat", "dog")
    with pytest.raises(DataError, match="~nobody-has-this-name/x begins with a home folder that is not known"):
        read_folder(Path("~nobody-has-this-name/x"))


def test_a_folder_within_a_folder_is_said(tmp_path: Path) -> None:
    """Archives are often packed with their own folder around the labels or the splits."""
    fill(tmp_path / "dataset" / "train", BOTH)
    with pytest.raises(DataError, match="has one folder alone, so dataset is the only class; if the labels lie in it"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "is a pointer of Git LFS, not the image"),
        (b"<html>", r"cannot be read as an image \(why\)"),
        (None, r"cannot be opened \(No such file or directory\)"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, content: bytes | None, message: str) -> None:
    """The decoder's own words are used where the file's first bytes say nothing better."""
    if content is not None:
        (tmp_path / "a.jpg").write_bytes(content)
    assert re.match(message, describe_fault(tmp_path / "a.jpg", OSError("why")))
