"""Forms of values in a manifest's blocks: which model a value is read as, and refusals of other values."""

from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator

from bench.manifest.messages import refused
from crt.text import one_line

T = TypeVar("T")
Line = Annotated[str, AfterValidator(one_line)]


def list_of(item: str, least: int = 0) -> BeforeValidator:
    """Validator that refuses anything but a list of `least` or more items; `item` names one in the message."""

    def check(value: Any) -> Any:
        if not isinstance(value, list) or len(value) < least:
            raise refused(f"a list of {f'at least one {item}' if least else f'{item}s'}")
        return value

    return BeforeValidator(check)


def axis_form(value: Any) -> str:
    """Tag of one value, or of a list of values."""
    return "<list>" if isinstance(value, list) else "<one>"


def teacher_form(value: Any) -> str:
    """Tag of the model of a teacher that is written so."""
    if isinstance(value, dict) and set(value) == {"cell"}:
        return "<TeacherName>"
    return "<TeacherFile>" if isinstance(value, dict) and "weights" in value else "<TeacherBlock>"


def init_form(value: Any) -> str:
    """Tag of the model of initial weights that are written so."""
    return "<TeacherName>" if isinstance(value, dict) and "cell" in value else "<InitFile>"


def is_init(value: Any) -> Any:
    """Refuse initial weights that are neither a cell's nor a file's."""
    if not isinstance(value, dict) or not {"cell", "weights"} & value.keys():
        raise refused("{cell: NAME}, {weights: FILE, arch, dataset, sha256, normalize, key, pipeline}")
    return value


def is_a(kind: Any, allowed: str) -> BeforeValidator:
    """Validator that refuses values of other types than `kind`; `allowed` describes them in the message."""

    def check(value: Any) -> Any:
        if not isinstance(value, kind):
            raise refused(allowed)
        return value

    return BeforeValidator(check)
