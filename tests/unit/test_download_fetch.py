import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from atw.extras.download.fetch import fetch
from atw.files import InputError
from tests.conftest import OtherUser
from tests.unit.web import Web, serve

CONTENT = bytes(range(256)) * 12_000  # 3 MB


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    (tmp_path / "served").mkdir()
    (tmp_path / "served/big.rar").write_bytes(CONTENT)
    with serve(tmp_path / "served") as server:
        yield server


def test_fetch(web: Web, tmp_path: Path) -> None:
    fetch(web.address("big.rar"), tmp_path / "big.rar")
    assert (tmp_path / "big.rar").read_bytes() == CONTENT
    assert not (tmp_path / "big.rar.part").exists()
    fetch(web.address("big.rar"), tmp_path / "big.rar")
    assert len(web.requests) == 1


def test_a_broken_transfer_goes_on(web: Web, tmp_path: Path) -> None:
    web.break_after = 1_300_000
    fetch(web.address("big.rar"), tmp_path / "big.rar", attempts=2, pause_seconds=0)
    assert (tmp_path / "big.rar").read_bytes() == CONTENT
    assert [wanted for _, wanted, _ in web.requests] == [None, "bytes=1300000-", "bytes=2600000-"]
    assert {condition for _, wanted, condition in web.requests if wanted} == {'"one"'}


@pytest.mark.parametrize("tag", ['"one"', "", 'W/"weak"'])
def test_a_changed_file_is_fetched_anew(web: Web, tmp_path: Path, tag: str) -> None:
    web.tag, web.break_after = tag, 1_000_000
    with pytest.raises(InputError, match="1000000 bytes are kept in"):
        _fail_after_first(web, tmp_path)
    new = CONTENT[::-1] + b"longer"
    (web.folder / "big.rar").write_bytes(new)
    web.tag, web.break_after = tag and '"two"', 0
    fetch(web.address("big.rar"), tmp_path / "big.rar", pause_seconds=0)
    assert (tmp_path / "big.rar").read_bytes() == new


def _fail_after_first(web: Web, tmp_path: Path) -> None:
    """The first answer ends early, and the server is gone afterwards."""
    original = web.finish_request

    def finish(request: Any, client_address: Any) -> None:
        if web.requests:
            request.close()
        else:
            original(request, client_address)

    web.finish_request = finish  # type: ignore[method-assign]
    try:
        fetch(web.address("big.rar"), tmp_path / "big.rar", attempts=1, pause_seconds=0)
    finally:
        web.finish_request = original  # type: ignore[method-assign]


def test_a_file_that_shrank_is_fetched_anew(web: Web, tmp_path: Path) -> None:
    web.tag, web.break_after = "", 1_000_000
    with pytest.raises(InputError):
        _fail_after_first(web, tmp_path)
    (web.folder / "big.rar").write_bytes(b"short")
    fetch(web.address("big.rar"), tmp_path / "big.rar", pause_seconds=0)
    assert (tmp_path / "big.rar").read_bytes() == b"short"


def test_another_address_starts_anew(web: Web, tmp_path: Path) -> None:
    (web.folder / "other.rar").write_bytes(b"other")
    fetch(web.address("big.rar"), tmp_path / "archive.rar")
    fetch(web.address("other.rar"), tmp_path / "archive.rar")
    assert (tmp_path / "archive.rar").read_bytes() == b"other"


def test_a_file_put_there_by_hand_is_taken(web: Web, tmp_path: Path) -> None:
    (tmp_path / "big.rar").write_bytes(b"by hand")
    (tmp_path / "big.rar.part").write_bytes(b"of unknown origin")
    fetch(web.address("big.rar"), tmp_path / "big.rar")
    assert (tmp_path / "big.rar").read_bytes() == b"by hand"
    assert web.requests == []


