"""Square attack (Andriushchenko et al., 2020, https://arxiv.org/abs/1912.00049): random search without gradients.

A proposal changes the perturbation in a square window, whose side shrinks; it is kept where it lowers the margin.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from crt.attacks.common import l2
from crt.attacks.pgd import project
from crt.attacks.run import Found, Name, look, unbroken
from crt.threat import Threat

_HALVED = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Proposals of 10,000 after which the share of pixels is halved; by the authors' code (the paper lacks 500)."""
_TILES = 5
"""Tiles along a side of the first l2 perturbation."""


def square(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    names: Sequence[Name],
    restart: int,
    ball: Threat,
    *,
    steps: int,
    p: float,
) -> Found:
    """Attack images (B, C, H, W) of a frozen model by `steps` proposals; any misclassified point breaks an image.

    It takes `steps` + 1 forward passes, over the images that are not broken yet. `p` is the share of pixels in the
    first windows. Every image has its own random numbers.
    """
    first, propose = (_stripes, _linf) if ball.norm == "linf" else (_tiles, _l2)
    start, numbers = _numbers(x, names, restart, ball, steps)
    result, place = Found.nothing(x), torch.arange(len(x), device=x.device)
    best, value = x, torch.full_like(x[:, 0, 0, 0], -torch.inf)
    for i in range(steps + 1):
        if i == 0:
            new = first(x, start, ball)
        else:
            new = propose(x, best, numbers[i - 1].index_select(0, place), _side(x, share(i - 1, steps, p), ball), ball)
        now, _, prediction = look(model, new, y, margin, differentiate=False)
        better = now > value
        best, value = torch.where(better[:, None, None, None], new, best), torch.where(better, now, value)
        fooled = result.note(place, new, y, prediction, i)
        if (left := unbroken(fooled)) is not None:
            x, y, best, value, place = (tensor.index_select(0, left) for tensor in (x, y, best, value, place))
        if not len(place):
            break
    return result


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """Largest logit of another class minus that of the label (B,)."""
    return logits.scatter(1, y[:, None], -torch.inf).amax(1) - logits.gather(1, y[:, None])[:, 0]


def share(i: int, steps: int, p: float) -> float:
    """Share of the pixels in the window of proposal `i` of `steps`, counted from 0."""
    scaled = int(i / steps * 10_000)
    return p / 2 ** sum(scaled > end for end in _HALVED)


def _side(x: Tensor, share: float, ball: Threat) -> int:
    """Side of a window that holds this share of the pixels; in l2 at least 3, and odd."""
    height, width = x.shape[2:]
    side = round(math.sqrt(share * height * width))
    if ball.norm == "l2":
        side = max(side, 3)
        side += side % 2 == 0
    return min(max(side, 1), height, width)


def _numbers(x: Tensor, names: Sequence[Name], restart: int, ball: Threat, steps: int) -> tuple[Tensor, Tensor]:
    """Uniform numbers in [0, 1) of each image: for its first point (B, N), and for its proposals (steps, B, K)."""
    channels, width = x.shape[1], x.shape[3]
    linf = ball.norm == "linf"
    first = channels * width if linf else _TILES**2 * (channels + 1)
    each = 2 + channels if linf else 5 + channels
    generators = [np.random.default_rng(np.random.SeedSequence((*name, restart, 1))) for name in names]
    drawn = [(g.random(first, np.float32), g.random((steps, each), np.float32)) for g in generators]
    start, proposals = zip(*drawn, strict=True)
    together = np.stack(proposals, 1)
    return torch.from_numpy(np.stack(start)).to(x.device), torch.from_numpy(together).to(x.device)


def _signs(draws: Tensor) -> Tensor:
    return torch.where(draws < 0.5, -1.0, 1.0)


def _corner(draws: Tensor, size: int, side: int) -> Tensor:
    """First row or column of each window (B,), uniform among those that fit."""
    return (draws * (size - side + 1)).long().clamp_max(size - side)


