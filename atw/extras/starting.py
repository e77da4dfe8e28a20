"""`atw init`: a config.yaml that fits a folder of videos and this machine, with the reason of each choice."""

import math
import os
import re
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray

from atw import config, workflow
from atw.config import imagenet
from atw.datasets.folder import EXTENSIONS, Folder
from atw.datasets.scan import require_classes, scan, shown
from atw.errors import printable
from atw.extras.cost import estimate
from atw.extras.doctor.hardware import examine_gpus
from atw.files import InputError, write_text
from atw.machine import memory_bytes, usable_cores
from atw.preprocess.audit import allowed
from atw.videos.decode import Audit, BadVideoError, read_as_configured

_LOOKED_AT = 24  # videos whose first frame is decoded
_SHORT_SIDE_PX = 256
_LONGEST_SIDE_PX = 512
_UNLIKE = 1.1  # by this factor, shapes are not the same
_NEARLY_ALL = 0.9
_LARGE_PIXELS = 1280 * 720  # from here on, by the pixels, decoding takes as long as flow
_A_SHARD = 256  # videos; docs/shards.md says why
_LEAST_IN_A_SHARD = 16
_SMALL = 300  # training videos that the updates of the recipe were tried on; more get more updates
_MEDIUM = 30_000  # training videos, three times UCF-101's
_TEST_SHARE: float = Folder.model_fields["test_share"].default
_FEW = 10  # videos of a class
_SIDES = {"left", "right", "leftward", "rightward", "forehand", "backhand", "clockwise", "anticlockwise"}


class Seen(NamedTuple):
    """What was seen of a folder of videos: its classes with their numbers of videos, and shapes of some videos.

    Shapes are (width, height) in pixels as shown; `bad` are the videos that could not be looked at, with the reason.
    """

    classes: Mapping[str, int]
    shapes: list[tuple[int, int]]
    bad: list[str]

    @property
    def videos(self) -> int:
        """How many videos there are."""
        return sum(self.classes.values())


class Machine(NamedTuple):
    """What this machine offers: cores, memory, and the names of its GPUs."""

    cores: int
    memory_gib: float
    gpus: list[str]


class Choice(NamedTuple):
    """A setting of the dataset, `section.key` or the name of a key, with its value and the reason in a few words."""

    key: str
    value: Any
    why: str


def look(root: Path) -> Seen:
    """List a folder with a directory per class, and decode the first frame of some videos.

    Raises:
        InputError: there is no such folder, it is none with classes, or none of those videos can be used.
    """
    if not root.is_dir():
        raise InputError(f"{root} is no folder; name the one that has a directory of videos for each class")
    content = scan(root, EXTENSIONS)
    require_classes(content, root, EXTENSIONS)
    places = np.random.default_rng(0).permutation(len(content.videos))[:_LOOKED_AT]
    shapes: list[tuple[int, int]] = []
    bad: list[str] = []
    for video in (content.videos[place] for place in places):
        audit = Audit()
        try:
            next(read_as_configured(root / video, audit, config.FrameSettings(width=16, height=16)))
            shapes.append((audit.width, audit.height))
        except BadVideoError as reason:
            bad.append(f"{video} ({reason})")
    if not shapes:
        raise InputError(f"{root}: none of {len(bad)} videos that were looked at can be used: {shown(bad)}")
    return Seen(Counter(video.partition("/")[0] for video in content.videos), shapes, bad)


def this_machine() -> Machine:
    """Look at this machine."""
    gpus = [device["name"] for device in examine_gpus().content["devices"]]
    return Machine(usable_cores(), memory_bytes()[0] / 2**30, gpus)


