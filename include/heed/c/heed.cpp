// SPDX-License-Identifier: MIT
// The functions of the C interface. Compiled alone, it is the whole of it, for the instruction set
// that the compiler's flags name:
//
//     g++ -std=c++20 -O2 -march=native -I include $(pkg-config --cflags eigen3) -c heed.cpp
//
// With HEED_C_KERNELS_APART the kernels are forward.cpp, backward.cpp and cache.cpp, compiled by
// heed_add_kernels() for several instruction sets.
#include "heed/c/heed.h"

#include "heed/c/call.hpp"
#include "heed/c/dlpack.hpp"
#include "heed/c/sequence_file.hpp"
#include "heed/c/threads.hpp"

#include <unordered_set>
#include <vector>

#ifndef HEED_C_KERNELS_APART
#include "heed/c/backward.cpp"
#include "heed/c/cache.cpp"
#include "heed/c/forward.cpp"
#endif

namespace heed::inline HEED_ABI::c_interface {
namespace {

#define HEED_C_VERSION_OF(major, minor, patch) #major "." #minor "." #patch
#define HEED_C_VERSION(major, minor, patch) HEED_C_VERSION_OF(major, minor, patch)
constexpr const char* version =
    HEED_C_VERSION(HEED_VERSION_MAJOR, HEED_VERSION_MINOR, HEED_VERSION_PATCH);

/// Is the call to compute in double? @throws Error, ValueError
bool is_wide(const char* what, const heed_tensor* x) {
  const std::int32_t type = given(what, x).type;
  if (type != HEED_FLOAT32 && type != HEED_FLOAT64) refuse_type(what, *x, "float32 or float64");
  return type == HEED_FLOAT64;
}

template <class X>
void destroy(void* object) {
  static_cast<X*>(object)->destroy();
}
heed_handle handle_of(c::Sequence* sequence) {
  return Handles::all().add(Kind::sequence, sequence, destroy<c::Sequence>);
}

InUse cache_in_use(heed_handle handle, bool alone = false) {
  return {"the cache", handle, Kind::cache, alone};
}
InUse sequence_in_use(heed_handle handle) {
  return {"the sequence", handle, Kind::sequence, true};
}

/// Runs f on a sequence.
template <class F>
heed_status with_sequence(heed_handle handle, const F& f) {
  return guarded([&] {
    const InUse sequence = sequence_in_use(handle);
    f(sequence.as<c::Sequence>());
  });
}

/// Sequences of a step, in use.
class SequencesInUse {
 public:
  SequencesInUse(const heed_handle* handles, std::int64_t count) {
    constexpr std::int64_t most = 1 << 20;
    if (count < 1 || count > most)
      throw ValueError("the step names ", count, " sequences, must be 1 … ", most);
    if (handles == nullptr) throw ValueError("sequences is null");
    in_use_.reserve(std::size_t(count)), objects_.reserve(std::size_t(count));
    std::unordered_set<heed_handle> named;
    for (std::int64_t b = 0; b < count; ++b) {
      // A sequence that is named twice is in use already, by this call: the step refuses it.
      const bool first = named.insert(handles[b]).second;
      in_use_.emplace_back("a sequence of the step", handles[b], Kind::sequence, first);
      objects_.push_back(&in_use_.back().as<c::Sequence>());
    }
  }
  c::Sequence* const* data() const { return objects_.data(); }
  std::int64_t count() const { return std::int64_t(objects_.size()); }

