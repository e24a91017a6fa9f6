"""A cgroup that goes while it is killed."""

import os
import threading

from orlop.runtime import cgroups


def test_killing_a_cgroup_that_is_being_removed_is_no_error() -> None:
    for number in range(60):
        path = f"/orlop-test-race-{os.getpid()}-{number}"
        cgroup = cgroups.create(path, {})
        remover = threading.Thread(target=cgroup.remove)
        remover.start()
        for _ in range(20):
            cgroup.kill()
        remover.join()
        cgroup.remove()
