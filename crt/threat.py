"""What a network must withstand, said once for training and evaluation."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from crt.quantity import NonNegative


class Threat(BaseModel):
    """A norm, a radius `eps` and a noise level `sigma`, both in units of pixels in [0, 1]."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    norm: Literal["l2", "linf"] = "l2"
    eps: NonNegative = 0.0
    sigma: NonNegative = 0.0
