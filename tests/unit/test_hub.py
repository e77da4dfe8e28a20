"""Networks on Hugging Face's hub: its own client, and a server on the loopback interface that answers as it does."""

import base64
import json
import shutil
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import yaml

import atw
from atw.files import InputError
from tests.unit.trained import TEST_VIDEOS, Trained
from tests.unit.web import running


class Hub(ThreadingHTTPServer):
    """What was asked of repositories, with whose token, and the files that it has; it says `private` of them."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.created: list[dict[str, Any]] = []
        self.tokens: set[str | None] = set()
        self.files: dict[str, bytes] = {}
        self.status = 200
        self.private = True
        self.address = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.tokens.add(self.headers["Authorization"])
        step = self.path.split("/")[-2:]
        if self.server.status != 200:
            self._answer({"error": "Invalid username or password."})
        elif self.path == "/api/repos/create":
            self.server.created.append(json.loads(body))
            self._answer({"url": f"{self.server.address}/me/actions"})
        elif self.path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif step == ["preupload", "main"]:
            files = json.loads(body)["files"]
            self._answer(
                {"files": [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in files]}
            )
        elif step == ["commit", "main"]:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                elif line["key"] == "deletedFile":
                    del self.server.files[line["value"]["path"]]
            self._answer({"commitUrl": f"{self.server.address}/me/actions/commit/1", "commitOid": "1" * 40})
        else:
            self.send_error(404)

    def do_GET(self) -> None:
        if self.path == "/api/models/me/actions":
            self._answer({"id": "me/actions", "private": self.server.private, "siblings": []})
        elif self.path.startswith("/api/models/me/actions/tree/main"):
            self._answer([{"type": "file", "path": name, "size": 1, "oid": "1"} for name in self.server.files])
        else:
            self.send_error(404)

    def _answer(self, content: Any) -> None:
        data = json.dumps(content).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def is_private(created: dict[str, Any]) -> bool:
    """As the client's versions say it."""
    return created.get("visibility") == "private" or created.get("private") is True


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    server = Hub()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.address)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with running(server):
        yield server


def test_what_the_hub_gets_is_what_others_load(
    hub: Hub, trained: Trained, predictor: atw.Predictor, tmp_path: Path
) -> None:
    address = predictor.push_to_hub("me/actions", license="cc-by-4.0", token="hf_mine")
    assert address == f"{hub.address}/me/actions"
    assert [(one["organization"], one["name"], is_private(one)) for one in hub.created] == [("me", "actions", True)]
    assert hub.tokens == {"Bearer hf_mine"}
    # As the hub's cache has it: names that are links to contents.
    (tmp_path / "blobs").mkdir()
    for number, (name, content) in enumerate(sorted(hub.files.items())):
        (tmp_path / f"blobs/{number}").write_bytes(content)
        link = tmp_path / "snapshot" / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(tmp_path / f"blobs/{number}")
    again = atw.Predictor.from_pretrained(tmp_path / "snapshot", device="cpu")
    video = trained.root / TEST_VIDEOS[0]
    assert np.array_equal(again.predict(video).probabilities, predictor.predict(video).probabilities)
    card = hub.files["README.md"].decode()
    assert yaml.safe_load(card.split("---")[1])["license"] == "cc-by-4.0"
    assert 'predictor = atw.load(snapshot_download("me/actions"))' in card


def test_a_repository_for_everybody_is_asked_for(hub: Hub, predictor: atw.Predictor) -> None:
    predictor.push_to_hub("me/actions", private=False, token="hf_mine")
    assert not is_private(hub.created[0])


def test_a_repository_that_others_see_gets_nothing_unasked(hub: Hub, predictor: atw.Predictor) -> None:
    hub.private = False
    with pytest.raises(InputError, match=r"^me/actions is visible to everybody; choose another name, or say private=F"):
        predictor.push_to_hub("me/actions", token="hf_mine")
    assert not hub.files
    predictor.push_to_hub("me/actions", private=False, token="hf_mine")
    assert hub.files


def test_streams_that_are_no_more_leave_the_hub(
    hub: Hub, trained: Trained, predictor: atw.Predictor, tmp_path: Path
) -> None:
    predictor.push_to_hub("me/actions", token="hf_mine")
    hub.files["other/model.pt"] = b"not ours"
    (tmp_path / "split1/rgb").mkdir(parents=True)
    shutil.copyfile(trained.split / "rgb/model.pt", tmp_path / "split1/rgb/model.pt")
    atw.load(tmp_path / "split1", device="cpu").push_to_hub("me/actions", token="hf_mine")
    assert sorted(hub.files) == ["README.md", "other/model.pt", "rgb/model.pt"]


def test_what_the_hub_refuses_is_said(hub: Hub, predictor: atw.Predictor) -> None:
    hub.status = 401
    with pytest.raises(InputError, match=rf"the hub at {hub.address} did not take me/actions: .*Invalid username"):
        predictor.push_to_hub("me/actions", token="hf_wrong")
    with pytest.raises(InputError, match=r"did not take my actions!: .*a name is NAME or USER/NAME, and `hf auth"):
        predictor.push_to_hub("my actions!", token="hf_mine")
    with pytest.raises(InputError, match=r"the licence 'my own' is no identifier such as mit, cc-by-4.0, or other"):
        predictor.push_to_hub("me/actions", license="my own")
    assert not hub.files


def test_no_hub_answers(hub: Hub, predictor: atw.Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    with pytest.raises(InputError, match=rf"the hub at {address} did not take me/actions: .*refused"):
        predictor.push_to_hub("me/actions", token="hf_mine")


def test_the_missing_package_is_named(predictor: atw.Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(
        InputError, match=r"push_to_hub needs huggingface_hub; install it with: pip install 'atw\[hub\]'"
    ):
        predictor.push_to_hub("me/actions")
