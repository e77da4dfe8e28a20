"""The rendezvous address of a training's workers: on loopback, unless they are on several nodes.

Ray has torch open a store for them that listens on every interface, even for a single worker.
"""

import os
import socket
from datetime import timedelta
from typing import Any

import psutil
import ray
import torch.distributed
from ray.train.torch import TorchConfig

_LOOPBACK = "127.0.0.1"
_TorchBackend: Any = TorchConfig().backend_cls
_listening: socket.socket | None = None


class LoopbackTorchConfig(TorchConfig):  # type: ignore[misc]  # Ray's classes are not typed
    """Ray's TorchConfig for workers that need no network if they are on one node."""

    @property
    def backend_cls(self) -> Any:
        """The class by which Ray connects and disconnects the workers."""
        return _LoopbackBackend


class _LoopbackBackend(_TorchBackend):  # type: ignore[misc]
    def on_start(self, worker_group: Any, backend_config: LoopbackTorchConfig) -> None:
        if len(set(worker_group.execute(ray.util.get_node_ip_address))) > 1:
            super().on_start(worker_group, backend_config)
        elif len(worker_group) > 1:
            port = worker_group.execute_single(0, _listen)
            joined = [
                worker_group.execute_single_async(
                    rank, _join, backend_config.backend, port, rank, len(worker_group), backend_config.timeout_s
                )
                for rank in range(len(worker_group))
            ]
            ray.get(joined)


def _listen() -> int:
    """Open, in the first worker, the socket that its store will take over, and return its port."""
    global _listening
    _listening = socket.create_server((_LOOPBACK, 0))
    port: int = _listening.getsockname()[1]
    return port


def _join(backend: str, port: int, rank: int, world: int, timeout_seconds: float) -> None:
    """Connect a worker to the others, on loopback only."""
    interface = _loopback_interface()
    os.environ.update({"GLOO_SOCKET_IFNAME": interface, "NCCL_SOCKET_IFNAME": interface})
    timeout = timedelta(seconds=timeout_seconds)
    listening = _listening.detach() if _listening else None
    store = torch.distributed.TCPStore(  # type: ignore[attr-defined]  # torch exports it in a way that mypy does not see
        _LOOPBACK, port, world, is_master=rank == 0, timeout=timeout, master_listen_fd=listening
    )
    torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=timeout)


def _loopback_interface() -> str:
    interfaces = psutil.net_if_addrs().items()
    return next(name for name, addresses in interfaces if any(each.address == _LOOPBACK for each in addresses))
