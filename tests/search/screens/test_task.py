"""What a screen may look at."""

from dataclasses import replace

import pytest
import torch

from tinysearch.core.errors import InputError
from tinysearch.testing.screens import task_of


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 3], "class 2 has no image: a screen needs one of each class"),
        ([0, 1, 2, 3, 4], "label 4 is no class of a head of 4 classes"),
        ([], "class 0 has no image"),
    ],
)
def test_labels_that_the_head_does_not_fit_are_refused(labels: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        task_of(labels)


def test_as_many_labels_as_images() -> None:
    with pytest.raises(InputError, match="a label for each image: 4 and 5 given"):
        replace(task_of([0, 1, 2, 3]), labels=torch.tensor([0, 1, 2, 3, 3]))


def test_it_names_the_head() -> None:
    assert task_of([0, 1, 2, 3]).head == "head"
