"""What the models of the spec are made of: strictness, checks of ours inside pydantic, and the values that many sections have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, NoReturn, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema
from typing_extensions import TypeAliasType

from implicit_cli.spec import grammar

V = TypeVar("V")


class Strict(BaseModel):
    """Unknown keys are refused, a boolean is no number, a number with a point is no count, and nothing is NaN or infinite."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Named(Strict):
    """A model for which its bare name may stand."""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, given: Any) -> Any:
        return {"name": given} if isinstance(given, str) else given

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        full = handler.resolve_ref_schema(handler(core_schema))
        return {"anyOf": [full["properties"]["name"], full]}


class Checked:
    """A check of ours in place of pydantic's, which freezes what it takes; `thaw` undoes that in a dump.

    `written` is what a spec may say there, and only makes the JSON Schema.
    """

    def __init__(self, check: Callable[[Any], Any], written: Any, thaw: Callable[[Any], Any] = grammar.thaw) -> None:
        self.check, self.written, self.thaw = check, written, thaw

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(
            lambda given, _: self.check(given),
            handler.generate_schema(self.written),
            serialization=core_schema.plain_serializer_function_ser_schema(self.thaw),
        )


Table = Annotated[Mapping[str, V], AfterValidator(MappingProxyType), PlainSerializer(grammar.thaw)]
Names = Annotated[
    tuple[str, ...] | None,
    Checked(grammar.names, Annotated[list[str], Field(min_length=1, json_schema_extra={"uniqueItems": True})] | None),
]
Reference = Annotated[
    str,
    Field(pattern=grammar.REFERENCE, description="HDF5 reference 'file.h5:/path'; the file is looked for beside the spec"),
]
Numbers = TypeAliasType(
    "Numbers",
    "Annotated[list[float | Numbers], Field(min_length=1, description='Nested list of numbers, equally long in every row')]",
)


class Measured(Strict):
    """A value with its unit, which must be the unit that the problem declares."""

    value: float | Numbers | Reference = Field(description="number, nested list of numbers, or HDF5 reference")
    unit: str = Field(min_length=1, description="symbol of the unit, '1' where there is none")


Value = TypeAliasType(
    "Value",
    Annotated[
        Any,
        Checked(grammar.value, float | Numbers | Reference | Measured),
        Field(description="A number (fills the declared shape), a nested list, an HDF5 reference, or one of these with a unit"),
    ],
)
Labels = Annotated[
    str | tuple[str, ...],
    Checked(grammar.labels, Annotated[list[str], Field(min_length=1)] | Reference),
]
OptionValue = Annotated[bool | int | float | str, Checked(grammar.option, bool | int | float | str)]
Memory = Annotated[int, Checked(grammar.memory, Annotated[int, Field(ge=1)] | Annotated[str, Field(min_length=2)], int)]
Parts = Annotated[dict[str, Value], Field(min_length=1, description="value by quantity; what is left out is zero")]
Directions = Annotated[dict[str, Parts], Field(min_length=1, description="directions, by a name of your choice")]


def nothing() -> Mapping[str, Any]:
    """A table without entries, which is what one left out stands for."""
    return MappingProxyType({})


def refuse(key: str | None, text: str) -> NoReturn:
    """Raise a fault at a key of the model, or at the model itself."""
    raise PydanticCustomError(grammar.FAULTS, "see the context", {"faults": [(() if key is None else (key,), text)]})
