"""Make an environment for each requirement file beside this one (make clients).

Clients and frameworks want different versions of the same packages, so each family has its own.
They stand in ``clients/NAME`` of the environment that this Python is of, and hold exactly what
their file says: all that is needed stands there, with its version, so pip has nothing to choose and
looks for nothing else. Mostly it waits for the package index, so two are made at a time.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
PLACE = Path(sys.prefix) / "clients"
NAMES = sorted(path.stem for path in HERE.glob("*.txt"))
AT_A_TIME = 2
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet"]


def python_of(name: str) -> Path:
    """Return an environment's Python, be it there or not."""
    return PLACE / name / "bin" / "python"


def is_made(name: str) -> bool:
    """Say whether an environment is there and holds what its file says now."""
    held = PLACE / name / "requirements.txt"
    return held.is_file() and held.read_bytes() == (HERE / f"{name}.txt").read_bytes()


def make(name: str) -> str:
    """Make one environment anew; return what went wrong, or nothing."""
    asked = HERE / f"{name}.txt"
    venv.create(PLACE / name, with_pip=False, symlinks=True, clear=True)
    # Not compiled: of most modules no test makes use.
    install = [*PIP, "--python", str(PLACE / name), "install", "--no-deps", "--no-compile"]
    ended = subprocess.run(
        [*install, "-r", str(asked)], capture_output=True, text=True, check=False
    )
    if ended.returncode:
        return f"{name}: {ended.stderr.strip()}"
    (PLACE / name / "requirements.txt").write_bytes(asked.read_bytes())  # last: it is whole now
    return ""


def main() -> None:
    """Make those that are not there, or hold something else."""
    missing = [name for name in NAMES if not is_made(name)]
    if missing:
        print(f"Installing the clients of {', '.join(missing)} from PyPI ...", file=sys.stderr)
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        failures = [failure for failure in pool.map(make, missing) if failure]
    if failures:
        sys.exit("\n".join(failures))


if __name__ == "__main__":
    main()
