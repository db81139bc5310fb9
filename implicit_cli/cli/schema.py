"""`implicit schema`: the JSON Schema of a spec, for editors."""

from __future__ import annotations

from implicit_cli.cli import console


def schema() -> None:
    """Print the JSON Schema of a spec.

    Editors use it to complete and check specs as they are written.
    """
    from implicit_cli import api

    console.write_json(api.schema())
