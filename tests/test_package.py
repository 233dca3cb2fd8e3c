"""The package as a whole: what importing it costs and brings in, and the rules that its code keeps."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import requires, version
from pathlib import Path
from statistics import median

import jaxtyping
import pytest
import torch

import dslearn
from dslearn._extras import require

PACKAGE = Path(dslearn.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
CORE = ("torch", "numpy", "einops", "jaxtyping", "safetensors")
# fmt: off
# Each room may import those before it, and itself.
FLOORS = [
    "data", "attention", "moe", "parallel", "planner", "models", "fusion", "compress", "adaptive",
    "continual", "training", "finance", "manufacturing", "medicine", "evolve", "plots", "widgets",
    "demos", "course", "cli",
]
# fmt: on


def run_python(code: str) -> str:
    """What a fresh process prints."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def module_name(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def test_version_is_the_declared_one() -> None:
    assert dslearn.__version__ == version("dslearn")


def test_unknown_attribute_names_the_rooms() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'atention'; its rooms are data, attention"):
        dslearn.atention  # noqa: B018


@pytest.mark.parametrize("room", [name for name in dir(dslearn) if not name.startswith("_")])
def test_every_named_room_opens(room: str) -> None:
    assert getattr(dslearn, room).__name__ == f"dslearn.{room}"


def test_missing_extra_is_named() -> None:
    with pytest.raises(ImportError, match=re.escape("""This needs the extra 'train': pip install "dslearn[train]\"""")):
        require("a_package_that_nobody_has", "train")


def test_error_inside_an_extra_is_not_called_a_missing_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half_there.py").write_text("import a_package_that_nobody_has\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="a_package_that_nobody_has"):
        require("half_there", "train")


def test_wrong_shapes_fail_while_the_suite_runs() -> None:
    from dslearn.attention import dense_attention

    q, v = torch.zeros(1, 2, 8, 4), torch.zeros(1, 2, 7, 4)
    with pytest.raises(jaxtyping.TypeCheckError, match="dense_attention"):
        dense_attention(q, q, v)


@pytest.mark.slow
def test_import_costs_at_most_a_tenth_of_a_second_over_torch() -> None:
    # CPU seconds, after torch in the same process: neither other work nor torch's own, larger, swings are counted.
    timed = "import time, torch; began = time.process_time(); import dslearn; print(time.process_time() - began)"
    assert median(float(run_python(timed)) for _ in range(9)) <= 0.1


def distributions_after(statement: str) -> set[str]:
    code = (
        f"{statement}\nimport sys\nfrom importlib.metadata import packages_distributions\n"
        "owners = packages_distributions()\n"
        "print(*{owner for name in list(sys.modules) for owner in owners.get(name.partition('.')[0], ())})"
    )
    return {normalised(name) for name in run_python(code).split()}


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def core_distributions() -> set[str]:
    """The core dependencies and all that they bring themselves."""
    todo, done = list(CORE), set[str]()
    while todo:
        name = normalised(todo.pop())
        if name not in done:
            done.add(name)
            lines = [line for line in requires(name) or () if "extra ==" not in line]
            todo += [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in lines if "sys_platform" not in line]
    return done


@pytest.mark.parametrize(
    "statement",
    ["import dslearn", "import dslearn.data, dslearn.attention, dslearn.models", "import dslearn.cli"],
)
def test_core_import_brings_in_no_other_distribution(statement: str) -> None:
    already_there = distributions_after(f"import {', '.join(CORE)}, safetensors.torch, torch.hub")
    assert distributions_after(statement) <= core_distributions() | already_there | {"dslearn"}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_rooms_import_only_rooms_before_them(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0]
    if room not in FLOORS:
        return
    allowed = set(FLOORS[: FLOORS.index(room) + 1])
    used = {name.split(".")[1] for name in imports(path) if name.startswith("dslearn.")}
    assert used & set(FLOORS) <= allowed


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_lightning_matplotlib_and_gradio_stay_in_their_rooms(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0]
    used = {name.partition(".")[0] for name in imports(path)}
    assert room == "training" or not used & {"lightning", "pytorch_lightning"}
    assert room in FLOORS[FLOORS.index("plots") :] or "matplotlib" not in used
    assert "gradio" not in used  # dslearn.demos.serve alone asks for it, and says which extra brings it


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_modules_and_functions_stay_short(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 300
    longest = max(function_lengths(source), default=0)
    assert longest <= 40, f"a function of {longest} lines"


def test_the_median_function_is_short() -> None:
    lengths = [length for path in MODULES for length in function_lengths(path.read_text(encoding="utf-8"))]
    assert median(lengths) <= 12


def function_lengths(source: str) -> list[int]:
    """Lines of each function's body, its docstring not counted."""
    return [
        body_lines(node)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    statements = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return statements[-1].end_lineno - statements[0].lineno + 1 if statements else 0
