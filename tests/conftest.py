"""Fixtures: `backend` runs a test once a backend, `engine` once for everything that can be forced (engines.py)."""

import os
import subprocess
import sys

import pytest
from engines import BACKENDS, ENGINES, Engine

import npconv


def pytest_report_header(config):
    return f"npconv {npconv.__version__} from {os.path.dirname(npconv.__file__)}: {', '.join(map(str, ENGINES))}"


@pytest.fixture(params=BACKENDS)
def backend(request):
    """The backend's name; it is in force while the test runs."""
    with npconv.options(backend=request.param):
        yield request.param


@pytest.fixture(params=ENGINES, ids=str)
def engine(request) -> Engine:
    return request.param


@pytest.fixture
def plain_sums():
    """For exact comparisons of whatever npconv chooses to run."""
    with npconv.options(precision="strict"):
        yield


@pytest.fixture
def run_python():
    """Runs a program in a fresh interpreter and returns what it printed; a hang or a crash fails the test."""

    def run(program, *arguments, timeout=120, **environment):
        path = os.pathsep.join(entry for entry in sys.path if entry)
        done = subprocess.run(
            [sys.executable, "-X", "faulthandler", "-c", program, *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": path, **environment},
            capture_output=True, text=True, timeout=timeout,
        )  # fmt: skip
        assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    return run
