"""`python -m tunewright` is the same program as `tunewright`."""

from tunewright.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
