"""What the documentation says about files, commands, names and defaults is so."""

import importlib.util
import json
import re
from pathlib import Path

import click
import pytest

import tinysearch
from tinysearch.cli import cli
from tinysearch.search.proxies.settings import FewShotSettings
from tinysearch.spaces.optimizers import OPTIMIZERS
from tinysearch.spaces.policy import UpdatePolicy

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/README.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))
TEXTS = {page.relative_to(ROOT).as_posix(): re.sub(r"<!--.*?-->", "", page.read_text(), flags=re.S) for page in PAGES}
PAGE = pytest.mark.parametrize("page", TEXTS)

SETUP = "python -m venv .venv && .venv/bin/pip install -c constraints.txt "
TEST_COMMAND = SETUP + "-e '.[dev]' && .venv/bin/python -m pytest"
MAIN_COMMAND = SETUP + ". && .venv/bin/tinysearch run --device rpi4 --dataset digits"
#: Options that pages mention by themselves and that are another program's.
FOREIGN = {"--import-mode"}


def code(text):
    """Fenced and indented blocks line by line, and what stands between backticks."""
    fenced = re.findall(r"^```.*?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    indented = re.findall(r"^ {4,}(.*)$", rest, re.MULTILINE)
    inline = re.findall(r"`([^`]+)`", rest)
    return [line for block in fenced for line in block.splitlines()] + indented + inline


def calls(text):
    """Calls of the command line: the words after `tinysearch`."""
    for line in code(text):
        for arguments in re.findall(r"(?<![\w.-])(?<!import )(?<!, )(?<!-p )tinysearch ([^#&|;()]*)", line):
            if words := arguments.split():
                yield words


def children(group):
    """The commands of a group by name, those that are imported when they are asked for too."""
    context = click.Context(group)
    return {name: group.get_command(context, name) for name in group.list_commands(context)}


def options(command):
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}


def all_options(command):
    below = children(command).values() if isinstance(command, click.Group) else ()
    return options(command) | {name for child in below for name in all_options(child)}


@PAGE
def test_relative_links_resolve(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXTS[page]):
        if not target.startswith(("http://", "https://", "#", "mailto:")):
            assert ((ROOT / page).parent / target.partition("#")[0]).exists(), f"{page} links to {target}"


@PAGE
def test_scripts_that_are_called_exist(page):
    for line in code(TEXTS[page]):
        for script in re.findall(r"\b(?:python|bash) ([\w./-]+\.py|\.ci/run)", line):
            assert (ROOT / script).is_file(), f"{page} calls {script}"


@PAGE
def test_commands_and_their_options_exist(page):
    for words in calls(TEXTS[page]):
        command = cli
        rest = list(words)
        while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
            name = rest.pop(0)
            assert name in children(command), f"{page}: tinysearch {' '.join(words)}: no command {name}"
            command = children(command)[name]
        known = options(command) | {"-h", "--help"}
        for word in rest:
            if re.match(r"--?[a-z]", word):
                assert word.partition("=")[0] in known, f"{page}: tinysearch {' '.join(words)}: no option {word}"


@PAGE
def test_options_that_are_named_alone_exist(page):
    known = all_options(cli) | FOREIGN
    for span in re.findall(r"`(--[a-z][a-z-]*)[^`]*`", TEXTS[page]):
        assert span in known, f"{page}: no command has {span}"


@PAGE
def test_names_of_the_api_exist(page):
    for line in code(TEXTS[page]):
        for name in re.findall(r"\bts\.([A-Za-z_]\w*)", line):
            assert name in tinysearch.__all__, f"{page}: tinysearch has no {name}"


def test_the_documentation_is_searched_for_what_it_says():
    """The checks above find what they are there for."""
    found = [words for text in TEXTS.values() for words in calls(text)]
    assert {"run", "show", "plot", "finetune", "inspect", "methods", "devices"} <= {words[0] for words in found}
    assert list(calls("`tinysearch run --nothing`")) == [["run", "--nothing"]]


def test_the_two_commands_are_the_same_everywhere():
    readme = (ROOT / "README.md").read_text().splitlines()
    assert f"    {MAIN_COMMAND}" in readme
    assert f"    {TEST_COMMAND}" in readme
    assert f"    {TEST_COMMAND}" in (ROOT / "CONTRIBUTING.md").read_text().splitlines()
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == TEST_COMMAND


def test_the_policy_that_is_shown_is_one():
    (shown,) = re.findall(r"```json\n(.*?)```", TEXTS["docs/policy-format.md"], re.DOTALL)
    policy = UpdatePolicy.from_json(shown)
    assert policy.to_json() == json.dumps(json.loads(shown), indent=1) + "\n"


def test_every_key_of_a_policy_is_described():
    text = TEXTS["docs/policy-format.md"]
    keys = {key for part in _objects(UpdatePolicy.json_schema()) for key in part.get("properties", {})}
    assert {key for key in keys if f"`{key}`" not in text and f".{key}`" not in text} == set()


def _objects(schema):
    return [schema, *schema["$defs"].values()]


def test_the_defaults_of_the_proxy_are_those_of_the_code():
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| (\d+) \|$", TEXTS["docs/proxy.md"], re.MULTILINE))
    stated = {name: str(field.default) for name, field in FewShotSettings.model_fields.items() if name != "name"}
    assert rows == stated


def test_the_rates_are_those_of_the_code():
    rows = dict(re.findall(r"^\| `([\w-]+)` \| ([\d., ]+) \|$", TEXTS["docs/proxy.md"], re.MULTILINE))
    assert {name: tuple(float(x) for x in rates.split(",")) for name, rates in rows.items()} == {
        name: OPTIMIZERS.load(name).rates for name in OPTIMIZERS
    }


def test_every_module_stands_in_the_page_of_modules():
    spec = importlib.util.spec_from_file_location("modules", ROOT / "docs" / "modules.py")
    page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(page)
    written = (ROOT / "docs" / "modules.md").read_text(encoding="utf-8")
    assert written == page.text(), "write it anew: python docs/modules.py"


@PAGE
def test_files_of_the_project_that_are_named_exist(page):
    for name in re.findall(
        r"`((?:spaces|devices|results|search|tinysearch|tests|benchmarks|docs)/[\w./-]+\.\w+)`", TEXTS[page]
    ):
        # What is named as it lies in an installed package lies one folder higher in a checkout.
        places = (ROOT / name, ROOT / name.removeprefix("tinysearch/"))
        assert any(place.is_file() for place in places), f"{page} names {name}"
