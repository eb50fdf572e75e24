"""Damages to bytes, and values that hostile input holds."""

import random
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
MARK = "zq7"
"""A word that nothing but hostile text holds, so that a test finds it again in an output."""
TEXTS = (
    f"<{MARK}>",
    f'"><{MARK} a="',
    f"</script><{MARK}>",
    f"</style><{MARK} onload=alert(1)>",
    f"<!--{MARK}",
    f"&{MARK};",
    f"={MARK}()",
    f'=HYPERLINK("http://{MARK}")',
    f"+{MARK}",
    f"-{MARK}()",
    f"@{MARK}",
    f"\\{MARK}",
    f"\\input{{{MARK}}}",
    f"%{MARK}",
    f"${MARK}$",
    f"^^{MARK}",
    f"[bold]{MARK}[/bold]",
    f"[/{MARK}]",
    f":smile: [link=http://{MARK}]a[/link]",
    f"$(touch {MARK})",
    f"`touch {MARK}`",
    f"'; touch {MARK}; '",
    f'"; touch {MARK}; "',
    f"a & touch {MARK} &",
    f"{{{{ {MARK} }}}}",
    f"{{% include '{MARK}' %}}",
    f"%s%n{{0}}{MARK}",
    f"{MARK}|a|b",
    f"![{MARK}](http://x)",
)
"""Texts that some output would take for markup, a formula or a command."""
CONTROLS = (
    f"a\n#SBATCH --wrap={MARK}",
    f"a\n{MARK}",
    f"\x1b[31m{MARK}",
    f"a\0{MARK}",
    f"\u202e{MARK}",
    f"\ud800{MARK}",
    f"a\tb\r{MARK}",
    "\x7f\x85\u2028",
)
NUMBERS = (
    *(float("inf"), float("-inf"), float("nan"), -1, 0, -0.0, 0.5, 5e-324, 1e308, -1e308, 2**31, 2**63, 10**40),
    *(10**15, 10**9, -(10**9), True, False),
)
SHAPES: tuple[Any, ...] = (None, "", [], {}, [[]], [None], {"a": 1}, {"": None}, [1, "a", {}], "x" * 5000, [[[[[1]]]]])


def hostile(rng: random.Random) -> Any:
    """A value that belongs nowhere."""
    return rng.choice(rng.choice((TEXTS, CONTROLS, NUMBERS, SHAPES)))


def flip(rng: random.Random, content: bytes, low: int = 0, high: int | None = None) -> tuple[bytes, str]:
    """The content with one bit flipped between two offsets, and the damage in words."""
    place, bit = rng.randrange(low, max(low + 1, len(content) if high is None else high)), rng.randrange(8)
    if place >= len(content):
        return content + b"\1", "one more byte"
    changed = bytearray(content)
    changed[place] ^= 1 << bit
    return bytes(changed), f"bit {bit} of byte {place:,}"


def cut(rng: random.Random, content: bytes) -> tuple[bytes, str]:
    """The content cut off."""
    size = rng.randrange(max(1, len(content)))
    return content[:size], f"cut off after {size:,} bytes"


def empty(rng: random.Random, content: bytes) -> tuple[bytes, str]:
    """Nothing."""
    return b"", "emptied"


def zero(rng: random.Random, content: bytes) -> tuple[bytes, str]:
    """The content with a page of zeros, as a file system leaves after a power cut."""
    page = rng.randrange(len(content) // 4096 + 1) * 4096
    size = min(4096, len(content) - page)
    return content[:page] + bytes(size) + content[page + size :], f"zeros from byte {page:,}"


def lengthen(rng: random.Random, content: bytes) -> tuple[bytes, str]:
    """The content and some more bytes."""
    more = rng.randbytes(rng.randrange(1, 200))
    return content + more, f"{len(more)} more bytes"


def swap(rng: random.Random, content: bytes) -> tuple[bytes, str]:
    """The content with two of its blocks exchanged."""
    size = max(1, min(512, len(content) // 4))
    first, second = sorted(rng.randrange(max(1, len(content) - size)) for _ in range(2))
    if second < first + size:
        return flip(rng, content)
    a, b = content[first : first + size], content[second : second + size]
    changed = content[:first] + b + content[first + size : second] + a + content[second + size :]
    return changed, f"{size} bytes from {first:,} exchanged with those from {second:,}"


def overwrite(rng: random.Random, content: bytes) -> tuple[bytes, str]:
    """The content with some random bytes."""
    size = rng.randrange(1, 64)
    place = rng.randrange(max(1, len(content) - size))
    return content[:place] + rng.randbytes(size) + content[place + size :], f"{size} random bytes from {place:,}"


BYTES: tuple[Callable[[random.Random, bytes], tuple[bytes, str]], ...] = (
    *(flip, flip, flip, cut, empty, zero, lengthen, swap, overwrite),
)
"""Damages that a disk, a copy or a program does to any file."""


def smaller(items: Sequence[T], broken: Callable[[list[T]], bool], tries: int = 60) -> list[T]:
    """A part of the items, found by leaving out halves, quarters … of them, that is still broken."""
    kept, size = list(items), max(1, len(items) // 2)
    while tries > 0:
        for first in range(0, len(kept), size):
            rest = kept[:first] + kept[first + size :]
            tries -= 1
            if broken(rest):
                kept = rest
                break
            if tries <= 0:
                break
        else:
            if size == 1:
                break
            size //= 2
    return kept
