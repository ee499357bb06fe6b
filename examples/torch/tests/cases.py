# SPDX-License-Identifier: MIT
"""The operators torch.ops.heed.*, what may be asked of them, and on what they are tested.

HEED_TORCH_LIBRARY names libheed_torch.so."""

import os
import unittest

import composed
import torch

torch.ops.load_library(os.environ["HEED_TORCH_LIBRARY"])
heed = torch.ops.heed


class Sizes:
    def __init__(self, tokens, dim, value_dim, batch=2, heads=4, key_heads=2, rows=None):
        self.B, self.H, self.G = batch, heads, key_heads
        self.Nq, self.Nk, self.D, self.Dv = rows or tokens, tokens, dim, value_dim


def small(rows=None):
    """For differences: few numbers."""
    return Sizes(9, 3, 2, rows=rows)


def large(rows=None):
    """Several blocks of heed's, and a tail, either way."""
    return Sizes(203, 20, 12, rows=rows)


class Draw:
    """Random tensors of one number type."""

    def __init__(self, dtype, seed=1):
        self.dtype = dtype
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *sizes):
        # Drawn in float: the same numbers whatever the type.
        return torch.randn(*sizes, generator=self.generator).to(self.dtype)

    def tau(self, *sizes):
        return 1 + 0.3 * self.normal(*sizes)

    def flags(self, *sizes):
        return torch.rand(*sizes, generator=self.generator) < 0.7

    def qkv(self, s):
        return (self.normal(s.B, s.H, s.Nq, s.D), self.normal(s.B, s.G, s.Nk, s.D),
                self.normal(s.B, s.G, s.Nk, s.Dv))


def half(s):
    """Offset of the rows behind the first half."""
    return dict(query_offset=s.Nk - s.Nq)


