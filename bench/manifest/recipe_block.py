"""A recipe as written in a manifest, where one key stands for the switches that leave its mathematics as they are."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict

from bench.manifest.messages import refused
from crt.training.recipe import EXACT, SWITCHES, Recipe

_FIELDS: dict[str, dict[str, Any]] = {"plain": {}, "exact": dict(EXACT), "fastest": {"compute": "fastest"}}
"""Fields of a recipe that each choice stands for."""


def _allowed(value: Any) -> Any:
    if value not in tuple(_FIELDS):
        raise refused(", ".join(_FIELDS))
    return value


class RecipeBlock(Recipe):
    """Optimization of one network; `batch_size` is the global batch size of loaded images over all ranks."""

    model_config = ConfigDict(defer_build=True)

    # A manifest has other values than the recipe that it stands for.
    compute: Annotated[Literal["plain", "exact", "fastest"], BeforeValidator(_allowed)] = "exact"  # type: ignore[assignment]
    """Switches below that are on: none; `channels_last`, `fused` and `fold`; or those that a trial finds fastest.

    A switch that is written, too, is as written. `fastest` leaves none to write.
    """

    def expanded(self) -> Recipe:
        """The recipe with its switches; ValueError for a switch beside `fastest`."""
        written = {key: getattr(self, key) for key in self.model_fields_set - {"compute"}}
        if self.compute == "fastest" and (key := next((key for key in SWITCHES if key in written), None)):
            value = str(written[key]).lower()
            raise ValueError(
                f"{key}: {value} beside compute: fastest, which chooses it (allowed: compute: plain, exact)"
            )
        return Recipe(**(_FIELDS[self.compute] | written))


RecipeKey = Annotated[RecipeBlock, AfterValidator(RecipeBlock.expanded)]
"""Recipe of a manifest, which becomes the `Recipe` that it stands for."""
