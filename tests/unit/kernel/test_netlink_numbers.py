"""Numbers of rtnetlink's are those of the kernel's headers."""

import re
import subprocess
from pathlib import Path

import pytest

import orlop.kernel

HEADERS = (
    "sys/ioctl.h", "linux/types.h", "linux/if.h", "linux/if_link.h", "linux/if_bridge.h",
    "linux/if_addr.h", "linux/rtnetlink.h", "linux/veth.h", "linux/neighbour.h",
    "linux/pkt_sched.h", "linux/pkt_cls.h", "linux/tc_act/tc_mirred.h", "linux/if_tun.h",
    "linux/netlink.h", "linux/ip.h",
)  # fmt: skip
PREFIXES = (
    "IFLA_", "IFA_", "RTM_", "RTA_", "RTN_", "RTNH_", "RTPROT_", "RT_SCOPE_", "RTEXT_", "NDA_",
    "NTF_", "NUD_", "TCA_", "TC_", "NLM_F_", "NLMSG", "NETLINK_", "NLA_", "IFF_", "IPV4_", "VETH_",
    "TUNSET",
)  # fmt: skip
ASSIGNMENT = re.compile(r"^(_[A-Z0-9_]+(?:, _[A-Z0-9_]+)*) = (.+)$", re.MULTILINE)


def constants() -> dict[str, int]:
    """What the modules call by the headers' names, an underscore before."""
    room = Path(orlop.kernel.__file__).parent
    paths = [*room.glob("netlink/*.py"), room / "rtnetlink.py", room / "tuntap.py"]
    found = {}
    for path in paths:
        for names, values in ASSIGNMENT.findall(path.read_text()):
            numbers = re.findall(r"(?:^|, )(0x[0-9a-fA-F]+|\d+)(?=,|$|\s+#)", values)
            for name, value in zip(names.split(", "), numbers, strict=False):
                if name.removeprefix("_").startswith(PREFIXES):
                    found[name.removeprefix("_")] = int(value, 0)
    return found


def test_numbers_match_the_kernel_headers(tmp_path: Path) -> None:
    ours = constants()
    assert len(ours) > 80
    lines = [f"#include <{header}>" for header in HEADERS]
    lines += ["#include <stdio.h>", "int main(void) {"]
    lines += [f'printf("{name} %llu\\n", (unsigned long long)(unsigned){name});' for name in ours]
    source, program = tmp_path / "numbers.c", tmp_path / "numbers"
    source.write_text("\n".join([*lines, "}"]))
    try:
        subprocess.run(["gcc", "-w", "-o", program, source], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no gcc here")
    said = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    theirs = {name: int(value) for name, value in (line.split() for line in said.splitlines())}
    assert ours == theirs
