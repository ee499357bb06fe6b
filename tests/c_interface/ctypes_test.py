# SPDX-License-Identifier: MIT
"""The C interface from Python, by ctypes: ctypes_test.py libheed_c.so

Tensors are NumPy's, and PyTorch's where it is installed, handed over by DLPack. The oracle is
attention written out in NumPy. Ends with 77 where NumPy is missing.
"""
import ctypes
import sys
from ctypes import POINTER, Structure, byref, c_char_p, c_double, c_int, c_int32, c_int64
from ctypes import c_size_t, c_uint64, c_void_p

try:
    import numpy
except ImportError:
    print("skipped: NumPy is missing (Debian: python3-numpy)")
    sys.exit(77)
try:
    import torch
except ImportError:
    torch = None
    print("DLPack of PyTorch is not tested: it is missing (Debian: python3-torch)")


class Tensor(Structure):
    pass


Tensor._fields_ = [("data", c_void_p), ("scale", POINTER(Tensor)), ("dims", c_int64 * 4),
                   ("strides", c_int64 * 4), ("type", c_int32), ("rank", c_int32),
                   ("flags", c_int32), ("reserved", c_int32)]
Optional = POINTER(Tensor)


class Sized(Structure):
    def __init__(self, **fields):
        super().__init__(size=ctypes.sizeof(self), **fields)


class Variant(Sized):
    _fields_ = ([("size", c_size_t), ("scale", c_double), ("softcap", c_double),
                 ("causal", c_int32), ("window", c_int32)] +
                [(name, c_int64) for name in ("window_left", "window_right", "block_size",
                                              "previous_blocks", "query_offset")] +
                [(name, Optional) for name in ("query_offsets", "lengths", "starts", "documents",
                                               "mask", "bias", "sinks")] +
                [("alibi", c_int32), ("selective", c_int32)] +
                [(name, Optional) for name in ("alibi_slopes", "tau_q", "tau_k", "tau_v")] +
                [("select_head", c_int64), ("select_flags", c_int32), ("reserved", c_int32)] +
                [(name, Optional) for name in ("carry_in", "carry_out", "mask_f", "memory")] +
                [("memory_tau", c_double)] +
                [(name, Optional) for name in ("grad_bias", "grad_sinks", "grad_alibi_slopes",
                                               "grad_tau_q", "grad_tau_k", "grad_tau_v",
                                               "grad_carry_in", "grad_carry_out", "grad_memory")])


class CacheOptions(Sized):
    _fields_ = ([("size", c_size_t), ("type", c_int32), ("storage", c_int32)] +
                [(name, c_int64) for name in ("heads", "key_heads", "dim", "value_dim")] +
                [("pool", c_uint64), ("budget", c_int64)] +
                [(name, c_int32) for name in ("evict", "when", "key_head_tokens", "selective",
                                              "select_flags", "reserved")] +
                [("select_head", c_int64), ("recent", c_int64), ("protect", POINTER(c_int64))] +
                [(name, c_int64) for name in ("protect_count", "chunk", "snap_rows",
                                              "snap_kernel")] +
                [("score_bound", c_double), ("negligible", c_double)])


CAUSAL, FLOAT32 = 1, 1
INVALID_TYPE, INVALID_VALUE = 3, 2

heed = ctypes.CDLL(sys.argv[1])
heed.heed_last_error.restype = c_char_p
heed.heed_version.restype = c_char_p
for name in ("heed_from_dlpack", "heed_from_dlpack_versioned"):
    getattr(heed, name).argtypes = [c_void_p, Optional]
heed.heed_forward.argtypes = [Optional, Optional, Optional, POINTER(Variant), Optional, Optional,
                              c_void_p]
heed.heed_to_dlpack.argtypes = [Optional, c_void_p, c_void_p, POINTER(c_void_p)]
capsule = ctypes.pythonapi
capsule.PyCapsule_GetPointer.restype = c_void_p
capsule.PyCapsule_GetPointer.argtypes = [ctypes.py_object, c_char_p]
capsule.PyCapsule_IsValid.argtypes = [ctypes.py_object, c_char_p]
capsule.PyCapsule_New.restype = ctypes.py_object
capsule.PyCapsule_New.argtypes = [c_void_p, c_char_p, c_void_p]


class HeedError(Exception):
    def __init__(self, status):
        super().__init__(heed.heed_last_error().decode())
        self.status = status


def checked(status):
    if status != 0:
        raise HeedError(status)


def view(array):
    """A tensor of heed over the memory of any array that speaks DLPack."""
    try:
        managed = array.__dlpack__(max_version=(1, 0))
    except TypeError:  # older than DLPack 1.0
        managed = array.__dlpack__()
    tensor = Tensor()
    tensor.capsule = managed  # its deleter runs with it
    if capsule.PyCapsule_IsValid(managed, b"dltensor_versioned"):
        checked(heed.heed_from_dlpack_versioned(
            capsule.PyCapsule_GetPointer(managed, b"dltensor_versioned"), byref(tensor)))
    else:
        checked(heed.heed_from_dlpack(
            capsule.PyCapsule_GetPointer(managed, b"dltensor"), byref(tensor)))
    return tensor


def expect(what, condition):
    if not condition:
        print("FAILED:", what)
        expect.failures += 1


