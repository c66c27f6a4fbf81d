"""Filling a trace's table: a torch.fx graph is run, and one row per operation is written down."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx, nn

from ...core.errors import TinySearchError, UnsupportedError
from ..capture.answers import check_answers
from ..capture.network import ONE_AT_A_TIME
from ..capture.samples import BATCHES, samples, tensors_of
from ..engine.layers import lean
from ..graph import (
    ACTIVATIONS,
    BlockNodes,
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
from .known import layer_of
from .products import count_products
from .records import INPUT, Block, Layer, Trace
from .retention import observe


def record(model: nn.Module, input_shape: tuple[int, ...]) -> Trace:
    """The trace of a network; see `tinysearch.spaces.trace.trace`."""
    with ONE_AT_A_TIME:
        return _record(model, input_shape)


def _record(model: nn.Module, input_shape: tuple[int, ...]) -> Trace:
    graph = symbolic_trace(model, input_shape)
    layers, blocks, answer = trace_layers(graph, block_names(model), input_shape)
    check_answers(model, graph, [input_shape])
    blocks, lite_layers = trace_lite_residuals(layers, blocks, input_shape)
    return Trace(
        name=getattr(model, "backbone_name", type(model).__name__),
        input_shape=input_shape,
        layers=tuple(layers),
        lite_layers=tuple(lite_layers),
        blocks=tuple(blocks),
        head=_head(layers, answer),
        channel_norms={layer.name: _channel_norms(graph, layer) for layer in layers if layer.sliceable},
    )


def trace_layers(
    graph: fx.GraphModule, names: tuple[str, ...], input_shape: tuple[int, ...]
) -> tuple[list[Layer], list[Block], tuple[int, ...] | None]:
    """The rows and blocks of a network, and the shape of its answer to a sample; None where that is no single tensor.

    Raises:
        UnsupportedError: It does not run at this shape, or has a layer or an operation that a table cannot tell of.
    """
    recorder = _Recorder(graph, names)
    recorder.record(input_shape)
    _check_covered(graph, recorder.layers)
    found = {nodes.name: recorder.block(nodes) for nodes in blocks(graph, names) if nodes.name in recorder.blocks}
    (output,) = graph.graph.find_nodes(op="output")
    answer = recorder.shapes.get(output.args[0]) if isinstance(output.args[0], fx.Node) else None
    return recorder.layers, [found[name] for name in recorder.blocks], answer


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
        recorder.record(block.in_shape, block.out_shape)
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


class _Recorder:
    """Runs a graph on two batches at once, and writes down a row for every operation that makes a tensor.

    A single sample is run besides, as long as the network runs on one: what its operations keep may differ.
    """

    def __init__(self, graph: fx.GraphModule, names: tuple[str, ...]) -> None:
        self._graph, self._names = graph, names
        self._runs = [fx.Interpreter(graph) for _ in (*BATCHES, 1)]
        self._modules = dict(graph.named_modules())
        self._parameters = dict(graph.named_parameters())
        self._own = {t.untyped_storage().data_ptr() for t in (*graph.parameters(), *graph.buffers())}
        self.layers: list[Layer] = []
        self.rows: dict[fx.Node, int] = {}
        self.shapes: dict[fx.Node, tuple[int, ...]] = {}
        self._held: dict[str, int] = {}
        self._padded: dict[fx.Node, int] = {}
        self._pads: dict[fx.Node, tuple[int, int]] = {}  # above and left, of the same nodes
        self._views: set[fx.Node] = set()
        self._maps: set[fx.Node] = set()
        self.blocks: dict[str, int] = {}

    def block(self, nodes: BlockNodes) -> Block:
        """A block of the graph, once that is recorded; without shapes where it is none of convolutions on a map."""
        ends = [node for node in (nodes.input, nodes.output) if node is not None]
        first, last = (self.rows.get(node, INPUT) for node in (ends[0], ends[-1]))
        convolves = any(row.kind == "conv" and row.block == self.blocks[nodes.name] for row in self.layers)
        viewed = nodes.output in self._views  # a sum with a module's output would be a tensor apart
        if not nodes.single or viewed or not convolves or not self._maps.issuperset(ends):
            return Block(nodes.name, first, last, (), ())
        return Block(nodes.name, first, last, self.shapes[ends[0]], self.shapes[ends[1]])

    def record(self, *shapes: tuple[int, ...]) -> None:
        """Fill the table.

        Args:
            shapes: Shape of each of the graph's inputs, without the batch.

        Raises:
            UnsupportedError: It does not run at these shapes, or has an operation that a table cannot tell of.
        """
        for run, batch in zip(self._runs, (*BATCHES, 1), strict=True):
            run.args_iter = iter(samples(self._graph, shapes, batch))
        training = self._graph.training
        self._graph.eval()
        last_uses = self._runs[0].user_to_last_uses
        try:
            with torch.no_grad():
                for node in self._graph.graph.nodes:
                    if node.op != "output":
                        self._step(node)
                    for used in last_uses.get(node, ()):
                        for run in self._runs:
                            del run.env[used]
        except TinySearchError:
            raise
        except Exception as error:  # whatever the network's code raises
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UnsupportedError(f"the network does not run on an input of shape {shapes[0]}: {reason}") from error
        finally:
            self._graph.train(training)

    def _step(self, node: fx.Node) -> None:
        for run in self._runs[: len(BATCHES)]:
            run.env[node] = run.run_node(node)
        for run in self._runs[len(BATCHES) :]:
            try:
                run.env[node] = run.run_node(node)
            except Exception:  # such as of squeeze(): the network does not run on one image
                self._runs.remove(run)
        values = [run.env[node] for run in self._runs]
        if isinstance(values[0], Tensor) and values[0].ndim == 4 and len(values[0]) == BATCHES[0]:
            self._maps.add(node)
        if node.op == "placeholder":
            self.rows[node], self.shapes[node] = INPUT, tuple(values[0].shape[1:])
        elif node.op == "get_attr":
            if str(node.target) in self._parameters:
                self.rows[node] = self._parameter_row(str(node.target), block_of(node, self._names))
        elif node.op.startswith("call_") and tensors_of(values[0]):
            self._add_row(node, values)

    def _parameter_row(self, name: str, block: str | None) -> int:
        if name not in self._held:
            shape = tuple(self._parameters[name].shape)
            self._held[name] = len(self.layers)
            self.layers.append(
                Layer(
                    name=name,
                    kind="parameter",
                    op="parameter",
                    block=self._block(block),
                    inputs=(),
                    in_shape=shape,
                    out_shape=shape,
                    weight_shape=shape or (1,),
                    batched=False,
                )
            )
        return self._held[name]

    def _block(self, name: str | None) -> int:
        return -1 if name is None else self.blocks.setdefault(name, len(self.blocks))

    def _add_row(self, node: fx.Node, values: list[Any]) -> None:
        module = self._modules[str(node.target)] if node.op == "call_module" else None
        block = block_of(node, self._names)
        sources = [source for source in node.all_input_nodes if source in self.rows]
        known = None if module is None or not sources else layer_of(str(node.target), module)
        held = []
        if module is not None and known is None:
            # The parameters of a layer that no policy knows, or that reads constants, train by themselves.
            held = [f"{node.target}.{name}" for name, _ in module.named_parameters()]
        read = [self._parameter_row(name, block) for name in held]
        if not sources and not read:
            return  # a constant
        if any(tensor.is_complex() for tensor in tensors_of(values[0])):
            raise UnsupportedError(
                f"{node_name(node)} makes complex numbers, which no device here has: use pairs of reals"
            )
        if isinstance(values[0], Tensor):
            self.shapes[node], fold, batched = _shape(node_name(node), values[: len(BATCHES)])
        if sources and is_fused_padding(node, self._graph):
            # Part of the convolution that reads it, which sees the unpadded tensor.
            self.rows[node], self.shapes[node] = self.rows[sources[0]], self.shapes[sources[0]]
            self._padded[node] = values[0][0].numel()
            pads: Any = node.args[1] if len(node.args) > 1 else node.kwargs["pad"]
            self._pads[node] = int(pads[2]), int(pads[0])  # of left, right, above, below
            if sources[0] in self._views:
                self._views.add(node)
            return
        in_place = known is None and is_in_place(node, module)
        drops = isinstance(module, nn.Dropout) and module.p > 0  # the identity here, but not in training
        viewed = None if in_place or drops or known else self._viewed(sources, values[0])
        if viewed is not None:
            self.rows[node] = self.rows[viewed]  # its readers read what it views
            self._views.add(node)
            return
        if not isinstance(values[0], Tensor):
            raise UnsupportedError(
                f"{node_name(node)} ({operation(node, module)}) gives several tensors at once that are no views, of "
                "which a table cannot tell: write the operation out"
            )
        inputs = (*(self.rows[source] for source in sources), *read)
        details = known or self._operation(node, module, sources, held, inputs)
        if sources and sources[0] in self._pads:
            own, before = details["padding"], self._pads[sources[0]]
            details = details | {"padding": (own[0] + before[0], own[1] + before[1])}
        of_view = bool(sources) and sources[0] in self._views
        first = self.shapes.get(sources[0]) if sources else None
        self.rows[node] = len(self.layers)
        self.layers.append(
            Layer(
                name=node_name(node),
                block=self._block(block),
                inputs=inputs,
                in_shape=self.layers[inputs[0]].in_shape if first is None else first,
                out_shape=self.shapes[node],
                in_place=in_place,
                padded=self._padded.get(sources[0], 0) if sources else 0,
                viewed=of_view,
                copied=self._copied(sources[0], module) if of_view and details["kind"] == "norm" else 0,
                fold=fold,
                batched=batched,
                itemsize=0 if values[0].is_floating_point() else values[0].element_size(),
                **details,
            )
        )

    def _copied(self, source: fx.Node, norm: nn.Module | None) -> int:
        """The fewest samples of which a norm keeps a copy, and not what it reads itself; 0 where it never does."""
        assert norm is not None
        values = [[run.env[source]] for run in self._runs]
        found = observe([lambda read: norm(read[0])] * len(values), values, self._own)
        return next((batch for batch in (1, BATCHES[0]) if not found.of(batch).each[0].inputs[0]), 0)

    def _viewed(self, sources: list[fx.Node], value: Any) -> fx.Node | None:
        """The source that all tensors of a value are views of, if there is one."""
        storages = {tensor.untyped_storage().data_ptr() for tensor in tensors_of(value)}
        for source in sources:
            if storages <= {t.untyped_storage().data_ptr() for t in tensors_of(self._runs[0].env[source])}:
                return source
        return None

    def _operation(
        self, node: fx.Node, module: nn.Module | None, sources: list[fx.Node], held: list[str], inputs: tuple[int, ...]
    ) -> dict[str, Any]:
        op = operation(node, module)
        replacement = lean(module, op) if not held else None
        operands = [
            [*(run.env[source] for source in sources), *(self._parameters[name] for name in held)] for run in self._runs
        ]
        if any(not isinstance(value, Tensor) for value in operands[0]):
            raise UnsupportedError(
                f"{node_name(node)} ({op}) reads several tensors as one list, of which a table cannot tell: let it "
                "read them one by one"
            )
        runs = [partial(self._run_again, run, node, module, sources, held) for run in self._runs]
        groups: dict[int, list[int]] = {}
        for position, row in enumerate(inputs):
            if row != INPUT and operands[0][position].is_floating_point():
                groups.setdefault(row, []).append(position)
        kept = plain = observe(runs, operands, self._own, list(groups.values()))
        if replacement is not None:
            lean_runs = [lambda values: replacement(values[0])] * len(runs)
            kept = observe(lean_runs, operands, self._own, list(groups.values()))
        return {
            "kind": "act" if op in ACTIVATIONS.values() and not held else "other",
            "op": op,
            "kept": kept,
            "plain_kept": plain,
            "products": 0
            if op in ACTIVATIONS.values()
            else count_products(runs[: len(BATCHES)], operands[: len(BATCHES)]),
        }

    def _run_again(
        self,
        run: fx.Interpreter,
        node: fx.Node,
        module: nn.Module | None,
        sources: list[fx.Node],
        held: list[str],
        values: Sequence[Tensor],
    ) -> Tensor:
        """An operation on other values of its sources and of its module's parameters."""
        by_source = dict(zip(sources, values, strict=False))
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: by_source.get(n, run.env.get(n)))
        if module is not None and held:
            own = {name.rpartition(".")[2]: value for name, value in zip(held, values[len(sources) :], strict=True)}
            result = torch.func.functional_call(module, own, args, kwargs)
        else:
            result = getattr(run, node.op)(node.target, args, kwargs)
        assert isinstance(result, Tensor)
        return result


