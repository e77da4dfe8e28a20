"""Snakemake's `--logger atw`: what `atw run` shows. Snakemake finds the plugin by the name of this package."""

import logging
import re
import threading
import time
from pathlib import Path
from typing import Any

from rich.live import Live
from rich.text import Text
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from atw.errors import printable
from atw.extras.live import View
from atw.extras.planned import Planned
from atw.terminal import console
from atw.workflow import refuse, refused, unknown_target

_ERRORS = (LogEvent.ERROR, LogEvent.JOB_ERROR, LogEvent.GROUP_ERROR)
_LINES_EVERY_S = 60.0
# Of what Snakemake only tells, this is an answer, and these warn of nothing; its log file has the rest.
_NOTHING_TO_DO = "Nothing to be done"
_NO_WARNING = "Workflow defines that rule"


class LogHandler(LogHandlerBase):
    """Shows the running workflow: a live view on a terminal, elsewhere a line per job and all of them every minute.

    Of a dry run, it says at the end which jobs would follow, and why.

    Warnings and errors stand between, except what `atw run` says in its own words; Snakemake's log file has the rest.
    """

    writes_to_stream = True
    writes_to_file = False
    has_filter = False
    has_formatter = False
    needs_rulegraph = False

    def __post_init__(self) -> None:
        """Prepare the view, which starts with the first jobs: some calls of Snakemake run none."""
        self._console = console(stderr=True, no_color=self.common_settings.nocolor or None)
        self._view = View()
        self._planned = Planned() if self.common_settings.dryrun else None
        self._live = Live(self._view, console=self._console, refresh_per_second=1, transient=True)
        self._began = False
        self._ended = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        """Pass an event to the view, and print the messages that people have to read."""
        try:
            self._note(record)
            event = getattr(record, "event", None)
            if event is LogEvent.ERROR and self._refused(record):
                return
            text = record.getMessage()
            warning = record.levelno >= logging.WARNING and not text.startswith(_NO_WARNING)
            if event in _ERRORS or (event is None and (warning or text.startswith(_NOTHING_TO_DO))):
                self._print(record)
        except Exception:
            self.handleError(record)

    def _note(self, record: logging.LogRecord) -> None:
        given: dict[str, Any] = vars(record)
        if self._planned:
            if given.get("event") is LogEvent.JOB_INFO:
                self._planned.add(given["rule_name"], " ".join(given["wildcards"].values()), given["reason"])
            return
        match given.get("event"):
            case LogEvent.RUN_INFO:
                jobs = {rule: count for rule, count in given["stats"].items() if rule != "total"}
                self._begin(jobs)
            case LogEvent.JOB_INFO:
                log = Path(given["log"][0]) if given["log"] else None
                self._view.job_began(given["jobid"], given["rule_name"], given["wildcards"].values(), log)
            case LogEvent.JOB_FINISHED:
                self._end(given["job_id"], well=True)
            case LogEvent.JOB_ERROR:
                self._end(given["jobid"], well=False)
            case LogEvent.GROUP_ERROR:
                for job in given["job_error_info"]:
                    self._end(job["jobid"], well=False)

    def _begin(self, jobs: dict[str, int]) -> None:
        self._view.begin(jobs)
        if self._console.is_terminal:
            self._live.start()
        elif not self._began:
            threading.Thread(target=self._tell, daemon=True).start()
        self._began = True

    def _tell(self) -> None:
        while not self._ended.wait(_LINES_EVERY_S):
            for line in self._view.lines():
                self._say(line)

    def _end(self, number: int, *, well: bool) -> None:
        ended = self._view.job_ended(number, well=well)
        if ended and not self._console.is_terminal:
            self._say(f"{ended}; {self._view.outlook}")

    def _say(self, line: str) -> None:
        self._console.print(Text(f"{time.strftime('%H:%M:%S')} {printable(line)}"), soft_wrap=True)

    def _refused(self, record: logging.LogRecord) -> bool:
        """Whether `atw run` says what is wrong; here, that nothing makes a target."""
        target = re.search(r"No rule to produce (\S+)", record.getMessage())
        if getattr(record, "exception", None) == "MissingRuleException" and target:
            return refuse(unknown_target(target[1]))
        return refused()

    def _print(self, record: logging.LogRecord) -> None:
        text = printable(self.format(record)).strip()
        if text and text != "None":
            style = "red" if record.levelno >= logging.ERROR else "yellow" if record.levelno >= logging.WARNING else ""
            self._console.print(Text(text, style), soft_wrap=True)

    def close(self) -> None:
        """Stop the view, and print one line with what was done."""
        self._ended.set()
        for line in self._planned.lines() if self._planned else ():
            self._console.print(Text(printable(line)), soft_wrap=True)
        self._planned = None
        if self._live.is_started:
            self._live.stop()
        if self._began:
            self._console.print(self._view.summary, highlight=False)
            self._began = False
        super().close()
