"""Scoring policies by Ray Tune: on this machine or on a cluster, for the same search.

The search loop stays the only place that decides. Ray Tune is told of policies one by one, as of a search algorithm's
suggestions, and gives them to its actors, which are used again and hold the network and its images. What was lost with
a process or a node is asked for again. Ray Tune keeps no state of the search: the run directory does, so a run whose
driver was killed is resumed by the same command, with Ray or without.
"""

import logging
import os
import pickle
import queue
import signal
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import ray
from ray import tune
from ray.tune import CLIReporter, Stopper
from ray.tune.experiment import Trial
from ray.tune.logger import JsonLoggerCallback, TBXLoggerCallback
from ray.tune.search import Searcher

from ...core.errors import InputError, TinySearchError
from ...core.metrics import METRICS
from ...spaces.policy import UpdatePolicy
from ..proxies.base import Proxy, Score
from .base import Evaluate, Workers
from .local import evaluator
from .worker import make_alone

#: How often a policy is asked for again whose process or node was lost.
RESTARTS = 3
#: Seconds that a cluster has to answer.
CONNECT_SECONDS = 10
#: Seconds between Ray Tune's tables.
REPORT_SECONDS = 30
#: Of Ray, unless the user's environment says otherwise: nothing is sent to its makers, its table is that of the columns
#: named here, and only the files are written that we name.
_SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AIR_NEW_OUTPUT": "0", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1"}
#: Addresses of Ray's clients, which run Ray Tune elsewhere than the search.
_CLIENT = "ray://"
#: An address that begins a Ray of this run's own.
LOCAL = "local"


@dataclass(frozen=True)
class Resources:
    """What Ray is to keep free for each policy that is scored.

    Attributes:
        cpus: Processors, or a share of one. A policy is computed by one thread whatever this says.
        gpus: Graphics processors, or a share of one. The built-in proxy computes on processors; one of a user's own
            may use them.
    """

    cpus: float = 1.0
    gpus: float = 0.0


@contextmanager
def cluster(
    address: str, *, jobs: int | None, resources: Resources, timeout: float | None, folder: Path
) -> Iterator[Workers]:
    """Ray's workers, as long as the context lasts.

    Args:
        address: Of the cluster, such as "auto" or "10.0.0.1:6379"; "local" begins a Ray of its own on this machine.
        jobs: Policies scored at once, at most; None leaves it to Ray's resources.
        resources: What each policy needs.
        timeout: Seconds after which a policy counts as failed; None is no bound.
        folder: Where Ray Tune and TensorBoard write.

    Raises:
        InputError: There is no cluster at the address, or it is one of a client.
    """
    if address.startswith(_CLIENT):
        raise InputError(
            f"ray: {address} is the address of a Ray client, which a search cannot be driven through: run the command "
            "on the cluster, by `ray job submit -- tinysearch run --ray auto ...`",
            "ray",
        )
    started = not ray.is_initialized()
    if started:
        for name, value in _SETTINGS.items():
            os.environ.setdefault(name, value)
        _refuse_dead_end(address)
        own: dict[str, Any] = {}
        if address == LOCAL:
            own = {"include_dashboard": False}
        terminate = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(address, log_to_driver=False, logging_level=logging.WARNING, **own)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise InputError(f"ray: no cluster at {address}: {str(error).splitlines()[0]}", "ray") from error
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, terminate)  # which Ray takes for itself
    try:
        _refuse_too_large(resources)
        yield lambda make, most: _evaluator(make, jobs and min(jobs, most), resources, timeout, folder)
    finally:
        if started:
            ray.shutdown()


def _refuse_too_large(resources: Resources) -> None:
    """Refuse what no node has, for which Ray would wait."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    for option, name, wanted in (("cpus", "CPU", resources.cpus), ("gpus", "GPU", resources.gpus)):
        most = max((node.get(name, 0) for node in nodes), default=0)
        if wanted > most:
            raise InputError(
                f"ray: {option}_per_trial is {wanted:g}, and no node has more than {most:g}", f"{option}_per_trial"
            )


def _refuse_dead_end(address: str) -> None:
    """Refuse an address that nobody listens at: Ray would try it for minutes."""
    host, colon, port = address.rpartition(":")
    if not colon:
        return
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except (OSError, ValueError, OverflowError) as error:
        raise InputError(f"ray: no cluster at {address}: {error}", "ray") from error


class _Questions(Searcher):
    """Suggests to Ray Tune what the search asks for, and keeps what comes of it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: queue.SimpleQueue[tuple[int, dict[str, object]]] = queue.SimpleQueue()
        self.answers: queue.SimpleQueue[tuple[int, Score | str | TinySearchError | None]] = queue.SimpleQueue()
        self.closed = threading.Event()
        self._places: dict[str, int] = {}

    def suggest(self, trial_id: str) -> Any:  # a text, too, where Ray declares none
        """The next policy that is asked for, if there is one."""
        try:
            self._places[trial_id], config = self.asked.get_nowait()
        except queue.Empty:
            return Searcher.FINISHED if self.closed.is_set() else None
        return config

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Hand over what a policy was scored as."""
        place = self._places.pop(trial_id, None)
        if place is not None:  # of a node that is lost, Ray Tune may tell more than once
            self.answers.put((place, None if error or result is None else result.get("score")))

    def __reduce__(self) -> tuple[type["_Questions"], tuple[()]]:
        """Ray Tune writes it beside its trials, where nobody will ask for it."""
        return _Questions, ()

    def save(self, checkpoint_path: str) -> None:
        """Nothing is kept: the run directory does."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing was kept."""


