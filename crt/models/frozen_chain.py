"""Networks whose weights are fixed while they are attacked, as straight programs of convolutions, sums and ReLUs.

A program runs without recording each operation, on a GPU with one kernel for relu(conv(x) + other), and its way back
computes the input's gradient alone, by the operations that torch would use.
"""

import operator
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.split_module import split_module
from torch.nn import functional as F

Kernel = Callable[[Tensor, Tensor | None, nn.Conv2d], Tensor]
"""relu(conv(x) + other) from `x` and `other`, which may be None."""
_ERROR = {torch.float32: 1e-4, torch.float64: 1e-12}
"""Allowed error of a kernel, relative to the largest output."""
_LOW_ERROR = 0.05
"""Allowed error in 16 bits and in TF32."""
_RELUS = (F.relu, torch.relu)
_SUMS = (operator.add, operator.iadd, torch.add)


class _Step(NamedTuple):
    """One of relu(conv(x) + other), conv(x), relu(x), relu(x + other), x + other."""

    out: str
    x: str
    conv: nn.Conv2d | None = None
    other: str | None = None
    relu: bool = False


def straight(body: nn.Module, kernel: str = "cpu") -> nn.Module:
    """The same function, in which each part made of convolutions, sums and ReLUs alone is a `Chain`.

    The layers remain the same modules. `body` must be traceable by `torch.fx`; `kernel` is one of `KERNELS`.
    """
    traced = fx.symbolic_trace(body)
    modules = dict(traced.named_modules())
    for node in list(traced.graph.nodes):
        if isinstance(modules.get(str(node.target)), nn.Identity):
            node.replace_all_uses_with(node.args[0])
            traced.graph.erase_node(node)
    parts, part, before = {}, 0, None
    for node in traced.graph.nodes:
        if node.op not in ("placeholder", "output"):
            now = _step(node, modules) is not None
            part += now != before
            parts[node], before = part, now
    split = split_module(traced, body, lambda node: parts[node])
    for name, child in list(split.named_children()):
        if isinstance(child, fx.GraphModule) and (steps := _steps(child)):
            split.set_submodule(name, Chain(child, steps, kernel))
    return split


def _step(node: fx.Node, modules: dict[str, nn.Module]) -> _Step | None:
    """The step of a node; None for a node of another kind."""
    module = modules.get(str(node.target)) if node.op == "call_module" else None
    nodes = [argument for argument in node.args if isinstance(argument, fx.Node)]
    if node.kwargs.keys() - {"inplace"} or len(nodes) != len(node.args):
        return None
    if isinstance(module, nn.Conv2d) and module.padding_mode == "zeros" and not isinstance(module.padding, str):
        return _Step(node.name, nodes[0].name, module)
    if isinstance(module, nn.ReLU) or node.target in _RELUS:
        return _Step(node.name, nodes[0].name, relu=True)
    if node.target in _SUMS and len(nodes) == 2:
        return _Step(node.name, nodes[0].name, other=nodes[1].name)
    return None


def _steps(part: fx.GraphModule) -> list[_Step]:
    """Steps of a part with one input and one output, in which layers are joined; none for any other part."""
    nodes, modules = list(part.graph.nodes), dict(part.named_modules())
    inner = [node for node in nodes if node.op not in ("placeholder", "output")]
    found = [_step(node, modules) for node in inner]
    if None in found or len(nodes) - len(inner) != 2 or not isinstance(nodes[-1].args[0], fx.Node):
        return []
    steps = {step.out: step for step in found if step}
    alone = {node.name for node in inner if len(node.users) == 1}
    for step in list(steps.values()):
        if not step.relu:
            continue
        source = steps.get(step.x)
        if source is None or source.out not in alone:
            continue
        del steps[source.out]
        if source.conv is None and source.other is not None:  # a sum: does one of its terms come from a convolution?
            terms = (source.x, source.other)
            for term, other in (terms, terms[::-1]):
                conv = steps.get(term)
                if conv and conv.conv and conv.other is None and not conv.relu and term in alone:
                    del steps[term]
                    source = conv._replace(other=other)
                    break
        steps[step.out] = source._replace(out=step.out, relu=True)
    return list(steps.values())


