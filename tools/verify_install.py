"""Reinstall every package that an interrupted ``pip install`` left with files missing.

Run inside the environment: ``python tools/verify_install.py``. pip believes a package to be installed as soon
as its metadata folder exists, so a second ``pip install`` alone would not repair it. Standard library only.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path


def damaged(distribution: Distribution) -> bool:
    """Whether the list of files is missing, or a listed file is (compiled caches come and go)."""
    files = distribution.files
    return not files or any(file.suffix != ".pyc" and not Path(str(file.locate())).is_file() for file in files)


def main() -> None:
    found = [one for one in distributions(path=sys.path) if one.name not in (None, "dslearn")]
    broken = [f"{one.name}=={one.version.partition('+')[0]}" for one in found if damaged(one)]
    if broken:
        print("repairing", *broken)
        repair = ["install", "--quiet", "--no-deps", "--ignore-installed", *broken]
        subprocess.run([sys.executable, "-m", "pip", *repair], check=True)


if __name__ == "__main__":
    main()
