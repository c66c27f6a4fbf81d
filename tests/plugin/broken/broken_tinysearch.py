"""Everything that can be wrong with what a package brings."""

from tinysearch.search.data import DatasetInfo
from tinysearch.spaces.methods import Method

SEVEN = 7
TEXT = "format: tinysearch.device\nversion: 1\nname: broken\nlike: rpi4\nbatch: many\n"


def fails(*arguments, **settings):
    """Fails."""
    raise RuntimeError("this\nfails")


DATASET = DatasetInfo("broken", "fails", "nowhere", fails)
METHOD = Method("broken", "fails", fails)
