"""Mutations of manifests: of their structure, and of their text."""

import json
import random
import re
from collections.abc import Iterator
from typing import Any

import yaml

from tests.chaos.damage import BYTES, CONTROLS, MARK, TEXTS, hostile

TOKENS = (
    *("1e400", "-1e400", "1.0e+400", ".inf", ".nan", "0x10", "1_000", "0o7", "10:30", "2001-01-01", "9" * 5000, "~"),
    *("!!python/object/apply:os.system ['touch zq7']", "!!binary aGk=", "!x y", "<<", "*a", "&a", "&a [*a]", "?", "|"),
    *(">", "%YAML 1.2", "---", "...", "yes", "NULL", '"\\x1b[31m"', '"\\ud800"', '"a\\nb"', "\u2028", "{", "]", ": :"),
    *("- " * 60, "[" * 3000, "{a: " * 60, "x" * 300_000, "#", "'", '"', "@", "`", "\x00", "\x1b", "\ufeff"),
)
"""Words that mean something to a YAML reader."""
FIELDS = (
    "title",
    "baseline",
    "name",
    "device",
    "source",
    "weights",
    "key",
    "cell",
    "arch",
    "method",
    "loader",
    "paper",
)


def mutated(rng: random.Random, text: str) -> tuple[bytes, str]:
    """A manifest's text after one to three mutations, and these in words."""
    tried: list[str] = []
    if rng.random() < 0.6:
        tree = json.loads(json.dumps(yaml.safe_load(text), default=str))
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            tried.append(_of_structure(rng, tree))
        text = yaml.safe_dump(tree, sort_keys=False, default_flow_style=rng.choice((None, False, True)))
    content = text.encode()
    for _ in range(rng.choice((0, 1)) if tried else rng.choice((1, 1, 2))):
        change = rng.choice((_token, _token, _line, _line, _form, _bomb, _bytes))
        content, words = change(rng, content)
        tried.append(words)
    return content, "; ".join(tried)


def _of_structure(rng: random.Random, tree: Any) -> str:
    """Change one place of the tree; the change in words."""
    change = rng.choice((_drop, _repeat, _exchange, _replace, _replace, _rename, _nest, _word, _word, _word, _word))
    return change(rng, tree)


def _places(tree: Any, where: str = "") -> Iterator[tuple[Any, Any, str]]:
    """Each container with each of its keys, and the place in words."""
    pairs = list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree)) if isinstance(tree, list) else []
    for key, value in pairs:
        yield tree, key, f"{where}.{key}"
        yield from _places(value, f"{where}.{key}")


def _choose(rng: random.Random, tree: Any) -> tuple[Any, Any, str]:
    return rng.choice(list(_places(tree)) or [({"a": 1}, "a", "nothing")])


def _drop(rng: random.Random, tree: Any) -> str:
    holder, key, where = _choose(rng, tree)
    del holder[key]
    return f"without {where}"


def _repeat(rng: random.Random, tree: Any) -> str:
    lists = [(holder[key], where) for holder, key, where in _places(tree) if isinstance(holder[key], list)]
    if not lists:
        return "nothing repeated"
    chosen, where = rng.choice(lists)
    times = rng.choice((1, 2, 50))
    chosen.extend(chosen[:1] * times)
    return f"first item of {where} {times} times more"


def _exchange(rng: random.Random, tree: Any) -> str:
    holder, key, where = _choose(rng, tree)
    other, at, there = _choose(rng, tree)
    if where.startswith(there) or there.startswith(where):
        return "nothing exchanged"
    holder[key], other[at] = other[at], holder[key]
    return f"{where} exchanged with {there}"


def _replace(rng: random.Random, tree: Any) -> str:
    holder, key, where = _choose(rng, tree)
    holder[key] = hostile(rng)
    return f"{where}: {str(holder[key])[:80]!r}"


def _rename(rng: random.Random, tree: Any) -> str:
    mappings = [(holder, key, where) for holder, key, where in _places(tree) if isinstance(holder, dict)]
    if not mappings:
        return "nothing renamed"
    holder, key, where = rng.choice(mappings)
    name = rng.choice((*TEXTS, *CONTROLS, "", "cells", "x" * 3000, 1, 1.5, True, None))
    holder[name] = holder.pop(key)
    return f"{where} renamed {str(name)[:80]!r}"


