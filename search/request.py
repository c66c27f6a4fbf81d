"""What a run is asked to do: everything that decides its outcome, checked before anything is loaded."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, ValidationError, field_validator

from ..core.errors import InputError
from ..core.metrics import LIMITED, SECONDS
from ..core.validation import first_error
from .proxies import PROXIES, ProxySettings
from .samplers import SAMPLERS
from .screens import SCREENS

DEFAULT_BACKBONE = "mobilenetv2-w0.35"
DEFAULT_PROXY = "few-shot"
#: Policies of a round, and the most that one may have.
ROUND_SIZE, LARGEST_ROUND = 4, 256
#: Sides of images, in pixels.
SMALLEST, LARGEST = 16, 1024


class Request(BaseModel):
    """A request for a run. Limits are in base units; texts such as "256KiB" are read when it is made.

    Attributes:
        device: Device id, or path of a profile.
        dataset: Data set name, or path of class folders.
        data_dir: Where data sets lie.
        backbone: Backbone name, `timm:NAME`, `torchvision:NAME` or `package.module:function`.
        weights: `bundled`, `imagenet`, `none` or a file; None takes what is published for the backbone.
        input_size: Side of the images in pixels; None takes the weights' own, or 96 if that is less.
        trials: Policies to score.
        round_size: Policies that are proposed together, before the sampler learns of any of them.
        rescore: Rounds at most in which finalists are scored again.
        time_budget: Seconds after which no further round begins, of trials or of scoring again.
        trial_timeout: Seconds after which a policy that is being scored counts as failed.
        seed: Seed of episodes and search.
        sampler: How policies are proposed.
        screen: How the sampler `auto` ranks all policies before any is trained.
        compare: Whether all published methods are scored, whatever the sampler begins with.
        proxy: How their accuracy is judged.
        max_memory: Most peak training memory, bytes; None takes the device's budget.
        max_latency: Longest training step, seconds.
        max_energy: Most energy of a step, joules.
        batch: Samples of a training step on the device; None takes the device's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    device: str = "rpi4"
    dataset: str = "digits"
    data_dir: Path | None = None
    backbone: str = DEFAULT_BACKBONE
    weights: str | None = None
    input_size: int | None = Field(default=None, ge=SMALLEST, le=LARGEST)
    trials: int = Field(default=30, ge=1, le=100_000)
    round_size: int = Field(default=ROUND_SIZE, ge=1, le=LARGEST_ROUND)
    rescore: int = Field(default=2, ge=0, le=100)
    time_budget: float | None = Field(default=None, gt=0)
    trial_timeout: float | None = Field(default=None, gt=0)
    seed: int = Field(default=0, ge=0, lt=2**32)
    sampler: str = "auto"
    screen: str = "tangent"
    compare: bool = False
    proxy: SerializeAsAny[ProxySettings] = Field(default={"name": DEFAULT_PROXY}, validate_default=True)
    max_memory: int | None = Field(default=None, gt=0)
    max_latency: float | None = Field(default=None, gt=0)
    max_energy: float | None = Field(default=None, gt=0)
    batch: int | None = Field(default=None, ge=1, le=4096)

    @classmethod
    def make(cls, **values: Any) -> "Request":
        """Check and convert the values that a user gave; None stands for a default.

        Raises:
            InputError: A value is wrong; the option is named.
        """
        given = {key: value for key, value in values.items() if value is not None}
        units = {f"max_{name}": metric.unit for name, metric in LIMITED.items()} | dict.fromkeys(
            ("time_budget", "trial_timeout"), SECONDS
        )
        for key, unit in units.items():
            if isinstance(given.get(key), str) and unit.parse is not None:  # a number is in base units already
                try:
                    given[key] = unit.parse(given[key])
                except InputError as error:
                    raise InputError(f"request: {key}: {error}") from error
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise InputError(f"request: {first_error(error)}") from error

    @field_validator("proxy", mode="before")
    @classmethod
    def _of_the_proxy(cls, stated: Any) -> Any:
        """Let the proxy that is named say what it can be told; a name alone stands for its defaults."""
        if isinstance(stated, str):
            stated = {"name": stated}
        if isinstance(stated, ProxySettings):
            stated = stated.model_dump()
        if not isinstance(stated, Mapping):
            return stated
        stated = {"name": DEFAULT_PROXY, **stated}
        return PROXIES.load(str(stated["name"])).settings.model_validate(stated)

    @field_validator("sampler")
    @classmethod
    def _known_sampler(cls, name: str) -> str:
        if name not in SAMPLERS:
            raise ValueError(f"there are {', '.join(SAMPLERS)}")
        return name

    @field_validator("screen")
    @classmethod
    def _known_screen(cls, name: str) -> str:
        if name not in SCREENS:
            raise ValueError(f"there are {', '.join(SCREENS)}")
        return name
