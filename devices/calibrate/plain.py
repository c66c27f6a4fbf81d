"""Networks as lists of PyTorch's own layers, for a board that has no tinysearch."""

from typing import Any

from torch import fx, nn

from ...core.errors import UnsupportedError
from ...spaces.graph import node_name, operation, symbolic_trace
from ...spaces.policy import LayerUpdate, NormUpdate, UpdatePolicy
from ...spaces.trace import Trace

#: Operations that the board form knows besides layers with parameters.
PLAIN = frozenset({"relu", "relu6", "hardswish", "hardsigmoid", "silu", "sigmoid", "add", "mul", "flatten"})
#: Operations that do nothing in a network whose norms are frozen.
NOTHING = frozenset({"dropout", "identity"})


def plain_rows(model: nn.Module, found: Trace) -> list[dict[str, Any]]:
    """The rows of a jobs file's network.

    Args:
        model: The backbone.
        found: Its trace.

    Raises:
        UnsupportedError: It has an operation that `standalone` does not know.
    """
    graph = symbolic_trace(model, found.input_shape)
    rows: list[dict[str, Any]] = []
    numbers: dict[fx.Node, int] = {}
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            numbers[node] = -1
        elif node.op.startswith("call_"):
            module = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
            op = operation(node, module)
            inputs = [numbers[source] for source in node.all_input_nodes]
            if op in NOTHING:
                numbers[node] = inputs[0]
                continue
            numbers[node] = len(rows)
            rows.append({"name": node_name(node), "op": op, "inputs": inputs, **_details(node, module, op)})
    missing = {layer.name for layer in found if layer.params} - {row["name"] for row in rows}
    assert not missing, missing
    return rows


def trained_parts(found: Trace, policy: UpdatePolicy) -> tuple[UpdatePolicy, dict[str, list[str]]]:
    """The nearest policy that PyTorch's own layers can train, and what of each layer it trains.

    Weights train whole or not at all, derivatives are exact, and there are no lite residual modules.
    """
    layers = tuple(
        LayerUpdate(name=entry.name, weight="none" if entry.weight == "none" else "all", bias=entry.bias)
        for entry in policy.layers
    )
    norms = tuple(NormUpdate(name=norm.name, scale=norm.scale, shift=norm.shift) for norm in policy.norms)
    plain = policy.model_copy(update={"layers": layers, "norms": norms, "lite_residuals": (), "sign_masks": ()})
    trained: dict[str, list[str]] = {}
    for entry in layers:
        trained[entry.name] = ["weight"] * (entry.weight == "all") + ["bias"] * entry.bias
    for norm in norms:
        trained[norm.name] = ["weight"] * norm.scale + ["bias"] * norm.shift
    trained[policy.head] = ["weight"] + ["bias"] * found.layers[found.head].bias
    return plain, trained


def _details(node: fx.Node, module: nn.Module | None, op: str) -> dict[str, Any]:
    if isinstance(module, nn.Conv2d) and module.padding_mode == "zeros" and not isinstance(module.padding, str):
        return {
            "op": "conv2d",
            "in": module.in_channels,
            "out": module.out_channels,
            "kernel": list(module.kernel_size),
            "stride": list(module.stride),
            "padding": list(module.padding),
            "dilation": list(module.dilation),
            "groups": module.groups,
            "bias": module.bias is not None,
        }
    if isinstance(module, nn.Linear):
        return {"op": "linear", "in": module.in_features, "out": module.out_features, "bias": module.bias is not None}
    if isinstance(module, nn.BatchNorm2d):
        return {"op": "batchnorm2d", "out": module.num_features, "eps": module.eps}
    if op in PLAIN:
        return {}
    arguments = dict(enumerate(node.args)) | dict(node.kwargs)
    if op == "mean":
        dims = arguments.get(1, arguments.get("dim"))
        if isinstance(dims, int | list | tuple):
            keepdim = bool(arguments.get(2, arguments.get("keepdim", False)))
            return {"dims": [dims] if isinstance(dims, int) else list(dims), "keepdim": keepdim}
    if op in ("adaptiveavgpool2d", "adaptive_avg_pool2d"):
        size = module.output_size if isinstance(module, nn.AdaptiveAvgPool2d) else arguments.get(1)
        return {"op": "adaptiveavgpool2d", "size": list(size) if isinstance(size, tuple) else size}
    if op == "pad":
        pads = arguments.get(1, arguments.get("pad"))
        if isinstance(pads, list | tuple):
            return {"pads": list(pads)}
    raise UnsupportedError(f"{node_name(node)} is a {op}: the board form knows MobileNet-like networks only")
