"""What proxies can be told; checked before anything heavy is imported."""

from pydantic import BaseModel, ConfigDict, Field


class ProxySettings(BaseModel):
    """What every proxy is told; a proxy that can be told more has a subclass of its own.

    These say how images of the training split are divided. Methods that choose a policy from the data see the support
    images (`Problem.support_task`), whatever the proxy does with them.

    Attributes:
        name: The proxy.
        shot: Support images of each class, as far as the data has them.
        queries: Images of an episode that accuracy is measured on.
        validation: Images of the first episode that the learning rate is chosen on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    shot: int = Field(default=50, ge=1)
    queries: int = Field(default=1000, ge=10)
    validation: int = Field(default=300, ge=10)

    def describe(self) -> str:
        """How the accuracy was obtained, for titles."""
        return self.name


class FewShotSettings(ProxySettings):
    """What the few-shot proxy can be told.

    Attributes:
        episodes: Few-shot tasks that every policy is tried on.
        steps: Optimizer steps of one fine-tuning.
        batch: Images of one of these steps on this machine.
    """

    name: str = "few-shot"
    episodes: int = Field(default=1, ge=1, le=100)
    steps: int = Field(default=60, ge=1)
    batch: int = Field(default=32, ge=1)

    def describe(self) -> str:
        """How the accuracy was obtained, for titles."""
        return f"{self.name}, {self.episodes} episode(s), {self.shot} shot, {self.steps} steps"
