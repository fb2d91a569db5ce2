"""A check that hangs or dies costs itself and nothing else, and what is reported is what was run."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

SUITE = """
import os, signal
import harness

def fails():
    raise ValueError("no\\nway")

def crashes():
    os.kill(os.getpid(), signal.SIGSEGV)

def hangs():
    if os.fork() == 0:
        signal.pause()  # a child of the check, which holds its pipe open
    signal.pause()

def checks(bootstrap):
    yield harness.Check("passes", lambda: bootstrap, quick=True)
    yield harness.Check("fails", fails)
    yield harness.Check("crashes", crashes)
    yield harness.Check("hangs", hangs, limit_s=0.3)
    yield harness.Check("restarts", harness.restart_broker, quick=True, restarts=True)

harness.main("fake", "1.0", checks)
"""


def run_suite(tmp_path: Path, *arguments: str) -> list[dict[str, object]]:
    script = tmp_path / "run.py"
    script.write_text(SUITE)
    child = subprocess.Popen(
        [sys.executable, str(script), "--bootstrap", "somewhere:1", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT / "compat")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with child:
        assert child.stdin is not None and child.stdout is not None
        said = []
        for line in child.stdout:
            said.append(json.loads(line))
            if "ask" in said[-1]:
                # an answer to a check that was given up must not be taken for the one that was asked for
                child.stdin.write(b'{"token": "stale", "error": "not yours"}\n')
                child.stdin.write(json.dumps({"token": said[-1]["token"], "error": None}).encode() + b"\n")
                child.stdin.flush()
    assert child.returncode == 0
    return said


def test_each_check_is_reported_with_what_became_of_it(tmp_path: Path) -> None:
    said = run_suite(tmp_path)
    assert said[0] == {
        "client": "fake",
        "version": "1.0",
        "checks": ["passes", "fails", "crashes", "hangs", "restarts"],
    }
    outcomes = {entry["check"]: (entry["passed"], entry["detail"]) for entry in said if "check" in entry}
    assert outcomes == {
        "passes": (True, "somewhere:1"),
        "fails": (False, "ValueError: no way"),
        "crashes": (False, "the process of the check died"),
        "hangs": (False, "not done within its 0.3 s"),
        "restarts": (True, ""),
    }


def test_what_is_left_out_is_not_reported(tmp_path: Path) -> None:
    assert run_suite(tmp_path, "--quick")[0]["checks"] == ["passes", "restarts"]
    assert run_suite(tmp_path, "--quick", "--no-restarts")[0]["checks"] == ["passes"]
    assert run_suite(tmp_path, "--only", "ash")[0]["checks"] == ["crashes"]