def _nest(rng: random.Random, tree: Any) -> str:
    holder, key, where = _choose(rng, tree)
    value = holder[key]
    depth = rng.choice((1, 2, 45, 60))
    for _ in range(depth):
        value = rng.choice(([value], {"a": value}))
    holder[key] = value
    return f"{where} nested {depth} deep"


def _word(rng: random.Random, tree: Any) -> str:
    """A hostile text where a manifest holds free text."""
    word, field = rng.choice(TEXTS * 3 + CONTROLS), rng.choice(("title", "title", *FIELDS))
    blocks = tree.get("cells") if isinstance(tree, dict) else None
    block = rng.choice(blocks) if isinstance(blocks, list) and blocks else None
    if not isinstance(tree, dict) or (field not in ("title", "baseline", "device", "source") and block is None):
        return "no place for a word"
    if field in ("device", "source"):
        tree["published"] = {field: word}
    elif field in ("title", "baseline"):
        tree[field] = word
    elif isinstance(block, dict):
        teacher = {"weights": {"weights": word, "arch": "cnn2c2f"}, "key": {"weights": word, "key": word}}
        teacher["cell"] = {"cell": word}
        if field in teacher:
            block["teacher"] = teacher[field]
        else:
            block[field] = {"clean": word} if field == "paper" else word
    return f"{field}: {word!r}"


def _token(rng: random.Random, content: bytes) -> tuple[bytes, str]:
    """Another token in the place of a word or number, or before it."""
    words = list(re.finditer(rb"[\w.+-]+", content))
    if not words:
        return content, "no word to replace"
    word, token = rng.choice(words), rng.choice((*TOKENS, *TEXTS))
    after = word.end() if rng.random() < 0.7 else word.start()
    words_said = f"{token[:40]!r} at byte {word.start()}"
    return content[: word.start()] + token.encode("utf-8", "surrogatepass") + content[after:], words_said


def _line(rng: random.Random, content: bytes) -> tuple[bytes, str]:
    """A line left out, repeated, moved, indented or cut."""
    lines = content.splitlines(keepends=True) or [b"\n"]
    at, to = rng.randrange(len(lines)), rng.randrange(len(lines))
    change = rng.choice(("drop", "repeat", "move", "indent", "tab", "cut"))
    line = lines.pop(at)
    put = {"repeat": line * 2, "indent": b"  " + line, "tab": b"\t" + line, "cut": line[: len(line) // 2]}
    if change == "move":
        lines.insert(to, line)
    elif change != "drop":
        lines.insert(at, put[change])
    return b"".join(lines), f"{change} line {at + 1}"


def _form(rng: random.Random, content: bytes) -> tuple[bytes, str]:
    """The same text in another encoding or with other ends of lines."""
    text = content.decode(errors="replace")
    forms = {
        "a byte order mark": b"\xef\xbb\xbf" + content,
        "CRLF": text.replace("\n", "\r\n").encode(),
        "CR": text.replace("\n", "\r").encode(),
        "UTF-16": text.encode("utf-16", "replace"),
        "Latin-1": text.encode("latin-1", "replace") + b"# \xe9\n",
        "twice": content * 2,
        "no end": content.rstrip(b"\n"),
        "300 kB": content + b"# " + b"x" * 300_000,
    }
    name = rng.choice(sorted(forms))
    return forms[name], name


def _bomb(rng: random.Random, content: bytes) -> tuple[bytes, str]:
    """Aliases that repeat aliases, at a key of the top."""
    levels, key = rng.choice((3, 5, 9)), rng.choice(("recipes", "title", "evals", "cells", "seed", MARK))
    lines = [f"  - &a0 [{', '.join('1' * 10)}]"]
    lines += [f"  - &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, levels)]
    return f"{key}:\n{chr(10).join(lines)}\n".encode() + content, f"an alias bomb of {levels} levels at {key}"


def _bytes(rng: random.Random, content: bytes) -> tuple[bytes, str]:
    return rng.choice(BYTES)(rng, content)
