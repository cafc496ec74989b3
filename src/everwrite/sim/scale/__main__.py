"""`python -m everwrite.sim.scale`."""

from everwrite.sim.scale.command import main

if __name__ == "__main__":
    raise SystemExit(main())
