"""Make a seccomp program shorter: the kernel converts and compiles it for each process anew.

libseccomp asks for one call after the other, in each architecture. What a program does with
a call's number is known without running it, for whole ranges of numbers:

    0 … 155 allow    156 refuse    157 … 160 allow    161 look at the arguments …

so each architecture gets a binary search through its ranges. What is done with arguments
stays as it is, without the questions that the number has answered. A program that has
other instructions than libseccomp's is left alone.
"""

import struct
from itertools import pairwise

from orlop.model.light import NamedTuple

# <linux/bpf_common.h>, of what libseccomp writes: LD|W|ABS, ALU|AND|K, RET|K and the jumps
_LOAD, _AND, _RETURN, _GO = 0x20, 0x54, 0x06, 0x05
_EQUAL, _GREATER, _AT_LEAST, _ANY_OF = 0x15, 0x25, 0x35, 0x45
_JUMPS = frozenset({_EQUAL, _GREATER, _AT_LEAST, _ANY_OF})
_AT_NUMBER, _AT_ARCH = 0, 4  # offsets in struct seccomp_data
_INSTRUCTION = struct.Struct("=HBBI")
_FARTHEST = 255  # instructions that a jump with a condition can skip
_NUMBERS = 1 << 32
_DEEPEST = 200  # instructions on a way through the part that looks at arguments


class _UnknownError(Exception):
    """The program does what this module knows nothing of."""


class _Instruction(NamedTuple):
    code: int
    then: int
    otherwise: int
    value: int


class _Node(NamedTuple):
    """An instruction with those that follow it in place of distances; equal ones are one."""

    code: int
    value: int
    then: "_Node | None" = None
    otherwise: "_Node | None" = None


class _Range(NamedTuple):
    """Calls from the number *first* to the one before the next range's."""

    first: int
    node: _Node


def optimize(program: bytes) -> bytes:
    """Return a program with the same answers as *program*, or itself where that is no longer."""
    source = [_Instruction(*each) for each in _INSTRUCTION.iter_unpack(program)]
    try:
        shorter = _Layout().lay_out(_Evaluation(source).whole())
    except _UnknownError:
        return program
    return min(shorter, program, key=len)


class _Evaluation:
    """What a program comes to where the architecture and a range of numbers are known."""

    def __init__(self, source: list[_Instruction]) -> None:
        self._source = source
        self._nodes: dict[tuple[int, int, int, int], _Node] = {}

    def whole(self) -> _Node:
        """Return the program as a decision by architecture, and by number in each."""
        archs = self._archs()
        other = next(arch for arch in range(len(archs) + 1) if arch not in archs)
        node = self._of_arch(other)
        for arch in reversed(archs):
            node = self._node(_EQUAL, arch, self._of_arch(arch), node)
        return self._node(_LOAD, _AT_ARCH, node)

    def _archs(self) -> list[int]:
        """Return the architectures that the program tells from all others."""
        found: dict[int, None] = {}
        seen: set[tuple[int, int]] = set()
        ways = [(0, -1)]  # place, what is loaded
        while ways:
            place, held = way = ways.pop()
            code, then, otherwise, value = self._source[place]
            if way in seen or code == _RETURN:
                continue
            seen.add(way)
            if code in _JUMPS:
                if held == _AT_ARCH:
                    if code != _EQUAL:
                        raise _UnknownError
                    found[value] = None
                ways += [(place + 1 + then, held), (place + 1 + otherwise, held)]
            else:
                after = place + 1 + (value if code == _GO else 0)
                ways.append((after, value if code == _LOAD else held))
        return list(found)

    def _of_arch(self, arch: int) -> _Node:
        ranges: list[_Range] = []
        for first, node in sorted(self._ranges(arch)):
            if not ranges or ranges[-1].node is not node:
                ranges.append(_Range(first, node))
        if len(ranges) == 1:
            return ranges[0].node
        return self._node(_LOAD, _AT_NUMBER, self._search(ranges))

    def _search(self, ranges: list[_Range]) -> _Node:
        if len(ranges) == 1:
            return ranges[0].node
        middle = len(ranges) // 2
        upper, lower = self._search(ranges[middle:]), self._search(ranges[:middle])
        return self._node(_AT_LEAST, ranges[middle].first, upper, lower)

    def _ranges(self, arch: int) -> list[_Range]:
        """Follow the program for *arch* with all numbers, which part where it asks for theirs."""
        found: list[_Range] = []
        ways = [(0, 0, _NUMBERS, -1)]  # place, first number, the one after the last, what is loaded
        while ways:
            place, first, end, held = ways.pop()
            code, then, otherwise, value = self._source[place]
            place += 1
            if code == _RETURN:
                found.append(_Range(first, self._node(_RETURN, value)))
            elif code == _GO:
                ways.append((place + value, first, end, held))
            elif code == _LOAD and value in (_AT_NUMBER, _AT_ARCH):
                ways.append((place, first, end, value))
            elif code == _LOAD:
                found.append(_Range(first, self._rest(place - 1, arch, (first, end), held)))
            elif code in _JUMPS and held == _AT_ARCH:
                yes = _holds(code, (arch, arch + 1), value)
                ways.append((place + (then if yes else otherwise), first, end, held))
            elif code in _JUMPS and held == _AT_NUMBER:
                for a, b, yes in _split(code, first, end, value):
                    ways.append((place + (then if yes else otherwise), a, b, held))
            else:
                raise _UnknownError
        return found

    def _rest(
        self, place: int, arch: int, numbers: tuple[int, int], held: int, depth: int = 0
    ) -> _Node:
        """Return the part from *place* on, which looks at arguments, for *numbers* in a range."""
        code, then, otherwise, value = self._source[place]
        place += 1
        if depth > _DEEPEST:
            raise _UnknownError
        depth += 1
        if code == _RETURN:
            return self._node(_RETURN, value)
        if code == _GO:
            return self._rest(place + value, arch, numbers, held, depth)
        if code == _LOAD:
            rest = self._rest(place, arch, numbers, value, depth)
            needed = value not in (_AT_NUMBER, _AT_ARCH) and rest.code in (_AND, *_JUMPS)
            return self._node(_LOAD, value, rest) if needed else rest
        if code == _AND and held not in (_AT_NUMBER, _AT_ARCH):
            return self._node(_AND, value, self._rest(place, arch, numbers, held, depth))
        if code not in _JUMPS:
            raise _UnknownError
        if held in (_AT_NUMBER, _AT_ARCH):
            known = numbers if held == _AT_NUMBER else (arch, arch + 1)
            yes = _holds(code, known, value)
            return self._rest(place + (then if yes else otherwise), arch, numbers, held, depth)
        ways = (self._rest(place + way, arch, numbers, held, depth) for way in (then, otherwise))
        return self._node(code, value, *ways)

    def _node(
        self, code: int, value: int, then: _Node | None = None, otherwise: _Node | None = None
    ) -> _Node:
        return self._nodes.setdefault(
            (code, value, id(then), id(otherwise)), _Node(code, value, then, otherwise)
        )


