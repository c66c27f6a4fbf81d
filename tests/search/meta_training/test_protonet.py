"""The prototypical network: its loss, what trains, and that it agrees with the project's prototype head."""

import pytest
import torch
from torch import Tensor

from tinysearch.core.errors import UnsupportedError
from tinysearch.search.meta_training.protonet import Judgement, ProtoNet, prototype_logits
from tinysearch.search.meta_training.source import TaskImages
from tinysearch.search.network import load_network
from tinysearch.search.proxies.prototypes import prototype_head


def clouds(way: int, shot: int, queries: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Support and queries around class centres, with their labels."""
    generator = torch.Generator().manual_seed(seed)
    centres = 3 * torch.randn(way, 6, generator=generator)
    labels = torch.arange(way)
    support_labels, query_labels = labels.repeat(shot), labels.repeat_interleave(queries)
    support, query = (centres[x] + torch.randn(len(x), 6, generator=generator) for x in (support_labels, query_labels))
    return support, support_labels, query, query_labels


@pytest.mark.parametrize("shot", [1, 2, 7])
def test_it_answers_as_the_head_that_fine_tuning_begins_with(shot: int) -> None:
    support, support_labels, query, query_labels = clouds(5, shot, 8)
    logits = prototype_logits(support, support_labels, query, query_labels)
    head = prototype_head(support, support_labels, 5)
    assert torch.equal(logits.argmax(1), (query.double() @ head.weight.double().T + head.bias.double()).argmax(1))


def test_logits_are_negative_squared_distances_and_the_own_class_makes_ten() -> None:
    support, support_labels, query, query_labels = clouds(4, 3, 5)
    logits = prototype_logits(support, support_labels, query, query_labels)
    means = torch.stack([support[support_labels == c].mean(0) for c in range(4)])
    distances = torch.cdist(query, means) ** 2
    torch.testing.assert_close(logits / logits[0, 0], distances / distances[0, 0], rtol=1e-4, atol=1e-4)
    own = logits.gather(1, query_labels[:, None])
    assert float(own.mean()) == pytest.approx(-10, rel=1e-5)


def test_the_size_of_features_does_not_matter_and_equal_features_do_no_harm() -> None:
    support, support_labels, query, query_labels = clouds(4, 3, 5)
    logits = prototype_logits(support, support_labels, query, query_labels)
    larger = prototype_logits(1000 * support, support_labels, 1000 * query, query_labels)
    torch.testing.assert_close(larger, logits, rtol=1e-4, atol=1e-4)
    assert prototype_logits(support * 0, support_labels, query * 0, query_labels).eq(0).all()


@pytest.mark.parametrize("name", ["attention", "folding", "convolution"])
def test_networks_of_tokens_and_convolutions_that_classify_are_taken(name: str) -> None:
    network, trace = load_network(f"token_nets:{name}", classes=3, weights="none")
    net = ProtoNet(network, trace)
    head = trace.layers[trace.head].name
    parameters = dict(net.features.named_parameters())
    assert parameters.keys() == {name for name, _ in network.named_parameters() if not name.startswith(f"{head}.")}
    labels = torch.arange(3).repeat(2)
    net.loss(TaskImages(torch.randn(12, 3, 16, 16), labels, labels)).backward()
    assert all(parameter.grad is not None for parameter in parameters.values())


def test_everything_below_the_head_trains_on_frozen_statistics() -> None:
    network, trace = load_network("tiny_net:dropping", classes=3, weights="none")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    net = ProtoNet(network, trace)
    parameters = dict(net.features.named_parameters())
    assert all(parameter.requires_grad for parameter in parameters.values())
    assert parameters.keys() == {name for name, _ in network.named_parameters() if not name.startswith("head.")}
    images = torch.randn(12, 3, 16, 16)
    labels = torch.arange(3)
    task = TaskImages(images, labels.repeat(2), labels.repeat(2))
    loss = net.loss(task)
    assert float(loss.detach()) == pytest.approx(net.answer(task).loss, rel=1e-5)  # nothing is dropped
    loss.backward()
    assert all(parameter.grad is not None for parameter in parameters.values())
    after = net.features.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in after)  # statistics did not follow the batch
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_network_without_weights_below_its_head_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="has no weights below its head"):
        ProtoNet(*load_network("tiny_net:head_only", classes=3, weights="none", input_size=16))


def test_judgements_are_compared_task_by_task() -> None:
    before, after = Judgement(0, (0.1, 0.5, 0.9)), Judgement(5, (0.2, 0.6, 1.0))
    assert before.accuracy == pytest.approx(0.5)
    assert before.accuracy_se == pytest.approx(0.4 / 3**0.5)
    assert after.gain_se(before) == pytest.approx(0, abs=1e-9)
    assert Judgement(0, (0.5,)).accuracy_se == 0
