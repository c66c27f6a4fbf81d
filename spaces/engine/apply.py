"""Applying a policy: a copy of the backbone that trains exactly what the policy says."""

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, fx, nn

from ...core.errors import InputError, UnsupportedError
from ..graph import (
    BlockNodes,
    block_names,
    blocks,
    is_fused_padding,
    node_name,
    operation,
    reading_inputs,
    symbolic_trace,
)
from ..lite_residual import LiteResidual
from ..operations import SIGN_MASK
from ..policy import Channels, LiteUpdate, UpdatePolicy
from . import layers
from .origin import Origin, base_digest, mark

_WEIGHTED = (nn.Conv2d, nn.Linear)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm)


def apply(backbone: nn.Module, policy: UpdatePolicy, *, seed: int = 0) -> fx.GraphModule:
    """Make a copy of a backbone that trains what a policy says, and keeps what that needs.

    Every parameter that trains has `requires_grad`; give those to any optimizer. Parameter names stay as they are; a
    weight of which some channels train keeps its frozen values under its name and the trained ones as
    `<name>.weight_update`; a lite residual module stands at `<block>.lite_residual`.

    Args:
        backbone: The network, unchanged by this.
        policy: What trains.
        seed: Seed of the lite residual modules' first weights, so that equal policies start equal.

    Returns:
        The copy as a graph module, on the backbone's device.

    Raises:
        InputError: The policy names something that the backbone has not.
        UnsupportedError: The backbone cannot be traced, or a layer cannot be trained in the way asked for.

    Example:
        >>> import tinysearch as ts
        >>> backbone = ts.load_backbone("mobilenetv2-w0.35", input_size=32)
        >>> trace = ts.trace(backbone, (3, 32, 32))
        >>> model = ts.apply(backbone, ts.methods.bias(trace))
        >>> sum(p.numel() for p in model.parameters() if p.requires_grad)
        19850
    """
    graph = assemble(backbone, policy, seed=seed)
    mark(graph, Origin(backbone, policy, base_digest(backbone, policy.head)))
    return graph


def assemble(backbone: nn.Module, policy: UpdatePolicy, *, seed: int = 0) -> fx.GraphModule:
    """As `apply`, of a model of which no delta will be asked: it does not know what it was made from.

    So no digest of all weights is computed, which takes longer than a small network's training step.
    """
    names = block_names(backbone)
    shapes = (policy.input_shape,) if policy.input_shape else ()
    graph = symbolic_trace(deepcopy(backbone), *shapes)
    for parameter in graph.parameters():
        parameter.requires_grad_(False)
    missing = _policy_names(policy) - {node_name(node) for node in graph.graph.nodes}
    if missing:
        raise InputError(f"the policy names {min(missing)}, which {policy.backbone} as given has not")
    insert_lite_residuals(graph, names, policy, seed=seed, prepare=_lean_lite_residual)
    _fuse_padding(graph)
    _replace_operations(graph, set(policy.sign_masks))
    _replace_layers(graph, policy)
    _train_parameters(graph, policy)
    _join(graph)
    graph.graph.lint()
    graph.recompile()
    return graph


def _join(graph: fx.GraphModule) -> None:
    """Tell each layer what its neighbours spare it.

    A conv hands its call on to a norm on frozen statistics or to a masked activation, if that alone reads its output,
    and such a norm does to a masked activation. An activation takes no mask where a layer keeps its output anyway.
    """
    modules = {node: graph.get_submodule(str(node.target)) for node in graph.graph.nodes if node.op == "call_module"}
    for node, module in modules.items():
        (reader,) = [modules.get(user) for user in node.users] if len(node.users) == 1 else [None]
        if isinstance(module, layers.Conv2d):
            norm = isinstance(reader, layers.BatchNorm) and not reader.train_statistics
            module.deferred = norm or isinstance(reader, layers.MaskedActivation)
        elif isinstance(module, layers.BatchNorm):
            module.deferred = isinstance(reader, layers.MaskedActivation)
        elif isinstance(module, layers.MaskedActivation):
            readers = [modules.get(user) for user in node.users]
            module.output_kept = any(isinstance(r, layers.PartialWeight) and r.keeps_input() for r in readers)


