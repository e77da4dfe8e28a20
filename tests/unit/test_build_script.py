"""The script that builds OpenCV with CUDA, with stand-ins for the compiler and for pip."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

REPOSITORY = Path(__file__).parents[2]
SCRIPT = REPOSITORY / "envs" / "opencv-cuda.sh"

NVCC = """#!/bin/sh
case $1 in
--version) echo "Cuda compilation tools, release {release}, V{release}.88" ;;
--list-gpu-arch) printf 'compute_80\\ncompute_90\\ncompute_100\\n' ;;
esac
"""
# Notes each call, makes the files that pip would, and lists the toolkit that the build is given.
PYTHON = """#!/bin/bash
printf '%s\\n' "$*" >>{folder}/calls
case $3 in
install)
    mkdir -p "${{@: -2:1}}/nvidia/cu13/include" "${{@: -2:1}}/nvidia/cu13/lib"
    touch "${{@: -2:1}}/nvidia/cu13/include/npp.h" "${{@: -2:1}}/nvidia/cu13/lib/libnppc.so.13"
    ;;
wheel)
    printf '%s' "$CMAKE_ARGS" >{folder}/options
    toolkit=${{CMAKE_ARGS#*-DCUDA_TOOLKIT_ROOT_DIR=}}
    cd "${{toolkit%% *}}" && find -L . -type f | sort >{folder}/toolkit-files
    ;;
esac
"""


class Bench:
    """A toolkit, an interpreter that only takes notes, and a folder for temporary files."""

    def __init__(self, folder: Path, release: str) -> None:
        self.folder = folder
        self.toolkit = folder / "cuda"
        self.write("cuda/bin/nvcc", NVCC.format(release=release))
        self.write("cuda/targets/include/cuda.h", "")
        self.write("cuda/targets/lib/libcudart.so", "")
        (self.toolkit / "include").symlink_to("targets/include")  # as NVIDIA's installers do
        (self.toolkit / "lib64").symlink_to("targets/lib")
        self.write("python", PYTHON.format(folder=folder))
        (folder / "tmp").mkdir()

    def write(self, name: str, content: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(0o755)

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        given = {
            "CUDA_HOME": str(self.toolkit),
            "PYTHON": str(self.folder / "python"),
            "TMPDIR": str(self.folder / "tmp"),
        }
        return subprocess.run(
            [str(SCRIPT), *arguments],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=os.environ | given | environment,
        )


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, "13.0")


def test_pip_is_asked_for_a_build_with_the_options(bench: Bench) -> None:
    done = bench.run("8.0,9.0", "out")
    assert done.returncode == 0, done.stderr
    download, install, wheel = (bench.folder / "calls").read_text().splitlines()
    assert download.startswith("-m pip download --no-deps --dest out nvidia-npp==13.")
    assert "--no-index --find-links out --target" in install
    assert "pip wheel --verbose --no-cache-dir --no-deps --no-binary opencv-contrib-python-headless" in wheel
    options = (bench.folder / "options").read_text().split(" ")
    assert {"-DWITH_CUDA=ON", "-DCUDA_ARCH_BIN=8.0;9.0", "-DPYTHON3_LIMITED_API=ON"} <= set(options)
    assert "-DCMAKE_INSTALL_RPATH=$ORIGIN/../nvidia/cu13/lib" in options
    modules = next(option for option in options if option.startswith("-DBUILD_LIST=")).split("=")[1].split(",")
    assert {"optflow", "cudaoptflow", "calib3d", "imgcodecs", "python3"} <= set(modules)
    assert "opencv_*.whl" in done.stdout


def test_npp_is_laid_beside_a_toolkit_that_stays_as_it_is(bench: Bench) -> None:
    before = sorted(bench.toolkit.rglob("*"))
    assert bench.run("9.0").returncode == 0
    seen = (bench.folder / "toolkit-files").read_text().split()
    assert {"./bin/nvcc", "./include/cuda.h", "./include/npp.h", "./lib64/libcudart.so"} <= set(seen)
    assert {"./lib64/libnppc.so", "./lib64/libnppc.so.13"} <= set(seen)
    assert sorted(bench.toolkit.rglob("*")) == before
    assert not list((bench.folder / "tmp").iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "usage: opencv-cuda.sh"),
        (("9.0", "out", "more"), "usage: opencv-cuda.sh"),
        (("sm_90",), "error: 'sm_90' is no list of compute capabilities; write 9.0 or 8.0,9.0"),
        (("9.0,",), "error: '9.0,' is no list"),
        (("9.0,7.0",), "does not know compute capability 7.0; it knows compute_80 compute_90 compute_100"),
    ],
)
def test_wrong_arguments_are_named(bench: Bench, arguments: tuple[str, ...], message: str) -> None:
    done = bench.run(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert sorted(path.name for path in bench.folder.iterdir()) == ["cuda", "python", "tmp"]


def test_help_is_no_error(bench: Bench) -> None:
    done = bench.run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: opencv-cuda.sh CAPABILITY")


def test_a_missing_toolkit_or_interpreter_is_named(bench: Bench) -> None:
    done = bench.run("9.0", CUDA_HOME="/nowhere")
    assert (done.returncode, done.stderr) == (
        2,
        "error: no nvcc in /nowhere/bin; install CUDA toolkit 13, or set CUDA_HOME to it\n",
    )
    done = bench.run("9.0", PYTHON="python-of-nobody")
    assert (done.returncode, done.stderr) == (2, "error: no interpreter python-of-nobody; set PYTHON\n")


def test_another_release_of_cuda_is_refused(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "12.8")
    done = bench.run("9.0")
    assert done.returncode == 2
    assert "is CUDA 12; set CUDA_HOME to CUDA 13" in done.stderr


def test_a_failed_build_fails_and_leaves_nothing_behind(bench: Bench) -> None:
    bench.write("python", (bench.folder / "python").read_text().replace("wheel)", "wheel) exit 3;;\nnever)"))
    done = bench.run("9.0")
    assert done.returncode == 3
    assert "Install with" not in done.stdout
    assert not list((bench.folder / "tmp").iterdir())


def test_the_version_built_is_one_that_the_package_accepts() -> None:
    version = next(line for line in SCRIPT.read_text().splitlines() if "VERSION=" in line).partition("=")[2]
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = next(Requirement(text) for text in project["dependencies"] if text.startswith("opencv"))
    assert wanted.specifier.contains(version)
    assert f"{wanted.name}=={version}" in (REPOSITORY / "envs/requirements.txt").read_text().splitlines()


def test_the_container_copies_what_is_there() -> None:
    lines = (REPOSITORY / "envs/Containerfile").read_text().splitlines()
    copied = [name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]]
    assert {"Snakefile", "atw", "workflow", "envs/opencv-cuda.sh"} <= set(copied)
    for name in copied:
        assert (REPOSITORY / name).exists(), name
    # All that the wheel is built from.
    targets = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"][
        "targets"
    ]
    wheel = targets["wheel"]
    assert {*wheel["packages"], *wheel["force-include"]} <= set(copied)


def test_apptainer_takes_the_steps_of_the_container() -> None:
    last = (REPOSITORY / "envs/Containerfile").read_text(encoding="utf-8").rpartition("\nFROM ")[2]
    steps = re.findall(r"(?:apt-get|python3 -m venv|pip) .*?(?= && |\n|$)", re.sub(r" && \\\n\s*", " && ", last))
    text = (REPOSITORY / "envs/apptainer.def").read_text(encoding="utf-8")
    assert [step.strip() for step in steps if "/wheels" not in step] == re.findall(
        r"^    (?:/opt/venv/bin/)?((?:apt-get|python3 -m venv|pip) .*)$", text, re.MULTILINE
    )
    copied = {name for line in re.findall(r"^COPY (.*) \S+$", last, re.MULTILINE) for name in line.split()}
    taken = re.findall(r"^    (\S+) /src/\1$", text, re.MULTILINE)
    assert set(taken) == copied - {"envs/requirements.txt"}
    assert re.search(r"^From: (nvidia/cuda:\S+)$", text, re.MULTILINE)[1] == "nvidia/cuda:13.0.1-base-ubuntu24.04"
    assert last.startswith("nvidia/cuda:${CUDA}-base-ubuntu24.04\n")
