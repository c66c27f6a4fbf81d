"""Measure training steps, row by row, where only an old Python and PyTorch are: one file, copied alone to a board.

    python3 standalone.py jobs.json > results.json

`tinysearch calibrate --jobs jobs.json` writes the jobs, `tinysearch calibrate --from results.json --out my.yaml` makes
a profile of the results. The same code measures on a machine that has tinysearch (`calibrate.worker`), so that both
measure alike: what is timed is a whole training step of a policy, and each row of it in place, between its neighbours,
where caches are as cold as in use. Python 3.6, standard library and torch only; nothing is unpickled.
"""

import argparse
import ctypes
import gc
import glob
import json
import os
import platform
import sys
import tempfile
import time
from typing import Any, Callable, Dict, List, Optional, Tuple

JOBS_FORMAT = "tinysearch.calibration-jobs"
RESULTS_FORMAT = "tinysearch.calibration-results"
VERSION = 1

#: Optimizers that it knows.
OPTIMIZERS = ("adam", "sgd", "sgd-momentum")
#: Variables by which a user may have set up the allocator.
ALLOCATOR_VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_ARENA_MAX", "LD_PRELOAD")
#: Largest jobs file, in bytes.
MAX_JOBS = 64 * 2**20

Json = Dict[str, Any]


# The machine


def keep_freed_memory() -> bool:
    """Tell glibc to keep what tensors free for the next ones; whether it did.

    Left alone it returns large blocks to the system at once, and every step of a training pays for their pages again:
    about a third of its time.
    """
    trim_threshold, mmap_threshold = -1, -3  # malloc.h: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
    try:
        libc = ctypes.CDLL(None)
        return bool(libc.mallopt(trim_threshold, 2**31 - 1)) and bool(libc.mallopt(mmap_threshold, 32 * 2**20))
    except (AttributeError, OSError):  # another C library
        return False


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def busy_cores(seconds: float = 0.6) -> Optional[float]:
    """Cores' worth of work that the machine does while this process sleeps; None where the kernel does not say."""

    def ticks() -> Optional[Tuple[int, int]]:
        fields = _read("/proc/stat").split("\n")[0].split()
        if len(fields) < 6 or fields[0] != "cpu":
            return None
        numbers = [int(field) for field in fields[1:9]]  # guests are part of user
        return sum(numbers), numbers[3] + numbers[4]

    before = ticks()
    time.sleep(seconds)
    after = ticks()
    if before is None or after is None or after[0] <= before[0]:
        return None
    busy = 1.0 - float(after[1] - before[1]) / (after[0] - before[0])
    return busy * (os.cpu_count() or 1)


