"""librdkafka's own tests under `compat/`: which are chosen, and that nothing counts as passed which did not run."""

import stat
import sys
from pathlib import Path
from types import ModuleType

import pytest

SUITE = Path(__file__).resolve().parents[2] / "compat" / "librdkafka"

TABLE = """
struct test tests[] = {
    _TEST(0001_plain, 0),
    _TEST(0002_versioned, 0, TEST_BRKVER(0, 9, 0, 0)),
    _TEST(0003_local, TEST_F_LOCAL),
#if WITH_SOCKEM
    _TEST(0004_two_scenarios,
          TEST_F_SOCKEM,
          TEST_BRKVER(1, 0, 0, 0),
          .scenario = "default,old"),
#endif
    _TEST(0005_bare_broker,
          0,
          TEST_BRKVER(1, 0, 0, 0),
          .scenario = "noautocreate"),
    _TEST(0006_mock, 0),
    _TEST(0081_admin, 0),
    _TEST(8000_by_hand, TEST_F_MANUAL),
    {NULL}};
"""

ADMIN = """
static void do_test_Create(const char *what) {
        SUB_TEST_QUICK("%s", what);
}
static void do_test_helper(void) {
}
static void
do_test_Delete(void) {
        SUB_TEST();
}
"""

# Says what the real one says in each of these cases.
RUNNER = """#!/usr/bin/env python3
import json, os, sys, time
number = os.environ["TESTS"]
state, code = "PASSED", 0
def say(text):
    print(f"\\x1b[36m[0001_plain                  /  0.100s] {text}\\x1b[0m")
def report():
    tests = {name: {"name": name, "state": state, "duration": 1.5} for name in ("0001_plain", "0001_twin")}
    with open(os.environ["TEST_REPORT"], "w") as file:
        json.dump({"tests": tests}, file)
if number == "passes":
    say("\\x1b[35m[ do_test:12: one ]")
    say("\\x1b[32m[ do_test:12: one: PASS (0.10s) ]")
    say("\\x1b[33m[ do_test:12: two: SKIP: too old ]")
elif number == "skips subtests":
    say("\\x1b[33m[ do_test:12: one: SKIP: too old ]")
elif number == "skips itself":
    state = "SKIPPED"
    say("WARN: SKIPPING TEST: needs SASL")
elif number == "fails":
    state, code = "FAILED", 1
    print('### Test "0001_plain (do_test:12)" failed at 0001.c:7:f() at noon: ###\\nExpected 2, got 1\\n[<MAIN> ] more')
elif number == "leaks":
    code = 134
elif number == "hangs":
    time.sleep(60)
elif number == "dies":
    os.abort()
report()
sys.exit(code)
"""


@pytest.fixture
def scenario(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SUITE.parent))
    monkeypatch.syspath_prepend(str(SUITE))
    for name in ("build", "scenario"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import scenario

    return scenario


@pytest.fixture
def tests(tmp_path: Path) -> Path:
    """The sources as build.py leaves them, as far as the runner looks at them."""
    folder = tmp_path / "librdkafka" / "tests"
    folder.mkdir(parents=True)
    (folder / "test.c").write_text(TABLE)
    (folder / "0081-admin.c").write_text(ADMIN)
    runner = folder / "test-runner"
    runner.write_text(RUNNER.replace("/usr/bin/env python3", sys.executable))
    runner.chmod(runner.stat().st_mode | stat.S_IXUSR)
    return folder


def test_tests_that_need_this_broker_are_chosen(scenario: ModuleType, tests: Path) -> None:
    assert list(scenario.names(tests, "default")) == [
        *("0001_plain", "0002_versioned", "0004_two_scenarios"),
        *("0081_admin do_test_Create", "0081_admin do_test_Delete"),
    ]
    assert list(scenario.names(tests, "noautocreate")) == ["0005_bare_broker"]


@pytest.mark.parametrize(
    ("number", "part", "passed", "detail"),
    [
        ("passes", "", True, "1 subtests; skipped: do_test:12: two"),
        ("passes", "do_test", True, "1 subtests; skipped: do_test:12: two"),
        ("skips subtests", "", None, "skipped: all of its 1 subtests"),
        ("skips itself", "", None, "skipped: needs SASL"),
        ("has no subtests", "", True, ""),
        ("has no subtests", "do_test_gone", None, "skipped: all of its 0 subtests"),
        ("fails", "", False, "Expected 2, got 1"),
        ("leaks", "", False, "passed, but the test-runner ended with 134"),
        ("dies", "", False, "the test-runner ended with -6 and without a report"),
        ("hangs", "", False, "not done within 0.5 s"),
    ],
)
def test_only_what_ran_is_a_pass(
    scenario: ModuleType,
    tests: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: str,
    part: str,
    passed: bool | None,
    detail: str,
) -> None:
    monkeypatch.setattr(scenario, "LIMIT_S", 0.5 if number == "hangs" else 30)
    runner = scenario.Runner(tests, tmp_path / "work", "somewhere:1", "default")
    outcome = runner.run(number, part, ["0001_plain"])["0001_plain"]
    assert (outcome.passed, outcome.detail) == (passed, detail)
