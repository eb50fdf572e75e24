"""Published figures: those of a cell, and those of a manifest that concern several cells."""

import re
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from crt.quantity import NUMBER, Real, number

_STRICT = ConfigDict(frozen=True, extra="forbid")
_SCALED = rf"{NUMBER}(?:\s*[*/]\s*{NUMBER})?"
PATTERN = rf"(?:{_SCALED}|{NUMBER}\s*±\s*{NUMBER})"
"""Regular expression of a figure as printed: `0.550`, `101.49*60`, `1807.58/60` or `455.55 ± 1.17`."""


class Figure(float):
    """A published figure; as a float it is the printed value.

    It keeps how it was printed, because digits and an uncertainty are part of a claim: `0.550` stands for any value
    from 0.5495 to 0.5505. A figure in another unit than its key's is written with the factor, as `1807.58/60`.
    """

    printed: str
    """The figure as the manifest has it."""
    plus_minus: float
    """Half the width of the printed 95 % interval; 0 where none is printed."""
    rounding: float
    """Half a unit of the last printed digit."""

    def __new__(cls, printed: Any) -> "Figure":
        """Read a figure as printed, or a number; ValueError for anything else."""
        text = printed.printed if isinstance(printed, Figure) else printed
        if not isinstance(text, str):
            text = str(number(text)) if isinstance(number(text), int | float) else ""
        text = text.strip()
        if not re.fullmatch(PATTERN, text):
            raise ValueError("a printed figure is needed, such as 0.550, 1807.58/60, 101.49*60 or 455.55 ± 1.17")
        value, factor, plus_minus = _parts(text)
        self = super().__new__(cls, value)
        self.printed, self.plus_minus, self.rounding = text, plus_minus, abs(factor) * _half_unit(text)
        return self

    def __getnewargs__(self) -> tuple[str]:  # type: ignore[override]
        return (self.printed,)

    @property
    def low(self) -> float:
        """Least value that the print allows."""
        return float(self) - self.plus_minus - self.rounding

    @property
    def high(self) -> float:
        """Greatest value that the print allows."""
        return float(self) + self.plus_minus + self.rounding

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> CoreSchema:
        as_number = core_schema.plain_serializer_function_ser_schema(float, when_used="json")
        return core_schema.no_info_plain_validator_function(cls, serialization=as_number)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": ["number", "string"], "pattern": f"^{PATTERN}$"}


def _parts(text: str) -> tuple[float, float, float]:
    """Value, factor and uncertainty of a figure's text; ValueError for a division by zero."""
    if "±" in text:
        value, plus_minus = map(float, text.split("±"))
        return value, 1.0, plus_minus
    if "*" in text:
        value, factor = map(float, text.split("*"))
        return value * factor, factor, 0.0
    value = number(text)
    return float(value), 1 / float(text.partition("/")[2] or 1), 0.0


def _half_unit(text: str) -> float:
    """Half a unit of the last digit of the number that the text begins with."""
    mantissa, _, exponent = re.split(r"[*/±]", text)[0].strip().lower().partition("e")
    return 0.5 * 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))


class Paper(BaseModel):
    """Published figures of a cell. They are no part of its id and never enter a measured column."""

    model_config = _STRICT

    s_per_epoch: Figure | None = None
    hours: Figure | None = None
    hours_with_teacher: Figure | None = None
    slowdown: Figure | None = None
    """Time per epoch divided by the baseline's."""
    total: Figure | None = None
    """Time of the whole training divided by the baseline's."""
    memory_gb: Figure | None = None
    """Peak memory of the GPU in GB."""
    clean: Figure | None = None
    robust: Figure | None = None
    """Accuracy in percent: `clean` without an attack, `robust` under the paper's attack at the threat's radius."""
    acr: Figure | None = None
    certified: dict[Real, Figure] = Field(default_factory=dict)
    """Certified accuracy in percent by radius."""
    similarity: Figure | None = None
    """Similarity to a standard network, in percent."""
    lipschitz: Figure | None = None
    """Lipschitz constant of the network."""


class Comparison(BaseModel):
    """Published figures of two methods, over every pair of their cells on one architecture."""

    model_config = _STRICT

    slower: str
    faster: str
    """Names of the two methods."""
    arch: str | None = None
    """The one architecture of the figures (default: all that both have)."""
    epoch_ratio: Figure | None = None
    """Time of an epoch, slower over faster; the arithmetic mean over the pairs."""
    training_ratio: Figure | None = None
    """Time of the whole training, likewise."""
    training_ratio_with_teacher: Figure | None = None
    """Time of the whole training, likewise, over the faster one's with its teachers'."""
    slower_hours: Figure | None = None
    faster_hours: Figure | None = None
    """Hours of the whole training, added up over the pairs."""
    hours_saved: Figure | None = None
    """Percent of the slower method's hours that the faster one saves."""


class Published(BaseModel):
    """What a paper prints about a whole table."""

    model_config = _STRICT

    device: str | None = None
    """GPU of the published times, such as `V100`; a time counts as measured on it if its GPU's name has these words."""
    comparisons: tuple[Comparison, ...] = ()
