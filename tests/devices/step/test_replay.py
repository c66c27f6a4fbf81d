"""A planned training step, executed in one block of memory: the loss and all that trains must be torch's.

Every tensor of the program is a view at its planned offset of one buffer of the planned size, which is NaN at first and
NaN again wherever a tensor dies. A kernel sees the tensors that its operation names, what lies in flash, and nothing
else. So two tensors that overlap while both are needed, or one that the program forgot, show as wrong numbers. What an
operation of several rows makes between them is its own affair: it lies in the scratch of a runtime, outside here.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tinysearch.devices.profile import DeviceProfile, load_device
from tinysearch.devices.profile.model import Schedule
from tinysearch.devices.step.compiler import compile_step
from tinysearch.devices.step.plan import Plan, make_plan
from tinysearch.devices.step.program import Operation, Program
from tinysearch.devices.step.tensors import Kind
from tinysearch.devices.step.walk import Phase
from tinysearch.spaces import methods
from tinysearch.spaces.backbones.catalogue import load_backbone
from tinysearch.spaces.engine.apply import apply
from tinysearch.spaces.engine.masks import pack_bits, unpack_bits
from tinysearch.spaces.table import UpdateTable
from tinysearch.spaces.trace import INPUT, Trace, trace

BATCH, RATE = 2, 0.05
NAN_BYTE = 0xFF


class Replay:
    """Executes a plan for one batch and plain SGD."""

    def __init__(self, plan: Plan, table: UpdateTable, model: torch.nn.Module, labels: Tensor) -> None:
        assert len(plan.areas) == 1
        self.plan, self.program, self.model, self.labels = plan, plan.program, model, labels
        self.setting = plan.program.setting
        self.rows, self.table = self.setting.trace.rows, table
        self.memory = torch.full((plan.size,), NAN_BYTE, dtype=torch.uint8)
        self.number = {(t.kind, t.row): n for n, t in enumerate(self.program.tensors) if t.kind != Kind.SCRATCH}
        self.mean_loss = torch.nan
        self.inner: dict[tuple[Kind, int], Tensor] = {}
        self.gone = self.freed()

    def run(self, images: Tensor) -> None:
        passes = images.split(self.setting.samples)
        losses = []
        for number, (part, labels) in enumerate(zip(passes, self.labels.split(self.setting.samples), strict=True)):
            self.pass_labels, self.share = labels, len(part) / len(images)
            self.run_pass(part, first=number == 0, last=number == len(passes) - 1)
            losses.append(self.mean_loss)
        self.mean_loss = float(np.mean(losses))

    def run_pass(self, images: Tensor, *, first: bool, last: bool) -> None:
        if first:
            self.begin()
        if (Kind.ACTIVATION, INPUT) in self.number:
            self.view(self.number[Kind.ACTIVATION, INPUT], images.shape).copy_(images)
        else:
            self.images = images
        for place, operation in enumerate(self.program.operations):
            if operation.phase == Phase.UPDATE and not last:
                continue
            self.operation, self.inner = operation, {}
            getattr(self, operation.phase.value)(operation.row)
            for start, end in self.gone.get(place, ()):
                self.memory[start:end] = NAN_BYTE

    def freed(self) -> dict[int, list[tuple[int, int]]]:
        """By operation, the memory that is needed no more after it, but for what lasts for the whole step."""
        found: dict[int, list[tuple[int, int]]] = {}
        for buffer, place in zip(self.program.buffers, self.plan.places, strict=True):
            if buffer.first == 0 and buffer.last == len(self.program.operations) - 1:
                continue
            for size, _, last in buffer.spans:
                then = buffer.taken(last + 1)
                found.setdefault(last, []).append((place.offset + then, place.offset + size))
        return found

    def begin(self) -> None:
        for (kind, row), number in self.number.items():
            if kind == Kind.PARAMETERS:
                values = [p.detach().flatten() for p in self.trained(row)]
                self.view(number, (-1,)).copy_(torch.cat(values))
            elif kind == Kind.STATISTICS:
                norm = self.module(row)
                self.view(number, (2, -1)).copy_(torch.stack([norm.running_mean, norm.running_var]))
            elif kind == Kind.WEIGHT_GRADIENT and self.setting.accumulates:
                self.view(number, (-1,)).zero_()

    # Memory

    def bytes(self, number: int) -> Tensor:
        offset = self.plan.place(number).offset
        return self.memory[offset : offset + self.program.tensors[number].bytes]

    def view(self, number: int, shape: tuple[int, ...]) -> Tensor:
        elements = self.bytes(number).view(torch.float32)
        return elements.view(shape) if -1 in shape else elements[: int(np.prod(shape))].view(shape)

    def read(self, kind: Kind, row: int, shape: tuple[int, ...]) -> Tensor:
        if (kind, row) in self.inner:
            return self.inner[kind, row].view(shape)
        if (kind, row) == (Kind.ACTIVATION, INPUT) and (kind, row) not in self.number:
            assert self.operation.phase == Phase.BY_LINES  # which asks for them
            return self.images
        number = self.number[kind, row]
        assert number in self.operation.reads or number in self.operation.writes, (self.operation, kind, row)
        return self.view(number, shape)

    def has(self, kind: Kind, row: int) -> bool:
        return self.number.get((kind, row)) in (*self.operation.reads, *self.operation.writes)

    def write(self, kind: Kind, row: int, value: Tensor) -> None:
        inside = row in self.operation.rows and kind in (Kind.ACTIVATION, Kind.GRADIENT)
        if inside and not self.has(kind, row):
            self.inner[kind, row] = value
            return
        number = self.number[kind, row]
        assert number in self.operation.writes, (self.operation, kind, row)
        self.view(number, tuple(value.shape)).copy_(value)

    def shape(self, row: int) -> tuple[int, ...]:
        return (self.setting.samples, *(self.setting.trace.input_shape if row == INPUT else self.rows[row].out_shape))

    def activation(self, row: int) -> Tensor:
        return self.read(Kind.ACTIVATION, row, self.shape(row))

    # Parameters: those that train in RAM, the rest in flash

    def module(self, row: int) -> torch.nn.Module:
        return self.model.get_submodule(self.rows[row].name)

    def trained(self, row: int) -> list[Tensor]:
        module = self.module(row)
        weight = getattr(module, "weight_update", None)
        weight = module.weight if weight is None else weight
        return [p for p in (weight, module.bias) if p is not None and p.requires_grad]

    def parameters(self, row: int) -> tuple[Tensor, Tensor | None]:
        """Weight and bias as they are now."""
        module = self.module(row)
        now = [module.weight.detach(), None if module.bias is None else module.bias.detach()]
        trained = self.trained(row)
        if trained:
            parts = self.read(Kind.PARAMETERS, row, (-1,)).split([p.numel() for p in trained])
            for part, old in zip(parts, trained, strict=True):
                values = part.view(old.shape)
                if old is getattr(module, "weight_update", None):
                    values = module.weight.detach().index_copy(module.update_axis, module.update_index, values)
                now[0 if old is not module.bias else 1] = values
        return now[0], now[1]

    def index(self, row: int) -> Tensor | None:
        return getattr(self.module(row), "update_index", None)

    # Kernels

    def forward(self, row: int) -> None:
        layer = self.rows[row]
        x = [self.activation(source) for source in layer.inputs]
        if layer.kind in ("conv", "linear", "norm"):
            y = self.forward_layer(row, x[0])
        elif layer.kind == "act":
            y = getattr(F, layer.op)(x[0])
            if self.has(Kind.KEPT, row):
                positive = x[0] > 0 if layer.op == "relu" else (x[0] > 0) & (x[0] < 6)
                mask = x[0] >= 0 if self.table.sign[0, row] else positive
                packed = pack_bits(mask).flatten()
                self.bytes(self.number[Kind.KEPT, row])[: len(packed)].copy_(packed)
        else:
            y = _operation(layer.op, x, layer.out_shape)
        for source in self.setting.sources[row][len(layer.inputs) :]:  # of a lite residual module
            y = y + self.activation(source) if self.table.present[0, source] else y
        self.write(Kind.ACTIVATION, row, y)

    def forward_layer(self, row: int, x: Tensor) -> Tensor:
        module, layer = self.module(row), self.rows[row]
        weight, bias = self.parameters(row)
        if layer.kind == "norm" and layer.op == "group":
            y, mean, rstd = torch.native_group_norm(
                x, weight, bias, len(x), x.shape[1], x[0, 0].numel(), module.num_groups, module.eps
            )
            self.write(Kind.KEPT, row, torch.stack([mean, rstd]))
            return y
        if layer.kind == "norm" and self.table.statistics[0, row]:
            mean, var = self.read(Kind.STATISTICS, row, (2, -1))
            y, *saved = torch.native_batch_norm(x, weight, bias, mean, var, True, module.momentum, module.eps)
            self.write(Kind.KEPT, row, torch.stack(saved))
            return y
        if layer.kind == "norm":
            return F.batch_norm(x, module.running_mean, module.running_var, weight, bias, eps=module.eps)
        if self.has(Kind.KEPT, row):
            self.write(Kind.KEPT, row, x.index_select(1, self.index(row)))
        if layer.kind == "linear":
            return F.linear(x, weight, bias)
        return F.conv2d(x, weight, bias, module.stride, module.padding, module.dilation, module.groups)

    def loss(self, row: int) -> None:
        logits, labels = self.activation(row), self.pass_labels
        self.mean_loss = float(F.cross_entropy(logits, labels))
        gradient = (logits.softmax(1) - F.one_hot(labels, logits.shape[1])) / len(labels) * self.share
        self.write(Kind.GRADIENT, row, gradient)

    def weight_gradient(self, row: int) -> None:
        layer, gradient = self.rows[row], self.read(Kind.GRADIENT, row, self.shape(row))
        weight, bias = (self.norm_gradients if layer.kind == "norm" else self.layer_gradients)(row, gradient)
        found = ([weight] if self.table.trained_weights[0, row] else []) + ([bias] if self.table.bias[0, row] else [])
        total = torch.cat([part.flatten() for part in found])
        if self.setting.accumulates:
            total = total + self.read(Kind.WEIGHT_GRADIENT, row, (-1,))
        if self.has(Kind.WEIGHT_GRADIENT, row):
            self.write(Kind.WEIGHT_GRADIENT, row, total)
        else:  # the update is fused
            self.inner[Kind.WEIGHT_GRADIENT, row] = total

    def layer_gradients(self, row: int, gradient: Tensor) -> tuple[Tensor | None, Tensor]:
        module, layer, index = self.module(row), self.rows[row], self.index(row)
        bias = gradient.sum((0, 2, 3) if layer.kind == "conv" else 0)
        if not self.table.trained_weights[0, row]:
            return None, bias
        by_output = index is not None and (module.update_axis == 0 or layer.depthwise)
        g = gradient.index_select(1, index) if by_output else gradient
        if self.has(Kind.KEPT, row):
            x = self.read(Kind.KEPT, row, (self.setting.samples, len(index), *layer.in_shape[1:]))
        else:
            x = self.activation(layer.inputs[0])
        if layer.kind == "linear":
            return g.T @ x, bias
        groups = x.shape[1] if layer.depthwise else layer.groups
        shape = (g.shape[1], x.shape[1] // groups, *layer.kernel)
        geometry = (module.stride, module.padding, module.dilation, groups)
        return torch.nn.grad.conv2d_weight(x, shape, g, *geometry), bias

    def norm_gradients(self, row: int, gradient: Tensor) -> tuple[Tensor | None, Tensor]:
        module, layer = self.module(row), self.rows[row]
        if self.has(Kind.KEPT, row):
            return self.norm_backward(row, gradient)[1:]
        scale = None
        if self.table.scale[0, row]:
            x, mean, var = self.activation(layer.inputs[0]), module.running_mean, module.running_var
            normal = (x - mean.view(-1, 1, 1)) * (var + module.eps).rsqrt().view(-1, 1, 1)
            scale = (gradient * normal).sum((0, 2, 3))
        return scale, gradient.sum((0, 2, 3))

    def norm_backward(self, row: int, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of a norm on the statistics of this batch or sample."""
        module, layer = self.module(row), self.rows[row]
        x, mask = self.activation(layer.inputs[0]), [True, True, True]
        # The gradient of the input alone needs the scale; the weights' do not.
        weight = self.parameters(row)[0] if self.has(Kind.PARAMETERS, row) or not self.trained(row) else module.weight
        if layer.op == "group":
            mean, rstd = self.read(Kind.KEPT, row, (2, self.setting.samples, module.num_groups))
            sizes = (len(x), x.shape[1], x[0, 0].numel(), module.num_groups)
            return torch.ops.aten.native_group_norm_backward(gradient, x, mean, rstd, weight, *sizes, mask)
        mean, inverse = self.read(Kind.KEPT, row, (2, x.shape[1]))
        return torch.ops.aten.native_batch_norm_backward(
            gradient, x, weight, None, None, mean, inverse, True, module.eps, mask
        )

    def input_gradient(self, row: int) -> None:
        layer, given = self.rows[row], self.read(Kind.GRADIENT, row, self.shape(row)).clone()
        gradients = self.input_gradients(row, given)
        for source in self.setting.sources[row]:
            inside = source in self.operation.rows and self.table.live[0, source]
            if source == INPUT or not (inside or self.has(Kind.GRADIENT, source)):
                continue
            value = gradients[layer.inputs.index(source)] if source in layer.inputs else given
            first = -1 if inside else self.program.tensors[self.number[Kind.GRADIENT, source]].first
            if not inside and self.program.operations[first] is not self.operation:
                value = value + self.read(Kind.GRADIENT, source, self.shape(source))
            self.write(Kind.GRADIENT, source, value)

    def input_gradients(self, row: int, gradient: Tensor) -> list[Tensor]:
        module, layer = None, self.rows[row]
        if layer.kind in ("conv", "linear", "norm"):
            module = self.module(row)
            weight, _ = self.parameters(row)
        if layer.kind == "conv":
            geometry = (module.stride, module.padding, module.dilation, module.groups)
            return [torch.nn.grad.conv2d_input((self.setting.samples, *layer.in_shape), weight, gradient, *geometry)]
        if layer.kind == "linear":
            return [gradient @ weight]
        if layer.kind == "norm" and self.has(Kind.KEPT, row):
            return [self.norm_backward(row, gradient)[0]]
        if layer.kind == "norm":
            return [gradient * (weight * (module.running_var + module.eps).rsqrt()).view(-1, 1, 1)]
        if layer.kind == "act" and not self.has(Kind.KEPT, row):  # the output is kept, by a layer that reads it
            assert self.number[Kind.ACTIVATION, row] in self.operation.reads
            y = self.activation(row)
            return [gradient * ((y > 0) & (y < 6) if layer.op == "relu6" else y > 0)]
        if layer.kind == "act":
            number = self.number[Kind.KEPT, row]
            assert number in self.operation.reads
            count = -(-layer.out_elements // 8)
            packed = self.bytes(number)[: self.setting.samples * count].view(self.setting.samples, count)
            return [gradient * unpack_bits(packed, torch.Size(self.shape(row)))]
        x = [torch.zeros(self.shape(source), requires_grad=True) for source in layer.inputs]
        return list(torch.autograd.grad(_operation(layer.op, x, layer.out_shape), x, gradient))  # all are linear

    # Operations of several things

    def by_lines(self, row: int) -> None:
        for each in self.operation.rows:
            self.forward(each)

    forward_by_channels = by_lines

    def backward(self, row: int) -> None:
        """Both gradients with the weight as it was, then the update unless it waits for the end."""
        if self.table.trains[0, row]:
            self.weight_gradient(row)
        if self.table.live_inputs[0, row] or len(self.setting.sources[row]) > len(self.rows[row].inputs):
            self.input_gradient(row)
        if self.table.trains[0, row] and not self.setting.accumulates:
            self.update(row)

    def backward_by_channels(self, row: int) -> None:
        for each in reversed(self.operation.rows):
            if self.table.live[0, each]:
                self.backward(each)

    def update(self, row: int) -> None:
        values = self.read(Kind.PARAMETERS, row, (-1,))
        values -= RATE * self.read(Kind.WEIGHT_GRADIENT, row, (-1,))


def _operation(op: str, x: list[Tensor], shape: tuple[int, ...]) -> Tensor:
    if op == "add":
        return x[0] + x[1]
    if op == "mean":
        return x[0].mean((2, 3))
    if op == "interpolate":
        return F.interpolate(x[0], size=shape[1:], mode="bilinear", align_corners=False)
    if op == "avgpool2d":
        return F.avg_pool2d(x[0], 2)
    if op == "adaptiveavgpool2d":
        return F.adaptive_avg_pool2d(x[0], shape[1:])
    raise AssertionError(f"the replay knows no {op}")


@pytest.fixture(scope="module")
def profile() -> DeviceProfile:
    """The microcontroller in single precision, so that its numbers are torch's."""
    found = load_device("cortex-m7-int8")
    dtypes = found.memory.dtypes.model_copy(update={"activation": 4, "frozen": 4, "trained": 4, "gradient": 4})
    return found.model_copy(update={"memory": found.memory.model_copy(update={"dtypes": dtypes})})


@pytest.fixture(scope="module", params=["mobilenetv2-w0.35", "mcunet-5fps"])
def network(request) -> tuple[torch.nn.Module, Trace]:
    torch.manual_seed(0)
    model = load_backbone(request.param, num_classes=10, input_size=48)
    return model, trace(model, (3, 48, 48))


def _replay(network, policy, program: Program, plan: Plan) -> tuple[float, float, list[tuple[str, Tensor, Tensor]]]:
    """The loss by plan and by torch, and by name all that the step changes, likewise."""
    model, found = network
    torch.manual_seed(1)
    images, labels = torch.randn(BATCH, *found.input_shape), torch.tensor([3, 7])
    replay = Replay(plan, UpdateTable.of(found, [policy]), apply(model, policy), labels)
    replay.run(images)
    replay.operation = Operation(Phase.UPDATE, 0, tuple(range(len(program.tensors))), (), (0,))

    applied = apply(model, policy).train()
    optimizer = torch.optim.SGD([p for p in applied.parameters() if p.requires_grad], RATE)
    loss = F.cross_entropy(applied(images), labels)
    loss.backward()
    optimizer.step()
    reference = Replay(plan, replay.table, applied, labels)
    pairs = []
    for kind, row in replay.number:
        if kind == Kind.PARAMETERS:
            expected = torch.cat([p.detach().flatten() for p in reference.trained(row)])
        elif kind == Kind.STATISTICS:
            expected = torch.cat([reference.module(row).running_mean, reference.module(row).running_var])
        else:
            continue
        pairs.append((f"{kind} of {found.rows[row].name}", replay.read(kind, row, (-1,)), expected))
    return replay.mean_loss, float(loss.detach()), pairs


LEVERS = (
    "line_by_line strided_in_place",
    "fused_updates",
    "fused_updates by_channels one_by_one",
    "line_by_line strided_in_place fused_updates by_channels one_by_one",
)


@pytest.mark.parametrize("levers", LEVERS)
def test_a_step_by_another_schedule_is_torchs(network, profile, levers, random_policy):
    switches = dict.fromkeys(levers.split(), True)
    schedule = Schedule(**switches, image="lines" if "line_by_line" in switches else "held")
    scheduled = profile.model_copy(update={"memory": profile.memory.model_copy(update={"schedule": schedule})})
    named = methods.named(network[1])
    policies = [named[name] for name in ("full", "bias", "tinytl-L+B", "mobiletl-2", "sparse-update-2")]
    for policy in (*policies, *(random_policy(network[1], seed) for seed in range(3))):
        table = UpdateTable.of(network[1], [policy])
        if switches.get("one_by_one") and table.statistics.any():
            continue  # the statistics of two images are not those of one after another
        program = compile_step(table, scheduled, BATCH, "sgd")
        planned, loss, pairs = _replay(network, policy, program, make_plan(program))
        assert planned == pytest.approx(loss, abs=1e-5)
        for name, value, expected in pairs:
            torch.testing.assert_close(value, expected, atol=1e-5, rtol=1e-5, msg=name)


METHODS = ("full", "bias", "last", "norm+last", "tinytl-L+B", "mobiletl-2", "sparse-update-2")


@pytest.mark.parametrize("method", METHODS)
def test_a_planned_step_is_torchs(network, profile, method):
    policy = methods.named(network[1])[method]
    program = compile_step(UpdateTable.of(network[1], [policy]), profile, BATCH, "sgd")
    plan = make_plan(program)
    planned, loss, pairs = _replay(network, policy, program, plan)
    assert planned == pytest.approx(loss, abs=1e-5)
    assert pairs
    for name, value, expected in pairs:
        torch.testing.assert_close(value, expected, atol=1e-5, rtol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_policies_of_the_space_are_torchs(network, profile, random_policy):
    for seed in range(4):
        policy = random_policy(network[1], seed)
        program = compile_step(UpdateTable.of(network[1], [policy]), profile, BATCH, "sgd")
        planned, loss, pairs = _replay(network, policy, program, make_plan(program))
        assert planned == pytest.approx(loss, abs=1e-5)
        for name, value, expected in pairs:
            torch.testing.assert_close(value, expected, atol=1e-5, rtol=1e-5, msg=name)


def _cut(program: Program, kind: Kind) -> Program:
    """The program, with one tensor that dies one operation too early: of the kind, the one that waits longest."""
    users: dict[int, list[int]] = {}
    for number, operation in enumerate(program.operations):
        for tensor in {*operation.reads, *operation.writes}:
            users.setdefault(tensor, []).append(number)
    chosen = max(
        (n for n, tensor in enumerate(program.tensors) if tensor.kind == kind),
        key=lambda n: users[n][-1] - users[n][-2],
    )
    cut = replace(program.tensors[chosen], last=users[chosen][-2])
    return replace(program, tensors=(*program.tensors[:chosen], cut, *program.tensors[chosen + 1 :]))


@pytest.mark.parametrize("kind", [Kind.ACTIVATION, Kind.KEPT, Kind.GRADIENT, Kind.WEIGHT_GRADIENT])
def test_a_tensor_that_dies_too_early_is_noticed(network, profile, kind):
    # Where everything trains, what activations put out is kept, and no masks.
    policy = methods.mobiletl(network[1], 2) if kind == Kind.KEPT else methods.full(network[1])
    program = _cut(compile_step(UpdateTable.of(network[1], [policy]), profile, BATCH, "sgd"), kind)
    planned, loss, pairs = _replay(network, policy, program, make_plan(program))
    wrong = [name for name, value, expected in pairs if not torch.allclose(value, expected, atol=1e-5, rtol=1e-5)]
    assert wrong or planned != pytest.approx(loss, abs=1e-5)
