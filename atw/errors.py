"""Errors that the user can mend, and text from elsewhere that is safe to print."""

import re

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class InputError(Exception):
    """The user's input cannot be used. The message names the file or setting, its value and the remedy.

    The command line prints the message without a traceback and exits with status 2.
    """


class BusyError(InputError):
    """Somebody else holds a lock that the caller does not wait for."""


def printable(text: str) -> str:
    """Escape what would control a terminal or is no text, as JSON does; tabs and line ends stay."""
    return _CONTROLS.sub(lambda character: f"\\u{ord(character[0]):04x}", text)
