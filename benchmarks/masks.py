"""Time of the masks of `tinysearch.spaces.engine.masks` against the same in PyTorch, after checking that they agree.

python benchmarks/masks.py
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from tinysearch.spaces.engine.masks import apply_bits, derivative_mask, pack_bits


def main() -> None:
    torch.set_num_threads(1)
    x, grad = torch.randn(32, 48, 48, 48), torch.randn(32, 48, 48, 48)
    mask = derivative_mask(x, "relu6", sign=False)
    assert torch.equal(mask, _torch_mask(x))
    packed = pack_bits(mask)
    torch.testing.assert_close(apply_bits(grad, packed), grad * mask)
    for name, ours, theirs in (
        ("mask of ReLU6", lambda: derivative_mask(x, "relu6", sign=False), lambda: _torch_mask(x)),
        ("gradient by packed bits", lambda: apply_bits(grad, packed), lambda: grad * mask),
    ):
        a, b = _best(ours), _best(theirs)
        print(f"{name:<24}{1e3 * a:6.2f} ms, PyTorch {1e3 * b:6.2f} ms, ratio {b / a:.1f}")


def _torch_mask(x: Tensor) -> Tensor:
    return (x > 0) & (x < 6)


def _best(run: Callable[[], object], repeats: int = 20) -> float:
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


if __name__ == "__main__":
    main()