def _split(code: int, first: int, end: int, value: int) -> list[tuple[int, int, bool]]:
    """Split the numbers from *first* to before *end* into those for whom a test holds, or not."""
    cuts = {_EQUAL: (value, value + 1), _GREATER: (value + 1,), _AT_LEAST: (value,)}.get(code)
    if cuts is None:
        raise _UnknownError
    edges = [first, *(cut for cut in cuts if first < cut < end), end]
    parts = pairwise(edges)
    return [(a, b, _holds(code, (a, b), value)) for a, b in parts]


def _holds(code: int, numbers: tuple[int, int], value: int) -> bool:
    """Return what a test of any of *numbers* gives, first and end."""
    first, last = numbers[0], numbers[1] - 1
    if code == _EQUAL and (first == last or not first <= value <= last):
        return first == value
    if code == _GREATER and (first > value) == (last > value):
        return first > value
    if code == _AT_LEAST and (first >= value) == (last >= value):
        return first >= value
    raise _UnknownError


class _Layout:
    """Instructions, the last one first: what follows is there before who jumps to it."""

    def __init__(self) -> None:
        self._code: list[bytes] = []
        self._places: dict[int, int] = {}  # of nodes, by identity

    def lay_out(self, root: _Node) -> bytes:
        """Return the program that begins with *root*."""
        self._place(root)
        return b"".join(reversed(self._code))

    def _place(self, node: _Node) -> None:
        """Have *node* in the program, with all that may follow it."""
        if id(node) in self._places:
            return
        for after in (node.otherwise, node.then):
            if after is not None:
                self._place(after)
        if node.otherwise is not None and node.then is not None:
            far = [self._near(node.otherwise, spare=1), self._near(node.then, spare=0)]
            otherwise, then = (len(self._code) - 1 - place for place in far)
            self._append(_INSTRUCTION.pack(node.code, then, otherwise, node.value))
        else:
            if node.then is not None and self._places[id(node.then)] != len(self._code) - 1:
                self._reach(node.then)
            self._append(_INSTRUCTION.pack(node.code, 0, 0, node.value))
        self._places[id(node)] = len(self._code) - 1

    def _near(self, node: _Node, *, spare: int) -> int:
        """Return a place, no farther than a jump goes with *spare* more between, of *node*."""
        place = self._places[id(node)]
        if len(self._code) - 1 - place <= _FARTHEST - spare:
            return place
        self._reach(node)
        return len(self._code) - 1

    def _reach(self, node: _Node) -> None:
        """Append a way to *node*; an answer is given where it is asked for from then on."""
        if node.code == _RETURN:
            self._append(_INSTRUCTION.pack(_RETURN, 0, 0, node.value))
            self._places[id(node)] = len(self._code) - 1
        else:
            distance = len(self._code) - 1 - self._places[id(node)]
            self._append(_INSTRUCTION.pack(_GO, 0, 0, distance))

    def _append(self, instruction: bytes) -> None:
        self._code.append(instruction)
