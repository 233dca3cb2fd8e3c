"""The wheel that a user installs: complete, light, and working in an empty environment."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

import dslearn

ROOT = Path(__file__).resolve().parent.parent
USE = """
import torch
from dslearn.attention import DynamicSparseAttention

layer = DynamicSparseAttention(64, 4, block_size=16, top_k=2)
x = torch.randn(2, 100, 64)
out = layer(x)
assert out.shape == x.shape and out.isfinite().all()
out.square().mean().backward()
assert layer.qkv.weight.grad.abs().sum() > 0
print("attended")
"""

pytestmark = [pytest.mark.wheel, pytest.mark.slow]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_wheel_holds_the_library_and_its_data_only(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names} <= {"dslearn", f"dslearn-{dslearn.__version__}.dist-info"}
    data = {path.relative_to(ROOT).as_posix() for path in (ROOT / "dslearn").rglob("*") if is_data(path)}
    assert data <= set(names)
    assert "dslearn/py.typed" in names
    assert not [name for name in names if name.endswith((".pyc", ".ipynb", ".ckpt", ".pt"))]


def is_data(path: Path) -> bool:
    return path.suffix in {".json", ".safetensors", ".md", ".js", ".css"}


def test_wheel_works_with_the_core_dependencies_only(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "empty", with_pip=True)
    python = tmp_path / "empty" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    # The lock only says which versions; nothing is installed that the wheel does not ask for.
    install = ["install", "--quiet", "--constraint", str(ROOT / "requirements.lock"), str(wheel)]
    subprocess.run([python, "-m", "pip", *install], check=True)
    result = subprocess.run([python, "-c", USE], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "attended\n"

    training = subprocess.run([python, "-c", "import dslearn.plots"], cwd=tmp_path, capture_output=True, text=True)
    assert 'pip install "dslearn[course]"' in training.stderr