 private:
  std::vector<InUse> in_use_;
  std::vector<c::Sequence*> objects_;
};

struct StepTensors {
  const heed_tensor *q, *k, *v, *out;
};

heed_status step(heed_handle handle, const heed_handle* sequences, std::int64_t count,
                 const StepTensors& tensors, const heed_variant* variant, const heed_step* step,
                 const heed_run* run, heed_work (c::Cache::*function)(const c::StepArguments&)) {
  return guarded([&] {
    const RunInUse resolved(run);
    // Without a workspace a step uses the cache's own.
    const InUse cache = cache_in_use(handle, !resolved.has_workspace());
    const SequencesInUse members(sequences, count);
    const heed_variant stages = read("heed_variant", variant);
    const heed_step options = read("heed_step", step);
    resolved.finish((cache.as<c::Cache>().*function)({members.data(), members.count(), tensors.q,
                                                      tensors.k, tensors.v, &stages, tensors.out,
                                                      &options, &resolved.run()}));
  });
}

/// Makes a DLPack tensor.
template <class Struct, class To>
heed_status to_dlpack(const heed_tensor* tensor, void* owner, void (*release)(void*), To** to) {
  return guarded([&] {
    result("the place for the DLPack tensor", to);
    *to = reinterpret_cast<To*>(
        dlpack::managed_of<Struct>(given("the tensor", tensor), owner, release));
  });
}

}  // namespace
}  // namespace heed::inline HEED_ABI::c_interface

using namespace heed::c_interface;  // NOLINT: this is their file
using heed::ValueError;
namespace c = heed::c;

