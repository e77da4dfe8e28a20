"""`python -m atw.train.head CPUS GPUS`: a Ray on this machine that lasts until its standard input is closed.

The address is the one line on standard output. Started by `atw.train.cluster`, which prepares the environment.
"""

import logging
import sys
import tempfile

import ray

_OBJECT_STORE_BYTES = 100_000_000  # DDP does not use it; the default is a third of the memory


def main(cpus: int, gpus: int | None) -> None:
    """Start a Ray that hands out `cpus` and `gpus` (None: all that are visible), and end it at the end of stdin."""
    # A short path: Ray puts sockets below it, whose names may have 107 bytes.
    with tempfile.TemporaryDirectory(prefix="atw-", ignore_cleanup_errors=True) as folder:
        context = ray.init(
            address="local",
            num_cpus=cpus,
            num_gpus=gpus,
            include_dashboard=True,  # without it a cleaner of Ray's logs an error every second
            dashboard_host="127.0.0.1",
            object_store_memory=_OBJECT_STORE_BYTES,
            logging_level=logging.WARNING,
            log_to_driver=False,
            _temp_dir=folder,
        )
        try:
            print(context.address_info["gcs_address"], flush=True)
            sys.stdin.read()
        finally:
            ray.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]), None if sys.argv[2] == "all" else int(sys.argv[2]))
