#!/usr/bin/env bash
# Create the environment named by the first argument and install the lock and the package into it.
# Safe to repeat: what is there is kept, what an interruption left half installed is mended.
set -euo pipefail

venv=$1

# The first Python that will do; PYTHON=/path/to/python goes before all others.
find_python() {
  local found="" python version
  for python in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
    # Some launchers exist and yet start nothing, so each candidate is asked.
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    case "$version" in
      3.11 | 3.12 | 3.13)
        if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
          echo "$python"
          return
        fi
        found="$found $python is $version without venv (Debian and Ubuntu: apt install python3-venv);"
        ;;
      *) found="$found $python is $version;" ;;
    esac
  done
  echo "dslearn needs Python 3.11, 3.12 or 3.13 with venv. Found:${found:- no Python at all}" >&2
  echo "Install one of them, or name it: make lab PYTHON=/path/to/python3.12" >&2
  return 1
}

if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
  python=$(find_python)
  echo "Creating $venv with $("$python" --version) ..."
  "$python" -m venv --clear "$venv"
fi
rm -f "$venv"/installed-*
pip=("$venv/bin/python" -m pip --disable-pip-version-check)
echo "Installing requirements.lock into $venv: 2 to 4 minutes the first time ..."
"${pip[@]}" install --quiet -r requirements.lock
"$venv/bin/python" tools/verify_install.py
"${pip[@]}" install --quiet --no-deps --no-build-isolation -e .
echo "Set up."
