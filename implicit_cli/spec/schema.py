"""The JSON Schema of a spec, for editors and other programs; `python -m implicit_cli.spec.schema` prints it."""

from __future__ import annotations

import json
import sys
from typing import Any

from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import CoreSchema

from implicit_cli.spec.model import RunSpec


class _Generator(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: CoreSchema) -> bool:
        """No titles: they would repeat each key with another spelling."""
        return False


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) that every valid spec fulfils; what needs the problem or the files is checked later."""
    schema = RunSpec.model_json_schema(schema_generator=_Generator)
    head = {"$schema": GenerateJsonSchema.schema_dialect, "title": "implicit spec", "description": RunSpec.__doc__}
    return head | {key: entry for key, entry in schema.items() if key not in head}


def _main() -> None:
    sys.stdout.write(json.dumps(json_schema(), indent=2) + "\n")


if __name__ == "__main__":
    _main()