def lengths(s):
    return torch.tensor([s.Nk, s.Nk // 2])


def documents(s):
    return (torch.arange(s.Nk) * 3 // s.Nk).expand(s.B, s.Nk)


def evict_row(draw, s):
    """Every key lives at least to see itself."""
    lives = torch.randint(1, s.Nk + 1, (s.B, s.Nk), generator=draw.generator)
    return torch.arange(s.Nk) + lives


def draw_bias(draw, s):
    return draw.normal(1, s.H, s.Nq, s.Nk)


def hiding_bias(draw, s):
    """As a bias is, here and there -inf; never on the diagonal."""
    bias = draw.normal(1, s.H, s.Nq, s.Nk)
    return bias.masked_fill(~(draw.flags(1, 1, s.Nq, s.Nk) | torch.eye(s.Nq, s.Nk).bool()),
                            -float("inf"))


def past_carry(draw, s):
    """F of the rows before the offset: the keys after it enter with 0."""
    return draw.normal(s.B, s.Nk).abs() * (torch.arange(s.Nk) < s.Nk - s.Nq)


def ssa(draw, s):
    return dict(tau_q=draw.tau(s.B, s.H, s.Nq), tau_v=draw.tau(s.B, s.G, s.Nk))


# What may be asked of `attention`: name → the options. Drawn from d, for the sizes s.
PLAIN = {
    "standard": lambda d, s: {},
    "causal": lambda d, s: dict(causal=True),
    "scale": lambda d, s: dict(scale=0.7),
    "softcap": lambda d, s: dict(softcap=1.5),
    "bias": lambda d, s: dict(bias=draw_bias(d, s)),
    "bias of the pairs alone": lambda d, s: dict(bias=d.normal(s.Nq, s.Nk)),
    "bias of the heads and keys": lambda d, s: dict(bias=d.normal(s.H, 1, s.Nk)),
    "alibi": lambda d, s: dict(causal=True, alibi_slopes=d.normal(s.H).abs()),
    "mask": lambda d, s: dict(mask=d.flags(s.B, 1, s.Nq, s.Nk)),
    "mask of the pairs alone, bytes": lambda d, s: dict(mask=d.flags(s.Nq, s.Nk).byte()),
    "window": lambda d, s: dict(window_left=3, window_right=2),
    "causal window": lambda d, s: dict(causal=True, window_left=3),
    "block": lambda d, s: dict(causal=True, block_size=4),
    "block and the one before": lambda d, s: dict(block_size=3, previous_blocks=1),
    "prefix": lambda d, s: dict(prefix=torch.tensor([4, 0]), causal=True),
    "documents": lambda d, s: dict(causal=True, documents=documents(s)),
    "lengths": lambda d, s: dict(lengths=lengths(s)),
    "causal lengths": lambda d, s: dict(causal=True, lengths=lengths(s)),
    "evict_row": lambda d, s: dict(causal=True, evict_row=evict_row(d, s)),
    "sinks": lambda d, s: dict(causal=True, sinks=d.normal(s.H)),
    "sinks, and rows that see nothing": lambda d, s: dict(
        causal=True, lengths=lengths(s), sinks=d.normal(s.H)),
    "tau_q": lambda d, s: dict(tau_q=d.tau(s.B, s.H, s.Nq)),
    "tau_k": lambda d, s: dict(tau_k=d.tau(s.B, s.G, s.Nk)),
    "tau_v": lambda d, s: dict(tau_v=d.tau(s.B, s.G, s.Nk)),
    "temperatures shared by the heads": lambda d, s: dict(
        tau_q=d.tau(s.B, 1, s.Nq), tau_k=d.tau(s.B, 1, s.Nk), tau_v=d.tau(s.B, 1, s.Nk)),
    "all that is pair by pair": lambda d, s: dict(
        causal=True, softcap=2.0, bias=draw_bias(d, s), alibi_slopes=d.normal(s.H).abs(),
        mask=d.flags(s.B, s.H, s.Nq, s.Nk), sinks=d.normal(s.H), **ssa(d, s)),
}

# The same for `selective_attention_with_state`.
SELECTIVE = {
    "selective": lambda d, s: {},
    "another head": lambda d, s: dict(select_head=3),
    "boosts": lambda d, s: dict(relu=False),
    "no protected first": lambda d, s: dict(protect_first=False),
    "votes on oneself": lambda d, s: dict(forbid_self=False),
    "no accumulation": lambda d, s: dict(accumulate=False),
    "no shift": lambda d, s: dict(shift=False),
    "no shift, own votes": lambda d, s: dict(shift=False, forbid_self=False),
    "own projections": lambda d, s: dict(select_q=d.normal(s.B, s.Nq, 5),
                                         select_k=d.normal(s.B, s.Nk, 5)),
    "memory_tau": lambda d, s: dict(memory_tau=0.4),
    "not causal": lambda d, s: dict(causal=False),
    "lengths": lambda d, s: dict(lengths=lengths(s)),
    "documents": lambda d, s: dict(documents=documents(s)),
    "window": lambda d, s: dict(window_left=4),
    "blocks": lambda d, s: dict(block_size=4, previous_blocks=1),
    "pruned": lambda d, s: dict(evict_row=evict_row(d, s)),
    "SSA": lambda d, s: ssa(d, s),
    "SSA in blocks": lambda d, s: dict(block_size=5, tau_k=d.tau(s.B, s.G, s.Nk), **ssa(d, s)),
    "all of it": lambda d, s: dict(
        softcap=2.0, bias=draw_bias(d, s), alibi_slopes=d.normal(s.H).abs(), window_left=6,
        mask=d.flags(s.B, 1, s.Nq, s.Nk), sinks=d.normal(s.H), select_head=1, memory_tau=0.8,
        **ssa(d, s)),
}

# And where the rows are a chunk behind a past.
CHUNKS = {
    "chunk": lambda d, s: half(s),
    "chunk with a carry": lambda d, s: dict(carry_in=past_carry(d, s), **half(s)),
    "chunk with a carry, SSA, window": lambda d, s: dict(
        carry_in=past_carry(d, s), window_left=5, **half(s), **ssa(d, s)),
    "chunk with a carry, pair by pair": lambda d, s: dict(
        carry_in=past_carry(d, s), softcap=2.0, alibi_slopes=d.normal(s.H).abs(), **half(s)),
}


def each_case(sizes):
    """(name, what runs the operator, sizes, options)."""
    for name, options in PLAIN.items():
        yield "attention: " + name, run_plain, sizes(), options
    for name, options in SELECTIVE.items():
        yield "selective_attention: " + name, run_selective, sizes(), options
    for name, options in CHUNKS.items():
        s = sizes()
        yield "selective_attention: " + name, run_selective, sizes(rows=s.Nk // 3), options


def run_plain(q, k, v, options):
    out, lse = heed.attention_with_lse(q, k, v, **options)
    return dict(out=out, lse=lse)


def run_selective(q, k, v, options):
    out, lse, carry_out, memory = heed.selective_attention_with_state(q, k, v, **options)
    return dict(out=out, lse=lse, carry_out=carry_out, memory=memory)


def run_composed(run, q, k, v, options):
    if run is run_selective:
        options = dict(dict(causal=True, select_head=0), **options)
    outputs = vars(composed.attention(q, k, v, **options))
    return {name: x for name, x in outputs.items() if x is not None}


def drawn(dtype, s, options):
    """q, k, v and the options; those that have gradients want them."""
    draw = Draw(dtype)
    tensors = dict(zip("qkv", draw.qkv(s)), **options(draw, s))
    for x in tensors.values():
        if torch.is_tensor(x) and x.is_floating_point():
            x.requires_grad_()
    return tensors


def split(tensors):
    options = dict(tensors)
    return options.pop("q"), options.pop("k"), options.pop("v"), options


def differentiable(tensors):
    return {name: x for name, x in tensors.items() if torch.is_tensor(x) and x.requires_grad}


def gradients(outputs, tensors, seed=5):
    """Of a random sum of all outputs, with respect to all tensors that have gradients."""
    cotangents = Draw(torch.double, seed)
    loss = 0
    for name in sorted(outputs):
        weights = cotangents.normal(*outputs[name].shape)
        if outputs[name].requires_grad:
            loss = loss + (outputs[name].double() * weights).sum()
    names = differentiable(tensors)
    return dict(zip(names, torch.autograd.grad(loss, list(names.values()), allow_unused=True)))


class OperatorTest(unittest.TestCase):
    def assertNear(self, got, wanted, tolerance, what, least=1):
        """Relative to the largest number wanted, but at least to `least`."""
        self.assertEqual(got.shape, wanted.shape, what)
        wanted = wanted.double()
        finite = wanted.isfinite()
        self.assertTrue(torch.equal(got.double()[~finite], wanted[~finite]), what)
        if not finite.any():
            return
        scale = max(least, wanted[finite].abs().max().item())
        error = (got.double() - wanted)[finite].abs().max().item()
        self.assertLessEqual(error, tolerance * scale, what)

    def compare(self, dtype, sizes, tolerance):
        for name, run, s, options in each_case(sizes):
            with self.subTest(name):
                tensors = drawn(dtype, s, options)
                exact = {n: x.detach().double().requires_grad_() if x.is_floating_point() else x
                         for n, x in tensors.items() if torch.is_tensor(x)}
                exact = dict(tensors, **exact)
                got = run(*split(tensors))
                wanted = run_composed(run, *split(exact))
                for output in got:
                    # memory counts tokens down from their number.
                    least = s.Nk if output == "memory" else 1
                    self.assertNear(got[output], wanted[output], tolerance, output, least)
                got, wanted = gradients(got, tensors), gradients(wanted, exact)
                for tensor in got:
                    self.assertNear(got[tensor], wanted[tensor], tolerance, "gradient of " + tensor)
