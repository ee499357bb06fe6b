# SPDX-License-Identifier: MIT
"""The operators torch.ops.heed.*, from Python. HEED_TORCH_LIBRARY names libheed_torch.so."""

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


def biased(draw, s):
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


def draw_bias(d, s):
    return d.normal(1, s.H, s.Nq, s.Nk)


def each_case(sizes):
    """(name, operator's outputs by name, the same of the composition, sizes, options)."""
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
                got = run(*split(tensors)[:3], split(tensors)[3])
                wanted = run_composed(run, *split(exact)[:3], split(exact)[3])
                for output in got:
                    # memory counts tokens down from their number.
                    least = s.Nk if output == "memory" else 1
                    self.assertNear(got[output], wanted[output], tolerance, output, least)
                got, wanted = gradients(got, tensors), gradients(wanted, exact)
                for tensor in got:
                    self.assertNear(got[tensor], wanted[tensor], tolerance, "gradient of " + tensor)


class Composition(OperatorTest):
    def test_agrees_in_double(self):
        self.compare(torch.double, large, 1e-10)

    def test_agrees_in_float(self):
        self.compare(torch.float, large, 1e-5)

    def test_agrees_on_few_tokens(self):
        for tokens in 1, 2, 3, 4:
            self.compare(torch.double, lambda rows=None: Sizes(tokens, 3, 2, rows=rows or None),
                         1e-10)

    def test_agrees_where_a_bias_hides(self):
        s = large()
        draw = Draw(torch.double)
        tensors = dict(zip("qkv", draw.qkv(s)), bias=biased(draw, s))
        for x in tensors.values():
            x.requires_grad_()
        for run in run_plain, run_selective:
            got, wanted = (f(*split(tensors)[:3], split(tensors)[3]) for f in
                           (run, lambda *a: run_composed(run, *a)))
            for output in got:
                self.assertNear(got[output], wanted[output], 1e-10, output)
            got, wanted = gradients(got, tensors), gradients(wanted, tensors)
            for tensor in got:
                self.assertNear(got[tensor], wanted[tensor], 1e-10, tensor)

    def test_agrees_on_ssa_attention(self):
        s = large()
        draw = Draw(torch.double)
        q, k, v = draw.qkv(s)
        options = dict(ssa(draw, s), tau_k=draw.tau(s.B, 1, s.Nk))
        wanted = composed.attention(q, k, v, causal=True, **options).out
        got = heed.ssa_attention(q, k, v, options["tau_q"], options["tau_v"],
                                 tau_k=options["tau_k"])
        self.assertNear(got, wanted, 1e-10, "out")

    def test_agrees_on_temperatures_learned_in_pytorch(self):
        # tau = tanh(f) + 1 + sigmoid(alpha) log n, f = w . q: what the paper trains.
        s = large()
        draw = Draw(torch.double)
        q, k, v = draw.qkv(s)
        w, alpha = draw.normal(s.H, 1, s.D).requires_grad_(), torch.tensor(
            0.3, dtype=torch.double, requires_grad=True)
        n = torch.arange(1, s.Nk + 1, dtype=torch.double)

        def tau(x, w):
            return torch.tanh((w * x).sum(3)) + 1 + torch.sigmoid(alpha) * n.log()

        w_v = w[:s.G, :, :s.Dv]
        got = heed.ssa_attention(q, k, v, tau(q, w), tau(v, w_v))
        wanted = composed.attention(q, k, v, causal=True, tau_q=tau(q, w), tau_v=tau(v, w_v)).out
        tensors = dict(w=w, alpha=alpha)
        got, wanted = gradients(dict(out=got), tensors), gradients(dict(out=wanted), tensors)
        for name in got:
            self.assertNear(got[name], wanted[name], 1e-10, name)

    def test_agrees_on_the_memory_loss(self):
        # L = sum over layers of max_i M(i) / (layers · tokens), beside another loss.
        s = large()
        draw = Draw(torch.double)
        tensors = dict(zip("qkv", (x.requires_grad_() for x in draw.qkv(s))))

        def loss(outputs):
            return outputs["out"].square().sum() + 0.1 * outputs["memory"].amax(1).sum() / s.Nk

        got = torch.autograd.grad(loss(run_selective(**tensors, options={})),
                                  list(tensors.values()))
        wanted = torch.autograd.grad(loss(run_composed(run_selective, **tensors, options={})),
                                     list(tensors.values()))
        for a, b in zip(got, wanted):
            self.assertNear(a, b, 1e-10, "gradient")


