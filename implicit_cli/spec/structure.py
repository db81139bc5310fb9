"""The section `structure`: particles and their cell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from implicit_cli.spec import lists
from implicit_cli.spec.fields import Checked, Strict, nothing, refuse

Floats = Annotated[
    tuple[float, ...] | None,
    Checked(lists.numbers, Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)] | None),
]
Counts = Annotated[
    tuple[int, ...] | None,
    Checked(lists.counts, Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=2, max_length=3)] | None),
]
_Index = Annotated[int, Field(ge=0)]
_Indices = Annotated[list[_Index], Field(json_schema_extra={"uniqueItems": True})]
Indices = Annotated[tuple[int, ...], Checked(lists.indices, _Indices)]
Substitutes = Annotated[Mapping[str, tuple[int, ...]], Checked(lists.substitutes, dict[str, _Index | _Indices])]
Points = Annotated[
    tuple[tuple[float, ...], ...],
    Checked(lists.points, list[Annotated[list[float], Field(min_length=2, max_length=3)]]),
]
Species = Annotated[
    tuple[str, ...] | None,
    Checked(
        lists.species,
        Annotated[str, Field(min_length=1)]
        | Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, json_schema_extra={"uniqueItems": True})]
        | None,
    ),
]
Lattice = Literal["sc", "bcc", "fcc", "hcp", "diamond", "zincblende", "rocksalt", "square", "hexagonal"]


class RandomSpec(Strict):
    """Particles at uniformly random places in a periodic cube, or square, whose side gives the packing fraction."""

    particles: int = Field(ge=1, le=100_000_000, description="number of particles")
    dimensions: int = Field(default=3, ge=2, le=3, description="dimensions of space")
    phi: float = Field(gt=0, description="packing fraction: the particles' area or volume, by that of the cell")
    diameters: Floats = Field(default=(1.0,), description="diameter of each species", json_schema_extra={"default": [1.0]})
    shares: Floats = Field(default=None, description="share of each species, whose sum is 1; left out: equal shares")

    @model_validator(mode="after")
    def _shares_fit(self) -> RandomSpec:
        many = len(self.diameters or ())
        if self.shares is not None and len(self.shares) != many:
            refuse("shares", f"found {len(self.shares)} shares, allowed: {many}, one for each diameter")
        if self.shares is not None and abs(sum(self.shares) - 1) > 1e-9:
            refuse("shares", f"found shares of sum {sum(self.shares):g}, allowed: of sum 1")
        return self


class StructureSpec(Strict):
    """Particles and their cell, from a file, a lattice or at random; a bare string is a file name."""

    file: str | None = Field(
        default=None, min_length=1, description="extxyz, CIF, LAMMPS data, POSCAR or H5MD file; looked for beside the spec"
    )
    format: str | None = Field(
        default=None, min_length=1, description="format of the file, as ASE names it, or h5md; left out: by the name of the file"
    )
    frame: int | None = Field(default=None, ge=0, description="frame of a trajectory, counted from 0; left out: the last")
    group: str | None = Field(default=None, min_length=1, description="group in /particles of an H5MD file; left out: the only one")
    dimensions: int | None = Field(
        default=None, ge=2, le=3, description="2 drops the third coordinate of a file, which must be the same for all particles"
    )
    lattice: Lattice | None = Field(
        default=None, description="crystal in three dimensions, or `square` and `hexagonal` in two, with an orthogonal cell"
    )
    a: float | None = Field(default=None, gt=0, description="lattice constant")
    c: float | None = Field(default=None, gt=0, description="second lattice constant of hcp; left out: sqrt(8/3) a")
    random: RandomSpec | None = Field(default=None, description="particles at random places")
    repeat: Counts = Field(default=None, description="copies of the cell along each of its vectors")
    species: Species = Field(
        default=None, description="names of the species, in the order of their numbers; left out: those of the file, else A, B, ..."
    )
    interstitials: Points = Field(
        default=(),
        description="particles of the first species to add to a lattice, at these points in units of a",
        json_schema_extra={"default": []},
    )
    substitute: Substitutes = Field(
        default_factory=nothing, description="species of particles to change: their indices, counted from 0, by name"
    )
    vacancies: Indices = Field(
        default=(), description="indices of particles to take out, counted from 0", json_schema_extra={"default": []}
    )
    rattle: float = Field(default=0.0, ge=0, description="standard deviation of a random displacement of each coordinate")

    @model_validator(mode="before")
    @classmethod
    def _from_file(cls, given: Any) -> Any:
        return {"file": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _one_source(self) -> StructureSpec:
        sources = [name for name in ("file", "lattice", "random") if getattr(self, name) is not None]
        if len(sources) != 1:
            found = " and ".join(f"'{name}'" for name in sources) or "no source"
            refuse(None, f"found {found}, allowed: one of 'file', 'lattice', 'random'")
        owners = {"file": ("format", "frame", "group", "dimensions"), "lattice": ("a", "c", "interstitials")}
        for owner, keys in owners.items():
            for key in keys:
                if sources[0] != owner and getattr(self, key) not in (None, ()):
                    refuse(key, f"found with '{sources[0]}', allowed: with '{owner}'")
        if self.lattice is not None and self.a is None:
            refuse("lattice", "'a' is missing: the lattice constant")
        if self.c is not None and self.lattice != "hcp":
            refuse("c", f"found with lattice '{self.lattice}', allowed: with 'hcp'")
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        full = handler.resolve_ref_schema(handler(core_schema))
        return {"anyOf": [{"type": "string", "minLength": 1}, full]}
