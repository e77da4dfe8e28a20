"""The draw of a split from a folder with a directory per class: stratified, with groups kept together.

A group's place in the order of a draw is a hash of seed, split and group, so that a new draw with a few videos more
moves few of the others. Classes are filled up to their share of test videos in that order.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence

from atw.datasets.lists import plain
from atw.files import InputError


def assign(videos: Sequence[str], groups: Sequence[str], *, test_share: float, seed: int, split: int) -> list[bool]:
    """Return whether each video is a test video; its class is its first directory.

    Every class has videos in both subsets, a group is whole in one, and the test videos of a class are as near to their
    share as the order of the groups allows.

    Args:
        videos: paths relative to the root.
        groups: the group of each video; equal names are one group, in whatever classes.
        test_share: test videos of each class, between 0 and 1.
        seed: of the draw.
        split: number of the split, from 1; each has an order of its own.

    Raises:
        InputError: a class cannot be in both subsets.
    """
    members: dict[str, Counter[str]] = {}
    for video, group in zip(videos, groups, strict=True):
        members.setdefault(group, Counter())[plain(video.partition("/")[0])] += 1
    total: Counter[str] = Counter()
    for sizes in members.values():
        total += sizes
    order = sorted(members, key=lambda group: hashlib.sha256(f"{seed}/{split}/{group}".encode()).digest())
    test: Counter[str] = Counter()
    tested = set()
    for group in order:
        # How the distance to the shares, summed over the classes, changes if the group becomes a test group.
        change = sum(
            abs(test[label] + size - test_share * total[label]) - abs(test[label] - test_share * total[label])
            for label, size in members[group].items()
        )
        if change < 0:
            tested.add(group)
            test += members[group]
    _put_every_class_in_both(tested, order, members, total)
    return [group in tested for group in groups]


def _put_every_class_in_both(
    tested: set[str], order: list[str], members: dict[str, Counter[str]], total: Counter[str]
) -> None:
    """Move the smallest group of each class that has no video in one of the subsets."""
    groups_of: dict[str, list[str]] = {label: [] for label in sorted(total)}
    for group in order:
        for label in members[group]:
            groups_of[label].append(group)
    for label, groups in groups_of.items():
        if len(groups) < 2:
            raise InputError(
                f"class {label} has videos of one group only ({total[label]} in all), so it cannot be both trained and "
                "tested on: add videos of another group, take the class away, or change `group` in config.yaml"
            )
        smallest = min(groups, key=lambda group: members[group].total())
        if tested.isdisjoint(groups):
            tested.add(smallest)
        elif tested.issuperset(groups):
            tested.remove(smallest)
    for label, groups in groups_of.items():
        if tested.isdisjoint(groups) or tested.issuperset(groups):
            raise InputError(
                f"no split found that trains and tests on class {label}: its groups hold other classes too; "
                "change `group` in config.yaml, or write the lists by hand and name them as `lists`"
            )
