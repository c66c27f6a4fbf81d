"""Real checkpoints on real images reproduce the accuracies that were measured when they were collected.

Images are resized from 224 px by Pillow's bicubic filter, which gives the recorded figures to the digit;
Pillow's and torch's other antialiased filters differ by up to a point, torch's plain ones by up to eight.
The tolerances leave room for other processors: half a point is three of 600 images.
"""

import io
import tarfile
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tinysearch.spaces.backbones import load_backbone

#: ImageNet class of each Imagenette folder, in sorted order.
IMAGENET_CLASSES = torch.tensor([0, 217, 482, 491, 497, 566, 569, 571, 574, 701])


@pytest.fixture(scope="module")
def imagenette(data_dir):
    """Read a split of the subset: images (N, 3, S, S) as bytes, classes 0 to 9."""
    image = pytest.importorskip("PIL.Image")

    def read(split: str, size: int) -> tuple[Tensor, Tensor]:
        images, folders = [], []
        with tarfile.open(data_dir / "imagenette" / "imagenette_224_subset.tar") as tar:
            for member in sorted(tar.getmembers(), key=lambda m: m.name):
                if member.isfile() and member.name.startswith(f"{split}/"):
                    picture = image.open(io.BytesIO(tar.extractfile(member).read())).convert("RGB")
                    images.append(np.asarray(picture.resize((size, size), image.Resampling.BICUBIC)))
                    folders.append(member.name.split("/")[1])
        labels = np.unique(folders, return_inverse=True)[1]
        return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), torch.from_numpy(labels)

    return read


@torch.inference_mode()
def outputs(model: nn.Module, images: Tensor) -> Tensor:
    """Run the model in evaluation mode on images prepared as it asks for."""
    mean, std = (torch.tensor(values)[:, None, None] for values in model.normalisation)
    return torch.cat([model.eval()((batch / 255 - mean) / std) for batch in images.split(50)])


@pytest.mark.parametrize(
    ("name", "file", "percent"),
    [
        ("mobilenetv2-w0.35-mcu", "mbv2-w0.35_int8_dequantised.pth", 45.8),
        ("mcunet-5fps", "mcunet-5fps_int8_dequantised.pth", 56.2),
        ("proxylessnas-w0.3", "proxyless-w0.3_int8_dequantised.pth", 49.3),
    ],
)
def test_networks_of_the_sparse_update_study(data_dir, imagenette, name, file, percent):
    """Top-1 of 1000 on the 600 validation images at 128 px."""
    model = load_backbone(name, num_classes=1000, weights=data_dir / "weights" / file)
    images, labels = imagenette("val", model.input_size)
    assert len(images) == 600
    correct = outputs(model, images).argmax(1) == IMAGENET_CLASSES[labels]
    assert 100 * correct.float().mean().item() == pytest.approx(percent, abs=0.5)


@pytest.mark.slow
def test_mobilenetv2_of_tensorflow_at_full_width(data_dir, imagenette):
    """Every second image at 224 px: top-1 of 1000, and among the ten classes (of all 600: 74.3, 98.8 %)."""
    weights = data_dir / "weights" / "mobilenetv2_w1.0_224_uint8_dequantised.pth"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = load_backbone("mobilenetv2-w1.0-tf", num_classes=1000, weights=weights)
    images, labels = (part[::2] for part in imagenette("val", model.input_size))
    logits = outputs(model, images)
    correct = logits.argmax(1) == IMAGENET_CLASSES[labels]
    assert 100 * correct.float().mean().item() == pytest.approx(76.0, abs=0.7)
    among_ten = logits[:, IMAGENET_CLASSES].argmax(1) == labels
    assert 100 * among_ten.float().mean().item() == pytest.approx(99.0, abs=0.7)


@pytest.mark.slow
def test_features_of_keras_mobilenetv2_at_width_035(data_dir, imagenette):
    """Frozen features at 128 px and logistic regression: recorded 87.2 %; less with torchvision's padding."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    weights = data_dir / "weights" / "mobilenetv2_w0.35_224_notop.pth"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        right = load_backbone("mobilenetv2-w0.35-tf", weights=weights, input_size=128)
    with pytest.warns(UserWarning, match=r"trained as mobilenetv2-w0\.35-tf: .* take the backbone"):
        wrong = load_backbone("mobilenetv2-w0.35", weights=weights, input_size=128)
    train, train_labels = imagenette("train", 128)
    test, test_labels = imagenette("val", 128)
    percent = []
    for model in (right, wrong):
        model.classifier = nn.Identity()
        regression = linear_model.LogisticRegression(max_iter=1000)
        regression.fit(outputs(model, train).numpy(), train_labels.numpy())
        percent.append(100 * regression.score(outputs(model, test).numpy(), test_labels.numpy()))
    assert percent[0] == pytest.approx(87.2, abs=0.8)
    assert percent[1] < percent[0] - 1
