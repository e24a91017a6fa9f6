"""Processes whose parent we became, as the subreaper, when their own had ended."""

import os
from collections.abc import Container


def reap(own: Container[int]) -> None:
    """Reap those that have ended; our *own* children wait for their pidfd."""
    while True:
        try:
            result = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if result is None or result.si_pid in own:
            return
        os.waitid(os.P_PID, result.si_pid, os.WEXITED)
