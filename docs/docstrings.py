"""Makes a list of what docstrings align in two columns. Griffe, which reads docstrings for the site, loads this."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROW = re.compile(r"^(?P<name>\w+)(?: {2,}| (?=`\())(?P<text>\S.*(?:\n {4,}\S.*)*)", re.MULTILINE)
BEGIN, END = re.compile(r"^(?!- `)(.+)\n(?=- `)", re.MULTILINE), re.compile(r"^(- `.*)\n(?=(?!- `).)", re.MULTILINE)


class Columns(griffe.Extension):
    """Rewrites every docstring that is read."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called by griffe once for each module, class, function and attribute."""
        if obj.docstring is not None and ROW.search(obj.docstring.value):
            text = ROW.sub(listed, obj.docstring.value)
            obj.docstring.value = END.sub(r"\1\n\n", BEGIN.sub(r"\1\n\n", text))

    def on_class_members(self, *, cls: griffe.Class, **kwargs: Any) -> None:
        """Called by griffe once for each class: the fields of a named tuple, which it does not know as arguments, become a list."""
        if cls.docstring is not None and [str(base) for base in cls.bases] == ["NamedTuple"]:
            fields = [f"- `{name}: {field.annotation}`" + default(field) for name, field in cls.attributes.items()]
            cls.docstring.value += "\n\n" + "\n".join(fields)


def listed(row: re.Match[str]) -> str:
    """One row, with the lines that go on below it, as an entry of a list."""
    return f"- `{row['name']}`: {' '.join(row['text'].split())}"


def default(field: griffe.Attribute) -> str:
    """What a field is where it is left out."""
    return "" if field.value is None else f", left out: `{field.value}`"