def _shape(name: str, values: list[Tensor]) -> tuple[tuple[int, ...], int, bool]:
    """The shape of one sample, how many entries of the first axis belong to it, and whether it grows with the batch."""
    few, more = values
    alike = [a == b for a, b in zip(few.shape, more.shape, strict=True)]
    if all(alike):
        return tuple(few.shape), 1, False
    axis = alike.index(False)
    each, rest = divmod(few.shape[axis], BATCHES[0])
    if alike.count(False) > 1 or rest or more.shape[axis] != each * BATCHES[1]:
        raise UnsupportedError(
            f"{name} makes a tensor of shape {tuple(few.shape)} of {BATCHES[0]} images and {tuple(more.shape)} of "
            f"{BATCHES[1]}, which is not so much for each: let shapes depend on sizes alone"
        )
    inner = (each,) if each > 1 else ()
    shape = (*few.shape[:axis], *inner, *few.shape[axis + 1 :])
    return shape, each if axis == 0 else 1, True


def _check_covered(graph: fx.GraphModule, layers: Sequence[Layer]) -> None:
    """Every parameter that the graph holds trains by exactly one row."""
    kinds = {layer.name: layer.kind for layer in layers}
    for name, _ in graph.named_parameters():
        owner = name.rpartition(".")[0]
        known = kinds.get(owner) in ("conv", "linear", "norm")
        if known == (name in kinds):
            used = "is used by its layer and as it stands besides" if known else "is used in no operation"
            raise UnsupportedError(f"the parameter {name} {used}: give each use a parameter of its own")


