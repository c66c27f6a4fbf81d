"""Meta-training from a name and a source to weights: kept state, resuming, seeds, and mistakes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tinysearch.core.errors import ConflictError, InputError, MissingDataError
from tinysearch.search.data import load_dataset
from tinysearch.search.data.images import Dataset, Subset
from tinysearch.search.finetune import finetune
from tinysearch.search.meta_training import MetaTrained, course, meta_train
from tinysearch.search.meta_training.course import Progress, best_of
from tinysearch.search.meta_training.protonet import Judgement
from tinysearch.spaces import methods
from tinysearch.spaces.backbones import load_backbone
from tinysearch.spaces.backbones.checkpoint import read_checkpoint
from tinysearch.spaces.backbones.weights_file import read_header
from tinysearch.spaces.trace import trace

SMALL = {"weights": "none", "episodes": 10, "way": 5, "shot": 3, "queries": 3, "learning_rate": 3e-3}


def few_digits() -> Dataset:
    """The digits up to seven: so few classes that images are held out, of which random features tell few apart."""
    digits = load_dataset("digits")
    train, test = (Subset(split, np.flatnonzero(split.labels < 8)) for split in (digits.train, digits.test))
    return Dataset("few-digits", digits.classes[:8], train, test, "digits up to seven")


def train(out: Path, **changes: Any) -> MetaTrained:
    return meta_train("tiny_net:build", few_digits(), out, **(SMALL | changes))


@pytest.fixture(autouse=True, scope="module")
def few_tasks() -> Iterator[None]:
    """Judge by fewer tasks than usual."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(course, "JUDGED_TASKS", 10)
        yield


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> MetaTrained:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(course, "JUDGED_TASKS", 40)
        return train(tmp_path_factory.mktemp("meta") / "features.safetensors", episodes=60)


def test_features_get_better_in_tasks_of_images_that_were_held_out(done: MetaTrained) -> None:
    assert done.held_out == "208 of 1041 images"
    assert [judged.episode for judged in done.judgements] == list(range(0, 61, 6))
    assert done.gain > 3 * done.gain_se > 0
    assert done.kept is best_of(list(done.judgements))
    assert not done.path.with_name("features.safetensors.state").exists()


def test_what_is_written_loads_without_further_ado(done: MetaTrained) -> None:
    network = load_backbone("tiny_net:build", num_classes=4, weights=done.path)
    written, plain = read_checkpoint(done.path), load_backbone("tiny_net:build", num_classes=8).state_dict()
    assert not any(name.startswith("head.") for name in written)
    state = network.state_dict()
    assert network.head.out_features == 4
    assert all(torch.equal(state[name], value) for name, value in written.items())
    changed = {name for name, value in written.items() if not torch.equal(value, plain[name])}
    assert changed == {name for name, _ in network.named_parameters() if not name.startswith("head.")}
    header = read_header(done.path)
    assert header is not None
    assert (header.backbone, header.input_size) == ("tiny_net:build", 16)
    origin = header.origin
    assert origin["source"] == "few-digits, 1041 images of 8 classes"
    assert origin["kept"] == f"after {done.kept.episode} episodes"
    assert float(origin["accuracy_kept"]) == pytest.approx(done.kept.accuracy, abs=1e-4)


def test_fine_tuning_begins_with_it(done: MetaTrained, problem: Any) -> None:
    network = load_backbone("tiny_net:build", num_classes=10, weights=done.path)
    policy = methods.last(trace(network, (3, 16, 16)))
    few = {"steps": 1, "learning_rate": 1e-9, "train_images": 100, "test_images": 300}
    plain = finetune(problem.backbone, methods.last(problem.trace), problem.dataset, **few)
    assert finetune(network, policy, problem.dataset, **few).accuracy > plain.accuracy


def test_both_formats_hold_the_same_and_the_same_seed_gives_the_same(tmp_path: Path) -> None:
    names = {"a.pth": 0, "b.safetensors": 0, "c.pth": 1}
    one, again, other = (train(tmp_path / name, episodes=20, seed=seed) for name, seed in names.items())
    states = [read_checkpoint(each.path) for each in (one, again)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], value) for name, value in states[1].items())
    assert one.judgements == again.judgements != other.judgements
    assert one.kept.episode > 0
    assert read_header(one.path) == read_header(again.path) != read_header(other.path)


def test_a_killed_call_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole.safetensors", learning_rate=None, episodes=12)

    class KilledError(Exception):
        pass

    def kill(progress: Progress) -> None:
        if not progress.trying and progress.judgement.episode >= 6:
            raise KilledError

    out = tmp_path / "killed.safetensors"
    with pytest.raises(KilledError):
        train(out, learning_rate=None, episodes=12, progress=kill)
    assert not out.exists()
    told: list[Progress] = []
    resumed = train(out, learning_rate=None, episodes=12, progress=told.append)
    assert min(progress.judgement.episode for progress in told) > 6
    assert not any(progress.trying for progress in told)
    assert (resumed.judgements, resumed.learning_rate) == (whole.judgements, whole.learning_rate)
    assert out.read_bytes() == whole.path.read_bytes()
    assert sorted(tmp_path.iterdir()) == [out, whole.path]


