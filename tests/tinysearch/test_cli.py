import csv
import io
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tinysearch.results.front import Front
from tinysearch.results.rundir import RunDirectory
from tinysearch.spaces.policy import UpdatePolicy

Done = subprocess.CompletedProcess[str]
Command = Callable[..., Done]
Commands = Callable[[list[list[str]]], list[Done]]
FORMS = ("table", "json", "yaml", "csv")
TINY = ("--backbone", "tiny_net:build", "--weights", "none")
#: What the usual mistakes say, and the exit code of each: 2 usage, 3 input, 4 missing data, 5 budget, 6 conflict.
MISTAKES = {
    "unknown device": (["run", "--device", "pdp11"], 3, "no device 'pdp11': name one of"),
    "unknown data set": (["run", "--dataset", "cifar1000"], 3, "cifar1000"),
    "missing weights": (["run", "--weights", "gone.pth"], 4, "gone.pth"),
    "weights not published": (["run", "--backbone", "proxylessnas-w0.3"], 3, "no weights are published"),
    "unknown backbone": (["run", "--backbone", "resnet9000"], 3, "resnet9000"),
    "backbone of nobody": (
        ["run", "--backbone", "no_such_module:build", "--weights", "none"],
        3,
        "there is no module no_such_module",
    ),
    "quantity without unit": (["run", "--max-latency", "3"], 3, "max_latency: '3' has no unit"),
    "quantity of another kind": (["run", "--max-memory", "3 ms"], 3, "unknown unit 'ms'"),
    "trials not a number": (["run", "--trials", "many"], 2, "'many' is not a valid integer"),
    "no trials": (["run", "--trials", "0"], 3, "trials"),
    "no jobs": (["run", "--jobs", "0"], 3, "jobs is 0"),
    "unknown sampler": (["run", "--sampler", "grid"], 3, "nsga2, nsga3, gp, tpe, random"),
    "impossible budget": (["run", *TINY, "--max-memory", "1KiB"], 5, "the smallest policy (head only)"),
    "size that is none": (["run", *TINY, "--input-size", "16,x"], 3, "--input-size: 'x' is no whole number of pixels"),
    "weights of one of several": (
        ["run", "--backbone", "tiny_net:build,tiny_net:one_conv", "--weights", "x.pth"],
        3,
        "which backbone is 'x.pth' for? With several, --weights tiny_net:build=FILE",
    ),
    "network given twice": (["run", *TINY, "--input-size", "16,16"], 3, "at 16 px is asked for twice"),
    "several networks of another sampler": (
        ["run", *TINY, "--input-size", "16,24", "--sampler", "tpe"],
        3,
        "leave out --sampler",
    ),
    "unknown accounting": (["inspect", *TINY, "--accounting", "tinyml"], 3, "no accounting named 'tinyml'"),
    "unknown option": (["run", "--colour"], 2, "--colour"),
    "unknown command": (["serach"], 2, "serach"),
    "no run directory": (["show", "nowhere"], 3, "nowhere: no such folder"),
    "folder that is no run": (["show", "."], 3, "is no run"),
    "plot of no run": (["plot", "."], 3, "is no run"),
    "unknown form": (["backbones", "-f", "xml"], 2, "xml"),
    "unknown method": (["inspect", *TINY, "--policy", "magic"], 3, "no method named 'magic'"),
    "missing policy file": (["inspect", *TINY, "--policy", "gone.json"], 3, "gone.json: no such file"),
    "missing configuration": (["run", "-c", "gone.yaml"], 3, "gone.yaml: no such file"),
    "profile without an ending": (["calibrate", "--out", "x", "--force"], 3, "ends in .yaml"),
    "results of nobody": (["calibrate", "--from", "gone.json"], 3, "gone.json: no such file"),
    "results to be measured": (["calibrate", "--from", "gone.json", "--threads", "2"], 3, "leave out --threads"),
    "jobs and a profile": (["calibrate", "--jobs", "j.json", "--out", "x.yaml"], 3, "leave out --out"),
    "board without jobs": (["calibrate", "--board", "cuda", "--force"], 3, "leave out --board"),
    "time budget without unit": (["calibrate", "--time-budget", "5", "--force"], 3, "has no unit"),
    "backbone to calibrate": (["calibrate", "--backbone", "resnet9000", "--force"], 3, "resnet9000"),
    "meta-training without a source": (["meta-train", "--out", "m.pth"], 2, "--source"),
    "meta-training of nobody": (
        ["meta-train", "--backbone", "resnet9000", "--source", "digits", "--out", "m.pth"],
        3,
        "unknown backbone 'resnet9000'",
    ),
    "weights that cannot be written": (["meta-train", "--source", "digits", "--out", "no/m.pth"], 3, "no folder no"),
    "too few classes of a task": (
        ["meta-train", "--source", "digits", "--out", "m.pth", "--way", "1"],
        3,
        "--way is 1: it must be at least 2",
    ),
    "unknown profile to show": (["devices", "show", "pdp11"], 3, "no device 'pdp11'"),
}


