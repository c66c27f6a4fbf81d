"""How good a backbone's frozen features are on real images: the figures of the model card."""

import io
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from tinysearch.spaces.backbones.mobilenetv2 import MobileNetV2

from .images import IMAGE_SIZE

Probe = Callable[[MobileNetV2], float]
Split = tuple[Tensor, NDArray[np.int64], Tensor, NDArray[np.int64]]


def real_sets(data_dir: Path | None = None) -> Iterator[tuple[str, Probe]]:
    """Names and probes: scikit-learn's digits always, the larger sets where `data_dir` has them."""
    digits = digits_split()
    yield "digits, 1297 images", partial(linear_probe, split=digits)
    yield "digits, 10 a class", partial(few_shot_probe, split=digits, shot=10)
    yield "digits, 25 a class", partial(few_shot_probe, split=digits, shot=25)
    yield "digits, 25 a class, centroids", partial(centroid_probe, split=digits, shot=25)
    if data_dir is None:
        return
    if (data_dir / "cifar10/cifar10.npz").is_file():
        yield "cifar10, 3000 images", partial(linear_probe, split=_cifar10(data_dir / "cifar10/cifar10.npz"))
    for name in ("gtsrb/gtsrb_43x80.tar", "dtd10/dtd10_160.tar"):
        if (data_dir / name).is_file():
            yield f"{name.split('/')[0]}, all images", partial(linear_probe, split=_tar(data_dir / name))


def digits_split() -> Split:
    """scikit-learn's 8 x 8 digits as 1,297 training and 500 test images."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    images = torch.from_numpy(data.images).float()[:, None] / 8 - 1
    images = F.interpolate(images, IMAGE_SIZE, mode="bilinear", align_corners=False).expand(-1, 3, -1, -1)
    train, test = train_test_split(np.arange(len(images)), test_size=500, stratify=data.target, random_state=0)
    return images[train], data.target[train], images[test], data.target[test]


def linear_probe(model: MobileNetV2, split: Split) -> float:
    """Test accuracy of logistic regression on standardised frozen features."""
    train_x, train_y, test_x, test_y = split
    return _fit(features(model, train_x), train_y, features(model, test_x), test_y)


def few_shot_probe(model: MobileNetV2, split: Split, shot: int, draws: int = 5) -> float:
    """Mean over draws of `shot` training images a class."""
    train, test = features(model, split[0]), features(model, split[2])
    chosen = [support(split[1], shot, seed) for seed in range(draws)]
    return float(np.mean([_fit(train[c], split[1][c], test, split[3]) for c in chosen]))


def centroid_probe(model: MobileNetV2, split: Split, shot: int, draws: int = 5) -> float:
    """The same for the nearest centroid of features of unit length: the head that a search starts from."""
    train, test = (
        x / np.linalg.norm(x, axis=1, keepdims=True) for x in (features(model, split[0]), features(model, split[2]))
    )
    scores = []
    for seed in range(draws):
        chosen = support(split[1], shot, seed)
        classes = np.unique(split[1])
        centroids = np.stack([train[chosen][split[1][chosen] == c].mean(0) for c in classes])
        distance = ((test[:, None] - centroids) ** 2).sum(2)
        scores.append((classes[distance.argmin(1)] == split[3]).mean())
    return float(np.mean(scores))


def features(model: MobileNetV2, images: Tensor) -> NDArray[np.float32]:
    """Pooled features (N, 1280) of images (N, 3, H, W), batch norms in eval mode."""
    with torch.inference_mode():
        batches = torch.split(images, 256)
        pooled = [model.features(b.contiguous(memory_format=torch.channels_last)).mean((2, 3)) for b in batches]
    result: NDArray[np.float32] = torch.cat(pooled).numpy()
    return result


def support(labels: NDArray[np.int64], shot: int, seed: int) -> NDArray[np.int64]:
    """Indices of `shot` images of every class."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.choice(np.flatnonzero(labels == c), shot, replace=False) for c in np.unique(labels)])


def _fit(
    train_x: NDArray[np.float32],
    train_y: NDArray[np.int64],
    test_x: NDArray[np.float32],
    test_y: NDArray[np.int64],
) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
    return float(classifier.fit(train_x, train_y).score(test_x, test_y))


def _cifar10(path: Path) -> Split:
    with np.load(path) as data:
        arrays = [data[k][:n] for k, n in (("x_train", 3000), ("y_train", 3000), ("x_test", 2000), ("y_test", 2000))]
    return _scaled(arrays[0]), arrays[1].astype(np.int64), _scaled(arrays[2]), arrays[3].astype(np.int64)


def _scaled(pixels: NDArray[np.uint8]) -> Tensor:
    """uint8 (N, H, W, 3) to float32 (N, 3, 48, 48) in [-1, 1]."""
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    return F.interpolate(images, IMAGE_SIZE, mode="bilinear", align_corners=False, antialias=True)


def _tar(path: Path) -> Split:
    """Images of `<split>/<class>/<file>` members, resized to 48 x 48."""
    from PIL import Image

    images: dict[str, list[NDArray[np.uint8]]] = {"train": [], "test": []}
    names: dict[str, list[str]] = {"train": [], "test": []}
    with tarfile.open(path) as archive:
        for member in archive:
            file = archive.extractfile(member)
            if file is None:
                continue
            split, name = member.name.removeprefix("./").split("/")[-3:-1]
            picture = Image.open(io.BytesIO(file.read())).convert("RGB").resize((IMAGE_SIZE, IMAGE_SIZE))
            images[split].append(np.asarray(picture))
            names[split].append(name)
    classes = sorted(set(names["train"]))
    labels = {s: np.array([classes.index(name) for name in names[s]]) for s in names}
    return (
        _scaled(np.stack(images["train"])),
        labels["train"],
        _scaled(np.stack(images["test"])),
        labels["test"],
    )
