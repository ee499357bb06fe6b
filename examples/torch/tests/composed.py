# SPDX-License-Identifier: MIT
"""Attention as composed of PyTorch's own operations, N x N tensors and all: what the tests hold
heed's operators against. Options have the names and meanings they have there."""

import math
from types import SimpleNamespace

import torch


def positions(q, query_offset):
    return torch.arange(q.shape[2]) + (query_offset or 0)


def visible_pairs(q, k, *, causal, query_offset=None, window_left=None, window_right=None,
                  block_size=None, previous_blocks=0, prefix=None, documents=None, lengths=None,
                  evict_row=None, mask=None):
    """[B or 1, H or 1, Nq, Nk], True where a query sees a key."""
    p = positions(q, query_offset)[:, None]
    j = torch.arange(k.shape[2])[None, :]
    pairs = torch.ones(1, 1, q.shape[2], k.shape[2], dtype=torch.bool)

    def each(x):  # [B] or [B, N]: one number per entry, against rows and keys
        return x[:, None, None, None]

    causal = causal and prefix is None
    if causal:
        pairs = pairs & (j <= p)
    if prefix is not None:
        pairs = pairs & ((j < each(prefix)) | (j <= p))
    if window_left is not None:
        pairs = pairs & (j >= p - window_left)
    if window_right is not None:
        pairs = pairs & (j <= p + window_right)
    if block_size is not None:
        apart = torch.div(p, block_size, rounding_mode="floor") - torch.div(
            j, block_size, rounding_mode="floor")
        pairs = pairs & (apart.abs() <= previous_blocks)
    if documents is not None:
        own = documents[:, positions(q, query_offset)]
        pairs = pairs & (own[:, None, :, None] == documents[:, None, None, :])
    if lengths is not None:
        pairs = pairs & (j < each(lengths))
        if causal:
            pairs = pairs & (p < each(lengths))
    if evict_row is not None:
        pairs = pairs & (p < evict_row[:, None, None, :])
    if mask is not None:
        pairs = pairs & mask.bool()
    return pairs


def selection(votes, seen, p, *, relu=True, protect_first=True, forbid_self=True, accumulate=True,
              shift=True, carry_in=None):
    """F [B, Nq, Nk] and what the row after the last would start with."""
    j = torch.arange(votes.shape[-1])
    counted = seen & (j < p[:, None] + (0 if forbid_self else 1))
    if protect_first:
        counted = counted & (j > 0)
    votes = votes.masked_fill(~counted, 0)
    if relu:
        votes = votes.relu()
    start = torch.zeros_like(votes[:, :1]) if carry_in is None else carry_in[:, None]
    if accumulate:
        after = start + votes.cumsum(1)
    else:
        after = votes
    f = torch.cat([start, after[:, :-1]], 1) if shift else after
    return f, after[:, -1]


def attention(q, k, v, *, causal=False, query_offset=None, scale=None, softcap=None, bias=None,
              alibi_slopes=None, sinks=None, tau_q=None, tau_k=None, tau_v=None, kept=None,
              select_head=None, select_q=None, select_k=None, memory_tau=1.0, **rest):
    """kept: [B, H, Nq, Nk], the factors of a dropout. rest: the masks and how the votes count."""
    votes_rest = {name: rest.pop(name) for name in
                  ("relu", "protect_first", "forbid_self", "accumulate", "shift", "carry_in")
                  if name in rest}
    p = positions(q, query_offset)
    seen = visible_pairs(q, k, causal=causal, query_offset=query_offset, **rest)
    seen = seen.expand(q.shape[0], q.shape[1], -1, -1)
    if bias is not None:
        seen = seen & (bias > -math.inf)

    if tau_q is not None:
        q = q * tau_q[..., None]
    if tau_k is not None:
        k = k * tau_k[..., None]
    if tau_v is not None:
        v = v * tau_v[..., None]
    group = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(group, 1) for x in (k, v))

    scores = q @ k.transpose(2, 3) * (1 / math.sqrt(q.shape[3]) if scale is None else scale)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if bias is not None:
        scores = scores + bias.masked_fill(bias == -math.inf, 0)
    if alibi_slopes is not None:
        scores = scores + alibi_slopes[:, None, None] * (torch.arange(k.shape[2]) - p[:, None])

    carry_out = memory = None
    if select_head is not None:
        votes = scores[:, select_head]
        if select_q is not None:
            votes = select_q @ select_k.transpose(1, 2) / math.sqrt(select_q.shape[2])
        f, carry_out = selection(votes, seen[:, select_head], p, **votes_rest)
        scores = scores - f[:, None]
        past = torch.arange(k.shape[2]) <= p[:, None]
        memory = p + 1 - (f.clamp(max=memory_tau) / memory_tau * past).sum(2)

    hidden = scores.masked_fill(~seen, -math.inf)
    scores = scores.masked_fill(~seen, torch.finfo(scores.dtype).min)  # rows may see nothing
    if sinks is not None:
        column = sinks[:, None, None].expand(q.shape[0], -1, q.shape[2], 1)
        scores, hidden = (torch.cat([x, column], 3) for x in (scores, hidden))
    weights = scores.softmax(3)[..., :k.shape[2]] * seen
    if kept is not None:
        weights = weights * kept
    return SimpleNamespace(out=weights @ v, lse=hidden.logsumexp(3).detach(), carry_out=carry_out,
                           memory=memory)
