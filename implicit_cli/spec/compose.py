"""YAML 1.2 to values, every one with its line and column.

The scanner is ruamel.yaml's. Values are built here from its events, by the core schema of YAML 1.2 (`no` is a text, `1e-3` a
number), so that a value and its place come from one pass and the limits hold while the text is read, not after.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
    StreamStartEvent,
)
from ruamel.yaml.scanner import Scanner, ScannerError

from implicit_cli.errors import InputError, nearest
from implicit_cli.spec.source import Mark, Tree
from implicit_cli.spec.words import Keys, dotted, found, shown, some

MAX_NODES = 20_000
MAX_DEPTH = 32
MAX_LINE = 500_000
"""Some scans of ruamel.yaml take time that grows with the square of a line's length."""
_CURE = "allowed: fewer; put large arrays into an HDF5 file"

_NOT_TEXT = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NULL = re.compile(r"(?:~|null|Null|NULL|)\Z")
_BOOL = re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")
_INT = re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_NOT_FINITE = {"inf": math.inf, "nan": math.nan}
_SPELLED = re.compile(r"([-+]?)\.(inf|Inf|INF)\Z|\.(nan|NaN|NAN)\Z")
_INT_LIMIT = 2**63


def parse(text: str, name: str, place: Callable[[Mark], str] | None = None) -> Tree:
    """Parse one YAML 1.2 document. `place` says how a mark is written in a message; by default `name:line:column`.

    Raises InputError with one line per fault: syntax, duplicate keys, tags, keys that are no text, several documents, numbers
    beyond 64 bits, lines, levels and nodes (an alias counts each time) beyond the limits.
    """
    return _Composer(text, name, place or (lambda mark: f"{name}:{mark.line}:{mark.column}")).tree()


class _Composer:
    def __init__(self, text: str, name: str, place: Callable[[Mark], str]) -> None:
        self.place, self.result = place, Tree(name, None)
        self.faults: list[str] = []
        self.nodes = 0
        self.anchors: dict[str, Any] = {}
        if character := _NOT_TEXT.search(text):
            before = text[: character.start()]
            mark = Mark(before.count("\n") + 1, character.start() - before.rfind("\n"))
            raise InputError(f"{place(mark)}: found the character U+{ord(character.group()):04X}, allowed: printable text")
        for number, line in enumerate(text.split("\n"), start=1):
            if len(line) > MAX_LINE:
                raise InputError(f"{place(Mark(number, 1))}: found a line of {len(line)} characters, allowed: at most {MAX_LINE}")
        self.events = _events(text, place)

    def tree(self) -> Tree:
        for event in self.events:
            match event:
                case StreamStartEvent() | DocumentEndEvent():
                    pass
                case DocumentStartEvent():
                    if event.version not in (None, (1, 2)):
                        self.fault(event, f"found YAML {event.version[0]}.{event.version[1]}, allowed: YAML 1.2")
                    self.result.value = self.node(next(self.events), (), 1)
                    self.no_second_document()
                case StreamEndEvent():
                    self.fault(event, "found an empty file, allowed: a spec, which starts with 'problem: NAME'")
        if self.faults:
            raise InputError(some(self.result.name, self.faults))
        return self.result

    def no_second_document(self) -> None:
        next(self.events)
        if isinstance(event := next(self.events), DocumentStartEvent):
            self.fault(event, "found a second document, allowed: one")
            raise InputError(some(self.result.name, self.faults))

    def node(self, event: Any, keys: Keys, depth: int, key_mark: Mark | None = None) -> Any:
        """The value that starts with `event`; its children are read from the stream."""
        mark = _mark(event)
        self.count(1, depth, mark)
        if isinstance(event, AliasEvent):
            self.result.values[keys] = mark
            return self.alias(event, depth, mark)
        if event.anchor is not None:
            self.anchors[event.anchor] = _UNFINISHED
        flow = getattr(event, "flow_style", True) and not (isinstance(event, ScalarEvent) and event.value == "")
        # A block starts at its first entry and an empty value nowhere: both are better shown by their key.
        self.result.values[keys] = mark if flow or key_mark is None else key_mark
        match event:
            case ScalarEvent():
                value = self.scalar(event)
            case SequenceStartEvent():
                value = self.sequence(keys, depth)
            case MappingStartEvent():
                value = self.mapping(keys, depth)
        if event.anchor is not None:
            self.anchors[event.anchor] = value
        return value

    def sequence(self, keys: Keys, depth: int) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self.events), SequenceEndEvent):
            items.append(self.node(event, (*keys, len(items)), depth + 1))
        return items

    def mapping(self, keys: Keys, depth: int) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        while not isinstance(event := next(self.events), MappingEndEvent):
            key, mark = self.key(event, depth), _mark(event)
            path = (*keys, key)
            if key in entries:
                first = self.result.keys[path]
                where = f" on line {first.line}" if isinstance(first, Mark) else ""
                self.fault(event, f"{dotted(path)}: found the key twice, the first time{where}")
            self.result.keys.setdefault(path, mark)
            entries[key] = self.node(next(self.events), path, depth + 1, mark)
        return entries

    def key(self, event: Any, depth: int) -> str:
        if not isinstance(event, ScalarEvent):
            value: Any = self.node(event, (), depth + 1)
            self.fault(event, f"found {found(value)} as a key, allowed: a text")
            return ""
        self.count(1, depth, _mark(event))
        if event.implicit[0] and event.value == "<<":
            self.fault(event, "found the merge key '<<', allowed: YAML 1.2, which has none")
        value = self.scalar(event)
        if isinstance(value, str):
            return value
        hint = f"; did you mean '{event.value}', in quotes?" if event.value else ""
        self.fault(event, f"found the key {shown(event.value) or 'nothing'}, allowed: a text{hint}")
        return str(event.value)

    def scalar(self, event: Any) -> Any:
        text: str = event.value
        if not event.implicit[0]:
            # Escapes in double quotes can make what the text itself must not hold.
            if character := _NOT_TEXT.search(text):
                self.fault(event, f"found the character U+{ord(character.group()):04X}, allowed: printable text")
            return text
        if _NULL.match(text):
            return None
        if _BOOL.match(text):
            return text[0] in "tT"
        if _INT.match(text):
            # Past 64 bits the digits are not converted: thousands of them take seconds, or Python refuses.
            value = int(text, {"0o": 8, "0x": 16}.get(text[:2], 10)) if len(text) <= _LONGEST_INT else _INT_LIMIT
            if not -_INT_LIMIT <= value < _INT_LIMIT:
                self.fault(event, f"found an integer of {len(text.lstrip('+-'))} digits, allowed: -2^63 to 2^63 - 1")
            return value
        if _FLOAT.match(text):
            number = float(text)
            if math.isinf(number) or (number == 0.0 and re.search("[1-9]", re.split("[eE]", text)[0])):
                self.fault(event, f"found {shown(text)}, allowed: what a 64-bit number can hold, about 1e-308 to 1e308")
            return number
        if spelled := _SPELLED.match(text):
            number = _NOT_FINITE[(spelled[2] or spelled[3]).lower()]
            return -number if spelled[1] == "-" else number
        return text

    def alias(self, event: Any, depth: int, mark: Mark) -> Any:
        """A copy, so that what an override changes in one place stays as it is in the other."""
        name = event.anchor
        if name not in self.anchors:
            self.fault(event, f"found the alias '*{shown(name)}', which has no anchor{nearest(name, self.anchors)}")
            return None
        value = self.anchors[name]
        if value is _UNFINISHED:
            self.fault(event, f"found the alias '*{shown(name)}' inside its own anchor")
            return None
        nodes, height = _measure(value)
        self.count(nodes, depth + height - 1, mark)
        return copy.deepcopy(value)

    def count(self, nodes: int, depth: int, mark: Mark) -> None:
        self.nodes += nodes
        if self.nodes > MAX_NODES:
            self.faults.append(
                f"{self.place(mark)}: found more than {MAX_NODES} values, allowed: fewer; put large arrays into an HDF5 file"
            )
            raise InputError(some(self.result.name, self.faults))
        if depth > MAX_DEPTH:
            self.faults.append(f"{self.place(mark)}: found more than {MAX_DEPTH} levels of nesting, allowed: fewer")
            raise InputError(some(self.result.name, self.faults))

    def fault(self, event: Any, text: str) -> None:
        self.faults.append(f"{self.place(_mark(event))}: {text}")