def one_line(done: Done, code: int) -> str:
    """The only line on standard error of a command that failed as it should."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("tinysearch: error: ")
    return line


@pytest.fixture(scope="module")
def answers(commands: Commands) -> dict[str, Done]:
    """What each mistake is answered with."""
    return dict(zip(MISTAKES, commands([arguments for arguments, _, _ in MISTAKES.values()]), strict=True))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_an_exit_code(mistake: str, answers: dict[str, Done]) -> None:
    _, code, said = MISTAKES[mistake]
    assert said in one_line(answers[mistake], code)


def test_the_process_ends_with_the_code(command: Command, tmp_path: Path) -> None:
    one_line(command("show", "nowhere", cwd=tmp_path), 3)
    one_line(command("run", "--trials", "many", cwd=tmp_path), 2)
    assert not (tmp_path / "runs").exists()


def test_data_that_cannot_be_fetched_is_said_after_the_attempt(command: Command) -> None:
    done = command("run", "--dataset", "cifar10", "--data-dir", ".")
    assert done.returncode == 4
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("tinysearch: error: ")
    assert "could not be downloaded" in done.stderr.splitlines()[-1]


def test_a_wrong_configuration_file_is_named(commands: Commands, tmp_path: Path) -> None:
    said = {
        "trails: 5\n": "no option named trails",
        "- trials\n": "`name: value`",
        "trials: [\n": "no YAML: ",
        "trials: {}\n": "trials must be a single value",
        f"!!python/object/apply:os.system ['touch {tmp_path}/executed']\n": "YAML tags (!name) are not allowed",
    }
    files = [tmp_path / f"{number}.yaml" for number in range(len(said))]
    for file, content in zip(files, said, strict=True):
        file.write_text(content)
    for done, part in zip(commands([["run", "-c", str(file)] for file in files]), said.values(), strict=True):
        assert part in one_line(done, 3)
    assert sorted(tmp_path.iterdir()) == files


# --- a finished run --------------------------------------------------------------------------------------------------


def test_show_prints_the_front_in_every_form(run_dir: Path, commands: Commands) -> None:
    front = RunDirectory.load(run_dir).front
    printed = dict(zip(FORMS, commands([["show", str(run_dir), "-f", form] for form in FORMS]), strict=True))
    assert {done.returncode for done in printed.values()} == {0}
    assert Front.from_json(printed["json"].stdout) == front
    assert yaml.safe_load(printed["yaml"].stdout) == json.loads(printed["json"].stdout)
    rows = list(csv.DictReader(io.StringIO(printed["csv"].stdout)))
    assert [(row["hash"], float(row["accuracy"]), int(row["peak_bytes"])) for row in rows] == [
        (member.hash, member.accuracy, member.peak_bytes) for member in front.members
    ]
    assert all((member.method or member.hash[:8]) in printed["table"].stdout for member in front.members)


def test_the_same_command_resumes_and_another_is_refused(run_dir: Path, commands: Commands) -> None:
    options = ["run", "-c", str(run_dir.parents[2] / "options.yaml"), "--out", str(run_dir)]
    again, other = commands([[*options, "--trials", "7"], [*options, "--seed", "1"]])
    assert again.returncode == 0
    assert "resuming after 7 trials" in again.stderr
    assert "[8/" not in again.stderr
    assert "seed was 0, now 1" in one_line(other, 6)


def test_plot_writes_a_picture_and_says_where(run_dir: Path, commands: Commands, tmp_path: Path) -> None:
    outputs = (str(tmp_path / "front.png"), "no/such/folder.png", "front.pdf")
    done, nowhere, wrong = commands([["plot", str(run_dir), "-o", output] for output in outputs])
    assert (done.returncode, done.stdout.strip()) == (0, str(tmp_path / "front.png"))
    assert (tmp_path / "front.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert "there is no folder no/such" in one_line(nowhere, 3)
    assert "PNG" in one_line(wrong, 3)


def test_finetune_trains_a_member_of_the_run(run_dir: Path, commands: Commands) -> None:
    """The run has a limit in seconds, which is read back from its request."""
    member = RunDirectory.load(run_dir).front.members[0]
    base = ["finetune", str(run_dir), "--steps", "2"]
    one, best, unknown, none = commands(
        [
            [*base, "--test-images", "50", "--policy", member.hash],
            [*base, "--test-images", "50"],
            [*base, "--policy", "zzz"],
            [*base, "--test-images", "0"],
        ]
    )
    for done in (one, best):
        assert done.returncode == 0, done.stderr
        assert "test accuracy" in done.stdout
    assert "0 members" in one_line(unknown, 3)
    assert "test_images is 0" in one_line(none, 3)


def test_inspect_reads_a_policy_of_the_run(run_dir: Path, command: Command) -> None:
    member = RunDirectory.load(run_dir).front.members[-1]
    path = run_dir / member.policy
    inspect = ("inspect", "--policy", str(path), "--weights", "none", "-f", "json")
    done = command(*inspect, "--backbone", "tiny_net:build")
    assert done.returncode == 0, done.stderr
    assert "say that its code may run, by --backbone tiny_net:build" in one_line(command(*inspect), 3)
    layers = json.loads(done.stdout)
    saved = sum(layer["saved_bytes"] for layer in layers)
    assert saved == member.saved_bytes
    trained = {layer["layer"] for layer in layers if layer["trains"]}
    policy = UpdatePolicy.load(path)
    assert trained >= {policy.head} | {norm.name for norm in policy.norms}


def test_show_counts_the_front_by_other_accountings(run_dir: Path, commands: Commands) -> None:
    members = RunDirectory.load(run_dir).front.members
    names = ("tinytl", "eager")
    done = commands([["show", str(run_dir), "--accounting", name, "-f", "json"] for name in (*names, "none")])
    tinytl, eager = (json.loads(answer.stdout) for answer in done[:2])
    for records in (tinytl, eager):
        assert [record["policy"] for record in records] == [member.hash[:8] for member in members]
    assert all(record["memory_bytes"] > record["parameters_bytes"] for record in tinytl)
    saved = [(record["saved_bytes"], member.saved_bytes) for record, member in zip(eager, members, strict=True)]
    assert all(plain >= ours for plain, ours in saved)
    assert "no accounting named 'none'" in one_line(done[2], 3)


def test_inspect_writes_a_memory_plan(command: Command, tmp_path: Path) -> None:
    arguments = ("inspect", *TINY, "--policy", "bias", "--device", "cortex-m7-int8", "--plan")
    picture = command(*arguments, str(tmp_path / "plan.png"))
    assert picture.returncode == 0, picture.stderr
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG")
    assert "of SRAM1+SRAM2" in picture.stdout
    assert "fits" in picture.stdout
    done = command(*arguments, str(tmp_path / "plan.json"))
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "plan.json").read_text())["format"] == "tinysearch.plan"
    assert ".png" in one_line(command(*arguments, "plan.gif"), 3)


# --- listings --------------------------------------------------------------------------------------------------------


LISTINGS = {
    "device": (["devices"], {"cortex-m7-int8", "jetson-nano", "rpi4"}),
    "backbone": (["backbones"], {"mobilenetv2-w0.35", "mcunet-5fps", "proxylessnas-mobile"}),
    "dataset": (["datasets"], {"digits", "cifar10"}),
    "method": (["methods", *TINY], {"last", "bias", "full", "mobiletl-1"}),
    "layer": (["inspect", *TINY], {"stem.0", "blocks.1.layers.3", "head"}),
}


def test_accountings_print_their_papers_columns(commands: Commands) -> None:
    tinytl, inspected, eager = commands(
        [
            ["methods", *TINY, "--accounting", "tinytl", "--classes", "3", "-f", "json"],
            ["inspect", *TINY, "--accounting", "sparse-update", "--policy", "last-conv"],
            ["inspect", *TINY, "--accounting", "eager", "--policy", "bias"],
        ]
    )
    records = {record["method"]: record for record in json.loads(tinytl.stdout)}
    assert {"last", "full", "last-conv"} <= records.keys()
    last = records["last"]
    assert last["memory_bytes"] == last["parameters_bytes"] + 8 * last["peak_per_sample_bytes"]
    assert "weights and biases" in inspected.stdout
    assert " kB" in inspected.stdout
    assert "Lin et al. 2022" in inspected.stdout
    assert "accounting eager" in eager.stdout


@pytest.fixture(scope="module")
def listings(commands: Commands) -> dict[tuple[str, str], Done]:
    """Every listing in every form."""
    wanted = {(key, form): [*LISTINGS[key][0], "-f", form] for key in LISTINGS for form in FORMS}
    return dict(zip(wanted, commands(list(wanted.values())), strict=True))


@pytest.mark.parametrize("key", LISTINGS)
def test_listings_say_the_same_in_every_form(key: str, listings: dict[tuple[str, str], Done]) -> None:
    among = LISTINGS[key][1]
    printed = {form: listings[key, form] for form in FORMS}
    assert [done.stderr for done in printed.values()] == [""] * 4
    records = json.loads(printed["json"].stdout)
    assert among <= {record[key] for record in records}
    assert yaml.safe_load(printed["yaml"].stdout) == records
    rows = list(csv.DictReader(io.StringIO(printed["csv"].stdout)))
    assert [row[key] for row in rows] == [str(record[key]) for record in records]
    assert all(name in printed["table"].stdout for name in among)


def test_costs_of_a_backbone_need_no_download_of_its_weights(command: Command) -> None:
    done = command("methods", "--backbone", "mobilenetv3-small", "--input-size", "64", "-f", "json")
    assert done.returncode == 0, done.stderr
    assert "full" in {record["method"] for record in json.loads(done.stdout)}


def test_a_profile_is_shown_with_its_sources(command: Command) -> None:
    done = command("devices", "show", "rpi4")
    assert done.returncode == 0
    assert "ASSUMED" in done.stdout
    assert "assumed, not measured:" in done.stdout


def test_no_command_is_the_help(commands: Commands) -> None:
    bare, asked, run, version = commands([[], ["--help"], ["run", "-h"], ["--version"]])
    assert (bare.returncode, bare.stdout) == (0, asked.stdout)
    for name in (
        "run",
        "rerun",
        "show",
        "plot",
        "devices",
        "backbones",
        "methods",
        "inspect",
        "finetune",
        "merge",
        "verify",
        "meta-train",
    ):
        assert f"\n  {name} " in asked.stdout
    assert "--max-memory" in run.stdout
    assert version.stdout.startswith("tinysearch, version ")
