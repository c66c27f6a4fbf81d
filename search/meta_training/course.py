"""The course of a meta-training: episode after episode, judged now and then; the best state is kept."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from ...core.errors import InputError
from ...spaces.optimizers import Optimizer
from ..rates import best_rate
from ..training import Answers, Recipe, Start, Step
from .protonet import Judgement, ProtoNet
from .source import Source
from .state import State, StateFile

#: Judgements after the one before the first episode.
JUDGEMENTS = 10
#: Tasks of a judgement.
JUDGED_TASKS = 40
#: Share of the episodes after which a learning rate is judged.
RACE = 0.25


@dataclass(frozen=True)
class Progress:
    """Where a meta-training stands.

    Attributes:
        learning_rate: The rate that is used, or tried; 0 before either.
        trying: Whether it is only tried.
        episodes: Episodes to learn from, of such a try or of all.
        judgement: The newest.
        best: The best so far.
        seconds_left: About how long it will take yet; None where that is not known.
    """

    learning_rate: float
    trying: bool
    episodes: int
    judgement: Judgement
    best: Judgement
    seconds_left: float | None = None


Observer = Callable[[Progress], None]


class Course:
    """A meta-training from the pretrained weights on, at one rate or another.

    Args:
        net: The network.
        source: What it learns from and is judged by.
        optimizer: By what.
        episodes: How many it learns from.
        tell: Is told where it stands.
    """

    def __init__(self, net: ProtoNet, source: Source, optimizer: Optimizer, episodes: int, tell: Observer) -> None:
        self._net, self._source, self._optimizer = net, source, optimizer
        self._episodes, self._tell = episodes, tell
        self._start = Start(net.features)

    @cached_property
    def before(self) -> Judgement:
        """How well the pretrained network does."""
        self._start.restore()
        judgement = self._judge(0)
        self._tell(Progress(0.0, False, self._episodes, judgement, judgement))
        return judgement

    def find_rate(self) -> float:
        """The rate that is best in the tasks that it is judged by, after a quarter of the episodes.

        From the optimizer's lowest rate upwards: what is pretrained is to be kept, and a higher rate must show that it
        is better.

        Raises:
            InputError: Training diverges at every rate that was tried.
        """
        try:
            return best_rate(self._optimizer, self._attempt, self._optimizer.rates[0])
        except FloatingPointError as error:
            raise InputError(f"meta_train: {error}") from error

    def run(self, rate: float, file: StateFile, state: State | None) -> tuple[list[Judgement], dict[str, Tensor]]:
        """Learn from all episodes.

        Args:
            rate: The highest rate.
            file: Where the state is kept at each judgement.
            state: What to go on from; None begins anew.

        Returns:
            All judgements, the one before the first episode included, and the parameters of the best of these states,
            by name.

        Raises:
            InputError: Training diverged.
        """
        features = self._net.features
        step = Step(features, self._optimizer)
        if state is None:
            judgements = [self.before]
            self._start.restore()
            best = self._values()
        else:
            judgements = [Judgement(episode, tuple(accuracies)) for episode, accuracies in state.judgements]
            features.load_state_dict(state.values)
            step.load_state_dict(state.optimizer)
            best = state.best
        done = judgements[-1].episode
        begun = time.monotonic()
        try:
            for episode in self._learn(step, Recipe(self._episodes, 1, rate), done):
                if episode not in self._stops():
                    continue
                judgements.append(self._judge(episode))
                if best_of(judgements) is judgements[-1]:
                    best = self._values()
                told = [(each.episode, list(each.accuracies)) for each in judgements]
                file.save(State(rate, self._values(), step.state_dict(), best, told))
                left = (time.monotonic() - begun) / (episode - done) * (self._episodes - episode)
                self._tell(Progress(rate, False, self._episodes, judgements[-1], best_of(judgements), left))
        except FloatingPointError as error:
            raise InputError(f"meta_train: {error}: take a lower learning_rate", "learning_rate") from error
        return judgements, best

    def _attempt(self, rate: float) -> Answers:
        """What a short training at a rate makes of the tasks that it is judged by."""
        self._start.restore()
        episodes = max(1, round(RACE * self._episodes))
        try:
            for _ in self._learn(Step(self._net.features, self._optimizer), Recipe(episodes, 1, rate)):
                pass
        except FloatingPointError:
            return Answers(torch.zeros(1, dtype=torch.bool), torch.full((1,), torch.nan))
        answers = self._answers()
        judgement = Judgement(episodes, tuple(each.accuracy for each in answers))
        self._tell(Progress(rate, True, episodes, judgement, best_of([self.before, judgement])))
        return Answers.of_all(answers)

    def _learn(self, step: Step, recipe: Recipe, done: int = 0) -> Iterator[int]:
        """Learn from one episode after another; gives how many it has learnt from, and raises if the loss is lost."""
        for number in range(done, recipe.steps):
            loss = partial(self._net.loss, self._source.learning.draw(number))
            if not torch.isfinite(step.lower(loss, recipe.learning_rate * recipe.share(number))):
                raise FloatingPointError(f"training diverged in episode {number + 1} at {recipe.learning_rate:g}")
            yield number + 1

    def _stops(self) -> set[int]:
        """Numbers of episodes after which the network is judged; the last is one."""
        return {max(1, round(self._episodes * part / JUDGEMENTS)) for part in range(1, JUDGEMENTS + 1)}

    def _judge(self, episode: int) -> Judgement:
        return Judgement(episode, tuple(each.accuracy for each in self._answers()))

    def _answers(self) -> list[Answers]:
        return [self._net.answer(self._source.judging.draw(number)) for number in range(JUDGED_TASKS)]

    def _values(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self._net.features.state_dict().items()}


def best_of(judgements: list[Judgement]) -> Judgement:
    """The judgement of the highest accuracy; of equals the earliest."""
    return max(judgements, key=lambda each: (each.accuracy, -each.episode))
