"""Published figures: those of a cell, and those of a manifest that concern several cells."""

import re
from fractions import Fraction
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from crt.quantity import NUMBER, Real, number
from crt.text import one_line

_STRICT = ConfigDict(frozen=True, extra="forbid")
_SCALED = rf"{NUMBER}(?:\s*[*/]\s*{NUMBER})?"
PATTERN = rf"(?:{_SCALED}|{NUMBER}\s*±\s*{NUMBER})"
"""Regular expression of a figure as printed: `0.550`, `101.49*60`, `1807.58/60` or `455.55 ± 1.17`."""


_LONGEST = 60
"""Characters of the longest figure that a paper prints."""


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
    low: float
    """Least value that the print allows."""
    high: float
    """Greatest value that the print allows."""

    def __new__(cls, printed: Any) -> "Figure":
        """Read a figure as printed, or a number; ValueError for anything else."""
        text = printed.printed if isinstance(printed, Figure) else printed
        if not isinstance(text, str):
            text = str(number(text)) if isinstance(number(text), int | float) else ""
        text = " ".join(text.split())
        if len(text) > _LONGEST or not re.fullmatch(PATTERN, text) or re.search(r"[eE][+-]?\d{3}", text):
            raise ValueError("a printed figure is needed, such as 0.550, 1807.58/60, 101.49*60 or 455.55 ± 1.17")
        first, factor, plus_minus = _parts(text)
        value, rounding = first * factor, abs(factor) * _half_unit(text)
        # A quotient has the same last bit as everywhere else in a manifest.
        self = super().__new__(cls, number(text) if "/" in text else value)
        self.printed, self.plus_minus, self.rounding = text, float(plus_minus), float(rounding)
        self.low, self.high = float(value - plus_minus - rounding), float(value + plus_minus + rounding)
        return self

    def __getnewargs__(self) -> tuple[str]:  # type: ignore[override]
        return (self.printed,)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> CoreSchema:
        as_number = core_schema.plain_serializer_function_ser_schema(float, when_used="json")
        return core_schema.no_info_plain_validator_function(cls, serialization=as_number)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": ["number", "string"], "pattern": f"^{PATTERN}$"}


def _parts(text: str) -> tuple[Fraction, Fraction, Fraction]:
    """Number, factor and uncertainty of a figure's text; ValueError for a division by zero."""
    first, sign, second = (*re.split(r"\s*([*/±])\s*", text), "", "1")[:3]
    other = Fraction(second)
    if sign == "±":
        return Fraction(first), Fraction(1), other
    if sign == "/" and not other:
        raise ValueError("division by zero")
    return Fraction(first), 1 / other if sign == "/" else other, Fraction(0)


def _half_unit(text: str) -> Fraction:
    """Half a unit of the last digit of the number that the text begins with."""
    mantissa, _, exponent = re.split(r"[*/±]", text)[0].strip().lower().partition("e")
    return Fraction(10) ** (int(exponent or 0) - len(mantissa.partition(".")[2])) / 2


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
    """Peak memory of the GPU in GB of 1,024 MB."""
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

    def __setstate__(self, state: dict[Any, Any]) -> None:
        # A job pickled before this field was added lacks it.
        state["__dict__"].setdefault("memory_gb", None)
        super().__setstate__(state)


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
    """Published figures that concern several cells of a table."""

    model_config = _STRICT

    device: Annotated[str, AfterValidator(one_line)] | None = None
    """GPU of the published times, such as `V100`; a time counts as measured on it if its GPU's name has these words."""
    comparisons: tuple[Comparison, ...] = ()