def choose(seen: Seen, machine: Machine) -> list[Choice]:
    """Choose the settings that do not stay at their defaults."""
    train = round(seen.videos * (1 - _TEST_SHARE))
    least_busy = min(machine.cores // 4, seen.videos // _LEAST_IN_A_SHARD)
    shards = min(max(-(-seen.videos // _A_SHARD), least_busy, 1), 512)
    choices = _choose_recipe(train, gpus=bool(machine.gpus))
    choices.append(Choice("preprocess.shards", shards, f"{seen.videos} videos, {machine.cores} cores"))
    choices += _choose_shape(seen.shapes)
    width, height = sorted(seen.shapes, key=math.prod)[len(seen.shapes) // 2]
    if width * height >= _LARGE_PIXELS:
        why = f"{width} x {height} px take long to decode: once, not once for each stream"
        choices.append(Choice("preprocess.flow_from", "frames", why))
    sided = [name for name in seen.classes if _words(name) & _SIDES]
    if sided:
        choices.append(Choice("augment.flip", 0, f"mirrored, some classes would be others: {shown(sided)}"))
    if not machine.gpus:
        threads = min(max(machine.cores // len(config.STREAMS), 1), 8)
        choices.append(Choice("compute.train_threads", threads, "no GPU: the three streams train side by side"))
        if machine.cores < 2 * len(config.STREAMS):
            choices.append(Choice("compute.loaders", 0, "no core is to spare for reading alone"))
    return choices


def _choose_recipe(train: int, *, gpus: bool) -> list[Choice]:
    """The recipe for so many training videos, and the updates where the recipe's own do not fit them."""
    if train > _MEDIUM and gpus:
        passes = train / config.RECIPES_BY_NAME["large"].train.batch
        steps = [round(40 * passes), round(80 * passes)]
        why = "settings that others trained such numbers of videos with"
        return [
            Choice("recipe", "large", why),
            Choice("train.iterations", round(100 * passes), f"each of about {train} training videos a hundred times"),
            Choice("train.steps", steps, "the learning rate falls after 40 and 80 of the hundred times"),
        ]
    if train > 10 * _SMALL and gpus:
        return [Choice("recipe", "paper", "thousands of videos and a GPU, as in the paper")]
    why = "a small network from ImageNet weights and few updates, for dozens to hundreds of videos"
    choices = [Choice("recipe", "small", why)]
    if train > _SMALL:
        updates = 100 * round(train / 100)
        choices.append(Choice("train.iterations", updates, f"each of about {train} training videos eight times"))
    return choices


def _choose_shape(shapes: list[tuple[int, int]]) -> list[Choice]:
    """Keep the shape that nearly all videos have; where shapes differ, black beside the picture keeps it whole."""
    ratios = np.array([width / height for width, height in shapes])
    usual = float(np.median(ratios))
    if np.mean(_off(ratios, usual) <= _UNLIKE) >= _NEARLY_ALL:
        longer, found = max(usual, 1 / usual), f"nearly all videos are about {usual:.2f} times as wide as high"
        long_side = min(4 * round(_SHORT_SIDE_PX * longer / 4), _LONGEST_SIDE_PX)
    else:
        long_side, found = config.Preprocess().width, "nearly all videos are " + ("wide" if usual > 1 else "upright")
    width, height = (long_side, _SHORT_SIDE_PX) if usual > 1 else (_SHORT_SIDE_PX, long_side)
    if np.mean((ratios > 1) == (usual > 1)) < _NEARLY_ALL:
        width, height, found = _SHORT_SIDE_PX, _SHORT_SIDE_PX, "some videos are upright, some wide"
    choices = [Choice("preprocess.width", width, found), Choice("preprocess.height", height, "")]
    if np.any(_off(ratios, width / height) > _UNLIKE):
        choices.append(Choice("preprocess.fit", "letterbox", "shapes differ; black beside a picture keeps it as it is"))
    return choices


def _off(ratios: NDArray[np.float64], wanted: float) -> NDArray[np.float64]:
    """By what factor shapes differ from the wanted one, at least 1."""
    return np.maximum(ratios / wanted, wanted / ratios)


def _words(name: str) -> set[str]:
    """The words of a class name, such as TennisForehand or turn_left."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


def as_yaml(root: Path, name: str, seen: Seen, choices: list[Choice]) -> str:
    """The text of config.yaml, with the reasons as comments."""
    lines = [
        f"# Written by `atw init` for {seen.videos} videos of {len(seen.classes)} classes. `atw run` makes the result",
        "# of the first split and its page. Every line may be changed; docs/configuration.md has all settings.",
        "",
        "datasets:",
        f"  {_scalar(name)}:",
        "    kind: folder",
        f"    root: {_scalar(str(root))}",
    ]
    section = ""
    for choice in choices:
        key = choice.key
        if "." in key:
            own, _, key = key.partition(".")
            lines += [f"    {own}:"] if own != section else []
            section = own
            key = f"  {key}"
        lines.append(f"    {key}: {choice.value}" + (f" # {printable(choice.why)}" if choice.why else ""))
    return "\n".join(lines) + "\n"


def _scalar(text: str) -> str:
    """A text as YAML has it, in quotes where it would be read as something else."""
    return yaml.safe_dump(text, allow_unicode=True, width=10_000).removesuffix("...\n").strip()


def write_for_videos(root: Path) -> None:
    """Write config.yaml for a folder of videos, and print what was chosen, what it takes, and the next command.

    Raises:
        InputError: config.yaml exists, this is inside the folder, or that holds no videos in directories of classes.
    """
    _require_new()
    if Path.cwd().is_relative_to(root.resolve()):
        raise InputError(f"{root} gets no files of atw, and this is inside it: work in another folder, an empty one")
    seen, machine = look(root), this_machine()
    alone = [label for label, count in seen.classes.items() if count == 1]
    if alone:
        raise InputError(
            f"{root}: one video alone cannot be both trained and tested on: {shown(alone)}. Add a video to each such "
            "class, or take the class away"
        )
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", root.resolve().name).strip("-_") or "mine"
    name = f"{name}-videos" if name in ("experiments", "tables") else name
    called = "" if name == root.resolve().name else f", called {name}: folders of results need a plain name"
    choices = choose(seen, machine)
    text = as_yaml(root, name, seen, choices)
    backbone = config.effective(config.load(yaml.safe_load(text)), name, "rgb").model.backbone
    write_text(workflow.CONFIG, text)
    _say(f"{root}: {seen.videos} videos of {len(seen.classes)} classes{called}")
    gpus = f"{len(machine.gpus)} GPUs ({machine.gpus[0]})" if machine.gpus else "no GPU"
    print(f"this machine: {machine.cores} cores, {machine.memory_gib:.0f} GiB of memory, {gpus}")
    for video in seen.bad:
        _say(f"cannot be used, and will be left out: {video}")
    limit = config.Preprocess().quarantine_limit
    if len(seen.bad) > allowed(len(seen.bad) + len(seen.shapes), limit):
        _say(f"`atw run` stops where more than one and {limit:.0%} cannot be used: take those out of the folder")
    few = [f"{label} ({count})" for label, count in seen.classes.items() if count < _FEW]
    if few:
        _say(f"too few videos to learn much: {shown(few)}")
    print("\nwrote config.yaml:")
    width = max(len(f"{choice.key}: {choice.value}") for choice in choices)
    for choice in choices:
        _say(f"  {f'{choice.key}: {choice.value}':{width}}  {choice.why}".rstrip())
    target = workflow.result(name)
    print("\nmeasuring how long it will take ...", flush=True)
    try:
        found = _estimate(target, Path("lists", name), machine)
    except BaseException:
        workflow.CONFIG.unlink(missing_ok=True)
        print("config.yaml is taken back, so the same command can be given again", flush=True)
        raise
    print(f"about {estimate.duration(found.elapsed_hours)}; `atw plan {target}` says for what\n\nnext:")
    _print_weights(backbone)
    print("  atw run")
    if len(machine.gpus) > 1:
        side_by_side = min(len(machine.gpus), len(config.STREAMS))
        print(f"or, for the streams side by side, atw run -- --resources gpu={side_by_side}")


def _say(text: str) -> None:
    print(printable(text))


def _estimate(target: str, lists: Path, machine: Machine) -> estimate.Estimate:
    """Estimate a target without leaving the splits drawn: videos may be added until the first run."""
    before = [path for path in (lists, lists.parent) if not path.exists()]
    try:
        return estimate.estimate(target, workflow.CONFIG, cores=machine.cores, gpus=min(len(machine.gpus), 1))
    finally:
        for path in before:
            if path.exists() and (path == lists or not any(path.iterdir())):
                shutil.rmtree(path, ignore_errors=True)


def _print_weights(backbone: str) -> None:
    """Print the command that fetches the weights of a network, if they are not at hand."""
    try:
        imagenet.find_weights(imagenet.default_weights(backbone), backbone)
    except InputError:
        print(f"  atw weights {backbone}")


def write_for_published(name: str) -> None:
    """Write config.yaml for a published dataset, as the configuration of the package has it, and say what goes where.

    Raises:
        InputError: config.yaml exists, or there is no such dataset.
    """
    _require_new()
    known = published()
    if name not in known:
        raise InputError(f"no dataset {name!r} is known; there are {', '.join(known)}. For others: `atw init FOLDER`")
    text = yaml.safe_dump({"datasets": {name: known[name]}}, sort_keys=False)
    write_text(workflow.CONFIG, f"# Written by `atw init`; docs/datasets.md says what {name} needs.\n{text}")
    settings = config.load(yaml.safe_load(text))
    root = config.location(settings, name).root
    print(f"wrote config.yaml; the videos belong into {root}, the lists into {known[name]['lists']}\nnext:")
    if isinstance(settings.dataset(name), config.DownloadableDataset) and not Path(root).exists():
        print(f"  atw run data/downloads/{name}.json")
    _print_weights(config.effective(settings, name, "rgb").model.backbone)
    print(f"  atw plan {workflow.result(name)}\n  atw run")


def published() -> dict[str, dict[str, Any]]:
    """The published datasets of the package's config.yaml, also those that are comments there."""
    text = (workflow.root() / workflow.CONFIG).read_text(encoding="utf-8")
    found: dict[str, dict[str, Any]] = yaml.safe_load(text)["datasets"]
    for name, given in re.findall(r"^  # (\w+): (\{(?:.|\n  #  )*?\})$", text, re.MULTILINE):
        found[name] = yaml.safe_load(given.replace("\n  #", "\n"))
    return {name: given for name, given in found.items() if given["kind"] not in ("demo", "folder")}


def _require_new() -> None:
    if os.path.lexists(workflow.CONFIG):
        raise InputError(f"{workflow.CONFIG.absolute()} exists; work in an empty folder, or move it away")
