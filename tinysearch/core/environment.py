"""What of this process's environment a process that it starts is given: what it needs to run, and no secrets."""

import os

#: Variables that say where things are and how to compute; those of tokens, passwords and other programs are not passed.
_NAMES = frozenset(
    (
        *("PATH", "HOME", "USER", "USERPROFILE", "SYSTEMROOT", "WINDIR", "COMSPEC", "PATHEXT", "APPDATA"),
        *("LOCALAPPDATA", "LANG", "LANGUAGE", "TZ", "TERM", "COLUMNS", "TMPDIR", "TEMP", "TMP", "VIRTUAL_ENV"),
        *("LD_LIBRARY_PATH", "LD_PRELOAD", "DYLD_LIBRARY_PATH", "CONDA_PREFIX", "XDG_CACHE_HOME"),
        *("TINYSEARCH_CACHE", "TINYSEARCH_DATA", "HF_HOME", "TORCH_HOME"),
    )
)
#: Likewise, by what their names begin with.
_BEGINNINGS = ("LC_", "PYTHON", "OMP_", "KMP_", "MKL_", "OPENBLAS_", "MALLOC_", "CUDA_", "NVIDIA_", "PYTORCH_", "ATEN_")


def passed_on(**more: str) -> dict[str, str]:
    """The environment of a process that is started.

    Args:
        **more: Variables that it gets besides, or instead of this process's own.

    Example:
        >>> "PATH" in passed_on(), passed_on(OMP_NUM_THREADS="2")["OMP_NUM_THREADS"]
        (True, '2')
    """
    kept = {name: value for name, value in os.environ.items() if name in _NAMES or name.startswith(_BEGINNINGS)}
    return kept | more