class Differences(OperatorTest):
    def check(self, run, tensors):
        names = list(differentiable(tensors))

        def f(*values):
            _, _, _, options = split(tensors)
            given = dict(zip(names, values))
            options.update((n, x) for n, x in given.items() if n not in "qkv")
            return tuple(x for x in run(given["q"], given["k"], given["v"], options).values()
                         if x.requires_grad)

        self.assertTrue(torch.autograd.gradcheck(f, [tensors[n] for n in names]))

    def test_agree_with_the_gradients(self):
        for name, run, s, options in each_case(small):
            with self.subTest(name):
                self.check(run, drawn(torch.double, s, options))

    def test_agree_through_dropout(self):
        options = dict(dropout=0.3, dropout_seed=7)
        self.check(run_plain, drawn(torch.double, small(), lambda d, s: options))
        self.check(run_selective, drawn(torch.double, small(), lambda d, s: options))

    def test_agree_where_layers_follow_one_another(self):
        # Two layers, the second's memory in the loss, carried over two chunks.
        s = Sizes(8, 3, 3, heads=2)
        draw = Draw(torch.double)
        q, k, v = draw.qkv(s)

        def f(q, k, v):
            x = heed.selective_attention(q, k, v)
            first = heed.selective_attention_with_state(x[:, :, :4], k, v, query_offset=0)
            second = heed.selective_attention_with_state(x[:, :, 4:], k, v, query_offset=4,
                                                         carry_in=first[2])
            return torch.cat([first[0], second[0]], 2), second[2], second[3]

        inputs = [x.requires_grad_() for x in (q, k, v)]
        self.assertTrue(torch.autograd.gradcheck(f, inputs))


class Chunks(OperatorTest):
    def test_give_what_one_pass_gives_and_so_do_their_gradients(self):
        s = large()
        draw = Draw(torch.double)
        tensors = dict(zip("qkv", (x.requires_grad_() for x in draw.qkv(s))))
        q, k, v = tensors.values()
        whole = run_selective(q, k, v, {})
        outs, memories, carry = [], [], None
        for first in range(0, s.Nk, 60):
            out, _, carry, memory = heed.selective_attention_with_state(
                q[:, :, first:first + 60], k, v, query_offset=first, carry_in=carry)
            outs.append(out)
            memories.append(memory)
        chunked = dict(out=torch.cat(outs, 2), carry_out=carry, memory=torch.cat(memories, 1))
        del whole["lse"]
        for name in whole:
            self.assertNear(chunked[name], whole[name], 1e-12, name)
        got, wanted = gradients(chunked, tensors), gradients(whole, tensors)
        for name in wanted:
            self.assertNear(got[name], wanted[name], 1e-12, name)


