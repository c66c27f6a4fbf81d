"""What is wrong with files and options is told before PyTorch is imported, which takes longer than all else."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

WRONG = [
    "run --device nosuch",
    "run --device bad.yaml",
    "run --dataset nosuch",
    "run -c bad.yaml",
    "run -c unknown.yaml",
    "run --trials 0",
    "run --sampler nosuch",
    "run --weights missing.pth",
    "show missing",
    "show broken",
    "plot broken",
    "finetune broken",
    "finetune RUN --policy nosuch",
    "finetune RUN --delta x.txt",
    "verify broken",
    "verify RUN --policy nosuch",
    "merge missing.safetensors --out m.safetensors",
    "merge bad.json --out m.txt",
    "export bad.json --to c --out o",
    "export RUN --to nosuch --out o",
    "inspect --policy bad.json",
    "inspect --device bad.yaml",
    "inspect --accounting nosuch",
    "inspect --weights missing.pth",
    "methods --device nosuch",
    "calibrate --from bad.json",
    "devices show bad.yaml",
]
DRIVER = """
import json, sys
from tinysearch.cli import main
for arguments in json.load(sys.stdin):
    sys.argv[1:] = arguments
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code
    print(json.dumps([code, "torch" in sys.modules]), flush=True)
"""


def test_it_is_told_without_torch(run_dir: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "bad.json").write_text('{"format":')
    (tmp_path / "bad.yaml").write_text("a: [")
    (tmp_path / "unknown.yaml").write_text("nope: 1")
    shutil.copytree(run_dir, tmp_path / "broken")
    (tmp_path / "broken" / "front.json").write_text("{")
    commands = [[str(run_dir) if word == "RUN" else word for word in line.split()] for line in WRONG]
    done = subprocess.run(
        [sys.executable, "-c", DRIVER],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
        cwd=tmp_path,
        env=environment,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    told = [line for line in done.stderr.splitlines() if "error:" in line]
    assert len(told) == len(WRONG), done.stderr
    for line, (code, torch) in zip(WRONG, answers, strict=True):
        assert code in (3, 4), line
        assert not torch, line
