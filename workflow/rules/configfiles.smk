# What the configuration's files say, read before Snakemake does: it would drop a repeated key without a word.

import functools
from pathlib import Path

from snakemake.exceptions import WorkflowError

from atw.config import read_all
from atw.files import InputError


def explained(function):
    """Turn a wrong input into one message in Snakemake's own form, without a traceback."""

    @functools.wraps(function)
    def wrapper(*args):
        try:
            return function(*args)
        except InputError as error:
            raise WorkflowError(str(error)) from None
        except OSError as error:
            raise WorkflowError(f"{error}; look whether its drive is there and its permissions are right") from None

    return wrapper


# The one that wins comes first.
CONFIG_FILES = explained(read_all)([*reversed(workflow.overwrite_configfiles), Path("config.yaml")])