class Chain(nn.Module):
    """A part of a network as steps, for passes without gradients of its weights."""

    def __init__(self, plain: fx.GraphModule, steps: list[_Step], kernel: str):
        super().__init__()
        self.plain, self.steps, self.kernel = plain, steps, kernel
        self.input = next(iter(plain.graph.nodes)).name
        self.convs = [step.conv for step in steps if step.conv]

    def forward(self, x: Tensor) -> Tensor:
        kind = x.device.type
        if torch.is_autocast_enabled(kind):
            x = x.to(torch.get_autocast_dtype(kind))
        if any(c.weight.requires_grad or c.weight.dtype != x.dtype for c in self.convs):
            return self.plain(x)
        return _Run.apply(x, self, KERNELS[self.kernel])


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, chain, kernel):
        values = {chain.input: x}
        for out, at, conv, other, relu in chain.steps:
            left, right = values[at], None if other is None else values[other]
            if conv is not None:
                values[out] = kernel(left, right, conv) if relu else conv(left)
            elif right is None:
                values[out] = left.relu()
            else:
                values[out] = (left + right).relu_() if relu else left + right
        needed = {s.x for s in chain.steps if s.conv is not None} | {s.out for s in chain.steps if s.relu}
        ctx.chain, ctx.names = chain, [name for name in values if name in needed]
        ctx.save_for_backward(*(values[name] for name in ctx.names), *(conv.weight for conv in chain.convs))
        return values[chain.steps[-1].out]

    @staticmethod
    def backward(ctx, g):
        saved, chain = ctx.saved_tensors, ctx.chain
        values, weights = dict(zip(ctx.names, saved, strict=False)), list(saved[len(ctx.names) :])
        gradients = {chain.steps[-1].out: g}
        for out, at, conv, other, relu in reversed(chain.steps):
            g = gradients.pop(out)
            if relu:
                g = torch.ops.aten.threshold_backward(g, values[out], 0)
            if other is not None:
                gradients[other] = g if other not in gradients else gradients[other] + g
            if conv is not None:
                g, _, _ = torch.ops.aten.convolution_backward(
                    g, values[at], weights.pop(), None, conv.stride, conv.padding, conv.dilation, False, (0, 0),
                    conv.groups, (True, False, False),
                )  # fmt: skip
            gradients[at] = g if at not in gradients else gradients[at] + g
        return gradients[chain.input], None, None


def _cudnn(x: Tensor, other: Tensor | None, conv: nn.Conv2d) -> Tensor:
    assert not isinstance(conv.padding, str)  # such a layer is no step
    at = conv.stride, conv.padding, conv.dilation, conv.groups
    if other is None:
        return torch.cudnn_convolution_relu(x, conv.weight, conv.bias, *at)
    return torch.cudnn_convolution_add_relu(x, conv.weight, other, 1.0, conv.bias, *at)


def _in_place(x: Tensor, other: Tensor | None, conv: nn.Conv2d) -> Tensor:
    # oneDNN's fused convolution gives the same bits, and prepares its weights anew in each call.
    y = conv(x)
    return (y if other is None else y.add_(other)).relu_()


KERNELS: dict[str, Kernel] = {"cuda": _cudnn, "cpu": _in_place}
"""Kernels of relu(conv(x) + other)."""


@torch.no_grad()
def fastest_kernel(device: torch.device, dtype: torch.dtype) -> str:
    """The name of the kernel in `KERNELS` with the fewest launches that computes what torch's own operations do.

    cuDNN supports its joined kernels for some numbers and GPUs only: on a GPU they are tried on a few random images.
    The call belongs in the context of the products' precision.
    """
    if device.type != "cuda":
        return "cpu"
    random = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(shape, generator=random).to(device, dtype)  # noqa: E731
    conv = nn.Conv2d(16, 16, 3, padding=1, device=device, dtype=dtype)
    for parameter in conv.parameters():
        parameter.copy_(draw(*parameter.shape))
    x, other = draw(4, 16, 8, 8), draw(4, 16, 8, 8)
    tf32 = dtype == torch.float32 and torch.backends.cudnn.allow_tf32
    error = _LOW_ERROR if tf32 else _ERROR.get(dtype, _LOW_ERROR)
    try:
        for sum_with in (None, other):
            expected = _in_place(x, sum_with, conv)
            if (_cudnn(x, sum_with, conv) - expected).abs().max() > error * expected.abs().max():
                return "cpu"
    except RuntimeError:  # cuDNN has no such kernel
        return "cpu"
    return "cuda"
