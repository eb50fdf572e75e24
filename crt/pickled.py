"""Models that queued jobs carry."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Pickled(BaseModel):
    """Model that jobs carry. A job pickled before a field was added gets the field's default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __setstate__(self, state: dict[Any, Any]) -> None:
        for key, field in type(self).model_fields.items():
            if not field.is_required():
                state["__dict__"].setdefault(key, field.get_default(call_default_factory=True))
        super().__setstate__(state)
