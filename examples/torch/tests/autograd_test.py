# SPDX-License-Identifier: MIT
"""What autograd, TorchScript and optimizers see of the operators."""

import unittest

import torch
from cases import (Draw, OperatorTest, drawn, gradients, heed, run_composed, run_selective, small,
                   split)


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
