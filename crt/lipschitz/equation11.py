"""Distances of rotated inputs of many layers, with their gradients in closed form (the Duet paper, equation 11)."""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def eq11(teachers: list[Tensor], students: list[Tensor], ratios: Tensor, scales: Tensor) -> Tensor:
    """Distances (layers, B) of outputs (B, ...), with a ratio of norms, over the teacher's length; 0 where it is 0.

    A layer's is |scale student - ratio teacher|, where equation 11 has the scale 1 / ratio. The teachers' outputs have
    no gradient.
    """
    return _Distances.apply(teachers, ratios, scales, *students)


class _Distances(torch.autograd.Function):
    @staticmethod
    def forward(ctx, teachers: list[Tensor], ratios: Tensor, scales: Tensor, *students: Tensor):
        apart = [
            torch.addcmul(scale * s, ratio, t, value=-1)
            for s, t, ratio, scale in zip(students, teachers, ratios, scales, strict=True)
        ]
        distances, lengths = (torch.stack([_length(part) for part in parts]) for parts in (apart, teachers))
        ctx.save_for_backward(ratios, scales, distances, lengths, *apart, *teachers)
        return (distances / lengths).masked_fill_(lengths == 0, 0)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        (ratios, scales, distances, lengths, *saved), (_, *to_norms) = ctx.saved_tensors, ctx.needs_input_grad[:3]
        apart, teachers = saved[: len(ratios)], saved[len(ratios) :]
        product = distances * lengths
        shares = (g / product).masked_fill_(product == 0, 0)
        g_students = [part * _beside(share, part) for part, share in zip(apart, shares * scales[:, None], strict=True)]
        if not any(to_norms):
            return None, None, None, *g_students
        along = torch.stack([(a * t).sum([*range(1, a.dim())]) for a, t in zip(apart, teachers, strict=True)])
        # The student's outputs are (apart + ratio teacher) / scale.
        g_scales = (shares * (distances.square() + ratios[:, None] * along)).sum(1) / scales
        return None, -(shares * along).sum(1), g_scales, *g_students


def _length(values: Tensor) -> Tensor:
    return torch.linalg.vector_norm(values, dim=[*range(1, values.dim())])


def _beside(values: Tensor, outputs: Tensor) -> Tensor:
    """One value for each image, shaped to broadcast over outputs (B, ...)."""
    return values.view(-1, *[1] * (outputs.dim() - 1))
