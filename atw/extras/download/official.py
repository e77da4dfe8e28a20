"""Where the official archives are, and how to recognise what is in them."""

from dataclasses import dataclass

from atw.files import InputError


@dataclass(frozen=True)
class Official:
    """The archives of a dataset.

    Args:
        page: for people, where the addresses below may have moved to.
        videos: address of the archive of the videos.
        lists: address of the archive of the lists.
        list_files: glob pattern of the list files in their folder.
    """

    page: str
    videos: str
    lists: str
    list_files: str


# Such hosts die often, and move their files without a redirection: an archive can be given in `videos_from` and
# `lists_from` of the dataset. No host publishes a checksum.
OFFICIAL = {
    "ucf101": Official(
        page="https://www.crcv.ucf.edu/research/data-sets/ucf101/",
        videos="https://www.crcv.ucf.edu/data/UCF101/UCF101.rar",
        lists="https://www.crcv.ucf.edu/data/UCF101/UCF101TrainTestSplits-RecognitionTask.zip",
        list_files="classInd.txt",
    ),
    "hmdb51": Official(
        page="https://serre-lab.clps.brown.edu/resource/hmdb-a-large-human-motion-database/",
        videos="https://serre-lab.clps.brown.edu/wp-content/uploads/2013/10/hmdb51_org.rar",
        lists="https://serre-lab.clps.brown.edu/wp-content/uploads/2013/10/test_train_splits.rar",
        list_files="*_test_split1.txt",
    ),
}


def official(name: str, kind: str) -> Official:
    """The archives of the dataset `name` of a `kind`; most kinds have none."""
    if kind not in OFFICIAL:
        raise InputError(
            f"dataset {name} is of kind {kind}, which has no official archives; those that can be downloaded are of "
            f"kind {' or '.join(OFFICIAL)}"
        )
    return OFFICIAL[kind]
