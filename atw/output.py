"""The terminal that commands print on: text of others does not steer it."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from atw.files import printable


class _Console(Console):
    """Styles come from our code alone, never from text."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


def console(**options: Any) -> Console:
    """A terminal or file to print on, which takes text as it is: no markup, no emoji."""
    return _Console(markup=False, emoji=False, **options)
