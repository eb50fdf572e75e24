"""Threat model of training and evaluation: the perturbations that a network must withstand."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, model_validator

from crt.quantity import NonNegative


class Threat(BaseModel):
    """A norm, a radius `eps` and a noise level `sigma`, both in units of pixels in [0, 1]."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    norm: Literal["l2", "linf"] = "l2"
    eps: NonNegative = 0.0
    sigma: NonNegative = 0.0

    @model_validator(mode="after")
    def _eps_is_of_pixels_in_0_1(self) -> "Threat":
        most = _MOST[self.norm]
        if self.eps > most:
            raise ValueError(
                f"eps {self.eps:g} in {self.norm} (allowed: at most {most:g}, for pixels are in [0, 1]; write"
                f" {self.eps:g}/255 if that is meant)"
            )
        return self


_MOST = {"linf": 1.0, "l2": 27.0}
"""Largest radii: a pixel's full range, and half the distance between the two most distant CIFAR images."""