def _policy_names(policy: UpdatePolicy) -> set[str]:
    weighted = {entry.name for entry in policy.layers}
    return weighted | {norm.name for norm in policy.norms} | set(policy.sign_masks) | {policy.head}


def _train_parameters(graph: fx.GraphModule, policy: UpdatePolicy) -> None:
    parameters = dict(graph.named_parameters())
    for name in policy.parameters:
        if name not in parameters:
            raise InputError(f"the policy names the parameter {name}, which {policy.backbone} as given has not")
        parameters[name].requires_grad_(True)


def _fuse_padding(graph: fx.GraphModule) -> None:
    """Hand the zeros of a padding to the convolutions that read it, so that no padded copy is made or kept."""
    for node in list(graph.graph.nodes):
        if is_fused_padding(node, graph):
            source, pads = node.args[0], node.args[1] if len(node.args) > 1 else node.kwargs["pad"]
            for conv in list(node.users):
                conv.args, conv.kwargs = (source, pads), {}
            graph.graph.erase_node(node)


def _replace_operations(graph: fx.GraphModule, sign_masks: set[str]) -> None:
    for node in list(graph.graph.nodes):
        if not node.op.startswith("call_"):
            continue
        module = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
        if module is not None and next(module.parameters(), None) is not None:
            continue
        name, op = node_name(node), operation(node, module)
        if name in sign_masks:
            if op not in SIGN_MASK:
                raise InputError(f"{name} is a {op}: a sign mask may stand for {', '.join(sorted(SIGN_MASK))}")
            replacement: nn.Module | None = layers.MaskedActivation(op, sign=True)
        else:
            replacement = layers.lean(module, op)
        if replacement is not None and module is not None:
            graph.set_submodule(name, replacement)
        elif replacement is not None:
            graph.add_submodule(name, replacement)
            with graph.graph.inserting_before(node):
                call = graph.graph.call_module(name, (node.all_input_nodes[0],))
            call.meta = dict(node.meta)
            node.replace_all_uses_with(call)
            graph.graph.erase_node(node)


def _replace_layers(graph: fx.GraphModule, policy: UpdatePolicy) -> None:
    updates = {entry.name: entry for entry in policy.layers}
    norms = {norm.name: norm for norm in policy.norms}
    for names, kinds, what in ((updates, _WEIGHTED, "conv or linear layer"), (norms, _NORMS, "norm")):
        for name in names:
            module = graph.get_submodule(name)
            if not isinstance(module, kinds) or not isinstance(module.weight, Tensor):
                raise InputError(f"{name} is a {type(module).__name__}, no {what} with parameters")
    for node in reading_inputs(graph):
        if node.op != "call_module":
            continue
        name = str(node.target)
        module = graph.get_submodule(name)
        if isinstance(module, _WEIGHTED):
            layer = layers.Conv2d(module) if isinstance(module, nn.Conv2d) else layers.Linear(module)
            graph.set_submodule(name, layer)
            update = updates.get(name)
            weight = "all" if name == policy.head else update.weight if update else "none"
            _train_weight(layer, name, weight)
            if layer.bias is not None:
                layer.bias.requires_grad_(name == policy.head or (update is not None and update.bias))
            elif update is not None and update.bias:
                raise InputError(f"{name} has no bias to train")
        elif isinstance(module, _NORMS):
            norm = norms.get(name)
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module = layers.batch_norm(module, train_statistics=norm is not None and norm.statistics)
                graph.set_submodule(name, module)
            if norm is not None:
                module.weight.requires_grad_(norm.scale)
                if module.bias is not None:
                    module.bias.requires_grad_(norm.shift)
                elif norm.shift:
                    raise InputError(f"{name} has no shift to train")


def _train_weight(layer: layers.Conv2d | layers.Linear, name: str, weight: str | Channels) -> None:
    if weight == "all":
        layer.weight.requires_grad_(True)
    elif isinstance(weight, Channels):
        channels = layer.weight.shape[0] if weight.axis == "out" else layer.weight.shape[1] * layer.groups
        if isinstance(layer, layers.Conv2d) and layer.standardised:
            raise UnsupportedError(f"{name} standardises its weight, which couples its channels: it trains whole")
        if weight.index[-1] >= channels:
            raise InputError(f"{name} has {channels} {weight.axis}put channels, no channel {weight.index[-1]}")
        if len(weight.index) == channels:  # all of them: no copy of the weight or of the input
            layer.weight.requires_grad_(True)
            return
        layer.train_channels(weight.axis, weight.index)


