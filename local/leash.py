"""Run a command that dies with its parent, whatever ends it: `python leash.py PARENT_PID COMMAND...`."""

import ctypes
import os
import signal
import sys

#: prctl(2): the signal this process gets when the thread that started it ends. It survives exec.
PR_SET_PDEATHSIG = 1


def main() -> None:
    """Bind this process to its parent where the system can (Linux), then become the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before the line above
            sys.exit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
