"""A network split where training begins is the same network."""

import pytest
import torch
import torch.nn.functional as F

from tinysearch.spaces import methods
from tinysearch.spaces.engine.apply import apply
from tinysearch.spaces.engine.split import frozen_boundary, prefix, suffix
from tinysearch.spaces.graph import symbolic_trace
from tinysearch.spaces.space import UpdateSpace


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("which", ["squeeze_net", "mobilenet"])
def test_prefix_then_suffix_is_the_whole(request, which, seed):
    backbone = request.getfixturevalue(which)
    trace = request.getfixturevalue("squeeze_trace" if which == "squeeze_net" else "mobilenet_trace")
    space = UpdateSpace(trace)
    model = apply(backbone, space.decode(space.sample(1, seed)[0])).train()
    boundary = frozen_boundary(model)
    if boundary is None:
        pytest.skip("this policy trains from the first layer on")
    images = torch.randn(2, *trace.input_shape, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        features = prefix(symbolic_trace(backbone), boundary)(images)
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
