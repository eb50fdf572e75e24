"""Numbers as written in YAML, including `1e-4` and `8/255`, but not NaN or infinity."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
"""Regular expression of a decimal number."""
PATTERN = rf"{NUMBER}(?:\s*/\s*{NUMBER})?"
"""Regular expression of a number or a quotient of two."""


def number(value: Any) -> Any:
    """The float of a string such as `1e-4` or `8/255`; any other value unchanged; ValueError for other strings."""
    if isinstance(value, bool):
        raise ValueError("a number is needed, not true or false")
    if not isinstance(value, str):
        return value
    if not re.fullmatch(PATTERN, value.strip()):
        raise ValueError("a number is needed, such as 0.25, 1e-4 or 8/255")
    top, _, bottom = value.partition("/")
    if bottom and float(bottom) == 0:
        raise ValueError("division by zero")
    return float(top) / float(bottom) if bottom else float(top)


def fraction(value: Any) -> Any:
    """The float of a percentage such as `2%`, or of a number; ValueError for other strings."""
    if isinstance(value, str) and value.strip().endswith("%"):
        percent = number(value.strip()[:-1].strip())
        return percent / 100
    return number(value)


Real = Annotated[float, BeforeValidator(number), Field(allow_inf_nan=False)]
NonNegative = Annotated[Real, Field(ge=0)]
Positive = Annotated[Real, Field(gt=0)]
Share = Annotated[Real, Field(ge=0, le=1)]
Count = Annotated[int, BeforeValidator(number), Field(ge=1, le=10**9)]
Precision = Annotated[
    float,
    BeforeValidator(fraction),
    Field(gt=0, lt=1),
    WithJsonSchema(
        {"type": ["number", "string"], "exclusiveMinimum": 0, "exclusiveMaximum": 1, "pattern": rf"^{PATTERN}\s*%?$"}
    ),
]
"""A share above 0 and below 1, also written as a percentage: `2%`."""
Whole = Annotated[int, BeforeValidator(number), Field(ge=0, le=2**32 - 1)]
