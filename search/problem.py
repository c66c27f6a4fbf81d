"""A request with everything that it names loaded: what a search is about."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from torch import nn

from ..core.errors import ConflictError, InputError
from ..devices.costs import Costs, cost_rows, cost_table, planned_costs
from ..devices.profile import DeviceProfile, load_device
from ..results.front import Front
from ..results.limits import Limits
from ..results.records import Judgement, Rescore, RunInfo, TrialRecord
from ..results.rundir import RunDirectory
from ..spaces import methods
from ..spaces.backbones.choice import default_weights
from ..spaces.policy import UpdatePolicy
from ..spaces.space import Genotypes, UpdateSpace
from ..spaces.table import UpdateTable
from ..spaces.trace import Trace
from .budget import check_budget
from .data import Dataset, load_dataset
from .data.episodes import Episode
from .data.images import as_input, normalisation_of
from .finalists import Standing, standing
from .judgement import doubts, judge
from .network import load_network
from .proxies import ProxySettings
from .request import ROUND_SIZE, Request
from .screens import AdditiveScore, ScreenTask, make_screen
from .support import SupportTask, draw_episodes, support_task
from .threads import one_thread

#: Samplers that screen all policies before any is trained, so that a surrogate can tell what to believe.
SCREENING = ("auto", "exact")
#: Of a request, what is no part of what a run is: how long it goes on, and where things lie.
_NO_PART = {"trials", "rescore", "time_budget", "trial_timeout", "data_dir", "weights"}
#: Draws of episodes between the first of a round and the first of the next: more than a proxy takes.
DRAWS = 1000


@dataclass(frozen=True)
class Problem:
    """A request with everything that it names loaded.

    Attributes:
        request: What was asked.
        device: The device's profile.
        dataset: The target.
        backbone: The pretrained network, with a head for the target's classes.
        trace: The backbone at the request's input size.
        space: Its policies.
        limits: What a step may cost.
        batch: Samples of a step on the device.
        round: Which draw of episodes, and with it of all that is left to chance: the search is of round 0.
        reference: From where the front's hypervolume is measured, if not from this network's own `reference_point`: in
            a run of several networks, which have one.
    """

    request: Request
    device: DeviceProfile
    dataset: Dataset
    backbone: nn.Module
    trace: Trace
    space: UpdateSpace
    limits: Limits
    batch: int
    round: int = 0
    reference: Mapping[str, float] | None = None
    # Episodes drawn so far, by number of the draw: decoding their images takes time.
    _drawn: dict[int, list[Episode]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, request: Request, *, for_costs: bool = False, beside: Sequence["Problem"] = ()) -> Self:
        """Load what a request names, and refuse a budget that nothing fits.

        Args:
            request: What was asked.
            for_costs: Whether nothing but costs will be asked of the network, so that unless the request states weights
                random ones will do.
            beside: Problems of other networks on the same data and seed, with which this one shares its images.

        Raises:
            InputError: A name or file is wrong.
            MissingDataError: Data or weights are missing.
            BudgetError: No policy fits; the smallest one and what it needs are named.
        """
        device = load_device(request.device)
        dataset = beside[0].dataset if beside else load_dataset(request.dataset, request.data_dir)
        backbone, trace = load_network(
            request.backbone,
            classes=len(dataset.classes),
            weights=request.weights,
            input_size=request.input_size,
            for_costs=for_costs,
        )
        limits = Limits(
            peak_bytes=request.max_memory or device.memory.budget.value,
            flash_bytes=device.flash.capacity.value,
            latency_s=request.max_latency,
            energy_j=request.max_energy,
        )
        batch = request.batch or device.batch
        drawn = next((other._drawn for other in beside if other.trace.input_shape == trace.input_shape), {})
        problem = cls(request, device, dataset, backbone, trace, UpdateSpace(trace), limits, batch, _drawn=drawn)
        check_budget(limits, problem.exact(UpdateTable.frozen(trace, 1)), device, trace, batch)
        return problem

    @classmethod
    def of_run(
        cls,
        run: RunDirectory,
        data_dir: str | Path | None = None,
        weights: str | None = None,
        *,
        for_costs: bool = False,
    ) -> Self:
        """Load again what a run was asked for, from nothing but its directory.

        Args:
            run: The run.
            data_dir: Where data sets lie, which a run does not keep.
            weights: The weights, if they were a file that has moved.
            for_costs: Whether nothing but costs will be asked of the network. The run's weights are not needed then,
                nor compared.

        Raises:
            InputError: A name or file is wrong, or the run is of several networks.
            MissingDataError: Data or weights are missing.
            ConflictError: The weights are not those of the run.
        """
        if run.networks:
            raise InputError(f"{run.path} is a run of {len(run.networks)} networks: take one of its networks")
        stated = {key: value for key, value in run.request.items() if key in Request.model_fields}
        if for_costs:
            del stated["weights"]
        given = {"data_dir": data_dir, "weights": weights}
        request = Request.make(**(stated | {key: value for key, value in given.items() if value is not None}))
        problem = cls.of(request, for_costs=for_costs)
        if not for_costs and problem.backbone_digest != run.request["backbone_sha256"]:
            raise ConflictError(
                f"these are not the weights that {run.path} was searched with: give those by weights=FILE",
                "weights=FILE",
            )
        return problem

    @property
    def seed(self) -> int:
        """Seed of all that is drawn but the episodes: in round 0 the request's, in others one that follows from it."""
        if not self.round:
            return self.request.seed
        return int(np.random.SeedSequence([self.request.seed, self.round]).generate_state(1)[0])

    @property
    def proxy(self) -> ProxySettings:
        """How a policy's accuracy is judged."""
        return self.request.proxy

    def cost(self, table: UpdateTable) -> Costs:
        """What the policies of a table cost on the device."""
        return cost_table(table, self.device, batch=self.batch)

    def cost_rows(self, rows: Genotypes) -> Costs:
        """What encoded policies cost on the device."""
        return cost_rows(self.space, rows, self.device, batch=self.batch)

    def exact(self, table: UpdateTable) -> Costs:
        """As `cost`, and on an arena device with the arenas planned: for the few that are to be trained."""
        return planned_costs(table, self.device, batch=self.batch)

    def on_device(self, policy: UpdatePolicy) -> UpdatePolicy:
        """The policy with the device's optimizer, which it is tried with, and its batch, which it is priced at.

        The proxy takes a batch of its own: where statistics are frozen, a device gets the same gradient by adding up
        smaller batches.
        """
        return policy.with_training(optimizer=self.device.optimizer, batch=self.batch)

    def episodes(self, count: int) -> list[Episode]:
        """The round's first draws of few-shot episodes of the training split; see `draw_episodes`."""
        first, size = self.round * DRAWS, self.trace.input_shape[1]
        for number in range(first, first + count):
            if number not in self._drawn:
                self._drawn[number] = draw_episodes(
                    self.dataset.train, self.proxy, size=size, seed=self.request.seed, number=number
                )
        return [episode for number in range(first, first + count) for episode in self._drawn[number]]

    def support_task(self) -> SupportTask:
        """What a method that chooses its policy from the user's data, such as TinyTrain, may look at."""
        return support_task(self.backbone, self.trace.layers[self.trace.head].name, self.episodes(1)[0])

    @cached_property
    def full_costs(self) -> Costs:
        """What full fine-tuning costs: one policy, from which the front's hypervolume is measured."""
        return self.cost(UpdateTable.of(self.trace, [methods.full(self.trace)]))

    @cached_property
    def score(self) -> AdditiveScore:
        """What the request's screen says of each tensor, by the support images of the first episode."""
        episode = self.episodes(1)[0]
        images = as_input(episode.support_images, normalisation_of(self.backbone))
        task = ScreenTask(self.backbone, self.trace, images, episode.support_labels, self.seed)
        with one_thread():
            return make_screen(self.request.screen, task)

    @cached_property
    def reference_point(self) -> Mapping[str, float]:
        """From where the front's hypervolume is measured: chance, and the costs of full fine-tuning."""
        if self.reference is not None:
            return self.reference
        full = self.full_costs
        return {
            "accuracy": 1 / len(self.dataset.classes),
            "peak_bytes": float(full.peak_bytes[0]),
            "latency_s": float(full.latency_s[0]),
        }

    @property
    def ideal_point(self) -> Mapping[str, float]:
        """Everything right, at no cost."""
        return {"accuracy": 1.0, "peak_bytes": 0.0, "latency_s": 0.0}

    def front(
        self, trials: Iterable[TrialRecord], rescores: Sequence[Rescore] = (), *, among: int | None = None
    ) -> Front:
        """The front of some trials, by what is believed of each in the light of all.

        With samplers that do not screen it is what each trial says, until some were scored again.

        Args:
            trials: The trials; see `needs_all`.
            rescores: What was scored again of them.
            among: How many trials there are, if more.
        """
        every = list(trials)
        if rescores and (now := self.standing(every, rescores)).counted:
            return now.front
        front = self._front(every, judge(self, every) if self.request.sampler in SCREENING else {})
        return front if among is None else replace(front, run=replace(front.run, trials=among))

    def needs_all(self, rescores: Sequence[Rescore]) -> bool:
        """Whether the front depends on trials that others are better than in everything: they tell what to believe."""
        return self.request.sampler in SCREENING or bool(rescores)

    def standing(self, trials: Sequence[TrialRecord], rescores: Sequence[Rescore]) -> Standing:
        """How far the re-scoring of some trials is; see `standing` of `finalists`."""
        return standing(lambda counted: self._front(trials, judge(self, trials, counted)), trials, rescores)

    def _front(self, trials: Sequence[TrialRecord], judged: Mapping[int, Judgement]) -> Front:
        points = self.reference_point, self.ideal_point
        # Of very many trials only the foremost are judged. What others say of themselves does not compare with that.
        weighed = [each for each in trials if not judged or each.state != "complete" or each.number in judged]
        front = Front.from_trials(weighed, self.info, *points, judged=judged, warnings=doubts(weighed, judged))
        return replace(front, run=replace(front.run, trials=len(trials)))

    @property
    def info(self) -> RunInfo:
        """What a front says of the search, but for the number of trials."""
        return RunInfo(
            device=self.device.name,
            dataset=self.dataset.name,
            backbone=self.trace.name,
            batch=self.batch,
            proxy=self.request.proxy.describe(),
            seed=self.request.seed,
            trials=0,
            latency_error=self.full_costs.latency_error,
        )

    @cached_property
    def backbone_digest(self) -> str:
        """SHA-256 over all weights as they were loaded, those of the new head included."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.backbone.state_dict().items()):
            digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @property
    def device_digest(self) -> str:
        """SHA-256 of the profile as it was read."""
        return hashlib.sha256(self.device.model_dump_json().encode()).hexdigest()

    def identity(self) -> dict[str, Any]:
        """What a run is. How long it may go on is no part of that: a finished run can be taken further."""
        request, train = self.request, self.dataset.train
        content = request.model_dump(mode="json", exclude=_NO_PART)
        if request.round_size == ROUND_SIZE:
            del content["round_size"]  # as of runs from before it could be chosen
        return content | {
            "input_size": self.trace.input_shape[1],
            "batch": self.batch,
            "weights": request.weights or default_weights(request.backbone),
            "backbone_sha256": self.backbone_digest,
            "train_images": len(train),
            "train_labels_sha256": hashlib.sha256(train.labels.tobytes()).hexdigest(),
            "device_sha256": self.device_digest,
        }
