"""The meter: which tensors autograd really keeps in a forward pass, who made them and who keeps them."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from ...spaces.capture.samples import tensors_of
from ...spaces.engine.convolution import ConvCall
from ...spaces.graph import is_in_place, node_name


@dataclass(frozen=True, slots=True)
class SavedTensor:
    """A storage kept from the forward to the backward pass.

    Attributes:
        name: Qualified name of the module or operation that first kept it; empty for an operation outside of
            modules in a model that is no graph.
        made_by: Name of the module or operation that made it, which is the row of the trace that it is predicted
            at; empty where the model is no graph.
        shape: Shape of the tensor that was kept; packed bits count as bytes, uint8.
        dtype: Type of its elements, as "float32".
        bytes: Bytes of its storage.
    """

    name: str
    made_by: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int


def saved_tensors(model: nn.Module, images: Tensor, rows: Collection[str] | None = None) -> tuple[SavedTensor, ...]:
    """Run a model forward and see what autograd keeps.

    Args:
        model: Any model in the mode to be seen; a graph, such as `apply` returns, is run operation by operation.
        images: One batch, (N, C, H, W).
        rows: Names of the rows of the trace, if there is one: what an operation without a row makes, such as a reshape
            that copies under this policy alone, counts as made by the row that it reads.

    Returns:
        Distinct storages in the order in which they were kept, with parameters, buffers and the batch left out.
    """
    own = [*model.parameters(), *model.buffers(), images]
    ignored = {_address(tensor) for tensor in own}
    held: list[Tensor] = []  # a freed storage's address could come again
    log = _Log(rows)

    def pack(tensor: Tensor) -> Tensor:
        tensor = tensor.detach()  # held with its history, an output would lead to what holds it, which nothing frees
        held.append(tensor)
        if tensor.untyped_storage().nbytes() and _address(tensor) not in ignored:
            log.keep(tensor)
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        if isinstance(model, fx.GraphModule):
            logits = _Interpreter(model, log).run(images)
        else:
            with _named_modules_running(model, log):
                logits = model(images)
    del logits
    return tuple(log.kept.values())


@dataclass
class _Log:
    """What is running, and the makers of the tensors that are there.

    Attributes:
        rows: Names of the rows of the trace, or None.
        stack: Names of what is running, the innermost last.
        makers: By address of a storage, who made it; only to be asked of storages that are alive.
        operands: Addresses of what the running operation reads; None where that is not known.
        making: Name under which what the running operation makes is counted.
    """

    rows: Collection[str] | None
    stack: list[str] = field(default_factory=lambda: [""])
    makers: dict[int, str] = field(default_factory=dict)
    operands: set[int] | None = None
    making: str = ""
    kept: dict[int, SavedTensor] = field(default_factory=dict)

    @property
    def running(self) -> str:
        return self.stack[-1]

    def keep(self, tensor: Tensor) -> None:
        """Note a tensor that is kept, under who made it: another if it is an operand, else the operation itself."""
        address, shape, dtype = _address(tensor), tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")
        maker = "" if self.operands is None else self.making
        if self.operands is not None and address in self.operands:
            maker = self.makers[address]
        elif self.operands is not None and tensor.dtype == torch.uint8:
            maker = self.running  # packed bits are the activation's, whoever computes it
        saved = SavedTensor(self.running, maker, shape, dtype, tensor.untyped_storage().nbytes())
        self.kept.setdefault(address, saved)

    def settle(self, address: int, name: str) -> None:
        """Say who made a tensor once it is returned, where it was kept while it was made."""
        if address in self.kept:
            self.kept[address] = replace(self.kept[address], made_by=name)


class _Interpreter(fx.Interpreter):
    """Runs a graph, and graphs within it, and logs each operation under the name that a trace has for it."""

    def __init__(self, graph: fx.GraphModule, log: _Log, path: str = "") -> None:
        super().__init__(graph)
        self._log, self._path = log, path
        self._began: dict[fx.Node, str] = {}  # the convolution that each unfinished value is of
        self._rows: set[fx.Node] = set()  # those whose value is made of images or parameters, as a trace's rows are

    def run_node(self, n: fx.Node) -> Any:
        log, name = self._log, self._path + node_name(n)
        values = [self.env[source] for source in n.all_input_nodes]
        # A constant that is made in the graph has no row: it counts where it is kept.
        known = [value for value, source in zip(values, n.all_input_nodes, strict=True) if source in self._rows]
        operands = [_address(tensor) for value in known for tensor in tensors_of(value)]
        module = self.fetch_attr(str(n.target)) if n.op == "call_module" else None
        in_place = is_in_place(n, module)
        outer = log.operands, log.making
        # What is overwritten and kept is the result, under the operand's address.
        log.operands = set(operands[in_place:])
        # An operation may be handed a convolution that is still to be computed, and whatever that keeps of its own.
        handed_on = bool(values) and isinstance(values[0], ConvCall)
        log.making = self._path + self._began[n.all_input_nodes[0]] if handed_on else name
        log.stack.append(name)
        try:
            value = super().run_node(n)
        finally:
            log.stack.pop()
            log.operands, log.making = outer
        if isinstance(value, ConvCall):
            self._began[n] = self._began[n.all_input_nodes[0]] if handed_on else node_name(n)
        holds = module is not None and next(module.parameters(), None) is not None
        if n.op == "get_attr":
            holds = isinstance(value, nn.Parameter)
        if (known or holds or n.op == "placeholder") and tensors_of(value):
            self._rows.add(n)
        for address in map(_address, tensors_of(value)):
            if handed_on and isinstance(value, Tensor):
                log.settle(address, name)
            if n.op == "placeholder":
                log.makers.setdefault(address, name)
            elif n.op == "call_module" and name.endswith(".lite_residual"):
                # The sum stands for the output of the block, which a trace counts at the block's last row.
                log.makers[address] = log.makers[operands[-1]]
            elif address not in operands or in_place:
                rowless = log.rows is not None and name not in log.rows and bool(operands)
                log.makers[address] = log.makers[operands[0]] if rowless else name
        return value

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        module = self.fetch_attr(target)
        if isinstance(module, fx.GraphModule) and not kwargs:
            return _Interpreter(module, self._log, f"{self._path}{target}.").run(*args)
        return super().call_module(target, args, kwargs)


@contextmanager
def _named_modules_running(model: nn.Module, log: _Log) -> Iterator[None]:
    handles = []
    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(lambda *_, name=name: log.stack.append(name)))
        handles.append(module.register_forward_hook(lambda *_: log.stack.pop() and None))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
