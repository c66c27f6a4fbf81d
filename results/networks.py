"""A run of several networks: where each one's own run lies, and how their trials are numbered together."""

from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import quote

from .records import TrialRecord

#: The folder of the networks' own runs, and what the request calls them.
NETWORKS = "networks"


def network_name(backbone: str, input_size: int) -> str:
    """The folder of a network's own run: another one for every other network.

    Example:
        >>> network_name("mcunet-5fps", 128), network_name("mypkg.nets:build", 96)
        ('mcunet-5fps-128', 'mypkg.nets%3Abuild-96')
    """
    return f"{quote(backbone, safe='')}-{input_size}"


def numbered_together(runs: Sequence[Sequence[TrialRecord]]) -> list[list[TrialRecord]]:
    """The trials of K networks with numbers that differ: trial n of the k-th network, from 0, is number n K + k.

    So a trial keeps its number when others are added, and its network is the number modulo K.
    """
    count = len(runs)
    return [
        [replace(trial, number=trial.number * count + place) for trial in trials] for place, trials in enumerate(runs)
    ]
