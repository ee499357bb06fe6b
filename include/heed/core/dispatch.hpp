// SPDX-License-Identifier: MIT
/// @file
/// Kernels compiled for several instruction sets; the best is chosen at run time.
///
/// The caller and the kernels share a table of functions. Its members are references, because the
/// compiler then requires an initializer for each and checks its type:
///
///     // attend.hpp
///     #include <heed/core/dispatch.hpp>
///     struct Attend {
///       void (&selective)(const float* q, const float* k, const float* v, float* out, long
///       tokens);
///     };
///
/// The kernels' source, here attend.cpp, is compiled once for each instruction set. Its functions
/// must not be visible to other units, hence the unnamed namespace:
///
///     #include "attend.hpp"
///     #include <heed/heed.hpp>
///     namespace {
///     void selective(const float* q, …) { heed::selective_attention(…); }
///     }
///     HEED_KERNELS(Attend, selective);
///
/// The caller is compiled with the program's usual flags. It includes attend.hpp and no other heed
/// header:
///
///     const auto kernels = heed::dispatch<Attend>();
///     kernels->selective(q, …);
///
/// In CMake, heed_add_kernels(app SOURCES attend.cpp ARCHS x86-64 x86-64-v3) compiles the kernels.
/// By hand, compile attend.cpp with -march=x86-64-v3 -DHEED_KERNEL_ARCH=x86_64_v3, and so on for
/// each instruction set, and its callers with -DHEED_KERNEL_ARCHS=x86_64,x86_64_v3.
///
/// Pass only pointers and numbers across the table. A heed type is a different type for each
/// instruction set. An inline function that both sides use, such as one of std::vector, has one
/// name, and the linker may keep the body that older processors cannot run. Pass an object that
/// outlives a call, such as a KvBuffer, as a void* that kernels create, use and delete. Exceptions
/// may cross the table: catch them as std::exception.
#pragma once

#include "heed/core/error.hpp"
#include "heed/core/instruction_set.hpp"

#include <cstdlib>
#include <cstring>
#include <string>
#include <type_traits>

namespace heed::arch {

/// The table compiled for Arch; HEED_KERNELS defines it.
template <class Table, class Arch>
const Table& table_for();

#ifdef HEED_KERNEL_ARCHS
using Compiled = List<HEED_KERNEL_ARCHS>;
#else
using Compiled = void;
#endif

}  // namespace heed::arch

namespace heed::inline HEED_ABI {

/// The functions of a Table, and the instruction set they were compiled for. Cheap to copy.
template <class Table>
class Kernels {
 public:
  Kernels(const Table& table, const char* arch) : table_(&table), arch_(arch) {}
  const Table& operator*() const { return *table_; }
  const Table* operator->() const { return table_; }
  /// The name that heed_add_kernels was given, such as "x86-64-v3".
  const char* arch() const { return arch_; }

 private:
  const Table* table_;
  const char* arch_;
};

namespace detail {

/// The names separated by commas, for an error message.
template <class... Archs>
std::string names(arch::List<Archs...>) {
  std::string all;
  (all.append(all.empty() ? "" : ", ").append(Archs::name), ...);
  return all;
}

template <class... Archs>
const char* name_of_level(int level, arch::List<Archs...>) {
  const char* name = "none";
  (void)((Archs::level == level && (name = Archs::name, true)) || ...);
  return name;
}

/// The best of Archs up to the level `supported`, or exactly the one that `requested` names.
template <class Table, class... Archs>
Kernels<Table> choose(arch::List<Archs...> compiled, int supported, const char* requested) {
  struct Candidate {
    const char* name;
    int level;
    const Table& (*table)();
  };
  static constexpr Candidate candidates[] = {
      {Archs::name, Archs::level, arch::table_for<Table, Archs>}...};
  const Candidate* best = nullptr;
  for (const Candidate& candidate : candidates)
    if (requested ? std::strcmp(candidate.name, requested) == 0
                  : candidate.level <= supported && (!best || candidate.level > best->level))
      best = &candidate;
  const char* processor = name_of_level(supported, arch::Family());
  if (requested && !best)
    throw ValueError("HEED_ARCH is ", requested, ", the kernels are compiled for ",
                     names(compiled).c_str());
  if (!best)
    throw ValueError("the kernels are compiled for ", names(compiled).c_str(),
                     ", this processor offers ", processor);
  if (best->level > supported)
    throw ValueError("HEED_ARCH is ", requested, ", this processor offers ", processor);
  return {best->table(), best->name};
}

}  // namespace detail

/// The best kernels that this processor can run, of those compiled for the calling target.
///
/// For tests, the environment variable HEED_ARCH selects the kernels: HEED_ARCH=x86-64-v3. Every
/// call reads it: keep the result.
///
/// @throws ValueError if the processor can run none of them, or not the one that HEED_ARCH names.
template <class Table, class Archs = arch::Compiled>
Kernels<Table> dispatch() {
  static_assert(!std::is_void_v<Archs>,
                "heed: heed::dispatch is called in a target without heed_add_kernels");
  const char* requested = std::getenv("HEED_ARCH");
  return detail::choose<Table>(Archs(), offered_level(),
                               requested && *requested ? requested : nullptr);
}

}  // namespace heed::inline HEED_ABI

#define HEED_KERNELS_PASTE(a, b) a##b
#define HEED_KERNELS_JOIN(a, b) HEED_KERNELS_PASTE(a, b)

/// HEED_KERNELS(Table, functions…); once for each Table, outside of any namespace. Defines the
/// members of Table for the instruction set that this unit is compiled for. The macro looks the
/// functions up outside of namespace heed, where `selective` has another meaning.
#ifdef HEED_KERNEL_ARCH
#define HEED_KERNELS(Table, ...)                                                           \
  static_assert(heed::arch::HEED_KERNEL_ARCH::level == heed::compiled_level,               \
                "heed: the flags of this kernel are not those of its instruction set: do " \
                "CMAKE_CXX_FLAGS hold an -m option?");                                     \
  static constexpr Table HEED_KERNELS_JOIN(heed_kernels_, __LINE__){__VA_ARGS__};          \
  template <>                                                                              \
  const Table& heed::arch::table_for<Table, heed::arch::HEED_KERNEL_ARCH>() {              \
    return HEED_KERNELS_JOIN(heed_kernels_, __LINE__);                                     \
  }                                                                                        \
  static_assert(true)
#else
#define HEED_KERNELS(Table, ...)                                              \
  static_assert(false,                                                        \
                "heed: a source of kernels is compiled by heed_add_kernels, " \
                "and is none of the target's other sources")
#endif
