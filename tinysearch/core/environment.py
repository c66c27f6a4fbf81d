"""What of this process's environment a process that it starts is given: what it needs to run, and no secrets."""

import os

#: Variables that say where things are and how to compute; those of tokens, passwords and other programs are not passed.
_NAMES = frozenset(
    "PATH HOME USER USERPROFILE SYSTEMROOT WINDIR COMSPEC PATHEXT APPDATA LOCALAPPDATA LANG LANGUAGE TZ TERM COLUMNS "
    "TMPDIR TEMP TMP LD_LIBRARY_PATH LD_PRELOAD DYLD_LIBRARY_PATH VIRTUAL_ENV CONDA_PREFIX XDG_CACHE_HOME "
    "HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE "
    "MALLOC_CONF TINYSEARCH_CACHE TINYSEARCH_DATA TINYSEARCH_WEIGHTS_URL HF_HOME TORCH_HOME".split()
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
