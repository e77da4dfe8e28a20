# Read the configuration files before Snakemake does, because it would silently drop a repeated key.

import functools
from pathlib import Path

from snakemake.exceptions import WorkflowError

from atw.config import read_all
from atw.files import InputError
from atw.workflow import refuse


def explained(function):
    """Report a wrong input as one Snakemake error, without a traceback, and to an `atw run`."""

    @functools.wraps(function)
    def wrapper(*args, **named):
        try:
            return function(*args, **named)
        except InputError as error:
            message = str(error)
        except OSError as error:
            message = f"{error}; look whether its drive is there and its permissions are right"
        refuse(message)
        raise WorkflowError(message)

    return wrapper


# The file with the highest priority comes first.
CONFIG_FILES = explained(read_all)([*reversed(workflow.overwrite_configfiles), Path("config.yaml")])