extern "C" {

const char* heed_status_name(heed_status status) {
  constexpr const char* names[] = {"HEED_OK",
                                   "HEED_INVALID_SHAPE",
                                   "HEED_INVALID_VALUE",
                                   "HEED_INVALID_TYPE",
                                   "HEED_INVALID_HANDLE",
                                   "HEED_BUSY",
                                   "HEED_OUT_OF_MEMORY",
                                   "HEED_OUT_OF_PAGES",
                                   "HEED_FILE_ERROR",
                                   "HEED_UNSUPPORTED",
                                   "HEED_BAD_EXECUTOR",
                                   "HEED_INTERNAL_ERROR"};
  return int(status) >= 0 && int(status) <= HEED_INTERNAL_ERROR ? names[status] : "unknown";
}

const char* heed_last_error(void) {
  return last_error();
}

const char* heed_version(void) {
  return version;
}

heed_status heed_instruction_set(const char** name) {
  return guarded([&] { result("name", name) = instruction_set(); });
}

heed_status heed_close(heed_handle handle) {
  return guarded([&] { Handles::all().close(handle); });
}

// ---- tensors

heed_tensor heed_row_major(void* data, heed_type type, int rank, const int64_t* dims) {
  heed_tensor x{};
  x.data = data, x.type = type, x.rank = rank;
  if (rank < 1 || rank > HEED_MAX_RANK || dims == nullptr) return x;
  std::uint64_t stride = type == HEED_FLOAT64 || type == HEED_INT64      ? 8
                         : type == HEED_FLOAT32                          ? 4
                         : type == HEED_FLOAT16 || type == HEED_BFLOAT16 ? 2
                                                                         : 1;
  for (int d = rank; d-- > 0; stride *= std::uint64_t(dims[d])) {
    x.dims[d] = dims[d];
    x.strides[d] = std::int64_t(stride);
  }
  return x;
}

heed_status heed_quantize(const heed_tensor* x, const heed_tensor* numbers) {
  return guarded([&] { kernels<c::Common>().quantize(given("x", x), given("numbers", numbers)); });
}

heed_status heed_from_dlpack(const DLManagedTensor* managed, heed_tensor* tensor) {
  return guarded([&] {
    if (managed == nullptr) throw ValueError("the DLPack tensor is null");
    result("tensor", tensor) =
        dlpack::tensor_of(reinterpret_cast<const dlpack::Managed*>(managed)->tensor);
  });
}

heed_status heed_from_dlpack_versioned(const DLManagedTensorVersioned* managed,
                                       heed_tensor* tensor) {
  return guarded([&] {
    if (managed == nullptr) throw ValueError("the DLPack tensor is null");
    const auto& x = *reinterpret_cast<const dlpack::Versioned*>(managed);
    if (x.major != 1)
      throw ValueError("the DLPack tensor is of version ", x.major, ".", x.minor,
                       ", this library reads version 1");
    heed_tensor described = dlpack::tensor_of(x.tensor);
    if ((x.flags & dlpack::read_only) != 0) described.flags = HEED_READ_ONLY;
    result("tensor", tensor) = described;
  });
}

heed_status heed_to_dlpack(const heed_tensor* tensor, void* owner, void (*release)(void*),
                           DLManagedTensor** managed) {
  return to_dlpack<dlpack::Managed>(tensor, owner, release, managed);
}

heed_status heed_to_dlpack_versioned(const heed_tensor* tensor, void* owner, void (*release)(void*),
                                     DLManagedTensorVersioned** managed) {
  return to_dlpack<dlpack::Versioned>(tensor, owner, release, managed);
}

// ---- how a call runs

heed_status heed_threads_open(int count, heed_handle* threads) {
  return guarded([&] {
    result("threads", threads);
    *threads = open_threads(count);
  });
}

heed_status heed_workspace_open(heed_handle* workspace) {
  return guarded([&] {
    result("workspace", workspace);
    const c::Common& common = kernels<c::Common>();
    *workspace = Handles::all().add(Kind::workspace, common.new_workspace(),
                                    [](void* of) { kernels<c::Common>().delete_workspace(of); });
  });
}

// ---- attention

heed_status heed_forward(const heed_tensor* q, const heed_tensor* k, const heed_tensor* v,
                         const heed_variant* variant, const heed_tensor* out,
                         const heed_tensor* lse, const heed_run* run) {
  return guarded([&] {
    const bool wide = is_wide("out", out);
    const RunInUse resolved(run);
    const heed_variant stages = read("heed_variant", variant);
    const c::Forward& forward = kernels<c::Forward>();
    resolved.finish(
        (wide ? forward.wide : forward.single)({q, k, v, &stages, out, lse, &resolved.run()}));
  });
}

heed_status heed_backward(const heed_tensor* q, const heed_tensor* k, const heed_tensor* v,
                          const heed_variant* variant, const heed_tensor* out,
                          const heed_tensor* lse, const heed_tensor* grad_out,
                          const heed_tensor* grad_lse, const heed_tensor* grad_q,
                          const heed_tensor* grad_k, const heed_tensor* grad_v,
                          const heed_run* run) {
  return guarded([&] {
    const bool wide = is_wide("grad_q", grad_q);
    const RunInUse resolved(run);
    const heed_variant stages = read("heed_variant", variant);
    const c::Backward& backward = kernels<c::Backward>();
    resolved.finish((wide ? backward.wide : backward.single)(
        {q, k, v, &stages, out, lse, grad_out, grad_lse, grad_q, grad_k, grad_v, &resolved.run()}));
  });
}

// ---- pools and caches

heed_status heed_pool_open(const heed_pool_options* options, heed_handle* pool) {
  return guarded([&] {
    const heed_pool_options x = read("heed_pool_options", &result("options", options));
    result("pool", pool);
    *pool = Handles::all().add(Kind::pool, kernels<c::Caches>().open_pool(x), destroy<c::Pool>);
  });
}

heed_status heed_pool_get_state(heed_handle pool, heed_pool_state* state) {
  return guarded([&] {
    result("state", state);
    if (Handles::all().find("the pool", pool)->kind == Kind::cache)
      *state = cache_in_use(pool).as<c::Cache>().pool_state();
    else
      *state = InUse("the pool", pool, Kind::pool, false).as<c::Pool>().state();
  });
}

heed_status heed_cache_open(const heed_cache_options* options, heed_handle* cache) {
  return guarded([&] {
    const heed_cache_options x = read("heed_cache_options", &result("options", options));
    result("cache", cache);
    InUse pool;
    if (x.pool != 0) pool = {"heed_cache_options.pool", x.pool, Kind::pool, false};
    *cache = Handles::all().add(
        Kind::cache, kernels<c::Caches>().open_cache(x, pool ? &pool.as<c::Pool>() : nullptr),
        destroy<c::Cache>);
  });
}

heed_status heed_cache_reserve(heed_handle cache, int64_t sequences) {
  return guarded([&] { cache_in_use(cache).as<c::Cache>().reserve(sequences); });
}

heed_status heed_cache_step(heed_handle cache, const heed_handle* sequences, int64_t count,
                            const heed_tensor* q, const heed_tensor* k, const heed_tensor* v,
                            const heed_variant* variant, const heed_tensor* out,
                            const heed_step* options, const heed_run* run) {
  return step(cache, sequences, count, {q, k, v, out}, variant, options, run, &c::Cache::step);
}

heed_status heed_cache_attend(heed_handle cache, const heed_handle* sequences, int64_t count,
                              const heed_tensor* q, const heed_variant* variant,
                              const heed_tensor* out, const heed_step* options,
                              const heed_run* run) {
  return step(cache, sequences, count, {q, nullptr, nullptr, out}, variant, options, run,
              &c::Cache::attend);
}

// ---- sequences

heed_status heed_sequence_open(heed_handle cache, heed_handle* sequence) {
  return guarded([&] {
    result("sequence", sequence);
    *sequence = handle_of(cache_in_use(cache).as<c::Cache>().open());
  });
}

heed_status heed_sequence_fork(heed_handle cache, heed_handle from, heed_handle* sequence) {
  return guarded([&] {
    result("sequence", sequence);
    const InUse source = sequence_in_use(from);
    const c::Sequence& of = source.as<c::Sequence>();
    *sequence = handle_of(cache == 0 ? of.fork() : cache_in_use(cache).as<c::Cache>().fork(of));
  });
}

heed_status heed_sequence_get_state(heed_handle sequence, heed_sequence_state* state) {
  return with_sequence(sequence, [&](const c::Sequence& x) { result("state", state) = x.state(); });
}

heed_status heed_sequence_get_held(heed_handle sequence, int64_t key_head, heed_held_token* tokens,
                                   int64_t capacity, int64_t* count) {
  return with_sequence(sequence, [&](const c::Sequence& x) {
    if (capacity < 0) throw ValueError("capacity is ", capacity, ", must not be negative");
    int64_t& held = result("count", count);  // refused before tokens are written
    held = x.held(key_head, tokens, capacity);
  });
}

heed_status heed_sequence_set_budget(heed_handle cache, heed_handle sequence, int64_t budget) {
  return with_sequence(
      sequence, [&](c::Sequence& x) { cache_in_use(cache).as<c::Cache>().set_budget(x, budget); });
}

heed_status heed_sequence_clear(heed_handle sequence) {
  return with_sequence(sequence, [](c::Sequence& x) { x.clear(); });
}

heed_status heed_sequence_truncate(heed_handle sequence, int64_t tokens) {
  return with_sequence(sequence, [=](c::Sequence& x) { x.truncate(tokens); });
}

heed_status heed_sequence_drop(heed_handle sequence, int64_t first, int64_t last) {
  return with_sequence(sequence, [=](c::Sequence& x) { x.drop(first, last); });
}

heed_status heed_sequence_accept(heed_handle sequence, int64_t first, const int64_t* path,
                                 int64_t count) {
  return with_sequence(sequence, [=](c::Sequence& x) {
    if (count < 0 || (count > 0 && path == nullptr))
      throw ValueError("the path has ", count, " tokens and is ",
                       path == nullptr ? "null" : "given");
    if (count > x.state().next)
      throw ValueError("the path has ", count, " tokens, the sequence ", x.state().next);
    x.accept(first, path, count);
  });
}

heed_status heed_mark_open(heed_handle sequence, heed_handle* mark) {
  return with_sequence(sequence, [=](const c::Sequence& x) {
    result("mark", mark);
    *mark = Handles::all().add(Kind::mark, x.mark(), destroy<c::Mark>);
  });
}

heed_status heed_sequence_roll_back(heed_handle sequence, heed_handle mark) {
  return with_sequence(sequence, [=](c::Sequence& x) {
    x.roll_back(InUse("the mark", mark, Kind::mark, false).as<c::Mark>());
  });
}

heed_status heed_sequence_save(heed_handle sequence, const char* path) {
  return with_sequence(sequence, [=](const c::Sequence& x) { save_to(path, x); });
}

heed_status heed_sequence_load(heed_handle cache, const char* path, heed_handle* sequence) {
  return guarded([&] {
    result("sequence", sequence);
    const InUse of = cache_in_use(cache);
    *sequence = handle_of(load_from(path, of.as<c::Cache>()));
  });
}

}  // extern "C"
