"""A file over HTTP, of which nothing received is lost: a broken transfer goes on where it stopped.

What has arrived is in `<name>.part`, and `<name>.origin.json` says of which version of the file it is; a server whose
file has changed since sends the whole of it again. The file has its name once it is as long as the server said.
"""

import http.client
import json
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Any

from atw import __version__
from atw.files import InputError, open_plain, write_json
from atw.terminal import meter

_CHUNK_BYTES = 1 << 20
_MEGABYTE = 10**6
_TIMEOUT_SECONDS = 60.0
_WORTH_ANOTHER_TRY = {408, 425, 429, 500, 502, 503, 504}


class _BrokenOffError(Exception):
    """The transfer ended early for a reason that may pass."""


class _ChangedError(_BrokenOffError):
    """What was received so far belongs to another version of the file."""


def fetch(address: str, target: Path, *, attempts: int = 6, pause_seconds: float = 2.0) -> None:
    """Fetch `address` into `target`; returns at once when `target` is there, unless from another address.

    Args:
        address: begins with http:// or https://.
        target: the file; its folder exists.
        attempts: failures in a row, without a byte received, before giving up.
        pause_seconds: before the second attempt, and twice as long before each further one.

    Raises:
        InputError: the server cannot be reached, has no such file or does not say how long it is.
    """
    part = target.with_name(f"{target.name}.part")
    origin = target.with_name(f"{target.name}.origin.json")
    known = _read_origin(origin)
    if known.get("address") != address:
        # A whole file that was fetched from nowhere was put there by hand.
        for stale in (part, origin, target) if known else (part,):
            stale.unlink(missing_ok=True)
    if target.is_file():
        return
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _receive(address, part, origin)
            break
        except _BrokenOffError as error:
            received = part.stat().st_size
            failures = 0 if received > before else failures + 1
            if failures >= attempts:
                raise InputError(f"{address}: {error}; {received} bytes are kept in {part}; try again later") from None
            time.sleep(pause_seconds * 2**failures)
    part.replace(target)


def _receive(address: str, part: Path, origin: Path) -> None:
    """Append to `part` what is missing; on return it is whole and on the disk."""
    known = _read_origin(origin)
    with open_plain(part, "ab") as stream:
        have = stream.tell()
        if have == 0 or have != known.get("bytes"):
            try:
                with _open(address, have, known) as response:
                    have, total = _start(response, have, known)
                    stream.truncate(have)
                    if have == 0:
                        write_json(origin, {"address": address, "bytes": total, "version": _version(response)})
                    _require_space(part, total - have)
                    _copy(response, stream, have, total, f"download of {part.stem}")
            except _ChangedError:
                stream.truncate(0)
                raise
        stream.flush()
        os.fsync(stream.fileno())


def _open(address: str, have: int, known: dict[str, Any]) -> http.client.HTTPResponse:
    headers = {"User-Agent": f"atw/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if known.get("version"):
            headers["If-Range"] = known["version"]
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(
            urllib.request.Request(address, headers=headers), timeout=_TIMEOUT_SECONDS
        )
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:
            raise _ChangedError(f"the server's file has fewer than {have} bytes") from None
        if error.code in _WORTH_ANOTHER_TRY:
            raise _BrokenOffError(f"HTTP status {error.code} {error.reason}") from None
        raise InputError(f"{address}: HTTP status {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError | ValueError):
            raise InputError(f"{address}: {reason}") from None
        raise _BrokenOffError(str(reason) or type(reason).__name__) from None
    if response.headers.get_content_type() == "text/html":
        response.close()
        raise InputError(f"{address} gives a web page instead of an archive")
    return response


def _start(response: http.client.HTTPResponse, have: int, known: dict[str, Any]) -> tuple[int, int]:
    """How many of the bytes received so far hold, and how many there are in total."""
    if response.status == 206:
        served = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        if served and int(served[1]) == have and int(served[2]) == known["bytes"]:
            return have, known["bytes"]
        raise _ChangedError(f"asked for bytes from {have}, got Content-Range {response.headers.get('Content-Range')!r}")
    length = response.headers.get("Content-Length", "")
    if not length.isdecimal():
        raise InputError(
            f"{response.url}: the server does not say how long the file is, so a broken transfer would not be noticed"
        )
    return 0, int(length)


def _require_space(part: Path, needed_bytes: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed_bytes > free:
        raise InputError(f"{part}: {needed_bytes} bytes are still to come, and {free} are free there; make room")


def _version(response: http.client.HTTPResponse) -> str | None:
    """What names this version of the file; a weak tag does not hold for single bytes."""
    tag = response.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")


def _copy(response: http.client.HTTPResponse, stream: IO[bytes], have: int, total: int, what: str) -> None:
    shown = have // _MEGABYTE
    with meter(what, "MB", total // _MEGABYTE, done=shown) as progress:
        while have < total:
            try:
                chunk = response.read1(min(_CHUNK_BYTES, total - have))
            except (OSError, http.client.HTTPException) as error:
                raise _BrokenOffError(f"after {have} of {total} bytes: {error}") from None
            if not chunk:
                raise _BrokenOffError(f"the connection ended after {have} of {total} bytes")
            stream.write(chunk)
            have += len(chunk)
            if have // _MEGABYTE > shown:
                progress.advance(have // _MEGABYTE - shown, steps=have // _MEGABYTE - shown)
                shown = have // _MEGABYTE


def _read_origin(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
