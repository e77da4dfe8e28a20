"""A Slurm of two nodes on this machine: munged, slurmctld and two slurmd, all their files in one folder."""

import contextlib
import os
import platform
import re
import secrets
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from atw.train.ray.cluster import still_there
from tests.slow.processes import kill

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel", "sinfo")
MARK = "ATW_SLURM_TRIAL"  # in the environment of every process of a trial, so that each can be found again
CPU_NODE, GPU_NODE = "n1", "n2"
GPUS = 2

# Nodes with more cores and memory than this machine has, so that the profile's own numbers are asked for; nothing
# enforces them here. A node is given up after five seconds of silence. Ended jobs are remembered, which squeue needs.
CONFIGURATION = """\
ClusterName=trial
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=1,sched_interval=2,bf_interval=2
MpiDefault=none
ReturnToService=2
SlurmctldTimeout=10
SlurmdTimeout=5
KillWait=5
MinJobAge=600
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=DEFAULT CPUs=64 RealMemory=256000 State=UNKNOWN
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]}
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} Gres=gpu:{gpus}
PartitionName=cpu Nodes=n1 Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes=n2 MaxTime=INFINITE State=UP
"""


def require_slurm() -> None:
    """Fail where Slurm could be installed and is not; skip where this user cannot have it."""
    missing = [program for program in PROGRAMS if program_path(program) is None]
    if not missing:
        return
    message = f"{', '.join(missing)} not found; run `.ci/install.sh slurm`, which installs Debian's"
    if os.geteuid() == 0:
        pytest.fail(message)
    pytest.skip(f"{message}: that needs root")


def program_path(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on; all are held until all are found, so that they differ."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@dataclass
class Job:
    """What `scontrol show job` says, by its own names: JobId, JobState, Comment, Partition, TresPerJob, ..."""

    fields: dict[str, str]

    @property
    def number(self) -> str:
        return self.fields["JobId"]

    @property
    def name(self) -> str:
        """The rule with its wildcards, or the group and the rule, as the executor wrote them into the comment."""
        return self.fields["Comment"].removeprefix("rule_")

    @property
    def state(self) -> str:
        return self.fields["JobState"]


@dataclass
class Slurm:
    """The cluster; `environment` is what its users need."""

    folder: Path
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        # The executor's job step drops SLURM_CONF before it calls srun: a wrapper, found first, brings it back.
        return os.environ | {
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}:/usr/sbin:/sbin",
            MARK: str(self.folder),
        }

    def start(self) -> None:
        self._write_files()
        self._start_daemon("munged", "--foreground", "--force", *self._munge_files())
        self._wait_for("munged", lambda: (self.folder / "munge.socket").exists())
        self._start_daemon("slurmctld", "-D")
        for node in (CPU_NODE, GPU_NODE):
            self.start_node(node)

    def start_node(self, name: str) -> None:
        """Start the node, and return when jobs may run on it."""
        self._start_daemon("slurmd", "-D", "-N", name, key=name)
        self._wait_for(name, lambda: self.node_state(name) in ("idle", "mixed", "allocated"))

    def kill_node(self, name: str) -> None:
        """End a node as a power cut does, daemon and jobs; returns when Slurm has given it up."""
        daemon = self.daemons.pop(name)
        daemon.kill()
        daemon.wait()
        # The steps' own daemons first: one that lived on would tell Slurm that its job has failed.
        kill(self._step_daemons(name))
        kill([process for process in self.processes() if self._variable(process, "SLURMD_NODENAME") == name])
        self._wait_for("slurmctld", lambda: self.node_state(name).startswith("down"))

    def node_state(self, name: str) -> str:
        return self.run("sinfo", "--noheader", "--nodes", name, "--format", "%T").splitlines()[0]

    def jobs(self) -> list[Job]:
        """Every job so far, the first one first."""
        text = self.run("scontrol", "--oneliner", "show", "job")
        lines = [line for line in text.splitlines() if line.startswith("JobId=")]
        jobs = [Job(dict(re.findall(r"(\S+?)=(\S*)", line))) for line in lines]
        return sorted(jobs, key=lambda job: int(job.number))

    def run(self, *command: str) -> str:
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=True, timeout=60
        ).stdout

    def processes(self) -> list[psutil.Process]:
        """Everything of this trial that lives: daemons, jobs, and what the jobs started."""
        marked = [process for process in psutil.process_iter() if self._variable(process, MARK) == str(self.folder)]
        return [*marked, *self._step_daemons(CPU_NODE), *self._step_daemons(GPU_NODE)]

    def _step_daemons(self, node: str) -> list[psutil.Process]:
        """Those of a node: they have no environment left to be known by, but write into the node's log."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                log = str(self.folder / f"slurmd.{node}.log")
                if process.name() == "slurmstepd" and log in [file.path for file in process.open_files()]:
                    found.append(process)
        return found

    @staticmethod
    def _variable(process: psutil.Process, name: str) -> str | None:
        with contextlib.suppress(psutil.Error):
            return process.environ().get(name)
        return None

    def stop(self) -> None:
        """End every process of the trial; what asking does not end is killed."""
        with contextlib.suppress(subprocess.SubprocessError):
            self.run("scancel", "--user", str(os.getuid()))
        for daemon in reversed(self.daemons.values()):  # munged last: the others need it to the end
            daemon.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(10)
        end = time.monotonic() + 20
        while (left := self.processes()) and time.monotonic() < end:
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            still_there(left, 2)
        for daemon in self.daemons.values():
            daemon.wait(10)
        assert left == [], left

    def _munge_files(self) -> list[str]:
        names = {"socket": "munge.socket", "key-file": "munge.key", "pid-file": "munge.pid"}
        names |= {"log-file": "munge.log", "seed-file": "munge.seed"}
        return [f"--{option}={self.folder / name}" for option, name in names.items()]

    def _write_files(self) -> None:
        for name in ("state", f"spool.{CPU_NODE}", f"spool.{GPU_NODE}", "bin"):
            (self.folder / name).mkdir()
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        text = CONFIGURATION.format(
            host=platform.node().partition(".")[0],
            user=psutil.Process().username(),
            folder=self.folder,
            ports=free_ports(3),
            gpus=GPUS,
        )
        (self.folder / "slurm.conf").write_text(text, encoding="utf-8")
        for number in range(GPUS):
            (self.folder / f"gpu{number}").touch()
        devices = f"NodeName={GPU_NODE} Name=gpu File={self.folder}/gpu[0-{GPUS - 1}]\n"
        (self.folder / "gres.conf").write_text(devices, encoding="utf-8")
        wrapper = self.folder / "bin/srun"
        command = f'SLURM_CONF={self.folder}/slurm.conf exec {program_path("srun")} "$@"'
        wrapper.write_text(f"#!/bin/sh\n{command}\n", encoding="utf-8")
        wrapper.chmod(0o755)

    def _start_daemon(self, program: str, *arguments: str, key: str = "") -> None:
        with (self.folder / f"{key or program}.out").open("ab") as output:
            self.daemons[key or program] = subprocess.Popen(
                [str(program_path(program)), *arguments],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _wait_for(self, daemon: str, ready: object, seconds: float = 40) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(subprocess.SubprocessError, IndexError):
                if ready():  # type: ignore[operator]
                    return
            if self.daemons[daemon].poll() is not None:
                break
            time.sleep(0.3)
        logs = [path.read_text(errors="replace")[-3000:] for path in sorted(self.folder.glob(f"*{daemon}*.*o*"))]
        pytest.fail(f"{daemon} did not become ready:\n" + "\n".join(logs))
