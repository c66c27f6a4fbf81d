"""A network split where training begins is the same network."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tinysearch.spaces import methods
from tinysearch.spaces.engine.apply import apply
from tinysearch.spaces.engine.split import frozen_boundary, prefix, suffix
from tinysearch.spaces.graph import symbolic_trace
from tinysearch.spaces.policy import LayerUpdate
from tinysearch.spaces.space import UpdateSpace
from tinysearch.spaces.trace import trace


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("which", ["squeeze_net", "mobilenet"])
def test_prefix_then_suffix_is_the_whole(request, which, seed):
    backbone = request.getfixturevalue(which)
    trace = request.getfixturevalue("squeeze_trace" if which == "squeeze_net" else "mobilenet_trace")
    space = UpdateSpace(trace)
    check_split(backbone, trace, space.decode(space.sample(1, seed)[0]), seed)


@pytest.mark.parametrize("seed", range(4))
def test_so_it_is_of_a_network_of_tokens(token_net, token_trace, seed):
    """A policy of what lies behind a place: sizes, constants and folded positions pass over it or keep it away."""
    space = UpdateSpace(token_trace)
    genotype = space.sample(1, seed)[0]
    early = [n for n, gene in enumerate(space.genes) if gene.kind != "axis" and gene.row < seed * len(token_trace) // 4]
    genotype[early] = 0
    check_split(token_net, token_trace, space.decode(genotype), seed)


def check_split(backbone, trace, policy, seed):
    model = apply(backbone, policy).train()
    boundary = frozen_boundary(model)
    if boundary is None:
        pytest.skip("this policy trains from the first layer on")
    images = torch.randn(2, *trace.input_shape, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        features = prefix(symbolic_trace(backbone, trace.input_shape), boundary)(images)
        assert len(features) == len(images)
        torch.testing.assert_close(prefix(model, boundary)(images), features, rtol=1e-4, atol=1e-5)
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    parameters = [p for p in model.parameters() if p.requires_grad]
    labels = torch.tensor([0, 1])
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    whole = torch.autograd.grad(F.cross_entropy(model(images), labels), parameters)
    model.load_state_dict(buffers, strict=False)
    split = torch.autograd.grad(F.cross_entropy(suffix(model, boundary)(features), labels), parameters)
    for name, a, b in zip(names, whole, split, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


def test_where_training_begins(mobilenet, mobilenet_trace):
    assert frozen_boundary(apply(mobilenet, methods.last(mobilenet_trace))) == "classifier.0"
    assert frozen_boundary(apply(mobilenet, methods.mobiletl(mobilenet_trace, 1))) == "add_10"
    assert frozen_boundary(apply(mobilenet, methods.full(mobilenet_trace))) is None


class Parts(nn.Module):
    """Chunks, a constant computed early, a size that is read early or late, and a module called as a function."""

    def __init__(self, early: bool) -> None:
        super().__init__()
        self.early = early
        self.relu = nn.Conv2d(3, 4, 1)
        self.after = nn.Conv2d(4, 4, 1)
        self.scale = nn.Parameter(torch.full((4, 1, 1), 2.0))
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        count = x.shape[0]
        bounded = self.scale.sigmoid()
        one, two = self.relu(F.relu(x)).chunk(2, 1)
        y = self.after(torch.cat([two, one], 1) * bounded) * bounded
        return self.head(y.reshape(count if self.early else y.shape[0], 4, -1).mean(2))


@pytest.mark.parametrize("early", [False, True])
def test_what_passes_over_a_place(early):
    torch.manual_seed(0)
    net = Parts(early).eval()
    table = trace(net, (3, 4, 4))
    assert len({layer.name for layer in table}) == len(table)
    policy = methods.last(table).model_copy(update={"layers": (LayerUpdate(name="after", weight="all"),)})
    model = apply(net, policy)
    # A number of images that is read in front of everything is needed until the last reshaping.
    assert frozen_boundary(model) == (None if early else "mul")
    assert frozen_boundary(apply(net, methods.last(table))) == "mean"
    # What computes with a parameter that trains is no constant.
    assert frozen_boundary(apply(net, policy.model_copy(update={"parameters": ("scale",)}))) in (None, "relu_2")
    if not early:
        images = torch.randn(2, 3, 4, 4)
        part = suffix(model, "mul")
        assert [node.op for node in part.graph.nodes][:3] == ["placeholder", "get_attr", "call_method"]
        torch.testing.assert_close(part(prefix(model, "mul")(images)), net(images))
