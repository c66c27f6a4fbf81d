"""What proxies can be told; checked before anything heavy is imported."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator


class ProxySettings(BaseModel):
    """What every proxy is told; a proxy that can be told more has a subclass of its own.

    These say how images of the training split are divided. Methods that choose a policy from the data see the support
    images (`Problem.support_task`), whatever the proxy does with them.

    Attributes:
        name: The proxy.
        shot: Support images of each class, as far as the data has them.
        queries: Images of a round of episodes that accuracy is measured on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    shot: int = Field(default=50, ge=1)
    queries: int = Field(default=1300, ge=10)

    @model_validator(mode="before")
    @classmethod
    def _without_validation(cls, stated: Any) -> Any:
        """Read what earlier versions wrote, which chose the learning rate on images of its own."""
        if isinstance(stated, dict) and "validation" in stated:
            rest = {key: value for key, value in stated.items() if key != "validation"}
            return rest | {"queries": rest.get("queries", 1000) + stated["validation"]}
        return stated

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
    steps: int = Field(default=200, ge=1)
    batch: int = Field(default=32, ge=1)

    def describe(self) -> str:
        """How the accuracy was obtained, for titles."""
        return f"{self.name}, {self.episodes} episode(s), {self.shot} shot, {self.steps} steps"