class Dropout(OperatorTest):
    def kept(self, s, p, seed):
        """The factors, read off values that are a unit matrix."""
        draw = Draw(torch.double)
        q, k, _ = draw.qkv(s)
        unit = torch.eye(s.Nk, dtype=torch.double).expand(s.B, s.G, s.Nk, s.Nk)
        weights = heed.attention(q, k, unit)
        return heed.attention(q, k, unit, dropout=p, dropout_seed=seed) / weights

    def test_agrees_with_the_composition(self):
        s = large()
        kept = self.kept(s, 0.4, 11)
        self.assertTrue(torch.allclose(kept * (1 - 0.4), (kept > 0).double()))
        self.assertAlmostEqual((kept > 0).double().mean().item(), 0.6, delta=0.01)
        tensors = drawn(torch.double, s, lambda d, s: {})
        for run in run_plain, run_selective:
            got = run(*split(tensors)[:3], dict(dropout=0.4, dropout_seed=11))
            wanted = run_composed(run, *split(tensors)[:3], dict(kept=kept))
            self.assertNear(got["out"], wanted["out"], 1e-10, "out")
            got, wanted = gradients(got, tensors), gradients(wanted, tensors)
            for name in got:
                self.assertNear(got[name], wanted[name], 1e-10, name)

    def test_follows_the_seed_of_pytorch(self):
        q, k, v = Draw(torch.float).qkv(small())

        def out(seed):
            torch.manual_seed(seed)
            return heed.attention(q, k, v, dropout=0.5)

        self.assertTrue(torch.equal(out(3), out(3)))
        self.assertFalse(torch.equal(out(3), out(4)))
        torch.manual_seed(3)
        first = heed.attention(q, k, v, dropout=0.5)
        self.assertFalse(torch.equal(first, heed.attention(q, k, v, dropout=0.5)))


class Strides(OperatorTest):
    def variants_of(self, x):
        """The same numbers in other places; the last has to be copied."""
        yield "tokens first", x.transpose(1, 2).contiguous().transpose(1, 2)
        wide = torch.cat([x, x], 3)
        yield "every row with a gap", wide[..., :x.shape[3]]
        yield "batch last but one", x.permute(1, 2, 0, 3).contiguous().permute(2, 0, 1, 3)
        yield "columns first", x.transpose(2, 3).contiguous().transpose(2, 3)

    def test_of_q_k_and_v_make_no_difference(self):
        q, k, v = (x.detach() for x in Draw(torch.double).qkv(large()))
        for run in run_plain, run_selective:
            tensors = dict(q=q.requires_grad_(), k=k.requires_grad_(), v=v.requires_grad_())
            wanted = run(q, k, v, {})
            wanted_gradients = gradients(wanted, tensors)
            for (name, q_), (_, k_), (_, v_) in zip(*(self.variants_of(x.detach())
                                                      for x in (q, k, v))):
                with self.subTest(name):
                    self.assertFalse(q_.is_contiguous())
                    others = dict(q=q_.requires_grad_(), k=k_.requires_grad_(),
                                  v=v_.requires_grad_())
                    got = run(q_, k_, v_, {})
                    for output in got:
                        self.assertTrue(torch.equal(got[output], wanted[output]), output)
                    for tensor, grad in gradients(got, others).items():
                        self.assertTrue(torch.equal(grad, wanted_gradients[tensor]), tensor)

    def test_of_a_fused_projection_make_no_difference(self):
        # One matrix for q, k and v, cut up: [B, N, 3, H, D].
        B, N, H, D = 2, 37, 3, 8
        x = Draw(torch.double).normal(B, N, 3, H, D).requires_grad_()
        q, k, v = x.permute(2, 0, 3, 1, 4)
        out = heed.selective_attention(q, k, v)
        self.assertTrue(out.transpose(1, 2).is_contiguous())
        grad, = torch.autograd.grad(out.square().sum(), x)
        q, k, v = (y.contiguous() for y in (q, k, v))
        wanted = composed.attention(q, k, v, causal=True, select_head=0).out
        wanted_grad, = torch.autograd.grad(wanted.square().sum(), x)
        self.assertNear(out, wanted, 1e-10, "out")
        self.assertNear(grad, wanted_grad, 1e-10, "gradient")

    def test_of_zero_are_read_in_place(self):
        s = large()
        draw = Draw(torch.double)
        q, k, v = draw.qkv(s)
        k, v = k[:1].expand(s.B, -1, -1, -1), v[:, :1].expand(-1, s.G, -1, -1)
        tensors = dict(k=k.detach().requires_grad_(), v=v.detach().requires_grad_())
        got = run_plain(q, tensors["k"], tensors["v"], dict(bias=draw_bias(draw, s)[:, :1]))
        draw = Draw(torch.double)
        draw.qkv(s)
        wanted = run_composed(run_plain, q, tensors["k"], tensors["v"],
                              dict(bias=draw_bias(draw, s)[:, :1]))
        self.assertNear(got["out"], wanted["out"], 1e-10, "out")
        got, wanted = gradients(got, tensors), gradients(wanted, tensors)
        for name in got:
            self.assertNear(got[name], wanted[name], 1e-10, name)

    def test_of_the_other_tensors_make_no_difference(self):
        s = large()

        def strewn(x):
            return torch.stack([x, x], -1)[..., 0]

        for name in "all of it", "own projections", "lengths", "documents", "pruned":
            with self.subTest(name):
                tensors = drawn(torch.double, s, SELECTIVE[name])
                q, k, v, options = split(tensors)
                others = {n: strewn(x.detach()).requires_grad_(x.requires_grad)
                          if torch.is_tensor(x) else x for n, x in options.items()}
                wanted, got = run_selective(q, k, v, options), run_selective(q, k, v, others)
                for output in got:
                    self.assertTrue(torch.equal(got[output], wanted[output]), output)
                wanted = gradients(wanted, tensors)
                got = gradients(got, dict(others, q=q, k=k, v=v))
                for tensor in got:
                    self.assertTrue(torch.equal(got[tensor], wanted[tensor]), tensor)

    def test_of_a_gradient_that_is_one_number_make_no_difference(self):
        q, k, v = (x.requires_grad_() for x in Draw(torch.double).qkv(large()))
        out = heed.attention(q, k, v, causal=True)
        got = torch.autograd.grad(out.sum(), (q, k, v), retain_graph=True)
        wanted = torch.autograd.grad(out, (q, k, v), torch.ones_like(out))
        for a, b in zip(got, wanted):
            self.assertTrue(torch.equal(a, b))


