// SPDX-License-Identifier: MIT
/// @file
/// What every function of the C interface does: its kernels, its structs and its status.
#pragma once

#include "heed/c/handles.hpp"
#include "heed/c/tables.hpp"
#include "heed/c/task_runner.hpp"

#include <cstring>
#include <optional>

namespace heed::inline HEED_ABI::c_interface {

// ---- kernels

/// All tables are of one instruction set.
/// @throws Error if the processor runs none of the compiled kernels.
template <class Table>
const Table& kernels();

#ifdef HEED_C_KERNELS_APART  // set where heed_add_kernels() compiles the kernels

inline const Kernels<c::Common>& chosen() {
  static const Kernels<c::Common> kernels = [] {
    try {
      return dispatch<c::Common>();
    } catch (const ValueError& e) {
      throw Error(HEED_UNSUPPORTED, e.what());
    }
  }();
  return kernels;
}
inline const char* instruction_set() {
  return chosen().arch();
}
template <class Table>
const Table& kernels() {
  // Not dispatch(): it would read the environment again.
  static const Kernels<Table> same =
      detail::choose<Table>(arch::Compiled(), offered_level(), instruction_set());
  return *same;
}

#else

#define HEED_C_TEXT_OF(x) #x
#define HEED_C_TEXT(x) HEED_C_TEXT_OF(x)
inline const char* instruction_set() {
  return HEED_C_TEXT(HEED_ISA);
}
template <class Table>
const Table& kernels() {
  return c::native_table<Table>();
}

#endif

// ---- status

inline char* last_error() {
  static thread_local char text[sizeof(detail::Message)] = "";
  return text;
}

/// Runs a function of the interface; what it throws is its status.
template <class F>
heed_status guarded(const F& f) noexcept {
  try {
    f();
    return HEED_OK;
  } catch (...) {
    char* const text = last_error();
    constexpr std::size_t size = sizeof(detail::Message);
    const heed_status status = describe(text, size);
    // Exceptions of kernels are of other types, which their own function knows.
    if (status != HEED_INTERNAL_ERROR) return status;
    try {
      return kernels<c::Common>().describe(text, size);
    } catch (...) {
      return status;
    }
  }
}

// ---- structs

/// A struct of the caller, who may have been compiled with another version of it: shorter, or
/// longer, with zeros in what this library does not know.
/// @throws ValueError
template <class S>
S read(const char* name, const S* from) {
  S x{};
  x.size = sizeof(S);
  if (from == nullptr) return x;
  std::size_t size = 0;
  std::memcpy(&size, from, sizeof size);
  // A field that is added to a struct makes it longer than its first version.
  constexpr std::size_t first_version = sizeof(S), most = 1 << 16;
  if (size < first_version || size > most)
    throw ValueError(name, ".size is ", size, ", must be sizeof(", name, "), which is ", sizeof(S),
                     ": see its initializer");
  const char* const bytes = reinterpret_cast<const char*>(from);
  for (std::size_t i = sizeof(S); i < size; ++i)
    if (bytes[i] != 0)
      throw ValueError(name, ": the caller sets a field that this library, ", HEED_VERSION_MAJOR,
                       ".", HEED_VERSION_MINOR, ".", HEED_VERSION_PATCH, ", does not know");
  std::memcpy(&x, from, sizeof x);
  return x;
}

/// @throws ValueError if a pointer to a result is null.
template <class X>
X& result(const char* what, X* to) {
  if (to == nullptr) throw ValueError(what, " is null");
  return *to;
}

/// heed_run, with the handles that it names in use.
class RunInUse {
 public:
  explicit RunInUse(const heed_run* given) : work_(given == nullptr ? nullptr : given->work) {
    const heed_run x = read("heed_run", given);
    if (x.reserved != 0) throw ValueError("heed_run.reserved is ", x.reserved, ", not 0");
    if (x.threads != 0 && x.run_tasks != nullptr)
      throw ValueError("heed_run: threads and run_tasks are both given");
    constexpr std::int64_t most_workers = 1 << 20;
    if (x.run_tasks == nullptr ? x.workers != 0 : x.workers < 1 || x.workers > most_workers)
      throw ValueError("heed_run.workers is ", x.workers, ", run_tasks is ",
                       x.run_tasks == nullptr ? "null: must be 0, see heed_threads_open"
                                              : "given: must lie in 1 … 2^20");
    run_.negligible = x.negligible, run_.bfloat16 = x.bfloat16;
    if (x.threads != 0) {
      threads_ = InUse("heed_run.threads", x.threads, Kind::threads, false);
      use_threads();
    }
    if (x.run_tasks != nullptr) {
      runner_.emplace(x.run_tasks, x.pool, x.workers);
      run_.run_tasks = TaskRunner::run, run_.pool = &*runner_, run_.workers = x.workers;
    }
    if (x.workspace != 0) {
      workspace_ = InUse("heed_run.workspace", x.workspace, Kind::workspace, true);
      run_.workspace = workspace_.object();
    }
  }
  RunInUse(const RunInUse&) = delete;
  RunInUse& operator=(const RunInUse&) = delete;

  const c::Run& run() const { return run_; }
  bool has_workspace() const { return bool(workspace_); }
  /// @throws Error if the caller's function did not run each task once.
  void finish(const heed_work& work) const {
    if (work_ != nullptr) *work_ = work;
    if (runner_ && !runner_->was_obeyed())
      throw Error(HEED_BAD_EXECUTOR,
                  "heed_run.run_tasks did not run each task once, with a worker of its own, before "
                  "it returned; the calling thread ran the others");
  }

 private:
  void use_threads();

  c::Run run_{};
  heed_work* work_;
  std::optional<TaskRunner> runner_;
  InUse threads_, workspace_;
};

}  // namespace heed::inline HEED_ABI::c_interface
