"""Runs the commands in a checkout: `python -m service`. The package itself, `spikehead`, lies beside this file."""

from spikehead.cli.app import main

if __name__ == "__main__":
    main()
