# SPDX-License-Identifier: MIT
"""Outputs and gradients against the same composed of PyTorch's operations."""

import unittest

import composed
import torch
from cases import (Draw, OperatorTest, Sizes, drawn, gradients, heed, hiding_bias, large,
                   run_composed, run_plain, run_selective, small, split, ssa)


class Composition(OperatorTest):
    def test_agrees_in_double(self):
        self.compare(torch.double, large, 1e-10)

    def test_agrees_in_float(self):
        self.compare(torch.float, large, 1e-5)

    def test_agrees_on_few_tokens(self):
        for tokens in 1, 2, 3, 4:
            self.compare(torch.double, lambda rows=None: Sizes(tokens, 3, 2, rows=rows), 1e-10)

    def test_agrees_where_a_bias_hides(self):
        s = large()
        draw = Draw(torch.double)
        tensors = dict(zip("qkv", draw.qkv(s)), bias=hiding_bias(draw, s))
        for x in tensors.values():
            x.requires_grad_()
        for run in run_plain, run_selective:
            got, wanted = run(*split(tensors)), run_composed(run, *split(tensors))
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


if __name__ == "__main__":
    unittest.main()