def test_a_killed_download_goes_on(web: Web, tmp_path: Path) -> None:
    target = tmp_path / "big.rar"
    web.hold_after = 512 << 10
    code = "import sys, pathlib, atw.extras.download.fetch as f; f.fetch(sys.argv[1], pathlib.Path(sys.argv[2]))"
    process = subprocess.Popen([sys.executable, "-c", code, web.address("big.rar"), str(target)])
    part = target.with_name("big.rar.part")
    while process.poll() is None and (not part.exists() or part.stat().st_size < 500_000):
        time.sleep(0.02)
    process.kill()
    process.wait()
    kept = part.stat().st_size
    assert 500_000 <= kept < len(CONTENT)
    assert not target.exists()
    web.hold_after = 0
    fetch(web.address("big.rar"), target)
    assert target.read_bytes() == CONTENT
    assert web.requests[-1][1] == f"bytes={kept}-"


def test_what_cannot_be_fetched_is_explained(web: Web, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.rar: HTTP status 404"):
        fetch(web.address("none.rar"), tmp_path / "none.rar")
    web.say_length = False
    with pytest.raises(InputError, match="does not say how long"):
        fetch(web.address("big.rar"), tmp_path / "big.rar")
    web.page = "<html>This domain is for sale</html>"
    with pytest.raises(InputError, match="web page instead of an archive"):
        fetch(web.address("big.rar"), tmp_path / "big.rar")
    web.server_close()
    with pytest.raises(InputError, match="try again later"):
        fetch("http://127.0.0.1:9/a.rar", tmp_path / "a.rar", attempts=2, pause_seconds=0)


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/big.rar", "gopher://x/", "//", "LOOP"])
def test_a_redirection_leads_only_to_http(web: Web, tmp_path: Path, location: str) -> None:
    web.status, web.location = 302, web.address("big.rar") if location == "LOOP" else location
    with pytest.raises(InputError, match=r"big\.rar: "):
        fetch(web.address("big.rar"), tmp_path / "big.rar", attempts=1, pause_seconds=0)
    assert not (tmp_path / "big.rar").exists()


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_is_busy_is_asked_again(web: Web, tmp_path: Path, status: int) -> None:
    web.status = status
    with pytest.raises(InputError, match=f"HTTP status {status} .*; 0 bytes are kept .* try again later"):
        fetch(web.address("big.rar"), tmp_path / "big.rar", attempts=3, pause_seconds=0)
    assert len(web.requests) == 3


def test_a_server_that_promises_too_much_is_noticed(web: Web, tmp_path: Path) -> None:
    web.lie = 5
    with pytest.raises(InputError, match=f"{len(CONTENT)} bytes are kept"):
        fetch(web.address("big.rar"), tmp_path / "big.rar", attempts=2, pause_seconds=0)
    assert not (tmp_path / "big.rar").exists()


def test_more_than_the_disk_has_is_not_begun(web: Web, tmp_path: Path) -> None:
    web.lie = 1 << 60
    with pytest.raises(InputError, match=r"bytes are still to come, and .* are free there; make room"):
        fetch(web.address("big.rar"), tmp_path / "big.rar")


def test_passwords_of_other_programs_stay_here(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    fetch(web.address("big.rar"), tmp_path / "big.rar")
    assert web.passwords == [None]


@pytest.mark.parametrize("address", ["http://", "http://[", "http://a b/c", "http://host:port/x"])
def test_an_address_that_is_none_is_refused_at_once(tmp_path: Path, address: str) -> None:
    with pytest.raises(InputError, match=r"^http://"):
        fetch(address, tmp_path / "a.rar", attempts=1, pause_seconds=0)


def test_a_planted_link_is_not_fetched_into(web: Web, tmp_path: Path, other_user: OtherUser) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of root alone")
    address = web.address("big.rar")
    origin = json.dumps({"address": address, "bytes": len(CONTENT), "version": '"one"'})
    other_user.run(f"ln -s {secret} big.rar.part; echo '{origin}' > big.rar.origin.json")
    with pytest.raises(InputError, match=r"big\.rar\.part: it is a link; look who made it, delete it"):
        fetch(address, other_user.folder / "big.rar")
    assert secret.read_text() == "of root alone"
