"""What the README tells a newcomer to type is what we run."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_lines_for_ones_own_project_run() -> None:
    (example,) = blocks("python")
    names: dict[str, object] = {}
    exec(example, names)
    assert names["y"].shape == names["x"].shape
    assert names["attention"].index_q.weight.grad.abs().sum() > 0


def test_the_lines_without_make_are_those_that_make_runs() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("$(BIN)/", "")
    lines = blocks("bash")[-1].splitlines()
    assert "pyright" in lines
    assert [line for line in lines if f"\t{line}\n" not in makefile] == []


def test_every_linked_file_is_here() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert "LICENSE" in links
    assert [link for link in links if not (ROOT / link).exists()] == []