def _window(x: Tensor, rows: Tensor, columns: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mask (B, 1, H, W) of each image's window, and the row (B, H) and column (B, W) within it of every pixel."""
    down = torch.arange(x.shape[2], device=x.device) - rows[:, None]
    across = torch.arange(x.shape[3], device=x.device) - columns[:, None]
    inside = ((down >= 0) & (down < side))[:, :, None] & ((across >= 0) & (across < side))[:, None, :]
    return inside[:, None], down.clamp(0, side - 1), across.clamp(0, side - 1)


def _stripes(x: Tensor, draws: Tensor, ball: Threat) -> Tensor:
    """First linf point: vertical stripes one pixel wide, each of plus or minus eps in each colour."""
    signs = _signs(draws).to(x.dtype).view(len(x), x.shape[1], 1, x.shape[3])
    return project(x + ball.eps * signs, x, ball.eps, ball.norm)


def _linf(x: Tensor, best: Tensor, draws: Tensor, side: int, ball: Threat) -> Tensor:
    """Proposal: a window of plus or minus eps, with one sign for each colour."""
    rows, columns = (_corner(draws[:, k], x.shape[2 + k], side) for k in (0, 1))
    mask, _, _ = _window(x, rows, columns, side)
    signs = _signs(draws[:, 2:]).to(x.dtype)[:, :, None, None]
    return project(torch.where(mask, x + ball.eps * signs, best), x, ball.eps, ball.norm)


def pattern(side: int, like: Tensor) -> Tensor:
    """The window of an l2 proposal (side, side), of norm 1: two heaps, the upper positive and the lower negative."""
    both = torch.cat([_heap(side // 2, side, like.device), -_heap(side - side // 2, side, like.device)])
    return (both / both.norm()).to(like.dtype)


def _heap(height: int, width: int, device: torch.device) -> Tensor:
    """Values that fall from the middle outwards in rectangles; that at ring r is the sum of 1 / k^2 over k > r."""
    down = (torch.arange(height, device=device) - height // 2).abs()[:, None]
    across = (torch.arange(width, device=device) - width // 2).abs()[None, :]
    rings = torch.maximum(down, across)
    values = torch.zeros(height, width, dtype=torch.double, device=device)
    for k in range(max(height, width) // 2 + 1):
        values += (rings <= k) / (k + 1) ** 2
    return values / values.norm()


def _placed(x: Tensor, side: int, down: Tensor, across: Tensor, turned: Tensor) -> Tensor:
    """The pattern (B, 1, H, W) at each image's window, transposed where `turned` (B,)."""
    shape = pattern(side, x)
    straight = shape[down[:, :, None], across[:, None, :]]
    turn = shape.T[down[:, :, None], across[:, None, :]]
    return torch.where(turned[:, None, None], turn, straight)[:, None]


def _tiles(x: Tensor, draws: Tensor, ball: Threat) -> Tensor:
    """First l2 point: tiles of patterns, each with a random sign for each colour, scaled to norm eps."""
    side, channels = min(x.shape[2:]) // _TILES, x.shape[1]
    delta, draws = torch.zeros_like(x), draws.view(len(x), _TILES**2, channels + 1)
    edge = [(size - side * _TILES) // 2 for size in x.shape[2:]]
    for tile in range(_TILES**2):
        rows = torch.full((len(x),), edge[0] + tile // _TILES * side, device=x.device)
        columns = torch.full((len(x),), edge[1] + tile % _TILES * side, device=x.device)
        mask, down, across = _window(x, rows, columns, side)
        shape = _placed(x, side, down, across, draws[:, tile, -1] < 0.5)
        delta += mask * shape * _signs(draws[:, tile, :-1]).to(x.dtype)[:, :, None, None]
    return project(x + ball.eps * delta / l2(delta), x, ball.eps, ball.norm)


def _l2(x: Tensor, best: Tensor, draws: Tensor, side: int, ball: Threat) -> Tensor:
    """Proposal: the norm of one window is given to another, which mixes its direction with the pattern's."""
    delta, tiny = best - x, 1e-12
    rows, columns, other_rows, other_columns = (_corner(draws[:, k], x.shape[2 + k % 2], side) for k in range(4))
    mask, down, across = _window(x, rows, columns, side)
    other, _, _ = _window(x, other_rows, other_columns, side)
    channel_norm = lambda d: d.square().sum((2, 3), keepdim=True).sqrt()  # noqa: E731
    both = channel_norm(delta * (mask | other))
    unused = (ball.eps**2 - l2(delta).square()).clamp_min(0)
    signs = _signs(draws[:, 5:]).to(x.dtype)[:, :, None, None]
    new = _placed(x, side, down, across, draws[:, 4] < 0.5) * signs + delta / (channel_norm(delta * mask) + tiny)
    new = new * mask
    new = new / (channel_norm(new) + tiny) * (unused / x.shape[1] + both.square()).sqrt()
    delta = torch.where(mask, new, torch.where(other, 0.0, delta))
    return project(x + ball.eps * delta / (l2(delta) + tiny), x, ball.eps, ball.norm)
