# SPDX-License-Identifier: MIT
"""Gradients against differences, and chunks against the whole."""

import unittest

import torch
from cases import (Draw, OperatorTest, Sizes, differentiable, drawn, each_case, gradients, heed,
                   large, run_plain, run_selective, small, split)


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


if __name__ == "__main__":
    unittest.main()
