"""A proxy for several networks: the policies of each are judged by a proxy of its own."""

from collections.abc import Callable, Mapping

from ...spaces.policy import UpdatePolicy
from .base import Proxy, Score

#: A backbone's name, and the shape of its images.
Network = tuple[str, tuple[int, ...]]


class SeveralProxies(Proxy):
    """Asks the proxy of the network that a policy is for; all others rest meanwhile.

    Args:
        makers: By network, makes its proxy: when it is asked for the first time.
    """

    def __init__(self, makers: Mapping[Network, Callable[[], Proxy]]) -> None:
        self._makers = makers
        self._made: dict[Network, Proxy] = {}
        self._awake: Network | None = None

    def __call__(self, policy: UpdatePolicy) -> Score:
        """What the network's proxy says."""
        network = policy.backbone, policy.input_shape
        if self._awake not in (None, network):
            self.rest()
        self._awake = network
        if network not in self._made:
            self._made[network] = self._makers[network]()
        return self._made[network](policy)

    def rest(self) -> None:
        """Have the proxy that is awake rest."""
        if self._awake in self._made:
            self._made[self._awake].rest()
        self._awake = None
