"""Vision transformer for CIFAR (Dosovitskiy et al., 2021, https://arxiv.org/abs/2010.11929), as in ViT-CIFAR."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crt.models.image_size import takes_only

__all__ = ["vit"]

_GRID, _PATCH = 8, 4
_WIDTH, _HIDDEN, _HEADS, _DEPTH = 384, 1536, 12, 7


class _Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q = nn.Linear(_WIDTH, _WIDTH)
        self.k = nn.Linear(_WIDTH, _WIDTH)
        self.v = nn.Linear(_WIDTH, _WIDTH)
        self.o = nn.Linear(_WIDTH, _WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(2, (_HEADS, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        # The published networks scale by the model's width; Vaswani et al. scale by a head's width.
        mixed = F.scaled_dot_product_attention(q, k, v, scale=_WIDTH**-0.5)
        return self.o(mixed.transpose(1, 2).flatten(2))


class _Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(_WIDTH)
        self.attention = _Attention()
        self.norm2 = nn.LayerNorm(_WIDTH)
        # The published networks also have this second GELU.
        self.mlp = nn.Sequential(nn.Linear(_WIDTH, _HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, _WIDTH), nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class _ViT(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(3 * _PATCH**2, _WIDTH)
        self.cls = nn.Parameter(torch.randn(1, 1, _WIDTH))
        self.positions = nn.Parameter(torch.randn(1, _GRID**2 + 1, _WIDTH))
        self.layers = nn.Sequential(*(_Layer() for _ in range(_DEPTH)))
        self.norm = nn.LayerNorm(_WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        tiles = x.unflatten(3, (_GRID, _PATCH)).unflatten(2, (_GRID, _PATCH))
        words = tiles.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
        tokens = torch.cat([self.cls.expand(x.shape[0], -1, -1), self.embed(words)], 1) + self.positions
        return self.norm(self.layers(tokens)[:, 0])


@takes_only(32)
def vit() -> tuple[nn.Module, int]:
    """Seven pre-norm layers over 64 patches of 4x4 and a class token, 12,470,026 parameters with a head of 10."""
    return _ViT(), _WIDTH