def jitter(count: int = 400) -> float:
    """How unevenly the same short work takes time: the ninth decile over the median, 1 on a quiet machine."""
    times = []
    for _ in range(count):
        start = time.perf_counter()
        total = 0
        for number in range(4000):
            total += number
        times.append(time.perf_counter() - start)
    times.sort()
    return times[count * 9 // 10] / times[count // 2]


def physical_cores() -> int:
    """Cores that this process may use, two threads of one core counted once."""
    try:
        allowed = sorted(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return max(1, os.cpu_count() or 1)
    cores = set()
    for cpu in allowed:
        siblings = _read("/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list" % cpu)
        cores.add(siblings or str(cpu))
    return max(1, len(cores))


def temperature() -> Optional[float]:
    """The hottest sensor in degrees Celsius; None where there is none."""
    found = []
    for path in glob.glob("/sys/class/thermal/thermal_zone*/temp") + glob.glob("/sys/class/hwmon/hwmon*/temp*_input"):
        text = _read(path)
        if text.lstrip("-").isdigit():
            found.append(int(text) / 1000.0)
    return max(found) if found else None


def machine() -> Json:
    """What about this machine decides how long a step takes."""
    information = _read("/proc/cpuinfo")
    model = ""
    for line in information.split("\n"):
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Hardware", "Model"):
            model = value.strip()
            break
    board = _read("/proc/device-tree/model").rstrip("\0")
    governors = {_read(path) for path in glob.glob("/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor")}
    memory = [line.split() for line in _read("/proc/meminfo").split("\n")]
    sizes = {words[0].rstrip(":"): int(words[1]) * 1024 for words in memory if len(words) >= 2}
    try:
        load = os.getloadavg()[0]
    except OSError:
        load = -1.0
    disk = os.statvfs(".")
    return {
        "processor": board or model or platform.machine(),
        "architecture": platform.machine(),
        "system": platform.platform(),
        "cores": physical_cores(),
        "governor": ", ".join(sorted(governors - {""})) or None,
        "temperature": temperature(),
        "load": load,
        "memory": sizes.get("MemTotal", 0),
        "available": sizes.get("MemAvailable", 0),
        "disk": disk.f_blocks * disk.f_frsize,
        "allocator": {name: os.environ[name] for name in ALLOCATOR_VARIABLES if name in os.environ},
        "python": platform.python_version(),
    }


# Time


class Stamps:
    """The time that each row of a network takes, forward and backward, while it runs among the others.

    A row's forward time is the time since the row before it was done. Its backward time begins when the gradient of its
    output is complete, which a hook on that tensor tells, and ends when the next row's begins.
    """

    def __init__(self, synchronize: Callable[[], None]) -> None:
        self._synchronize = synchronize
        self._forward = {}  # type: Dict[str, float]
        self._begun = []  # type: List[Tuple[str, float]]
        self._last = 0.0

    def _now(self) -> float:
        self._synchronize()
        return time.perf_counter()

    def begin(self) -> None:
        """Start of a forward pass."""
        self._forward, self._begun = {}, []
        self._last = self._now()

    def row(self, output: Any, name: str) -> Any:
        """A row is done; returns its output."""
        self._forward[name] = self._forward.get(name, 0.0) + self._now() - self._last
        if getattr(output, "requires_grad", False):  # some graph nodes give sizes
            output.register_hook(lambda gradient: self._begun.append((name, self._now())))
        self._last = self._now()
        return output

    def end(self) -> Tuple[Dict[str, float], Dict[str, float]]:
        """End of the backward pass: seconds forward and backward by row."""
        ends = [moment for _, moment in self._begun[1:]] + [self._now()]
        backward = {}  # type: Dict[str, float]
        for (name, begin), done in zip(self._begun, ends):
            backward[name] = backward.get(name, 0.0) + done - begin
        return self._forward, backward


def _least(passes: List[Dict[str, float]]) -> Dict[str, float]:
    return {name: min(one[name] for one in passes if name in one) for name in passes[0]}


def synchronizer(device: str) -> Callable[[], None]:
    """What waits until a device has done what it was told."""
    if device == "cpu":
        return lambda: None
    import torch

    return lambda: torch.cuda.synchronize()


def make_optimizer(name: str, parameters: List[Any]) -> Any:
    """The optimizer of the measured steps; its rate is small, so that values stay in their range."""
    import torch

    if name == "adam":
        return torch.optim.Adam(parameters, lr=1e-5)
    return torch.optim.SGD(parameters, lr=1e-5, momentum=0.9 if name == "sgd-momentum" else 0.0)


class Step:
    """A training step: forward pass, loss, backward pass, update.

    Args:
        model: A network of which something trains.
        shape: Of a batch, (N, C, H, W).
        classes: Outputs of its head.
        optimizer: adam, sgd or sgd-momentum.
        device: cpu or cuda.
    """

    def __init__(self, model: Any, shape: List[int], classes: int, optimizer: str, device: str) -> None:
        import torch

        self.model = model
        self.images = torch.randn(*shape).to(device)
        self.labels = torch.randint(0, classes, (shape[0],)).to(device)
        self._trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._name = optimizer
        self.optimizer = make_optimizer(optimizer, self._trained)

    def rest(self) -> None:
        """Give back gradients and optimizer state, so that many steps can wait side by side for their next turn."""
        for parameter in self._trained:
            parameter.grad = None
        self.optimizer = make_optimizer(self._name, self._trained)

    def __call__(self, model: Any = None) -> None:
        """Run it, with another model of the same parameters if one is given."""
        import torch

        loss = torch.nn.functional.cross_entropy((model or self.model)(self.images), self.labels)
        self.optimizer.zero_grad()
        torch.autograd.backward([loss])
        self.optimizer.step()


class Timing:
    """The times of a step, as a whole and row by row, of several visits some seconds apart.

    Other programs, and other virtual machines of the same processor, slow a machine down for a second or so, and never
    speed it up. So repeats at one time agree and may all be slow: a step is come back to after others. What it takes as
    a rule is the median of all repeats. Rows, which share out that time, count at their fastest.

    Args:
        step: The step.
        stamped: The same network, which calls `stamps` after each row.
        stamps: What it calls.
        synchronize: Waits for the device.
    """

    def __init__(self, step: Step, stamped: Any, stamps: Stamps, synchronize: Callable[[], None]) -> None:
        self._step, self._stamped, self._stamps, self._synchronize = step, stamped, stamps, synchronize
        self._seconds = []  # type: List[float]
        self._forward = []  # type: List[Dict[str, float]]
        self._backward = []  # type: List[Dict[str, float]]

    def visit(self, repeats: int) -> None:
        """Time some repeats of either kind; the first pass of each is slow and not timed."""
        self._step()
        for _ in range(repeats):
            self._synchronize()
            start = time.perf_counter()
            self._step()
            self._synchronize()
            self._seconds.append(time.perf_counter() - start)
        for number in range(repeats + 1):
            self._stamps.begin()
            self._step(self._stamped)
            forward, backward = self._stamps.end()
            if number:
                self._forward.append(forward)
                self._backward.append(backward)
        self._step.rest()

    def result(self) -> Json:
        """Seconds of every repeat, and of each row at its fastest."""
        return {"seconds": self._seconds, "forward": _least(self._forward), "backward": _least(self._backward)}


# Memory


def _status(name: str) -> int:
    for line in _read("/proc/self/status").split("\n"):
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    return 0


def resident_growth(make: Callable[[], Callable[[], None]], steps: int = 3) -> Json:
    """What a process of its own holds, and grows by when it makes a model and trains it for some steps.

    Args:
        make: Makes a step.
        steps: Steps to run.

    Returns:
        `baseline`: resident bytes once PyTorch has run a first small step. `growth`: bytes on top of these at most,
        model, batch and optimizer state included. Or `error`.
    """
    handle, path = tempfile.mkstemp(suffix=".json")
    os.close(handle)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            result = {}  # type: Json
            try:
                _first_steps()
                make()  # whatever is loaded and set up once for all
                _give_back()
                keep_freed_memory()
                baseline = _status("VmRSS")
                try:
                    with open("/proc/self/clear_refs", "w") as file:
                        file.write("5")  # the high-water mark starts anew
                except OSError:
                    pass  # a child's mark starts at what it holds when it is forked
                step = make()
                for _ in range(steps):
                    step()
                result = {"baseline": baseline, "growth": _status("VmHWM") - baseline}
            except Exception as error:
                result = {"error": "%s: %s" % (type(error).__name__, error)}
            with open(path, "w") as file:
                json.dump(result, file)
            code = 0
        finally:
            os._exit(code)
    os.waitpid(child, 0)
    text = _read(path)
    os.unlink(path)
    return json.loads(text) if text else {"error": "the process died, perhaps for want of memory"}


def _first_steps() -> None:
    """Have PyTorch load and set up whatever it does when it first computes."""
    import torch
    from torch import nn

    layers = [
        nn.Conv2d(3, 32, 3, 2, 1),
        nn.Conv2d(32, 32, 3, 1, 1, groups=32),
        nn.Conv2d(32, 128, 1),
        nn.BatchNorm2d(128),
    ]
    model = nn.Sequential(*layers)
    optimizer = make_optimizer("adam", list(model.parameters()))
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.randn(8, 3, 64, 64)).sum().backward()
        optimizer.step()


def _give_back() -> None:
    """Return what was freed to the system."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):  # another C library
        pass


# Networks from rows, with PyTorch's own layers


def _network(job: Json) -> Any:
    """A network from the rows of a job; it runs with or without `Stamps`."""
    import torch
    from torch import nn
    from torch.nn import functional

    plain = {
        "relu": torch.relu,
        "relu6": functional.relu6,
        "hardswish": getattr(functional, "hardswish", lambda x: x * functional.relu6(x + 3) / 6),
        "hardsigmoid": getattr(functional, "hardsigmoid", lambda x: functional.relu6(x + 3) / 6),
        "silu": lambda x: x * torch.sigmoid(x),
        "sigmoid": torch.sigmoid,
        "add": lambda x, y: x + y,
        "mul": lambda x, y: x * y,
        "flatten": lambda x: torch.flatten(x, 1),
    }

    class Network(nn.Module):
        def __init__(self) -> None:
            super(Network, self).__init__()
            self.rows = job["rows"]
            self.layers = nn.ModuleList()
            self.position = {}  # type: Dict[str, int]
            for row in self.rows:
                if row["op"] == "conv2d":
                    sizes = {key: tuple(row[key]) for key in ("kernel", "stride", "padding", "dilation")}
                    sizes["kernel_size"] = sizes.pop("kernel")
                    rest = {"groups": row["groups"], "bias": row["bias"]}  # type: Dict[str, Any]
                    rest.update(sizes)
                    layer = nn.Conv2d(row["in"], row["out"], **rest)  # type: nn.Module
                elif row["op"] == "linear":
                    layer = nn.Linear(row["in"], row["out"], bias=row["bias"])
                elif row["op"] == "batchnorm2d":
                    layer = nn.BatchNorm2d(row["out"], eps=row["eps"])
                else:
                    continue
                self.position[row["name"]] = len(self.layers)
                self.layers.append(layer)
            self.eval()  # norms use their running statistics

        def train_only(self, trained: Dict[str, List[str]]) -> None:
            for parameter in self.parameters():
                parameter.requires_grad_(False)
            for name, parts in trained.items():
                for part in parts:
                    getattr(self.layers[self.position[name]], part).requires_grad_(True)

        def forward(self, images: Any, stamps: Optional[Stamps] = None) -> Any:
            values = [images]
            for row in self.rows:
                inputs = [values[number + 1] for number in row["inputs"]]  # -1 is the batch of images
                op = row["op"]
                if row["name"] in self.position:
                    value = self.layers[self.position[row["name"]]](*inputs)
                elif op == "mean":
                    value = inputs[0].mean(row["dims"], keepdim=row["keepdim"])
                elif op == "avgpool2d":
                    value = functional.avg_pool2d(inputs[0], row["size"])
                elif op == "adaptiveavgpool2d":
                    value = functional.adaptive_avg_pool2d(inputs[0], row["size"])
                elif op == "pad":
                    value = functional.pad(inputs[0], row["pads"])
                else:
                    value = plain[op](*inputs)
                values.append(stamps.row(value, row["name"]) if stamps is not None else value)
            return values[-1]

    return Network()


# All of it


def run_jobs(jobs: Json, prepare: Callable[[Json, Json], Tuple[Callable[..., Step], Any]], say: Any) -> Json:
    """Measure what a jobs file asks for, until it is done or its time is up.

    Args:
        jobs: Content of the file.
        prepare: From a network's job and a step's job to a function that makes the `Step`, and one from a step and
            `Stamps` to the same network with stamps.
        say: Called with the share that is done.
    """
    import torch

    threads = jobs["threads"] or physical_cores()
    start = time.time()
    before = machine()
    memory = []
    # These before anything is computed here: a process forks well only as long as it has no threads.
    chosen = jobs["memory"] if hasattr(os, "fork") and sys.platform == "linux" and jobs["device"] == "cpu" else []
    for done, number in enumerate(chosen):
        job = jobs["steps"][number]

        def make(job: Json = job) -> Step:
            torch.manual_seed(0)
            torch.set_num_threads(threads)
            return prepare(jobs["networks"][job["network"]], job)[0]()

        memory.append(dict(resident_growth(make), step=number))
        say(0.15 * (done + 1) / len(chosen))
    allocator = keep_freed_memory()
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    synchronize = synchronizer(jobs["device"])
    timings = []  # type: List[Timing]
    visits, asked = jobs["visits"], jobs["steps"]
    deadline = start + jobs["seconds"]
    first_round = time.time() + (deadline - time.time()) / visits

    def visited(count: int) -> None:
        say(max(0.15 + 0.85 * count / (visits * len(asked)), min(1.0, (time.time() - start) / jobs["seconds"])))

    for job in asked:
        make_step, stamp = prepare(jobs["networks"][job["network"]], job)
        step, stamps = make_step(), Stamps(synchronize)
        timings.append(Timing(step, stamp(step.model, stamps), stamps, synchronize))
        timings[-1].visit(jobs["repeats"])
        visited(len(timings))
        if time.time() > first_round:
            break
    for count in range(len(timings), visits * len(timings)):
        if time.time() > deadline:
            break
        timings[count % len(timings)].visit(jobs["repeats"])
        visited(count + 1)
    say(1.0)
    return {
        "format": RESULTS_FORMAT,
        "version": VERSION,
        "machine": before,
        "temperature_after": temperature(),
        "torch": torch.__version__,
        "device": jobs["device"] if jobs["device"] == "cpu" else torch.cuda.get_device_name(0),
        "threads": threads,
        "freed_memory_kept": allocator,
        "elapsed": time.time() - start,
        "jobs": {
            "layers": jobs["layers"],
            "batch": jobs["batch"],
            "optimizer": jobs["optimizer"],
            "networks": [{key: one[key] for key in ("backbone", "input_size")} for one in jobs["networks"]],
            "steps": [{key: one[key] for key in ("network", "policy")} for one in jobs["steps"]],
        },
        "steps": [dict(timing.result(), step=number) for number, timing in enumerate(timings)],
        "memory": memory,
    }


def _plain(jobs: Json) -> Callable[[Json, Json], Tuple[Callable[..., Step], Any]]:
    """How to prepare the steps of a jobs file with PyTorch's own layers."""

    class Stamped:
        def __init__(self, model: Any, stamps: Stamps) -> None:
            self.model, self.stamps = model, stamps

        def __call__(self, images: Any) -> Any:
            return self.model(images, self.stamps)

    def prepare(network: Json, job: Json) -> Tuple[Callable[..., Step], Any]:
        def make() -> Step:
            model = _network(network).to(jobs["device"])
            model.train_only(job["trained"])
            shape = [jobs["batch"], 3, network["input_size"], network["input_size"]]
            return Step(model, shape, network["classes"], jobs["optimizer"], jobs["device"])

        return make, Stamped

    return prepare


def main(arguments: Optional[List[str]] = None) -> int:
    """`standalone.py JOBS [RESULTS]`: results go to standard output unless a file is named."""
    parser = argparse.ArgumentParser(description="Measure what a jobs file of `tinysearch calibrate --jobs` asks for.")
    parser.add_argument("jobs")
    parser.add_argument("results", nargs="?")
    parser.add_argument("--force", action="store_true", help="measure on a busy machine too")
    options = parser.parse_args(arguments)
    try:
        if os.path.getsize(options.jobs) > MAX_JOBS:
            raise ValueError("larger than %d bytes" % MAX_JOBS)
        with open(options.jobs) as file:
            jobs = json.load(file)
        if not isinstance(jobs, dict) or jobs.get("format") != JOBS_FORMAT or jobs.get("version") != VERSION:
            raise ValueError("no jobs file of this version: write it by `tinysearch calibrate --jobs FILE`")
        if jobs["layers"] != "plain":
            raise ValueError("made for a machine that has tinysearch")
    except (OSError, ValueError, KeyError) as error:
        sys.stderr.write("error: %s: %s\n" % (options.jobs, error))
        return 3
    busy = busy_cores()
    if busy is not None and busy > 0.3 and not options.force:
        sys.stderr.write("error: other programs keep %.1f cores busy: end them, or measure with --force\n" % busy)
        return 8

    def say(share: float) -> None:
        sys.stderr.write("\r%3d %%" % round(100 * share))
        sys.stderr.flush()

    results = json.dumps(run_jobs(jobs, _plain(jobs), say))
    sys.stderr.write("\n")
    if options.results:
        unfinished = options.results + ".unfinished"  # renamed when it is whole
        with open(unfinished, "w") as file:
            file.write(results)
        os.replace(unfinished, options.results)
    else:
        sys.stdout.write(results + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
