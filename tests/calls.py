"""Tasks that call a function, to try launchers with."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from launchers.task import Job, Task, TaskProgress, Wave


@dataclass(frozen=True, kw_only=True)
class CallTask(Task):
    """Call `function(*args)` on every rank."""

    name: str
    function: Callable[..., None] = print
    args: tuple[Any, ...] = ()
    ranks: int = 1
    nodes: int = 1

    @property
    def key(self) -> str:
        return self.name

    @property
    def group(self) -> str:
        return self.name

    def run(self) -> None:
        self.function(*self.args)


def wave(*tasks: Task) -> Wave:
    """A wave of tasks that are not begun, which waits for none."""
    jobs = tuple(Job(task=task, progress=TaskProgress()) for task in tasks)
    return Wave(name="wave", jobs=jobs, after=None)
