"""Make `.venv` and install the project; `./run` runs this with a bare Python, so it imports no package."""

import fcntl
import subprocess
import sys
import venv
from pathlib import Path

EXTRAS = "local,dev,baselines,report,ann,tune,graph,onnx,serve"


def main(root: Path, stamp: str) -> None:
    """Bring the virtual environment to the state that the stamp names; of two at once, the second waits."""
    (root / ".local").mkdir(exist_ok=True)
    with (root / ".local" / "install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        installed = root / ".venv" / "installed"
        if installed.exists() and installed.read_text() == stamp:
            return
        print("run: installing into .venv (once; the first time takes minutes)", file=sys.stderr, flush=True)
        make_environment(root, stamp)
        install(root)
        installed.write_text(stamp)


def make_environment(root: Path, stamp: str) -> None:
    """Keep an environment that was complete and is of this place; make it anew where it is neither."""
    installed = root / ".venv" / "installed"
    place = stamp.split(" ", 2)[2]
    if (
        installed.exists()
        and installed.read_text().endswith(f" {place}")
        and (root / ".venv" / "bin" / "python").exists()
    ):
        installed.unlink()  # until pip is through, an interrupted one is incomplete
        return
    try:
        venv.create(root / ".venv", clear=True, with_pip=True)
    except subprocess.CalledProcessError as error:
        fail(f"{sys.executable} cannot make a .venv with pip ({error}): install its venv package")


def install(root: Path) -> None:
    """Install the project editable with its extras, every version as constraints.txt pins it."""
    python = str(root / ".venv" / "bin" / "python")
    pip = [python, "-m", "pip", "install", "-c", str(root / "constraints.txt"), "--progress-bar", "off"]
    log = root / ".local" / "logs" / "install.log"
    log.parent.mkdir(exist_ok=True)
    for what in (["setuptools"], ["--no-build-isolation", "-e", f"{root}[{EXTRAS}]"]):
        status = run_logged([*pip, *what], log)
        if status != 0:
            words = [line for line in log.read_text().splitlines() if line.startswith("ERROR")]
            fail(f"pip failed (exit {status}): {words[-1] if words else 'no reason given'}; all of it: {log}")
    # So that the first worker need not; where it fails, that one says why.
    subprocess.run([python, "-P", "-m", "stream.worker.compiling"], stderr=subprocess.DEVNULL, check=False)


def run_logged(command: list[str], log: Path) -> int:
    """Return the command's status; its output goes to the log, its downloads to stderr as well."""
    with (
        log.open("w") as file,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            file.write(line)
            if line.lstrip().startswith("Downloading") or line.startswith("Installing collected"):
                print(f"run: {line.strip():.100}", file=sys.stderr, flush=True)
    return process.returncode


def fail(reason: str) -> None:
    """End with one line."""
    sys.exit(f"run: {reason}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
