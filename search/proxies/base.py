"""What a proxy is asked and what it answers."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """What the proxy says of a policy.

    Attributes:
        accuracy: Mean share of queries answered right, 0 to 1.
        accuracy_se: Its standard error: the larger of that between episodes and that of counting right answers.
        loss: Mean cross-entropy of the queries, nats.
        learning_rate: The rate that was best on the validation images.
        seconds: Wall time that it took.
    """

    accuracy: float
    accuracy_se: float
    loss: float
    learning_rate: float
    seconds: float
