"""A network that says when each of its rows is done."""

from torch import Tensor, fx, nn

from ...spaces.engine.convolution import ConvCall, convolve
from ...spaces.graph import node_name
from .standalone import Stamps


class _Stamp(nn.Module):
    def __init__(self, stamps: Stamps, name: str) -> None:
        super().__init__()
        self._stamps, self._name = stamps, name

    def forward(self, output: Tensor | ConvCall) -> Tensor:
        if isinstance(output, ConvCall):  # handed on to the next row: computed here, so that each row has its own time
            output = convolve(output)
        stamped: Tensor = self._stamps.row(output, self._name)
        return stamped


def stamped(model: nn.Module, stamps: Stamps, prefix: str = "") -> fx.GraphModule:
    """The same network, with the same parameters, that calls `stamps` after each row of its trace.

    Args:
        model: What `apply` returns.
        stamps: What is called.
        prefix: In front of the rows' names.
    """
    assert isinstance(model, fx.GraphModule)
    graph = fx.Graph()
    graph.output(graph.graph_copy(model.graph, {}))
    result = fx.GraphModule(model, graph)
    for number, node in enumerate(list(graph.nodes)):
        if not node.op.startswith("call_"):
            continue
        name = node_name(node)
        inner = result.get_submodule(name) if node.op == "call_module" else None
        if isinstance(inner, fx.GraphModule):  # a lite residual module: its rows are the trace's
            result.set_submodule(name, stamped(inner, stamps, f"{prefix}{name}."))
            continue
        result.add_submodule(f"stamp_{number}", _Stamp(stamps, prefix + name))
        with graph.inserting_after(node):
            call = graph.call_module(f"stamp_{number}", (node,))
        node.replace_all_uses_with(call, delete_user_cb=lambda user, call=call: user is not call)
    result.recompile()
    return result
