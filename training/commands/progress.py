"""Messages and progress bars, on standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

console = Console(stderr=True)


def unipen_is_read() -> AbstractContextManager[object]:
    """Show that UNIPEN is being read, because that takes minutes."""
    return console.status("reading UNIPEN's characters: the first time they are drawn, which takes minutes")


def progress_bar() -> Progress:
    """Create a bar with counts, figures and times."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    return Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console)


@contextmanager
def counted(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar, updated by calling the function that is yielded with what is done."""
    with progress_bar() as bar:
        task = bar.add_task(description, total=total, figures="")
        yield lambda done: bar.update(task, completed=done)
