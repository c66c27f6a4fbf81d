import os
import sys
from pathlib import Path

import pytest

from tinysearch.core.errors import InputError, UnsupportedError
from tinysearch.search.distributed.choice import Place


def test_jobs_are_as_many_as_processors_and_at_most_a_round() -> None:
    assert Place.of(None, 1).jobs == Place.of("auto", 1).jobs == 1
    most = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert 1 <= (Place.of("auto", 256).jobs or 0) <= (most or 1)
    assert Place.of("3", 4).jobs == Place.of(3, 4).jobs == 3
    assert Place.of(None, 4, ray="false").ray is None
    assert Place.of(None, 4, ray="True").ray == "local"
    assert Place.of(None, 4, ray=True) == Place(None, None, "local")
    assert Place.of(2, 4, ray="auto", cpus=0.5, gpus=0.25) == Place(2, None, "auto", 0.5, 0.25)


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({"jobs": 0}, "jobs is 0: it must be from 1 to 4, the policies of a round: raise round_size"),
        ({"jobs": 5}, "jobs is 5"),
        ({"jobs": "many"}, "jobs is 'many': it must be a number"),
        ({"jobs": 2.0}, "jobs is 2.0: it must be a whole number"),
        ({"jobs": True}, "jobs is True"),
        ({"jobs": "²"}, "must be a number"),
        ({"jobs": "9" * 5000}, "must be a number"),
        ({"cpus": 2.0}, "cpus_per_trial is for Ray alone"),
        ({"gpus": 1.0}, "gpus_per_trial is for Ray alone"),
        ({"ray": True, "cpus": -1.0}, "cpus_per_trial is -1.0"),
        ({"ray": True, "gpus": float("nan")}, "gpus_per_trial is nan"),
    ],
)
def test_what_is_wrong_is_said(stated: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Place.of(stated.pop("jobs", None), 4, **stated)  # type: ignore[arg-type]


def test_without_ray_its_name_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "tinysearch.search.distributed.tune", raising=False)
    with (
        pytest.raises(UnsupportedError, match=r"pip install 'ray\[tune\]'"),
        Place.of(None, 4, ray=True).workers(tmp_path),
    ):
        raise AssertionError("there is no Ray")