def _head(layers: Sequence[Layer], answer: tuple[int, ...] | None) -> int:
    """The row of the classifier: the last layer with a weight, whose outputs are the logits."""
    if answer is None or len(answer) != 1:
        found = "no single tensor" if answer is None else f"a tensor (N, {', '.join(map(str, answer))})"
        raise UnsupportedError(f"the network answers with {found}: let its forward return logits (N, classes) alone")
    rows = [row for row, layer in enumerate(layers) if layer.kind in ("conv", "linear")]
    if not rows or layers[rows[-1]].out_channels != answer[0] or layers[rows[-1]].groups > 1:
        last = f"its last layer with a weight is {layers[rows[-1]].name}" if rows else "it has no layer with a weight"
        raise UnsupportedError(
            f"no classifier gives the network's {answer[0]} logits ({last}): a policy trains one, so end the network "
            "in an nn.Linear or a Conv2d of as many outputs as there are classes"
        )
    return rows[-1]


def _channel_norms(graph: fx.GraphModule, layer: Layer) -> dict[str, npt.NDArray[np.float64]]:
    weight = graph.get_parameter(f"{layer.name}.weight").detach().abs().to("cpu", torch.float64)
    # Input channels are counted over all groups, as in `channels`.
    by_in = torch.unflatten(weight, 0, (layer.groups, -1)).transpose(1, 2).flatten(0, 1)
    return {"in": by_in.flatten(1).sum(1).numpy(), "out": weight.flatten(1).sum(1).numpy()}
