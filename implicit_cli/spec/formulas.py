"""The section `formulas`: a problem written in the spec, its quantities and what it solves, for `problem: expression`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from implicit_cli.errors import listing, nearest
from implicit_cli.formula import CONSTANTS, FUNCTIONS, NAME, Formula, FormulaFault, Formulas, Named, parse
from implicit_cli.spec.fields import Checked, Strict, nothing, refuse
from implicit_cli.spec.grammar import Fault, stop
from implicit_cli.spec.outer import limits
from implicit_cli.spec.words import Keys, found, shown

_KEYS = {
    "data": ("shape", "unit", "doc", "dtype"),
    "parameters": ("shape", "unit", "doc", "bounds", "default"),
    "unknowns": ("shape", "unit", "doc", "bounds", "initial"),
    "outputs": ("formula", "shape", "unit", "doc"),
    "subject_to": ("formula", "shape", "unit", "doc"),
}
"""What may be said of a quantity in each table."""
_FILL = {"parameters": "default", "unknowns": "initial"}
_COMPARISON = {"outputs": "none", "subject_to": "needed", "equations": "allowed", "fixed_point": "none"}
_WRITTEN = ("outputs", "subject_to")
_SHAPE = "a list of axes, each a name or a length; [] for a single number"


def _formula(given: Any, comparison: str, keys: Keys, faults: list[Fault]) -> Formula | None:
    if not isinstance(given, str):
        hint = f"; did you mean '{given}', in quotes?" if isinstance(given, (int, float)) and not isinstance(given, bool) else ""
        faults.append((keys, f"found {found(given)}, allowed: a formula, as a text{hint}"))
        return None
    try:
        return parse(given, comparison=comparison)
    except FormulaFault as fault:
        faults.append((keys, str(fault)))
        return None


def _shape(given: Any, keys: Keys, faults: list[Fault]) -> tuple[str | int, ...]:
    if not isinstance(given, (list, tuple)):
        hint = f"; did you mean [{given}]?" if isinstance(given, (str, int)) and not isinstance(given, bool) else ""
        faults.append((keys, f"found {found(given)}, allowed: {_SHAPE}{hint}"))
        return ()
    for index, axis in enumerate(given):
        named = isinstance(axis, str) and NAME.match(axis)
        if not named and (isinstance(axis, bool) or not isinstance(axis, int) or axis < 1):
            faults.append(((*keys, index), f"found {found(axis)}, allowed: the name of an axis, or a length of at least 1"))
    return tuple(given)


def _name(name: str, keys: Keys, faults: list[Fault]) -> None:
    if not NAME.match(name):
        faults.append(((*keys, name), f"found {found(name)}, allowed: a name of letters, digits and _, which starts with a letter"))


def _quantity(table: str, given: Any, keys: Keys, faults: list[Fault]) -> Named:
    """One declaration; a list is its shape, a text its formula."""
    if isinstance(given, Named):
        return given
    place = (*keys, "formula")
    if table in _WRITTEN and not isinstance(given, Mapping):
        given, place = {"formula": given}, keys
    elif isinstance(given, (list, tuple)):
        given = {"shape": given}
    if not isinstance(given, Mapping):
        faults.append((keys, f"found {found(given)}, allowed: {_SHAPE}, or a mapping with {listing(_KEYS[table])}"))
        return Named()
    for key in given:
        if key not in _KEYS[table]:
            faults.append(((*keys, key), f"unknown key, allowed: {listing(_KEYS[table])}{nearest(key, _KEYS[table])}"))
    formula = None
    if table in _WRITTEN:
        if "formula" not in given:
            faults.append((keys, "'formula' is missing, allowed: a formula, as a text"))
        else:
            formula = _formula(given["formula"], _COMPARISON[table], place, faults)
    texts = {}
    for key, default in (("unit", "1"), ("doc", "")):
        texts[key] = given.get(key, default)
        if not isinstance(texts[key], str):
            faults.append(((*keys, key), f"found {found(texts[key])}, allowed: a text"))
    dtype = given.get("dtype", "float")
    if dtype not in ("float", "int"):
        faults.append(((*keys, "dtype"), f"found {found(dtype)}, allowed: 'float' or 'int'"))
    fill, key = given.get(_FILL.get(table, "")), _FILL.get(table, "")
    if fill is not None and (isinstance(fill, bool) or not isinstance(fill, (int, float)) or not math.isfinite(fill)):
        faults.append(((*keys, key), f"found {found(fill)}, allowed: a finite number"))
        fill = None
    bounds = _inside(limits, given["bounds"], (*keys, "bounds"), faults) if "bounds" in given else (None, None)
    shape = _shape(given.get("shape", ()), (*keys, "shape"), faults)
    return Named(shape, texts["unit"], texts["doc"], bounds or (None, None), fill, dtype, formula)


def _inside(check: Callable[[Any], Any], given: Any, keys: Keys, faults: list[Fault]) -> Any:
    """What a check of the spec makes of a value here; its faults are those of `keys`."""
    from pydantic_core import PydanticCustomError

    try:
        return check(given)
    except PydanticCustomError as error:
        faults += [((*keys, *inner), text) for inner, text in (error.context or {})["faults"]]
        return None


def _table(table: str) -> Callable[[Any], Any]:
    """The check of a table of quantities."""

    def check(given: Any) -> Any:
        if not isinstance(given, Mapping):
            stop([((), f"found {found(given)}, allowed: a mapping of names to quantities")])
        faults: list[Fault] = []
        for name in given:
            _name(name, (), faults)
        frozen = {name: _quantity(table, one, (name,), faults) for name, one in given.items()}
        stop(faults)
        return MappingProxyType(frozen)

    return check


def _formulas(table: str) -> Callable[[Any], Any]:
    """The check of a table of formulas by unknown."""

    def check(given: Any) -> Any:
        if not isinstance(given, Mapping):
            stop([((), f"found {found(given)}, allowed: a mapping of unknowns to formulas")])
        faults: list[Fault] = []
        frozen = {
            name: one if isinstance(one, Formula) else _formula(one, _COMPARISON[table], (name,), faults)
            for name, one in given.items()
        }
        stop(faults)
        return MappingProxyType(frozen)

    return check


def _objective(given: Any) -> Formula | None:
    if given is None or isinstance(given, Formula):
        return given
    faults: list[Fault] = []
    formula = _formula(given, "none", (), faults)
    stop(faults)
    return formula


def thaw_formula(formula: Formula | None) -> str | None:
    """A formula as a spec writes it."""
    return formula.text if formula is not None else None


def thaw_formulas(formulas: Mapping[str, Formula]) -> dict[str, Any]:
    """Formulas by unknown, as a spec writes them."""
    return {name: formula.text for name, formula in formulas.items()}


def _thaw_table(table: str) -> Callable[[Any], dict[str, Any]]:
    def thaw(frozen: Mapping[str, Named]) -> dict[str, Any]:
        return {name: _thawed(table, one) for name, one in frozen.items()}

    return thaw


def _thawed(table: str, one: Named) -> dict[str, Any]:
    """A declaration as a spec writes it, without what is left out."""
    text = thaw_formula(one.formula)
    every: dict[str, Any] = {"formula": text, "shape": list(one.shape), "unit": one.unit, "doc": one.doc, "dtype": one.dtype}
    every |= {_FILL.get(table, "fill"): one.fill, "bounds": None if one.bounds == (None, None) else list(one.bounds)}
    return {key: every[key] for key in _KEYS[table] if every[key] is not None}


Shape = Annotated[list[str | int], Field(description=_SHAPE)]
Text = Annotated[str, Field(min_length=1, max_length=2000)]
Limits = Annotated[list[float | None], Field(min_length=2, max_length=2, description="[LOW, HIGH], null where there is none")]


class _Quantity(Strict):
    shape: Shape = Field(default_factory=list)
    unit: str = Field(default="1", description="symbol of the unit")
    doc: str = Field(default="", description="what it means")


class DataQuantity(_Quantity):
    """What is given and not differentiated with respect to."""

    dtype: Literal["float", "int"] = Field(default="float", description="int: class labels, indices")


class ParameterQuantity(_Quantity):
    """What the solution is differentiated with respect to."""

    bounds: Limits | None = None
    default: float | None = Field(default=None, description="value where the spec gives none")


class UnknownQuantity(_Quantity):
    """What is solved for."""

    bounds: Limits | None = None
    initial: float = Field(default=0.0, description="initial guess of all entries")


class WrittenQuantity(_Quantity):
    """A quantity with its formula."""

    formula: Text


def _declared(table: str, model: type[Strict], short: Any) -> Any:
    written = dict[str, short | model]  # type: ignore[valid-type]
    return Annotated[Mapping[str, Named], Checked(_table(table), written, _thaw_table(table))]


def _by_unknown(table: str) -> Any:
    return Annotated[Mapping[str, Formula], Checked(_formulas(table), dict[str, Text], thaw_formulas)]


class FormulasSpec(Strict):
    """A problem in formulas, for `problem: expression`: its quantities, and one of `minimise`, `equations` and `fixed_point`."""

    unknowns: _declared("unknowns", UnknownQuantity, Shape) = Field(  # type: ignore[valid-type]
        description="what is solved for: a shape, or {shape, unit, doc, bounds, initial}"
    )
    parameters: _declared("parameters", ParameterQuantity, Shape) = Field(  # type: ignore[valid-type]
        default_factory=nothing,
        description="what is differentiated with respect to: a shape, or {shape, unit, doc, bounds, default}",
    )
    data: _declared("data", DataQuantity, Shape) = Field(  # type: ignore[valid-type]
        default_factory=nothing, description="what else is given: a shape, or {shape, unit, doc, dtype}"
    )
    minimise: Annotated[Any, Checked(_objective, Text | None, thaw_formula)] = Field(
        default=None, description="objective, a formula whose value is a single number"
    )
    subject_to: _declared("subject_to", WrittenQuantity, Text) = Field(  # type: ignore[valid-type]
        default_factory=nothing,
        description="constraints by the name of their multiplier: a comparison by ==, <= or >=, or {formula, shape, unit, doc}",
    )
    equations: _by_unknown("equations") = Field(  # type: ignore[valid-type]
        default_factory=nothing,
        description="for each unknown a formula of its shape that is zero at the solution, or LEFT == RIGHT",
    )
    fixed_point: _by_unknown("fixed_point") = Field(  # type: ignore[valid-type]
        default_factory=nothing, description="for each unknown the formula of its next value: x = T(x)"
    )
    outputs: _declared("outputs", WrittenQuantity, Text) = Field(  # type: ignore[valid-type]
        default_factory=nothing, description="what follows from the solution: a formula, or {formula, shape, unit, doc}"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> FormulasSpec:
        if not self.unknowns:
            refuse("unknowns", "found an empty mapping, allowed: a mapping of names to quantities")
        faults = [*_one_kind(self), *_names_once(self), *_known_names(self)]
        stop(faults)
        return self

    def formulas(self, at: Callable[..., str]) -> Formulas:
        """What the problem is told; `at` says where in the spec some keys stand."""
        tables = (self.data, self.parameters, self.unknowns, self.outputs, self.subject_to)
        return Formulas(*tables, self.minimise, self.equations, self.fixed_point, at)


def _one_kind(spec: FormulasSpec) -> list[Fault]:
    """One of three things is solved, and each unknown has its formula."""
    kinds = [key for key in ("minimise", "equations", "fixed_point") if getattr(spec, key)]
    if len(kinds) != 1:
        allowed = "one of minimise, equations and fixed_point"
        return [((), f"found {listing(kinds) if kinds else 'none'}, allowed: {allowed}")]
    faults: list[Fault] = []
    if spec.subject_to and kinds != ["minimise"]:
        faults.append((("subject_to",), f"found with {kinds[0]}, allowed: with minimise"))
    if kinds != ["minimise"]:
        table = getattr(spec, kinds[0])
        for name in table:
            if name not in spec.unknowns:
                text = f"'{shown(name)}' is no unknown, allowed: {listing(spec.unknowns)}{nearest(name, spec.unknowns)}"
                faults.append(((kinds[0], name), text))
        faults += [
            ((kinds[0],), f"no formula for '{name}', allowed: one for each unknown") for name in spec.unknowns if name not in table
        ]
    return faults


def _names_once(spec: FormulasSpec) -> list[Fault]:
    """Every quantity has a name of its own."""
    faults: list[Fault] = []
    seen: dict[str, str] = {}
    for table in _KEYS:
        for name in getattr(spec, table):
            if name in seen:
                faults.append(((table, name), f"'{name}' is declared in '{seen[name]}' too, allowed: names of their own"))
            seen[name] = table
    return faults


def _known_names(spec: FormulasSpec) -> list[Fault]:
    """Formulas mention what is declared; outputs may use multipliers, too."""
    given = {*CONSTANTS, *spec.data, *spec.parameters, *spec.unknowns}
    written: list[tuple[Keys, Formula | None, set[str]]] = [(("minimise",), spec.minimise, given)]
    for table in ("equations", "fixed_point"):
        written += [((table, name), formula, given) for name, formula in getattr(spec, table).items()]
    written += [(("subject_to", name), one.formula, given) for name, one in spec.subject_to.items()]
    written += [(("outputs", name), one.formula, given | set(spec.subject_to)) for name, one in spec.outputs.items()]
    faults: list[Fault] = []
    for keys, formula, known in written:
        for node in formula.names() if formula is not None else ():
            if node.id not in known:
                hint = nearest(node.id, known) or (f"; did you mean {node.id}(...)?" if node.id in FUNCTIONS else "")
                assert formula is not None
                faults.append((keys, f"unknown name {formula.at(node)}, allowed: {listing(known)}{hint}"))
    return faults
