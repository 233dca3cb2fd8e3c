"""Write requirements.lock: the installed version of everything pyproject's extras need, on every platform.

Run inside an environment that is known to work: ``python tools/lock.py``. The closure is walked once for each
supported Python and system, so that a package needed by some of them only gets an environment marker.
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from itertools import product
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ("3.11", "3.12", "3.13")
SYSTEMS = {
    "linux": {"os_name": "posix", "platform_system": "Linux", "platform_machine": "x86_64"},
    "darwin": {"os_name": "posix", "platform_system": "Darwin", "platform_machine": "arm64"},
    "win32": {"os_name": "nt", "platform_system": "Windows", "platform_machine": "AMD64"},
}
# Needed on other systems or Pythons only, so that no version can be read off this environment.
ELSEWHERE = {"appnope": "0.1.4", "audioop-lts": "0.2.2", "colorama": "0.4.6", "pywinpty": "3.1.2"}
HEADER = """\
# Exact versions of everything dslearn and its extras need, for Python 3.11 to 3.13 on Linux, macOS, Windows.
# Written by `python tools/lock.py` from an environment in which the whole suite passed: do not edit by hand.
# Install with pip, not uv or poetry: on Linux, torch's CPU index first saves gigabytes (see the README).
# What torch itself adds for CUDA is left to torch, which pins it.
"""


@cache
def version(name: str) -> str:
    """The public version to pin: a local part such as ``+cpu`` names a build, not a release."""
    try:
        return distribution(name).version.partition("+")[0]
    except PackageNotFoundError:
        if name not in ELSEWHERE:
            raise SystemExit(f"{name} is neither installed nor listed in ELSEWHERE") from None
        return ELSEWHERE[name]


@cache
def requirements(name: str) -> tuple[Requirement, ...]:
    if name == "dslearn":
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        extras = project["optional-dependencies"].values()
        return tuple(Requirement(line) for group in (project["dependencies"], *extras) for line in group)
    try:
        return tuple(Requirement(line) for line in distribution(name).requires or ())
    except PackageNotFoundError:
        return ()


def closure(environment: dict[str, str]) -> set[str]:
    """Every distribution that dslearn with all extras needs in this environment."""
    todo, done = [("dslearn", "")], set[tuple[str, str]]()
    while todo:
        node = todo.pop()
        if node in done:
            continue
        done.add(node)
        for requirement in requirements(node[0]):
            if requirement.marker is None or requirement.marker.evaluate({**environment, "extra": node[1]}):
                name = canonicalize_name(requirement.name)
                todo += [(name, extra) for extra in ("", *requirement.extras)]
    return {name for name, _ in done} - {"dslearn"}


def marker(needed: set[tuple[str, str]]) -> str:
    """The environment marker of a package that exactly these (Python, system) pairs need."""
    pythons, systems = ({pair[axis] for pair in needed} for axis in (0, 1))
    if needed != set(product(pythons, systems)):
        raise SystemExit(f"No simple marker for {sorted(needed)}")
    terms = []
    if len(systems) == 1:
        terms.append(f'sys_platform == "{systems.pop()}"')
    elif len(systems) < len(SYSTEMS):
        terms += [f'sys_platform != "{name}"' for name in SYSTEMS if name not in systems]
    if len(pythons) < len(PYTHONS):
        first, last = min(pythons), max(pythons)
        terms.append(f'python_version >= "{first}"' if last == PYTHONS[-1] else f'python_version <= "{last}"')
    return "; " + " and ".join(terms) if terms else ""


def main() -> None:
    needed: dict[str, set[tuple[str, str]]] = {}
    for python, (system, facts) in product(PYTHONS, SYSTEMS.items()):
        versions = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": system}
        for name in closure({**versions, **facts}):
            needed.setdefault(name, set()).add((python, system))
    lines = [f"{name}=={version(name)}{marker(pairs)}\n" for name, pairs in sorted(needed.items())]
    (ROOT / "requirements.lock").write_text(HEADER + "".join(lines))


if __name__ == "__main__":
    main()
