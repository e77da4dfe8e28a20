"""Snakemake's `--logger atw`: the live view of `atw run`. Snakemake finds the plugin by the name of this package."""

import logging
from pathlib import Path
from typing import Any

from rich.live import Live
from rich.text import Text
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from atw.errors import printable
from atw.extras.live import View
from atw.terminal import console

_SHOWN = (None, LogEvent.ERROR, LogEvent.JOB_ERROR, LogEvent.GROUP_ERROR)


class LogHandler(LogHandlerBase):
    """Shows the running workflow, and above it warnings and errors; Snakemake's log file has the rest."""

    writes_to_stream = True
    writes_to_file = False
    has_filter = False
    has_formatter = False
    needs_rulegraph = False

    def __post_init__(self) -> None:
        """Prepare the view, which starts with the first jobs: some calls of Snakemake run none."""
        self._console = console(stderr=True, no_color=self.common_settings.nocolor or None)
        self._view = View()
        self._live = Live(self._view, console=self._console, refresh_per_second=1, transient=True)

    def emit(self, record: logging.LogRecord) -> None:
        """Pass an event to the view, and print the messages that people have to read."""
        try:
            self._note(record)
            event = getattr(record, "event", None)
            if event in _SHOWN and (record.levelno >= logging.WARNING or not self._live.is_started):
                self._print(record)
        except Exception:
            self.handleError(record)

    def _note(self, record: logging.LogRecord) -> None:
        given: dict[str, Any] = vars(record)
        match given.get("event"):
            case LogEvent.RUN_INFO:
                jobs = {rule: count for rule, count in given["stats"].items() if rule != "total"}
                self._view.begin(jobs)
                self._live.start()
            case LogEvent.JOB_INFO:
                log = Path(given["log"][0]) if given["log"] else None
                self._view.job_began(given["jobid"], given["rule_name"], given["wildcards"].values(), log)
            case LogEvent.JOB_FINISHED:
                self._view.job_ended(given["job_id"], well=True)
            case LogEvent.JOB_ERROR:
                self._view.job_ended(given["jobid"], well=False)
            case LogEvent.GROUP_ERROR:
                for job in given["job_error_info"]:
                    self._view.job_ended(job["jobid"], well=False)

    def _print(self, record: logging.LogRecord) -> None:
        text = printable(self.format(record)).strip()
        if text and text != "None":
            style = "red" if record.levelno >= logging.ERROR else "yellow" if record.levelno >= logging.WARNING else ""
            self._console.print(Text(text, style), soft_wrap=True)

    def close(self) -> None:
        """Stop the view, and print one line with what was done."""
        if self._live.is_started:
            self._live.stop()
            self._console.print(self._view.summary, highlight=False)
        super().close()
