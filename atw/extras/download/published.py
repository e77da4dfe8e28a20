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
    target, address = Path(imagenet.DEFAULT_WEIGHTS.replace("{backbone}", backbone)), imagenet.address(files[0])
    if not target.is_file():
        target.parent.mkdir(exist_ok=True)
        received = target.with_name(files[0])
        try:
            fetch(address, received, attempts=attempts, pause_seconds=pause_seconds)
        except InputError as error:
            raise InputError(f"{error}. Or fetch {address} elsewhere, and put it here as {target}") from None
        if not _is_published(received, files[0]):
            received.unlink()
            raise InputError(f"{address} gives other bytes than its name says; try again, or fetch it elsewhere")
        received.replace(target)
        received.with_name(f"{received.name}.origin.json").unlink()
    published = next((file for file in files if _is_published(target, file)), None)
    if published is None:
        raise InputError(
            f"{target} is none of the published files ({', '.join(files)}); move it away to fetch {address}, or keep it"
        )
    origin = {"address": imagenet.address(published), "sha256": file_digest(target)}
    write_json(target.with_suffix(".json"), origin)
    return target


def _is_published(path: Path, name: str) -> bool:
    """Whether the SHA-256 of a file begins with the digits that end its published name."""
    return file_digest(path).startswith(Path(name).stem.rpartition("-")[2])
