"""The way into a node for ssh: runs that node's sshd for one connection, with our own input and output.

`python -I -S enter.py FOLDER NODE` is what the testbed's ssh_config has as ProxyCommand. It imports little, so that it
starts in some 30 ms.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a file, without anybody's search path
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from dynamos.testbed import messages

SSHD = "/usr/sbin/sshd"
SSHD_CONFIG = "/run/ssh/sshd_config"
_LOST = 255


def sshd_argv(*options: str) -> list[str]:
    """Give the words that start a node's sshd, which logs to its standard error."""
    return [SSHD, "-e", "-f", SSHD_CONFIG, *options]


def main(folder: str, node: str) -> int:
    """Serve one ssh connection on standard input and output, and give the exit code."""
    try:
        connection = messages.connect(Path(folder, "nodes", node))
    except OSError as error:
        sys.stderr.write(f"{node} is not there: {error.strerror}\n")
        return _LOST
    with connection:
        messages.send(connection, {"do": "run", "argv": sshd_argv("-i", "-o", "LogLevel=ERROR")}, [0, 1, 2])
        try:
            answer, _ = messages.receive(connection)
        except ConnectionError:
            answer = None
    return int(answer["code"]) if answer else _LOST


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
