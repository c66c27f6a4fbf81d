"""Filling a trace's table: a torch.fx interpreter that writes down one row per operation."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx, nn

from ...core.errors import TinySearchError, UnsupportedError
from ..engine.layers import lean
from ..graph import (
    ACTIVATIONS,
    block_names,
    block_of,
    blocks,
    is_fused_padding,
    is_in_place,
    node_name,
    operation,
    symbolic_trace,
)
from ..lite_residual import LiteResidual
from ..lite_shape import lite_shape
from ..standardised import StandardisedConv2d
from .records import INPUT, Block, Layer, Trace
from .retention import observe

NORMS: dict[type[nn.Module], str] = {nn.BatchNorm2d: "batch", nn.GroupNorm: "group", nn.LayerNorm: "layer"}


def record(model: nn.Module, input_shape: tuple[int, ...]) -> Trace:
    """The trace of a network; see `tinysearch.spaces.trace.trace`."""
    graph = symbolic_trace(model)
    layers, blocks = trace_layers(graph, block_names(model), input_shape)
    blocks, lite_layers = trace_lite_residuals(layers, blocks, input_shape)
    return Trace(
        name=getattr(model, "backbone_name", type(model).__name__),
        input_shape=input_shape,
        layers=tuple(layers),
        lite_layers=tuple(lite_layers),
        blocks=tuple(blocks),
        head=_head(layers),
        channel_norms={layer.name: _channel_norms(graph, layer) for layer in layers if layer.sliceable},
    )


def trace_layers(
    graph: fx.GraphModule, names: tuple[str, ...], input_shape: tuple[int, ...]
) -> tuple[list[Layer], list[Block]]:
    """The rows and blocks of a network, run on one blank sample.

    Raises:
        UnsupportedError: It does not run at this shape, contains an unknown layer with parameters, or an operation that
            gives several tensors.
    """
    weight = next(graph.parameters(), torch.empty(0))
    sample = torch.zeros(1, *input_shape, dtype=weight.dtype, device=weight.device)
    recorder = _Recorder(graph, names)
    recorder.record(sample)
    _check_covered(graph, recorder.layers)
    shapes = recorder.shapes
    found = [
        Block(b.name, recorder.rows[b.input], recorder.rows[b.output], shapes[b.input], shapes[b.output])
        for b in blocks(graph, names)
    ]
    return recorder.layers, found


def trace_lite_residuals(
    layers: Sequence[Layer], blocks: Sequence[Block], input_shape: tuple[int, ...]
) -> tuple[list[Block], list[Layer]]:
    """The blocks, each with the rows of the lite residual module that it can take, and those rows."""
    lite_layers: list[Layer] = []
    result = []
    for index, block in enumerate(blocks):
        shape = lite_shape(block.in_shape, block.out_shape, input_shape)
        if shape is None:
            result.append(block)
            continue
        recorder = _Recorder(symbolic_trace(LiteResidual(shape)), ())
        recorder.record(torch.zeros(1, *block.in_shape), torch.zeros(1, *block.out_shape))
        offset = len(layers) + len(lite_layers)
        # The closing addition is the block's own output row, which reads the module when it is there.
        rows = recorder.layers[:-1]
        lite_layers += [
            replace(
                row,
                name=f"{block.name}.lite_residual.{row.name}",
                block=index,
                inputs=tuple(block.input if source == INPUT else source + offset for source in row.inputs),
            )
            for row in rows
        ]
        result.append(replace(block, lite=tuple(range(offset, offset + len(rows)))))
    return result, lite_layers


class _Recorder(fx.Interpreter):
    def __init__(self, graph: fx.GraphModule, names: tuple[str, ...]) -> None:
        super().__init__(graph)
        self.extra_traceback = False  # it would follow the one line that users read
        self._graph = graph
        self.layers: list[Layer] = []
        self.rows: dict[fx.Node, int] = {}
        self.shapes: dict[fx.Node, tuple[int, ...]] = {}
        self._padded: dict[fx.Node, int] = {}
        self._views: set[fx.Node] = set()
        self._own = {t.untyped_storage().data_ptr() for t in (*graph.parameters(), *graph.buffers())}
        self._names = names
        self._blocks: dict[str, int] = {}

    def record(self, *samples: Tensor) -> None:
        training = self.module.training
        self.module.eval()  # one sample has no batch statistics
        try:
            with torch.no_grad():
                self.run(*samples)
        except TinySearchError:
            raise
        except Exception as error:  # whatever the network's code raises
            shape, reason = tuple(samples[0].shape[1:]), (str(error).splitlines() or [type(error).__name__])[0]
            raise UnsupportedError(f"the network does not run on an input of shape {shape}: {reason}") from error
        finally:
            self.module.train(training)

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor):
            self.shapes[n] = tuple(value.shape[1:])
            if n.op == "placeholder":
                self.rows[n] = INPUT
            elif n.op.startswith("call_"):
                self._add_row(n, value)
        elif n.op.startswith("call_") and _holds_tensor(value):
            raise UnsupportedError(
                f"{node_name(n)} ({operation(n, self.submodules.get(str(n.target)))}) gives several tensors, and what "
                "is computed of them would be missing from every cost: slice the tensor, or write the operation out"
            )
        return value

    def _add_row(self, node: fx.Node, value: Tensor) -> None:
        sources = [source for source in node.all_input_nodes if source in self.rows]
        if not sources:
            return
        if is_fused_padding(node, self._graph):
            # Part of the convolution that reads it, which sees the unpadded tensor.
            self.rows[node], self.shapes[node] = self.rows[sources[0]], self.shapes[sources[0]]
            self._padded[node] = value[0].numel()
            if sources[0] in self._views:
                self._views.add(node)
            return
        module = self.submodules.get(str(node.target)) if node.op == "call_module" else None
        weighted = module is not None and next(module.parameters(), None) is not None
        in_place = not weighted and is_in_place(node, module)
        drops = isinstance(module, nn.Dropout) and module.p > 0  # the identity here, but not in training
        if not weighted and not drops and _is_view(value, self.env[sources[0]]) and not in_place:
            self.rows[node] = self.rows[sources[0]]  # its readers read what it views
            self._views.add(node)
            return
        block = block_of(node, self._names)
        index = -1 if block is None else self._blocks.setdefault(block, len(self._blocks))
        details = self._parameters(node, module) if weighted else self._operation(node, module, sources)
        self.rows[node] = len(self.layers)
        self.layers.append(
            Layer(
                name=node_name(node),
                block=index,
                inputs=tuple(self.rows[source] for source in sources),
                in_shape=self.shapes[sources[0]],
                out_shape=tuple(value.shape[1:]),
                in_place=in_place,
                padded=self._padded.get(sources[0], 0),
                viewed=sources[0] in self._views,
                **details,
            )
        )

    def _parameters(self, node: fx.Node, module: nn.Module | None) -> dict[str, Any]:
        if type(module) in (nn.Conv2d, StandardisedConv2d):
            assert isinstance(module, nn.Conv2d)
            return {
                "kind": "conv",
                "op": "conv2d",
                "weight_shape": tuple(module.weight.shape),
                "bias": module.bias is not None,
                "kernel": tuple(module.kernel_size),
                "stride": tuple(module.stride),
                "groups": module.groups,
                "standardised": isinstance(module, StandardisedConv2d),
            }
        if type(module) is nn.Linear:
            shape = tuple(module.weight.shape)
            return {"kind": "linear", "op": "linear", "weight_shape": shape, "bias": module.bias is not None}
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is None:
            raise UnsupportedError(f"{node.target} is a batch norm without running statistics: set track_running_stats")
        if module is not None and type(module) in NORMS and isinstance(module.weight, Tensor):
            return {
                "kind": "norm",
                "op": NORMS[type(module)],
                "weight_shape": tuple(module.weight.shape),
                "bias": module.bias is not None,
                "groups": getattr(module, "num_groups", 1),
            }
        raise UnsupportedError(
            f"{node.target} is a {type(module).__name__}: layers with parameters may be Conv2d, Linear, BatchNorm2d, "
            "GroupNorm or LayerNorm"
        )

    def _operation(self, node: fx.Node, module: nn.Module | None, sources: list[fx.Node]) -> dict[str, Any]:
        op = operation(node, module)
        replacement = lean(module, op)
        operands = [self.env[source] for source in sources]

        def run(values: Sequence[Tensor]) -> Tensor:
            by_source = dict(zip(sources, values, strict=True))
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: by_source.get(n, self.env.get(n)))
            result = getattr(self, node.op)(node.target, args, kwargs)
            assert isinstance(result, Tensor)
            return result

        plain = observe(run, operands, self._own)
        kept = plain if replacement is None else observe(lambda values: replacement(values[0]), operands, self._own)
        kind = "act" if op in ACTIVATIONS.values() else "other"
        return {"kind": kind, "op": op, "retention": kept, "plain_retention": plain}


def _holds_tensor(value: object) -> bool:
    return isinstance(value, tuple | list) and any(isinstance(each, Tensor) or _holds_tensor(each) for each in value)


def _check_covered(graph: fx.GraphModule, layers: Sequence[Layer]) -> None:
    """Refuse parameters that no row trains: they would be frozen under every policy, and their bytes be missing."""
    rows = {layer.name for layer in layers}
    read = {str(node.target) for node in graph.graph.nodes if node.op == "get_attr"}
    for name, _ in graph.named_parameters():
        owner, _, own = name.rpartition(".")
        if owner not in rows or name in read:
            raise UnsupportedError(
                f"the parameter {name} is used as it stands, which no policy knows: let {own} be that of a Conv2d, "
                "Linear, BatchNorm2d, GroupNorm or LayerNorm of torch.nn, called once"
            )


def _is_view(value: Tensor, of: Tensor) -> bool:
    return value.untyped_storage().data_ptr() == of.untyped_storage().data_ptr()


def _head(layers: Sequence[Layer]) -> int:
    rows = [row for row, layer in enumerate(layers) if layer.kind in ("conv", "linear")]
    if not rows or layers[rows[-1]].kind != "linear":
        raise UnsupportedError("the network's last weighted layer is no nn.Linear: a policy trains a linear classifier")
    return rows[-1]


def _channel_norms(graph: fx.GraphModule, layer: Layer) -> dict[str, npt.NDArray[np.float64]]:
    weight = graph.get_parameter(f"{layer.name}.weight").detach().abs().to("cpu", torch.float64)
    # Input channels are counted over all groups, as in `channels`.
    by_in = torch.unflatten(weight, 0, (layer.groups, -1)).transpose(1, 2).flatten(0, 1)
    return {"in": by_in.flatten(1).sum(1).numpy(), "out": weight.flatten(1).sum(1).numpy()}
