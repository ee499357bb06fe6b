// SPDX-License-Identifier: MIT
/// @file
/// DLPack's structs, and tensors from and to them.
#pragma once

#include "heed/c/views.hpp"

#include <cstring>
#include <memory>

namespace heed::inline HEED_ABI::c_interface::dlpack {

// The layout of dlpack.h, https://github.com/dmlc/dlpack, include/dlpack/dlpack.h: DLTensor and
// DLManagedTensor since 0.2, DLManagedTensorVersioned of version 1. Enumerations are 32 bits wide.

enum Device : std::int32_t { cpu = 1 };
enum Code : std::uint8_t {
  signed_integer = 0,
  unsigned_integer = 1,
  floating = 2,
  bfloat = 4,
  boolean = 6
};
enum Flags : std::uint64_t { read_only = 1 };

struct Tensor {
  void* data;
  std::int32_t device_type, device_id;
  std::int32_t ndim;
  std::uint8_t code, bits;
  std::uint16_t lanes;
  std::int64_t* shape;
  std::int64_t* strides;  ///< in numbers; null: row-major
  std::uint64_t byte_offset;
};

struct Managed {
  Tensor tensor;
  void* manager;
  void (*deleter)(Managed* self);
};

struct Versioned {
  std::uint32_t major, minor;
  void* manager;
  void (*deleter)(Versioned* self);
  std::uint64_t flags;
  Tensor tensor;
};

static_assert(sizeof(Tensor) == 48 && offsetof(Tensor, code) == 20 &&
              offsetof(Tensor, shape) == 24);
static_assert(sizeof(Managed) == 64 && offsetof(Managed, deleter) == 56);
static_assert(sizeof(Versioned) == 80 && offsetof(Versioned, tensor) == 32);

struct TypeName {
  heed_type type;
  std::uint8_t code, bits;
};
/// The last of two names is the one that is read only.
inline constexpr TypeName type_names[] = {
    {HEED_FLOAT32, floating, 32},     {HEED_FLOAT64, floating, 64},
    {HEED_FLOAT16, floating, 16},     {HEED_BFLOAT16, bfloat, 16},
    {HEED_INT8, signed_integer, 8},   {HEED_UINT8, unsigned_integer, 8},
    {HEED_INT64, signed_integer, 64}, {HEED_UINT8, boolean, 8},
};

/// @throws Error, ShapeError
inline heed_tensor tensor_of(const Tensor& x) {
  if (x.device_type != cpu)
    throw Error(HEED_INVALID_TYPE, "the DLPack tensor is on device ", x.device_type,
                ", must be on the CPU, ", int(cpu));
  const TypeName* name = nullptr;
  for (const TypeName& each : type_names)
    if (x.code == each.code && x.bits == each.bits && x.lanes == 1) name = &each;
  if (name == nullptr)
    throw Error(HEED_INVALID_TYPE, "the DLPack tensor has type code ", int(x.code), " of ",
                int(x.bits), " bits in ", int(x.lanes), " lanes, which is none of heed's");
  if (x.ndim < 1 || x.ndim > HEED_MAX_RANK || x.shape == nullptr)
    throw ShapeError("the DLPack tensor has ", x.ndim, " dimensions, must have 1 … 4, with sizes");
  if (x.byte_offset > std::uint64_t(detail::max_bytes))
    throw ShapeError("the DLPack tensor begins ", x.byte_offset, " bytes behind its data");

  heed_tensor to = heed_row_major(nullptr, name->type, x.ndim, x.shape);
  const std::uintptr_t begin = reinterpret_cast<std::uintptr_t>(x.data);
  to.data = begin == 0 ? nullptr : static_cast<char*>(x.data) + x.byte_offset;
  if (x.strides != nullptr)
    for (std::int32_t d = 0; d < x.ndim; ++d)
      if (__builtin_mul_overflow(x.strides[d], std::int64_t(name->bits / 8), &to.strides[d]))
        throw ShapeError("the DLPack tensor has stride ", x.strides[d],
                         ", beyond the address space");
  return to;
}

/// What a tensor that heed makes keeps. It must be the first member's owner.
template <class Struct>
struct Owned {
  Struct managed;
  std::int64_t shape[HEED_MAX_RANK], strides[HEED_MAX_RANK];
  void* owner;
  void (*release)(void*);
};

/// A struct of DLPack for a tensor; strides of it in numbers.
/// @throws Error, ShapeError, ValueError
template <class Struct>
Struct* managed_of(const heed_tensor& x, void* owner, void (*release)(void*)) {
  const TypeName* name = nullptr;
  for (const TypeName& each : type_names)
    if (name == nullptr && x.type == each.type) name = &each;
  if (name == nullptr) refuse_type("the tensor", x, "a heed_type");
  if (x.scale != nullptr)
    throw Error(HEED_INVALID_TYPE, "the tensor has a scale, which DLPack has not");
  if (x.rank < 1 || x.rank > HEED_MAX_RANK)
    throw ShapeError("the tensor has ", x.rank, " dimensions, must have 1 … 4");
  auto made = std::make_unique<Owned<Struct>>();
  const std::int64_t bytes = name->bits / 8;
  for (std::int32_t d = 0; d < x.rank; ++d) {
    if (x.dims[d] < 1 || x.strides[d] % bytes != 0)
      throw ShapeError("dimension ", d, " of the tensor has size ", x.dims[d], " and a stride of ",
                       x.strides[d], " bytes: sizes must be at least 1, strides multiples of ",
                       bytes);
    made->shape[d] = x.dims[d], made->strides[d] = x.strides[d] / bytes;
  }
  made->owner = owner, made->release = release;
  made->managed.manager = made.get();
  made->managed.deleter = [](Struct* self) {
    const std::unique_ptr<Owned<Struct>> all(static_cast<Owned<Struct>*>(self->manager));
    if (all->release != nullptr) all->release(all->owner);
  };
  made->managed.tensor = {x.data,     cpu, 0,           x.rank,        name->code,
                          name->bits, 1,   made->shape, made->strides, 0};
  if constexpr (requires { made->managed.flags; }) {
    made->managed.major = 1;
    made->managed.flags = (x.flags & HEED_READ_ONLY) != 0 ? std::uint64_t(read_only) : 0;
  } else if ((x.flags & HEED_READ_ONLY) != 0) {
    throw ValueError("the tensor may only be read, which DLManagedTensor cannot say");
  }
  return &made.release()->managed;
}

}  // namespace heed::inline HEED_ABI::c_interface::dlpack
