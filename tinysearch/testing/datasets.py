"""What every data set must do."""

import numpy as np
import pytest
import torch

from ..search.data import Dataset, ImageSplit


class DatasetSuite:
    """Tests of a data set; the fixture `dataset` gives it, loaded."""

    @pytest.fixture
    def dataset(self) -> Dataset:
        """The data set."""
        raise NotImplementedError("give the data set by a fixture of this name")

    @pytest.fixture(params=["train", "test"])
    def split(self, request: pytest.FixtureRequest, dataset: Dataset) -> ImageSplit:
        """Each of its splits."""
        found = getattr(dataset, request.param)
        assert isinstance(found, ImageSplit)
        return found

    def test_it_says_what_it_is(self, dataset: Dataset) -> None:
        """Two classes or more, each with a name of its own, and where the images are from."""
        assert dataset.name
        assert dataset.source
        assert len(set(dataset.classes)) == len(dataset.classes) >= 2
        assert dataset.train is not dataset.test

    def test_both_splits_hold_every_class(self, dataset: Dataset, split: ImageSplit) -> None:
        """Labels are int64, read-only, and count the classes from 0."""
        assert split.labels.dtype == np.int64
        assert split.labels.shape == (len(split),)
        assert not split.labels.flags.writeable
        assert np.unique(split.labels).tolist() == list(range(len(dataset.classes)))

    @pytest.mark.parametrize("size", [8, 33])
    def test_images_are_decoded_at_the_size_that_is_asked_for(self, split: ImageSplit, size: int) -> None:
        """The same at every call, in the order that is asked for."""
        wanted = [len(split) - 1, 0, len(split) // 2]
        images = split.load(wanted, size)
        assert images.dtype == torch.uint8
        assert images.shape == (3, 3, size, size)
        assert torch.equal(images, split.load(wanted, size))
        assert torch.equal(images.flip(0), split.load(wanted[::-1], size))
        assert len(torch.unique(images)) > 1
        assert split.load([], size).shape == (0, 3, size, size)

    def test_images_outside_of_a_split_are_refused(self, split: ImageSplit) -> None:
        """Positions do not wrap around."""
        for position in (-1, len(split)):
            with pytest.raises(IndexError):
                split.load([position], 8)
