"""How a Parquet table is described: columns, types, units and meaning, in one place for code, schema and docs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    name: str
    """As in the file."""
    type: str
    """Arrow's name of the type, such as ``int64``."""
    unit: str
    """``ns``, ``m``, ...; empty where it has none."""
    meaning: str
    """One line."""
    nullable: bool = False
    """Whether a value may be null (unknown)."""


@dataclass(frozen=True, slots=True)
class TableFormat:
    """One table of a family with a version of its own: those of a run, those of the truth."""

    name: str
    """File name without ``.parquet``."""
    meaning: str
    """What a row is, and in which order rows come."""
    columns: tuple[Column, ...]
    """In the file's order."""
    version: int
    """Version of the family; a reader refuses a higher one."""
    family: str = ""
    """Stands before the table's name in the metadata, with a dot; empty for a run."""

    @property
    def file_name(self) -> str:
        """Name of the file in its directory."""
        return f"{self.name}.parquet"

    def arrow(self) -> pa.Schema:
        """The Arrow schema; unit and meaning are metadata of each field."""
        import pyarrow as pa

        fields = [
            pa.field(
                c.name,
                pa.type_for_alias(c.type),
                nullable=c.nullable,
                metadata={"unit": c.unit, "description": c.meaning} if c.unit else {"description": c.meaning},
            )
            for c in self.columns
        ]
        full_name = f"{self.family}.{self.name}" if self.family else self.name
        metadata = {"schema": str(self.version), "table": full_name, "description": self.meaning}
        return pa.schema(fields, metadata=metadata)
