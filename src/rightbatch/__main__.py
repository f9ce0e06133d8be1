"""`python -m rightbatch` is the command line `rightbatch`."""

from __future__ import annotations

from rightbatch.cli.main import main

if __name__ == "__main__":
    main()