class Gradients(OperatorTest):
    def setUp(self):
        self.q, self.k, self.v = Draw(torch.double).qkv(small())

    def test_are_those_asked_for(self):
        self.k.requires_grad_()
        out = heed.attention(self.q, self.k, self.v, tau_q=torch.ones(2, 4, 9, dtype=torch.double))
        out.sum().backward()
        self.assertIsNone(self.q.grad)
        self.assertIsNotNone(self.k.grad)

    def test_are_not_recorded_without_need(self):
        self.assertFalse(heed.attention(self.q, self.k, self.v).requires_grad)
        self.q.requires_grad_()
        with torch.no_grad():
            self.assertFalse(heed.attention(self.q, self.k, self.v).requires_grad)

    def test_come_of_each_output_alone(self):
        tensors = drawn(torch.double, small(), lambda d, s: {})
        for name in "out", "carry_out", "memory":
            with self.subTest(name):
                got = run_selective(*split(tensors))
                wanted = run_composed(run_selective, *split(tensors))
                got = gradients({name: got[name]}, tensors)
                wanted = gradients({name: wanted[name]}, tensors)
                for tensor in got:
                    if wanted[tensor] is None:  # memory and carry_out know no values
                        self.assertEqual(got[tensor].abs().max(), 0)
                    else:
                        self.assertNear(got[tensor], wanted[tensor], 1e-10, tensor)

    def test_do_not_pass_through_lse(self):
        self.q.requires_grad_()
        self.assertFalse(heed.attention_with_lse(self.q, self.k, self.v)[1].requires_grad)

    def test_are_differentiable_once(self):
        self.q.requires_grad_()
        out = heed.attention(self.q, self.k, self.v)
        grad, = torch.autograd.grad(out.sum(), self.q, create_graph=True)
        with self.assertRaisesRegex(RuntimeError, "differentiable once"):
            grad.sum().backward()

    def test_notice_tensors_that_changed_meanwhile(self):
        mask = torch.ones(9, 9, dtype=torch.bool)
        self.q.requires_grad_()
        out = heed.attention(self.q, self.k, self.v, mask=mask)
        mask.zero_()
        with self.assertRaisesRegex(RuntimeError, "modified by an inplace operation"):
            out.sum().backward()

    def test_can_be_had_again(self):
        self.q.requires_grad_()
        out = heed.selective_attention(self.q, self.k, self.v)
        first, = torch.autograd.grad(out.sum(), self.q, retain_graph=True)
        second, = torch.autograd.grad(out.sum(), self.q)
        self.assertTrue(torch.equal(first, second))

    def test_of_hidden_numbers_are_zero_be_they_nan(self):
        s = small()
        q, k, v = (x.clone() for x in (self.q, self.k, self.v))
        for x in q, k, v:
            x[1, :, 5:] = float("nan")
            x.requires_grad_()
        out = heed.selective_attention(q, k, v, lengths=torch.tensor([s.Nk, 5]))
        for x in torch.autograd.grad(out.sum(), (q, k, v)):
            self.assertTrue(x.isfinite().all())
            self.assertEqual(x[1, :, 5:].abs().max(), 0)