expect.failures = 0


def refused(what, status, call, message):
    try:
        call()
        expect(what + ": not refused", False)
    except HeedError as error:
        expect(f"{what}: {error.status}, {error}", error.status == status and message in str(error))


def attention(q, k, v, selective):
    """Causal attention, and selective attention of arXiv:2410.02703, in NumPy."""
    batch, heads, rows, dim = q.shape
    k, v = (numpy.repeat(x, heads // x.shape[1], axis=1) for x in (k, v))
    scores = q @ k.swapaxes(2, 3) / numpy.sqrt(dim)
    hidden = numpy.triu(numpy.ones((rows, rows), bool), 1)
    if selective:
        votes = numpy.tril(numpy.maximum(scores[:, 0], 0), -1)
        votes[:, :, 0] = 0
        scores -= (numpy.cumsum(votes, axis=1) - votes)[:, None]
    scores[..., hidden] = -numpy.inf
    weights = numpy.exp(scores - scores.max(axis=3, keepdims=True))
    return weights / weights.sum(axis=3, keepdims=True) @ v


def test_forward(make, what):
    rng = numpy.random.default_rng(1)
    for selective in (0, 1):
        q, k, v = (rng.standard_normal((2, 33, heads, 16)) for heads in (4, 2, 2))
        q, k, v = (x.transpose(0, 2, 1, 3) for x in (q, k, v))  # [B, N, H, D] in memory
        out = make(numpy.zeros(q.shape))
        checked(heed.heed_forward(*(byref(view(make(x))) for x in (q, k, v)),
                                  byref(Variant(causal=CAUSAL, selective=selective)),
                                  byref(view(out)), None, None))
        error = numpy.abs(numpy.asarray(out) - attention(q, k, v, selective)).max()
        expect(f"{what}, selective {selective}: off by {error}", error < 1e-12)


def test_errors():
    x = numpy.zeros((1, 2, 5, 8), numpy.float32)
    y = numpy.zeros((1, 2, 4, 8), numpy.float32)

    def forward(q, k, v, out):
        checked(heed.heed_forward(*(byref(view(a)) for a in (q, k, v)), None, byref(view(out)),
                                  None, None))

    refused("sizes", 1, lambda: forward(x, y, x, x.copy()), "v is [1, 2, 5, 8], k is [1, 2, 4, 8]")
    refused("overlap", 1, lambda: forward(x, x, x, x), "out overlaps q")
    refused("complex", INVALID_TYPE, lambda: view(x.astype(complex)), "type code 5")
    refused("five dimensions", 1, lambda: view(x[None]), "5 dimensions")
    refused("no dimension", 1, lambda: view(numpy.zeros(())), "0 dimensions")
    refused("backwards", 1, lambda: forward(x[:, :, ::-1], x, x, x.copy()), "negative")


def test_to_dlpack():
    """Memory that NumPy gets from heed_to_dlpack()."""
    memory = numpy.arange(24, dtype=numpy.float64).reshape(2, 3, 4).transpose(2, 0, 1)
    released = []
    release = ctypes.CFUNCTYPE(None, c_void_p)(lambda owner: released.append(owner))

    class Owner:
        def __dlpack_device__(self):
            return (1, 0)

        def __dlpack__(self, **_):
            managed = c_void_p()
            checked(heed.heed_to_dlpack(byref(view(memory)), 5, ctypes.cast(release, c_void_p),
                                        byref(managed)))
            return capsule.PyCapsule_New(managed, b"dltensor", None)

    array = numpy.from_dlpack(Owner())
    expect("NumPy reads heed's DLPack tensor", (array == memory).all() and array.shape == (4, 2, 3))
    expect("not released yet", released == [])
    del array
    expect("released", released == [5])


def test_cache():
    rng = numpy.random.default_rng(2)
    q, k, v = (rng.standard_normal((1, heads, 20, 16)).astype(numpy.float32) for heads in (4, 2, 2))
    options = CacheOptions(type=FLOAT32, heads=4, key_heads=2, dim=16, value_dim=16, selective=1)
    cache, sequence = c_uint64(), c_uint64()
    checked(heed.heed_cache_open(byref(options), byref(cache)))
    checked(heed.heed_sequence_open(cache, byref(sequence)))
    out = numpy.zeros(q.shape, numpy.float32)
    for first in range(0, 20, 5):
        part = [byref(view(x[:, :, first:first + 5])) for x in (q, k, v, out)]
        checked(heed.heed_cache_step(cache, byref(sequence), c_int64(1), part[0], part[1], part[2],
                                     None, part[3], None, None))
    wanted = attention(*(x.astype(float) for x in (q, k, v)), selective=1)
    expect("the cache", numpy.abs(out - wanted).max() < 1e-5)
    checked(heed.heed_close(sequence))
    refused("a closed handle", 4, lambda: checked(heed.heed_sequence_clear(sequence)), "closed")
    checked(heed.heed_close(cache))


test_forward(lambda x: x, "NumPy")
if torch is not None:
    test_forward(torch.from_numpy, "PyTorch")
test_errors()
test_to_dlpack()
test_cache()
print(f"heed {heed.heed_version().decode()} by ctypes, NumPy {numpy.__version__}: "
      f"{expect.failures} failures")
sys.exit(expect.failures != 0)
