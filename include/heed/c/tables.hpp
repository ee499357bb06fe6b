// SPDX-License-Identifier: MIT
/// @file
/// What the functions of the C interface and its kernels share. The kernels may be compiled for
/// several instruction sets, so that only pointers, numbers, standard streams and the structs of C
/// are passed, and no function here has a body.
#pragma once

#include "heed/c/heed.h"
#include "heed/core/dispatch.hpp"

#include <iosfwd>

/// Outside of the ABI namespace: the same in all units.
namespace heed::c {

/// heed_run without its handles.
struct Run {
  heed_run_tasks run_tasks;
  void* pool;
  std::int64_t workers;
  void* workspace;  ///< of Common::new_workspace(), or null
  double negligible;
  std::int32_t bfloat16;
};

struct ForwardArguments {
  const heed_tensor *q, *k, *v;
  const heed_variant* variant;
  const heed_tensor *out, *lse;
  const Run* run;
};

struct BackwardArguments {
  const heed_tensor *q, *k, *v;
  const heed_variant* variant;
  const heed_tensor *out, *lse, *grad_out, *grad_lse, *grad_q, *grad_k, *grad_v;
  const Run* run;
};

/// A number type to compute in, and one to store keys and values in.
struct Types {
  std::int32_t type, storage;
};

/// What lives longer than a call. Its functions throw.
class Object {
 public:
  virtual void destroy() noexcept = 0;
  virtual Types types() const = 0;

 protected:
  ~Object() = default;
};

class Mark : public Object {
 protected:
  ~Mark() = default;
};

class Pool : public Object {
 public:
  virtual heed_pool_state state() const = 0;

 protected:
  ~Pool() = default;
};

class Sequence : public Object {
 public:
  virtual heed_sequence_state state() const = 0;
  virtual std::int64_t held(std::int64_t key_head, heed_held_token* tokens,
                            std::int64_t capacity) const = 0;
  virtual void clear() = 0;
  virtual void truncate(std::int64_t tokens) = 0;
  virtual void drop(std::int64_t first, std::int64_t last) = 0;
  virtual void accept(std::int64_t first, const std::int64_t* path, std::int64_t count) = 0;
  /// A fork of the same cache.
  virtual Sequence* fork() const = 0;
  virtual Mark* mark() const = 0;
  virtual void roll_back(const Mark& mark) = 0;
  virtual void save(std::ostream& to) const = 0;

 protected:
  ~Sequence() = default;
};

struct StepArguments {
  Sequence* const* sequences;
  std::int64_t count;
  const heed_tensor *q, *k, *v;
  const heed_variant* variant;
  const heed_tensor* out;
  const heed_step* step;
  const Run* run;
};

class Cache : public Object {
 public:
  virtual heed_pool_state pool_state() const = 0;
  virtual void reserve(std::int64_t sequences) = 0;
  virtual Sequence* open() const = 0;
  virtual Sequence* fork(const Sequence& from) const = 0;
  virtual Sequence* load(std::istream& from) const = 0;
  virtual void set_budget(Sequence& sequence, std::int64_t budget) = 0;
  virtual heed_work step(const StepArguments& arguments) = 0;
  /// k and v are not used.
  virtual heed_work attend(const StepArguments& arguments) = 0;

 protected:
  ~Cache() = default;
};

// The tables.

struct Common {
  /// In a catch block: the status of the exception, and its message.
  heed_status (&describe)(char* text, std::size_t size);
  void* (&new_workspace)();
  void (&delete_workspace)(void*);
  void (&quantize)(const heed_tensor& x, const heed_tensor& numbers);
};

struct Forward {
  heed_work (&single)(const ForwardArguments&);
  heed_work (&wide)(const ForwardArguments&);
};

struct Backward {
  heed_work (&single)(const BackwardArguments&);
  heed_work (&wide)(const BackwardArguments&);
};

struct Caches {
  Pool* (&open_pool)(const heed_pool_options&);
  Cache* (&open_cache)(const heed_cache_options&, const Pool* pool);
};

/// The table of kernels that are compiled together with their callers.
template <class Table>
const Table& native_table();
template <>
const Common& native_table<Common>();
template <>
const Forward& native_table<Forward>();
template <>
const Backward& native_table<Backward>();
template <>
const Caches& native_table<Caches>();

}  // namespace heed::c

/// HEED_C_KERNELS(Table, functions…): as HEED_KERNELS, or for heed.cpp alone.
#ifdef HEED_KERNEL_ARCH
#define HEED_C_KERNELS(...) HEED_KERNELS(__VA_ARGS__)
#else
#define HEED_C_KERNELS(Table, ...)              \
  template <>                                   \
  const Table& heed::c::native_table<Table>() { \
    static constexpr Table table{__VA_ARGS__};  \
    return table;                               \
  }                                             \
  static_assert(true)
#endif