class _Closed(Stopper):
    """Ends Ray Tune, and what it is at, when nobody will ask any more."""

    def __init__(self, closed: threading.Event | None = None) -> None:
        self._closed = closed or threading.Event()

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """A policy is done when it says so."""
        return False

    def stop_all(self) -> bool:
        """Whether it is time."""
        return self._closed.is_set()

    def __reduce__(self) -> str | tuple[Any, ...]:
        """As of `_Questions`."""
        return _Closed, ()


class _Parts(NamedTuple):
    """What an actor is made of; Ray keeps it once for all of them.

    Attributes:
        make: The pickled function that makes the proxy.
        path: Where this process finds modules: the user's own may be among them.
        with_torchvision: Whether the proxy may need torchvision.
        timeout: Seconds that a policy may take.
    """

    make: bytes
    path: tuple[str, ...]
    with_torchvision: bool
    timeout: float | None


class _Scoring(tune.Trainable):
    """An actor that scores one policy after another."""

    def setup(self, config: dict[str, Any], parts: _Parts | None = None) -> None:
        """Make the proxy; what fails is told with the first policy, since Ray Tune would try again."""
        assert parts is not None
        self._open = ExitStack()
        self._evaluate: Evaluate | None = None
        sys.path += [folder for folder in parts.path if folder not in sys.path]
        try:
            make = partial(make_alone, parts.make, parts.with_torchvision)
            self._evaluate = self._open.enter_context(evaluator(make, jobs=1, timeout=parts.timeout))
        except Exception as error:  # whatever a user's own classes raise
            self._broken = f"the proxy cannot be made: {type(error).__name__}: {error}"

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next policy."""
        self.config = new_config
        return True

    def step(self) -> dict[str, Any]:
        """Score the policy."""
        policy = UpdatePolicy.from_json(self.config["policy"])
        found: Score | str | TinySearchError
        if self._evaluate is None:
            found = TinySearchError(self._broken)
        else:
            try:
                ((_, found),) = self._evaluate([policy])
            except TinySearchError as error:
                found = error
        told = {}
        if isinstance(found, Score):
            told = {name: getattr(found, name) for name in ("accuracy", "accuracy_se", "loss", "learning_rate")}
        costs = {name: value for name, value in self.config.items() if isinstance(value, int | float)}
        return {**costs, **told, "score": found, "done": True}

    def cleanup(self) -> None:
        """End with the actor."""
        self._open.close()


def _name(trial: Trial) -> str:
    """What a trial is called in Ray Tune's table, and its folder in TensorBoard."""
    told = (str(trial.config[name]) for name in ("number", "round", "method", "hash") if name in trial.config)
    return "-".join([*told, trial.trial_id])


@contextmanager
def _evaluator(
    make: Callable[[], Proxy], jobs: int | None, resources: Resources, timeout: float | None, folder: Path
) -> Iterator[Evaluate]:
    """A function that scores policies by Ray Tune.

    Raises:
        InputError: The proxy cannot be sent to other processes.
    """
    try:
        content = pickle.dumps(make)
    except Exception as error:  # whatever the user's classes raise
        raise InputError(f"the backbone or the proxy cannot be sent to Ray ({error})", "ray") from error
    questions = _Questions()
    path = tuple(str(Path(folder).absolute()) for folder in sys.path)
    parts = _Parts(content, path, "torchvision" in sys.modules, timeout)
    trainable = tune.with_parameters(_Scoring, parts=parts)
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": resources.cpus, "gpu": resources.gpus}),
        tune_config=tune.TuneConfig(
            search_alg=questions,
            num_samples=-1,
            max_concurrent_trials=jobs,
            reuse_actors=True,
            trial_name_creator=_name,
            trial_dirname_creator=_name,
        ),
        run_config=tune.RunConfig(
            storage_path=str(folder.resolve()),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            stop=_Closed(questions.closed),
            callbacks=[TBXLoggerCallback(), JsonLoggerCallback()],  # type: ignore[no-untyped-call]
            progress_reporter=CLIReporter(
                metric_columns=list(METRICS), parameter_columns=["method"], max_report_frequency=REPORT_SECONDS
            ),
            verbose=1,
        ),
    )
    failed: list[BaseException] = []

    def drive() -> None:
        try:
            tuner.fit()
        except BaseException as error:  # told to the search, which waits in another thread
            failed.append(error)
        finally:
            questions.answers.put((-1, TinySearchError("Ray Tune ended")))

    def evaluate(
        policies: Sequence[UpdatePolicy], facts: Sequence[Mapping[str, object]] = ()
    ) -> Iterator[tuple[int, Score | str]]:
        asked = [
            (place, {"policy": policy.to_json(), **(facts[place] if facts else {})})
            for place, policy in enumerate(policies)
        ]
        for question in asked:
            questions.asked.put(question)
        lost, done = Counter[int](), set[int]()
        while len(done) < len(asked):
            place, found = questions.answers.get()
            if failed:
                raise TinySearchError(f"Ray Tune failed: {str(failed[0]).splitlines()[0]}") from failed[0]
            if isinstance(found, TinySearchError):
                raise found
            if found is None and lost[place] < RESTARTS:
                lost[place] += 1
                questions.asked.put(asked[place])
                continue
            done.add(place)
            yield place, found or f"its process or node was lost {RESTARTS + 1} times, perhaps for want of memory"

    driver = threading.Thread(target=drive, daemon=True)
    # What Ray Tune prints is progress, not the command's result.
    with redirect_stdout(sys.stderr):
        driver.start()
        try:
            yield evaluate
        finally:
            questions.closed.set()
            driver.join()
