"""The suite runs with every shape and type annotation of dslearn enforced, on two cores, from one seed."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator

import jaxtyping

if "dslearn" in sys.modules:
    raise RuntimeError("dslearn was imported before its annotations could be enforced: look for an early import")
jaxtyping.install_import_hook("dslearn", "beartype.beartype")

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """A test draws the same numbers alone as in the whole suite."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - third-party code under test still reads the global state
    torch.manual_seed(0)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Annotations are not enforced in this test: wrong shapes reach the library's own errors."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