def insert_lite_residuals(
    graph: fx.GraphModule,
    names: tuple[str, ...],
    policy: UpdatePolicy,
    *,
    seed: int = 0,
    prepare: Callable[[LiteResidual], nn.Module] = lambda module: module,
) -> None:
    """Put a policy's lite residual modules into a graph, each at `<block>.lite_residual`.

    Args:
        graph: The backbone's graph, changed in place, for the caller to recompile.
        names: The backbone's blocks.
        policy: Says which modules.
        seed: Seed of their first weights.
        prepare: What is done to a module before it is put in.

    Raises:
        InputError: The policy names a block that is none.
    """
    if not policy.lite_residuals:
        return
    found = {block.name: block for block in blocks(graph, names)}
    device = next(graph.parameters()).device
    sums: dict[fx.Node, fx.Node] = {}
    for lite in policy.lite_residuals:
        if lite.block not in found:
            raise InputError(f"the policy puts a lite residual module beside {lite.block}, which is no block")
        block = found[lite.block]
        if not block.single or block.input is None:
            raise UnsupportedError(
                f"{lite.block} has several inputs or outputs: no lite residual module stands beside it"
            )
        _check_channels(graph, block, lite)
        entering = sums.get(block.input, block.input)  # what the block before leaves, its own module's part included
        _keep(graph, entering)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = LiteResidual(lite.shape)
        module.norm2.bias.requires_grad_(lite.shift)
        name = f"{lite.block}.lite_residual"
        graph.add_submodule(name, prepare(module).to(device))
        with graph.graph.inserting_after(block.output):
            call = graph.graph.call_module(name, (entering, block.output))
        call.meta = dict(block.output.meta)
        for user in set(block.output.users) - {call}:
            user.replace_input_with(block.output, call)
        sums[block.output] = call


def _check_channels(graph: fx.GraphModule, block: BlockNodes, lite: LiteUpdate) -> None:
    """Refuse a module of other channels than its block's, before memory is taken for what the policy claims."""

    def sizes(node: fx.Node) -> tuple[int, int] | None:
        module = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, nn.Conv2d):
            return module.in_channels, module.out_channels
        return (module.num_features,) * 2 if isinstance(module, nn.BatchNorm2d) else None

    inside = set(block.nodes)
    readers = [sizes(node) for node in inside if block.input in node.all_input_nodes]
    node = block.output
    while sizes(node) is None and (before := [source for source in node.all_input_nodes if source in inside]):
        node = before[-1]  # activations and sums leave as many as enter
    leaving = sizes(node)
    for name, given, found in (
        *(("enter", lite.in_channels, size[0]) for size in readers if size is not None),
        *([("leave", lite.out_channels, leaving[1])] if leaving is not None else []),
    ):
        if given != found:
            raise InputError(f"the lite residual module of {lite.block} is for {given} channels, but {found} {name} it")


def _keep(graph: fx.GraphModule, value: fx.Node) -> None:
    """Let no activation overwrite a value that is read again later."""
    for user in value.users:
        module = graph.get_submodule(str(user.target)) if user.op == "call_module" else None
        if module is not None and hasattr(module, "inplace"):
            vars(module).update(inplace=False)
        elif user.kwargs.get("inplace"):
            user.kwargs = {**user.kwargs, "inplace": False}


def _lean_lite_residual(module: LiteResidual) -> fx.GraphModule:
    prepared = symbolic_trace(module)
    _replace_operations(prepared, set())
    _lean_layers(prepared)
    _join(prepared)
    prepared.recompile()
    return prepared


def _lean_layers(graph: fx.GraphModule) -> None:
    for name, module in list(graph.named_modules()):
        if isinstance(module, nn.Conv2d):
            graph.set_submodule(name, layers.Conv2d(module))
