"""The published methods as points of the space: functions that return update policies.

Each seeds every search and is what a front is judged against. Citations are in README.md; the rules were read in the
papers and, where a paper is silent, in its authors' public code.
"""

from ._baselines import bias, full, last, last_conv, norm_last
from ._mobiletl import mobiletl
from ._sparse_update import SCHEMES, Scheme, sparse_update
from ._tinytl import tinytl
from ._tinytrain import tinytrain
from .catalogue import METHODS, Method, find, named, named_with_data

__all__ = [
    "METHODS",
    "Method",
    "SCHEMES",
    "Scheme",
    "bias",
    "find",
    "full",
    "last",
    "last_conv",
    "mobiletl",
    "named",
    "named_with_data",
    "norm_last",
    "sparse_update",
    "tinytl",
    "tinytrain",
]