class Threads(OperatorTest):
    def tearDown(self):
        torch.set_num_threads(1)

    def test_make_no_difference(self):
        for name, run, s, options in each_case(large):
            with self.subTest(name):
                tensors = drawn(torch.float, s, options)
                results = []
                for threads in 1, 2, 3:
                    torch.set_num_threads(threads)
                    outputs = run(*split(tensors))
                    results.append(dict(outputs, **gradients(outputs, tensors)))
                for result in results[1:]:
                    for output in result:
                        self.assertTrue(torch.equal(result[output], results[0][output]), output)


class Empty(OperatorTest):
    def test_batches_and_rows_and_keys(self):
        for batch, rows, keys in (0, 3, 3), (2, 0, 3), (2, 3, 0), (2, 0, 0):
            with self.subTest(batch=batch, rows=rows, keys=keys):
                q = torch.randn(batch, 4, rows, 5, requires_grad=True)
                k = torch.randn(batch, 2, keys, 5, requires_grad=True)
                v = torch.randn(batch, 2, keys, 6, requires_grad=True)
                for out in (heed.attention(q, k, v),
                            *heed.selective_attention_with_state(q, k, v, query_offset=0)):
                    if not out.requires_grad:
                        continue
                    for x, grad in zip((q, k, v), torch.autograd.grad(out.sum(), (q, k, v),
                                                                      retain_graph=True)):
                        self.assertEqual(grad.shape, x.shape)
                        self.assertEqual(grad.abs().sum(), 0)
                self.assertEqual(heed.attention(q, k, v).shape, (batch, 4, rows, 6))
                self.assertEqual(heed.attention(q, k, v).abs().sum(), 0)


