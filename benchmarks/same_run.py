"""Whether two working folders hold the same run: `python -m benchmarks.same_run BEFORE AFTER`.

For a change that must not move a result: run `make demo` before and after it, on the same machine. Compared are the
shards (every dataset and attribute), the scores, and every figure of fused.json. Versions of software, digests of files
that name those versions, and times may differ.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401 - reads compressed datasets
import numpy as np

_MAY_DIFFER = {"software", "provenance"}


def main() -> int:
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    before, after = (Path(folder) for folder in sys.argv[1:])
    names = sorted({path.relative_to(folder) for folder in (before, after) for path in _files(folder)})
    if not names:
        print(f"neither {before} nor {after} holds shards or results", file=sys.stderr)
        return 2
    different = [name for name in names if not _same(before / name, after / name)]
    for name in different:
        print(f"different: {name}")
    print(f"{len(names) - len(different)} of {len(names)} files are the same")
    return int(bool(different))


def _files(folder: Path) -> Iterator[Path]:
    for pattern in ("shards/**/*.h5", "results/**/scores.h5", "results/**/fused.json"):
        yield from folder.glob(pattern)


def _same(before: Path, after: Path) -> bool:
    if not (before.exists() and after.exists()):
        return False
    read = _json if before.suffix == ".json" else _hdf5
    return read(before) == read(after)


def _json(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"))
    return {name: value for name, value in content.items() if name not in _MAY_DIFFER}


def _hdf5(path: Path) -> dict[str, Any]:
    """Shape, type and bytes of each dataset, and the attributes, by name."""
    found: dict[str, Any] = {}

    def look(name: str, item: h5py.Group | h5py.Dataset) -> None:
        for key, value in item.attrs.items():
            if key not in _MAY_DIFFER:
                found[f"{name}@{key}"] = _value(value)
        if isinstance(item, h5py.Dataset):
            found[name] = (item.shape, str(item.dtype), _value(item[()]))

    with h5py.File(path, "r") as file:
        look("", file)
        file.visititems(look)
    return found


def _value(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("{"):
        return json.loads(value)  # the order of keys says nothing
    array = np.asarray(value)
    return [_value(item) for item in array.ravel().tolist()] if array.dtype.hasobject else array.tobytes()


if __name__ == "__main__":
    sys.exit(main())
