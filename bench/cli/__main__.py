"""``python -m bench.cli`` is ``rram-bench``."""

from bench.cli import main

main()
