# SPDX-License-Identifier: MIT
"""Where the numbers lie in memory, and on how many threads they are worked on."""

import unittest

import composed
import torch
from cases import (PLAIN, SELECTIVE, Draw, OperatorTest, draw_bias, drawn, gradients, heed,
                   large, run_composed, run_plain, run_selective, split)


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


class Threads(OperatorTest):
    def tearDown(self):
        torch.set_num_threads(1)

    def test_make_no_difference(self):
        for name, run, options in (("causal", run_plain, PLAIN["causal"]),
                                   ("selective", run_selective, SELECTIVE["selective"]),
                                   ("all of it", run_selective, SELECTIVE["all of it"])):
            with self.subTest(name):
                tensors = drawn(torch.float, large(), options)
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


if __name__ == "__main__":
    unittest.main()
