"""Published ImageNet weights, fetched when somebody asks for them: into the place where a training looks."""

from pathlib import Path

from atw.config import imagenet
from atw.extras.download.fetch import fetch
from atw.files import InputError, file_digest, write_json

_ATTEMPTS = 3


def fetch_weights(backbone: str, *, attempts: int = _ATTEMPTS, pause_seconds: float = 2.0) -> Path:
    """Fetch the published weights of a network as weights/<backbone>.pth; weights that are there are only checked.

    weights/<backbone>.json says where they come from. Their SHA-256 has to begin with the digits in the published name.

    Raises:
        InputError: there is no such network, none of its weights are published, they cannot be fetched, or the file is
            another one.
    """
    try:
        files = imagenet.network(backbone).files
    except ValueError as error:
        raise InputError(str(error)) from None
    if not files:
        raise InputError(f"no weights of {backbone} are published: leave model.weights empty to start from random ones")
    target, address = Path(imagenet.default_weights(backbone)), imagenet.address(files[0])
    if target.is_file():
        digest = file_digest(target)
        published = next((file for file in files if _is_of(digest, file)), None)
        if published is None:
            raise InputError(
                f"{target} is none of the published files ({', '.join(files)}); move it away to fetch {address}, or "
                "keep it"
            )
        address = imagenet.address(published)
    else:
        received = target.with_name(files[0])
        target.parent.mkdir(exist_ok=True)
        try:
            fetch(address, received, attempts=attempts, pause_seconds=pause_seconds)
        except InputError as error:
            raise InputError(f"{error}. Or fetch {address} elsewhere, and put it here as {target}") from None
        digest = file_digest(received)
        if not _is_of(digest, files[0]):
            received.unlink()
            raise InputError(f"{address} gives other bytes than its name says; try again, or fetch it elsewhere")
        received.replace(target)
        received.with_name(f"{received.name}.origin.json").unlink()
    write_json(target.with_suffix(".json"), {"address": address, "sha256": digest})
    return target


def _is_of(digest: str, name: str) -> bool:
    """Whether a SHA-256 begins with the digits that end a published name."""
    return digest.startswith(Path(name).stem.rpartition("-")[2])