def test_what_was_stopped_is_not_mixed_with_another_request(tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"

    def kill(progress: Progress) -> None:
        if progress.judgement.episode:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(out, progress=kill)
    with pytest.raises(ConflictError, match="shot was 3, now 4; ask for the same to resume, or delete it"):
        train(out, shot=4)
    state = tmp_path / "m.safetensors.state"
    state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"m\.safetensors\.state: damaged .*: delete it to begin anew"):
        train(out)


def test_a_rate_that_is_too_high_is_said_and_one_that_is_found_is_not(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"training diverged in episode \d+ at 1e\+30: take a lower learning_rate"):
        train(tmp_path / "m.safetensors", learning_rate=1e30, optimizer="sgd")
    assert not (tmp_path / "m.safetensors").exists()


def test_states_that_are_worse_are_not_kept(tmp_path: Path) -> None:
    """A rate that destroys the features, but stays finite."""
    done = train(tmp_path / "m.safetensors", learning_rate=10.0, episodes=10)
    assert done.kept is done.judgements[0]
    assert (done.kept.episode, done.gain, done.gain_se) == (0, 0, 0)
    plain = load_backbone("tiny_net:build", num_classes=8).state_dict()
    assert all(torch.equal(plain[name], value) for name, value in read_checkpoint(done.path).items())


def test_of_equal_states_the_earliest_is_the_best() -> None:
    judgements = [Judgement(0, (0.5,)), Judgement(1, (0.7,)), Judgement(2, (0.7,)), Judgement(3, (0.6,))]
    assert best_of(judgements) is judgements[1]


def test_the_rate_is_found_from_the_lowest_up(tmp_path: Path) -> None:
    told: list[Progress] = []
    done = train(tmp_path / "m.safetensors", learning_rate=None, progress=told.append)
    tried = [progress.learning_rate for progress in told if progress.trying]
    assert tried[:2] == [1e-4, 3e-4]
    assert done.learning_rate in tried
    assert {progress.episodes for progress in told if progress.trying} == {2}


def folders(root: Path, counts: dict[str, int]) -> Path:
    """Class folders with their own splits; what a class looks like is told by its brightness."""
    rng = np.random.default_rng(0)
    for number, (name, count) in enumerate(counts.items()):
        for split, images in (("train", count), ("test", 1)):
            folder = root / split / name
            folder.mkdir(parents=True)
            for image in range(images):
                pixels = rng.integers(40 * number, 40 * number + 60, (20, 24, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{image}.png")
    return root


def test_class_folders_of_uneven_size_are_a_source(tmp_path: Path) -> None:
    source = folders(tmp_path / "photos", {"ant": 9, "bee": 4, "fly": 2})
    done = meta_train("tiny_net:build", source, tmp_path / "m.pth", **(SMALL | {"augmentation": "shift+flip"}))
    assert done.held_out == "4 of 15 images"
    assert all(0 <= accuracy <= 1 for judged in done.judgements for accuracy in judged.accuracies)


def test_a_class_of_one_image_is_named(tmp_path: Path) -> None:
    source = folders(tmp_path / "photos", {"ant": 9, "bee": 1, "fly": 5})
    with pytest.raises(InputError, match="class 'bee' has one training image"):
        meta_train("tiny_net:build", source, tmp_path / "m.pth", **SMALL)


@pytest.mark.parametrize(
    ("wrong", "kind", "said"),
    [
        ({"backbone": "resnet9000"}, InputError, "unknown backbone 'resnet9000'"),
        ({"source": "cifar1000"}, InputError, "no data set 'cifar1000'"),
        ({"source": "dtd10"}, MissingDataError, "dtd10 is not downloaded"),
        ({"weights": "gone.pth"}, MissingDataError, "no weights file at gone.pth"),
        ({"out": "m.onnx"}, InputError, "m.onnx: weights are written as .safetensors or .pth"),
        ({"out": "no/such/m.pth"}, InputError, "there is no folder no/such"),
        ({"episodes": 0}, InputError, "episodes is 0"),
        ({"input_size": 8}, InputError, "input_size is 8: it must be from 16 to 1024"),
        ({"input_size": 100_000}, InputError, "input_size is 100000"),
        ({"way": 1}, InputError, "way is 1"),
        ({"seed": -1}, InputError, "seed is -1"),
        ({"learning_rate": 0.0}, InputError, "learning_rate is 0.0: it must be positive"),
        ({"learning_rate": float("nan")}, InputError, "learning_rate is nan"),
        ({"augmentation": "mixup"}, InputError, "augmentation is 'mixup': there are none, shift"),
        ({"optimizer": "lion"}, InputError, "lion"),
    ],
)
def test_mistakes_are_named_before_anything_is_trained(
    wrong: dict[str, Any], kind: type[Exception], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(course.Course, "run", None)
    stated = {"backbone": "tiny_net:build", "source": "digits", "out": "m.pth", **SMALL, **wrong}
    with pytest.raises(kind, match=said):
        meta_train(**stated)
    assert list(tmp_path.iterdir()) == []
