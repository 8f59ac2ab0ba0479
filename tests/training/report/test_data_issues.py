"""The report's sections on suspicious data."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.probabilities import softmax
from tests.fakes.pages import Page
from tests.fakes.pictures import draw_pictures
from tests.training.report.test_report import LABELS, make_calibration, make_metadata
from training.data.dataset import Split
from training.evaluation.data_issues import DataIssues, find_data_issues
from training.evaluation.evaluation import evaluate_predictions
from training.report.data_issues import MAX_ISSUES, MAX_PAIRS
from training.report.report import write_report

LEAKS = 40
TITLES = ["Likely wrong labels", "Near-duplicates", "Results without near-duplicates of training images"]
LABEL_HEADER = ["given label", "suggested label", "its probability", "the suggested one's", "split", "image index"]
PAIR_HEADER = ["label", "split", "image index", "other label", "other split", "other index", "correlation"]


def make_issues(leaks: int, wrong: int) -> tuple[DataIssues, torch.Tensor]:
    """Issues of a sure network, and its logits for `test`. The first `leaks` images of it are training images.

    The first `wrong` labels of `test` are wrong.
    """
    images = draw_pictures(300, seed=0)
    labels = torch.arange(200) % len(LABELS)
    given = torch.cat(((labels[:wrong] + 1) % len(LABELS), labels[wrong:]))
    test = torch.cat((images[:leaks], images[100 : 300 - leaks]))
    # The training images are larger, as with scale jitter.
    large = images[:100].repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    splits = {"train": Split(large, labels[:100]), "test": Split(test, given)}
    logits = 6 * torch.eye(len(LABELS))[labels] + torch.rand(200, 4, generator=torch.Generator().manual_seed(0))
    return find_data_issues(splits, {"test": softmax(logits)}), logits


def make_page(folder: Path, issues: DataIssues, logits: torch.Tensor) -> Page:
    metadata = make_metadata(epochs=1, **make_calibration())
    evaluation = evaluate_predictions(
        "test", issues.splits["test"], logits, metadata.temperature, metadata.calibration, issues
    )
    return Page(write_report(folder, metadata, "0123456789ab", evaluation).read_text("utf-8"))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The page of a data set with more issues than are shown."""
    return make_page(tmp_path_factory.mktemp("run"), *make_issues(leaks=LEAKS, wrong=45))


def rows_below(page: Page, header: list[str], count: int) -> list[list[str]]:
    start = page.rows.index(header) + 1
    return page.rows[start : start + count]


def test_the_sections_follow_the_results(page: Page) -> None:
    """They stand before the settings."""
    titles = page.inside("h2")
    assert titles[titles.index("Results by label") + 1 : titles.index("Training settings")] == TITLES


def test_the_page_says_which_images_are_examined(page: Page) -> None:
    """The training images are not, and the number of the others is stated."""
    text = " ".join(page.inside("p"))
    assert "Only the 200 images that the network was not trained on are examined, of 300 in all." in text
    assert "45 labels are likely wrong (22.5% of those examined)" in text


def test_likely_wrong_labels_are_shown_with_both_labels(page: Page) -> None:
    """At most some dozens are shown, the most likely first."""
    found = rows_below(page, LABEL_HEADER, MAX_ISSUES)
    for given, suggested, _, _, split, index in found:
        true = int(index) % len(LABELS)
        assert (given, suggested, split) == (LABELS[(true + 1) % len(LABELS)], LABELS[true], "test")
        assert int(index) < 45
    assert page.rows[page.rows.index(LABEL_HEADER) + MAX_ISSUES + 1] != found[-1]
    assert f"The first {MAX_ISSUES} are shown." in " ".join(page.inside("p"))


def test_near_duplicates_are_counted_and_shown(page: Page) -> None:
    """A table has their number for each pair of splits. Pairs with different labels are shown first."""
    assert ["test", "train", str(LEAKS)] in page.rows
    for label, split, index, other, before, other_index, correlation in rows_below(page, PAIR_HEADER, MAX_PAIRS):
        assert (split, before, index) == ("test", "train", other_index)
        assert label != other
        assert float(correlation) >= 0.9


def test_results_are_shown_with_and_without_leaks(page: Page) -> None:
    """The leaked images have the wrong labels, so without them the accuracy is higher."""
    rows = {row[0]: row[1:] for row in page.rows}
    assert [rows[name][0] for name in ("all images", "without near-duplicates", "near-duplicates")] == [
        "200",
        "160",
        "40",
    ]
    assert rows["all images"][1].startswith("77.50% [")
    assert rows["without near-duplicates"][1].startswith("96.88% [")
    assert len(rows["all images"]) == 6


def test_the_pictures_are_on_the_page_with_a_text(page: Page) -> None:
    """They show both kinds of issues."""
    texts = [image["alt"] or "" for image in page.attributes("img")]
    assert sum("likely wrong labels" in text for text in texts) == 1
    assert sum(f"{MAX_PAIRS} pairs of images" in text for text in texts) == 1


def test_good_data_have_sentences_instead(tmp_path: Path) -> None:
    """Without an issue there is neither a picture nor an empty table. Flat images and an early end are stated."""
    issues, logits = make_issues(leaks=0, wrong=0)
    duplicates = replace(issues.near_duplicates, flat=1_234, complete=False)
    page = make_page(tmp_path, replace(issues, near_duplicates=duplicates), logits)
    text = " ".join(page.inside("p"))
    for sentence in (
        "No label is likely wrong.",
        "There are no near-duplicates.",
        "No image of test is a near-duplicate of a training image",
        "1,234 images of nearly one colour were not compared.",
        "the search was ended early",
    ):
        assert sentence in text
    assert not {"label_issues", "near_duplicates"} & {path.stem for path in tmp_path.glob("*.png")}