_UNFINISHED = object()
_LONGEST_INT = 24


def _measure(value: Any) -> tuple[int, int]:
    """Number of nodes and of levels of a value."""
    if not isinstance(value, (dict, list)):
        return 1, 1
    children = [_measure(child) for child in (value.values() if isinstance(value, dict) else value)]
    return 1 + sum(nodes for nodes, _ in children), 1 + max((height for _, height in children), default=0)


def _mark(event: Any) -> Mark:
    return Mark(event.start_mark.line + 1, event.start_mark.column + 1)


class _Scanner(Scanner):  # type: ignore[misc,unused-ignore]
    """Tags are refused where they start: to scan a long one takes time that grows with its square."""

    def fetch_tag(self) -> None:
        raise ScannerError(None, None, _TAG, self.reader.get_mark())


def _events(text: str, place: Callable[[Mark], str]) -> Iterator[Any]:
    try:
        yaml = YAML(typ="safe", pure=True)
        yaml.Scanner = _Scanner
        yield from yaml.parse(text)
    except MarkedYAMLError as error:
        # A key without ':' and an open quote are noticed far behind the place where they start.
        marks = (error.context_mark, error.problem_mark)
        started = error.context in ("while scanning a simple key", "while scanning a quoted scalar")
        mark = next(filter(None, marks if started else reversed(marks)), None)
        where = place(Mark(mark.line + 1, mark.column + 1) if mark else Mark(1, 1))
        raise InputError(f"{where}: {_explain(str(error.problem or error.context))}") from None
    except Exception as error:  # on some malformed texts the scanner fails in ways of its own
        raise InputError(f"{place(Mark(1, 1))}: not valid YAML: {shown(str(error)) or type(error).__name__}") from error


def _explain(problem: str) -> str:
    for fragment, meaning in _MEANINGS.items():
        if fragment in problem:
            return meaning
    return "not valid YAML: " + "".join(letter if letter.isprintable() else " " for letter in problem)


_TAG = "found a tag"
_MEANINGS = {
    _TAG: "found a tag, allowed: values without; a text that starts with '!' needs quotes",
    "'\\t' that cannot start": "found a tab, allowed: spaces",
    "mapping values are not allowed": "found a ':' inside a value, allowed: 'key: value', each indented like its neighbours",
    "could not find expected ':'": "found a text without a value, allowed: 'key: value'",
    "expected <block end>": "found a line that is indented unlike its neighbours, or text after a closed bracket or quote",
    "<document start>": "found text that belongs to no document, allowed: one mapping",
    "expected ',' or ']'": "found a list that is not closed, allowed: ',' or ']' after each entry",
    "expected ',' or '}'": "found a mapping that is not closed, allowed: ',' or '}' after each entry",
    "unexpected end of stream": "found a text whose quote is not closed",
    "expected the node content": "found a ',' or a bracket where a value should be",
    "cannot start any token": "found a character that cannot start a value; a text that starts with it needs quotes",
}
