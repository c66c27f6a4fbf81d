"""Where a run's policies are scored: in processes of this machine, or by Ray."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from joblib import cpu_count

from ...core.errors import InputError, UnsupportedError
from .base import Workers
from .local import evaluator


@dataclass(frozen=True)
class Place:
    """Where policies are scored, and how many at once. It does not change what is found.

    Attributes:
        jobs: Policies scored at once, at most; with Ray, None leaves it to Ray's resources.
        timeout: Seconds after which a policy counts as failed; None is no bound.
        ray: Address of a Ray cluster, or "local" for a Ray on this machine; None is without Ray.
        cpus: Processors that Ray keeps free for each policy.
        gpus: Graphics processors likewise.
    """

    jobs: int | None = 1
    timeout: float | None = None
    ray: str | None = None
    cpus: float = 1.0
    gpus: float = 0.0

    @classmethod
    def of(
        cls,
        jobs: int | str | None,
        round_size: int,
        *,
        timeout: float | None = None,
        ray: str | bool | None = None,
        cpus: float | None = None,
        gpus: float | None = None,
    ) -> "Place":
        """Check and complete what a user said; for the arguments see `tinysearch.search.run.run`.

        Raises:
            InputError: A value is wrong.

        Example:
            >>> Place.of(2, round_size=4).jobs
            2
        """
        if isinstance(jobs, str) and jobs != "auto":
            if not jobs.isascii() or not jobs.isdigit() or len(jobs) > 6:
                raise InputError(f'jobs is {jobs!r:.40}: it must be a number, or "auto"', "jobs")
            jobs = int(jobs)
        if not isinstance(jobs, int | str | None) or isinstance(jobs, bool):
            raise InputError(f'jobs is {jobs!r:.40}: it must be a whole number, or "auto"', "jobs")
        if isinstance(jobs, int) and not 1 <= jobs <= round_size:
            raise InputError(
                f"jobs is {jobs}: it must be from 1 to {round_size}, the policies of a round: raise round_size",
                "round_size",
            )
        if isinstance(ray, str) and ray.lower() in ("true", "false"):  # as files of options have it
            ray = ray.lower() == "true"
        if ray is None or ray is False:
            for name, stated in (("cpus_per_trial", cpus), ("gpus_per_trial", gpus)):
                if stated is not None:
                    raise InputError(f"{name} is for Ray alone: add ray, or leave it out", name)
            return cls(jobs if isinstance(jobs, int) else min(round_size, cpu_count()), timeout)
        for name, stated in (("cpus_per_trial", cpus), ("gpus_per_trial", gpus)):
            if stated is not None and not 0 <= stated <= 1024:
                raise InputError(f"{name} is {stated}: it must be from 0 to 1024", name)
        address = "local" if ray is True else ray
        return cls(
            jobs if isinstance(jobs, int) else None, timeout, address, 1.0 if cpus is None else cpus, gpus or 0.0
        )

    @contextmanager
    def workers(self, folder: Path) -> Iterator[Workers]:
        """Those who score, as long as the context lasts.

        Args:
            folder: Where Ray Tune and TensorBoard may write.

        Raises:
            UnsupportedError: Ray is not installed.
            InputError: There is no cluster at the address.
        """
        if self.ray is None:
            jobs = self.jobs or 1
            yield lambda make, most: evaluator(make, jobs=min(jobs, most), timeout=self.timeout)
            return
        try:
            from .tune import Resources, cluster
        except (ImportError, AttributeError) as error:  # the latter where Ray is too old
            raise UnsupportedError(
                f"ray: Ray Tune is not installed ({error}): pip install 'ray[tune]'", "ray"
            ) from error
        with cluster(
            self.ray, jobs=self.jobs, resources=Resources(self.cpus, self.gpus), timeout=self.timeout, folder=folder
        ) as workers:
            yield workers
