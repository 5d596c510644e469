"""Runs the commands: `python -m spikehead` once it is installed."""

from spikehead.cli.app import main

if __name__ == "__main__":
    main()