class Errors(OperatorTest):
    def setUp(self):
        self.q, self.k, self.v = Draw(torch.double).qkv(small())

    def refuses(self, message, *tensors, **options):
        q, k, v = tensors or (self.q, self.k, self.v)
        with self.assertRaisesRegex(RuntimeError, message):
            heed.attention(q, k, v, **options)

    def test_say_what_does_not_fit(self):
        self.refuses(r"heed: k is \[2, 2, 9, 3\], q is \[2, 4, 9, 2\]", self.q[..., :2], self.k,
                     self.v)
        self.refuses(r"heed: v is \[2, 2, 8, 2\], k is \[2, 2, 9, 3\]", self.q, self.k,
                     self.v[:, :, :8])
        self.refuses("heed: causal: q has 5 rows, k has 9; say where they sit", self.q[:, :, :5],
                     self.k, self.v, causal=True)
        self.refuses("heed: q has 3 dimensions, must have 4", self.q[0], self.k, self.v)
        self.refuses(r"heed: bias is \[1, 1, 9, 4\], must be or broadcast to \[2, 4, 9, 9\]",
                     bias=torch.zeros(9, 4, dtype=torch.double))
        self.refuses("heed: bias has 5 dimensions", bias=torch.zeros(1, 1, 1, 9, 9).double())
        self.refuses("heed: query_temperature is", tau_q=torch.ones(2, 3, 9, dtype=torch.double))
        self.refuses("heed: lengths is .*one length per batch entry", lengths=torch.tensor([3]))

    def test_say_what_is_out_of_range(self):
        self.refuses(r"heed: lengths\[1\] is 12", lengths=torch.tensor([3, 12]))
        self.refuses("heed: softcap is -1", softcap=-1.0)
        self.refuses("heed: block_span size is 0", block_size=0)
        self.refuses("heed: window is", window_left=-2)
        self.refuses("heed: dropout of 1", dropout=1.0)
        with self.assertRaisesRegex(RuntimeError, "heed: selective: head 4 selects, there are 4"):
            heed.selective_attention(self.q, self.k, self.v, select_head=4)

    def test_say_which_number_types_are_meant(self):
        self.refuses("heed: q is Half, must be Float or Double", self.q.half(), self.k.half(),
                     self.v.half())
        self.refuses("heed: v is Float, q is Double", self.q, self.k, self.v.float())
        self.refuses("heed: tau_q is Float, q is Double", tau_q=torch.ones(2, 4, 9))
        self.refuses("heed: lengths is Int, must be Long",
                     lengths=torch.tensor([3, 4], dtype=torch.int32))
        self.refuses("heed: mask is Double, must be Bool or Byte", mask=self.q[0, 0])

    def test_say_where_tensors_must_be(self):
        self.refuses("heed: q is on meta, heed runs on the CPU alone",
                     *(x.to("meta") for x in (self.q, self.k, self.v)))
        self.refuses("heed: q is Sparse, must be strided", self.q.to_sparse(), self.k, self.v)

    def test_come_of_unknown_options(self):
        with self.assertRaisesRegex(RuntimeError, "nonesuch"):
            heed.attention(self.q, self.k, self.v, nonesuch=1)


class Script(OperatorTest):
    def test_may_call_the_operators(self):
        @torch.jit.script
        def layer(q, k, v):
            return torch.ops.heed.selective_attention(q, k, v, window_left=4)

        q, k, v = Draw(torch.double).qkv(small())
        wanted = heed.selective_attention(q, k, v, window_left=4)
        self.assertTrue(torch.equal(layer(q, k, v), wanted))


class Training(OperatorTest):
    def test_lowers_the_loss(self):
        # One layer learns to copy the token before: what the operators are for.
        torch.manual_seed(2)
        B, N, H, D = 4, 24, 2, 16
        project = torch.nn.Linear(H * D, 3 * H * D)
        back = torch.nn.Linear(H * D, H * D)
        place = torch.randn(N, H * D)
        adam = torch.optim.Adam([*project.parameters(), *back.parameters()], 1e-2)
        losses = []
        for _ in range(60):
            x = torch.randn(B, N, H * D)
            q, k, v = project(x + place).view(B, N, 3, H, D).permute(2, 0, 3, 1, 4)
            out, _, _, memory = heed.selective_attention_with_state(q, k, v)
            y = back(out.transpose(1, 2).reshape(B, N, H * D))
            loss = (y[:, 1:] - x[:, :-1]).square().mean() + 0.01 * memory.amax(1).mean() / N
            adam.zero_grad()
            loss.backward()
            adam.step()
            losses.append(loss.item())
        self.assertLess(sum(losses[-10:]), 0.8 * sum(losses[:10]))


if __name__ == "__main__":
    unittest.main()
