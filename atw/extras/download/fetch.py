"""A file over HTTP, of which no received byte is lost: a broken transfer goes on where it stopped.

The bytes received so far are in `<name>.part`, and `<name>.origin.json` says to which version of the file they belong;
a server whose file has changed since sends the whole of it again. The file gets its name once it is as long as the
server said.
"""

import os
import re
import shutil
import ssl
import time
from pathlib import Path
from typing import IO

import requests
import urllib3
from pydantic import BaseModel, ValidationError

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
    """The bytes received so far belong to another version of the file."""


class _Origin(BaseModel):
    """Where a file comes from; `version` is the server's name for its content."""

    address: str = ""
    bytes: int = -1
    version: str | None = None


def fetch(address: str, target: Path, *, attempts: int = 6, pause_seconds: float = 2.0) -> None:
    """Fetch `address` into `target`; return at once if `target` exists, unless it is from another address.

    Args:
        address: begins with http:// or https://.
        target: the file; its folder exists.
        attempts: failures in a row, without more received than ever before, after which to give up.
        pause_seconds: before the second attempt, and twice as long before each further one.

    Raises:
        InputError: the server cannot be reached, has no such file or does not say how long it is.
    """
    part = target.with_name(f"{target.name}.part")
    origin = target.with_name(f"{target.name}.origin.json")
    known = _read_origin(origin)
    if known.address != address:
        # A whole file without a known origin was put there by hand.
        for stale in (part, origin, target) if known.address else (part,):
            stale.unlink(missing_ok=True)
    if target.is_file():
        return
    failures = 0
    most = part.stat().st_size if part.exists() else 0
    while True:
        try:
            _receive(address, part, origin)
            break
        except _BrokenOffError as error:
            received = part.stat().st_size
            # A server that has fewer bytes than it says gives all of them again and again: that is no progress.
            failures = 0 if received > most else failures + 1
            most = max(most, received)
            if failures >= attempts:
                raise InputError(f"{address}: {error}; {received} bytes are kept in {part}; try again later") from None
            time.sleep(pause_seconds * 2**failures)
    part.replace(target)


def _receive(address: str, part: Path, origin: Path) -> None:
    """Append the missing bytes to `part`; on return it is whole and on the disk."""
    known = _read_origin(origin)
    with open_plain(part, "ab") as stream:
        have = stream.tell()
        if have == 0 or have != known.bytes:
            try:
                with requests.Session() as session, _ask(session, address, have, known) as response:
                    _require_file(response, address, have)
                    have, total = _first_byte_and_total(response, have, known)
                    stream.truncate(have)
                    if have == 0:
                        new = _Origin(address=address, bytes=total, version=_version(response))
                        write_json(origin, new.model_dump())
                    _require_space(part, total - have)
                    _copy(response.raw, stream, have, total, f"download of {part.stem}")
            except _ChangedError:
                stream.truncate(0)
                raise
        stream.flush()
        os.fsync(stream.fileno())


def _ask(session: requests.Session, address: str, have: int, known: _Origin) -> requests.Response:
    headers = {"User-Agent": f"atw/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if known.version:
            headers["If-Range"] = known.version
    try:
        # This `auth` changes nothing; without one, requests would send the password that ~/.netrc has for the host.
        return session.get(
            address, headers=headers, stream=True, timeout=_TIMEOUT_SECONDS, auth=lambda request: request
        )
    except requests.RequestException as error:
        # Wrong addresses and redirections to other schemes are ValueErrors.
        if isinstance(error, ValueError | requests.TooManyRedirects) or _is_wrong_certificate(error):
            raise InputError(f"{address}: {error}") from None
        raise _BrokenOffError(str(error)) from None


def _require_file(response: requests.Response, address: str, have: int) -> None:
    status = f"HTTP status {response.status_code} {response.reason}"
    if response.status_code == 416:
        raise _ChangedError(f"the server's file has fewer than {have} bytes")
    if response.status_code in _WORTH_ANOTHER_TRY:
        raise _BrokenOffError(status)
    if response.status_code not in (200, 206):
        raise InputError(f"{address}: {status}")
    if response.headers.get("Content-Type", "").partition(";")[0].strip().lower() == "text/html":
        raise InputError(f"{address} gives a web page instead of an archive")


def _is_wrong_certificate(error: BaseException | None) -> bool:
    """Whether an error of requests comes from a certificate that does not hold."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__context__
    return error is not None


def _first_byte_and_total(response: requests.Response, have: int, known: _Origin) -> tuple[int, int]:
    """Return how many of the bytes received so far are still right, and how many the file has."""
    if response.status_code == 206:
        given = response.headers.get("Content-Range", "")
        served = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", given)
        if served and int(served[1]) == have and int(served[2]) == known.bytes:
            return have, known.bytes
        raise _ChangedError(f"asked for bytes from {have}, got Content-Range {given!r}")
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


def _version(response: requests.Response) -> str | None:
    """Return the server's name for this version of the file; a weak tag does not hold for single bytes."""
    tag = response.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")


def _copy(source: urllib3.HTTPResponse, stream: IO[bytes], have: int, total: int, what: str) -> None:
    shown = have // _MEGABYTE
    with meter(what, "MB", total // _MEGABYTE, done=shown) as progress:
        while have < total:
            try:
                # `read` would collect a whole chunk first, and lose it where the connection breaks.
                chunk = source.read1(min(_CHUNK_BYTES, total - have), decode_content=False)
            except (OSError, urllib3.exceptions.HTTPError) as error:
                raise _BrokenOffError(f"after {have} of {total} bytes: {error}") from None
            if not chunk:
                raise _BrokenOffError(f"the connection ended after {have} of {total} bytes")
            stream.write(chunk)
            have += len(chunk)
            if have // _MEGABYTE > shown:
                progress.advance(have // _MEGABYTE - shown, steps=have // _MEGABYTE - shown)
                shown = have // _MEGABYTE


def _read_origin(path: Path) -> _Origin:
    try:
        return _Origin.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return _Origin()
