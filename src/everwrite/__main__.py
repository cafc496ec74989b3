"""`python -m everwrite`: the same as the command `everwrite`."""

from __future__ import annotations

from everwrite.cli.main import main

if __name__ == "__main__":
    main()
