# SPDX-License-Identifier: MIT
"""What the operators refuse."""

import unittest

import torch
from cases import Draw, OperatorTest, heed, small


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


if __name__ == "__main__":
    unittest.main()
