"""How well values rank: Kendall's tau, the same with a third ranking held constant, and regret."""

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def tau(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Kendall's tau-b, between -1 and 1; 0 where one of the two says nothing, all its values being equal."""
    from scipy.stats import kendalltau

    found = float(kendalltau(np.asarray(a), np.asarray(b)).statistic)
    return 0.0 if math.isnan(found) else max(-1.0, min(1.0, found))


def partial_tau(a: npt.ArrayLike, b: npt.ArrayLike, held: npt.ArrayLike) -> float:
    """Kendall's partial tau of a and b, the ranking of a third held constant (Kendall 1942).

    (t_ab - t_ac t_bc) / sqrt((1 - t_ac^2) (1 - t_bc^2)), and 0 where a or b ranks just as the third does.
    """
    ab, ac, bc = tau(a, b), tau(a, held), tau(b, held)
    rest = (1 - ac * ac) * (1 - bc * bc)
    if rest < 1e-12:
        return 0.0
    return max(-1.0, min(1.0, (ab - ac * bc) / math.sqrt(rest)))


def regret(values: Floats, truth: Floats, top: int) -> float:
    """The best truth of all minus the best of those that values rank highest; of equal values the first count."""
    chosen = np.argsort(-values, kind="stable")[:top]
    return float(truth.max() - truth[chosen].max())
