"""Runs the commands of the offline package: `python -m training`."""

from training.commands.app import main

if __name__ == "__main__":
    main()
