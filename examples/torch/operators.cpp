// SPDX-License-Identifier: MIT
// The operators torch.ops.heed.*. One kernel serves them all: it finds its arguments by the names
// in the operator's schema.
#include "members.hpp"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <torch/library.h>

namespace heed_torch {
namespace {

/// What a call was given, by name; what the schema does not know, or None, is absent.
class Arguments {
 public:
  Arguments(const c10::FunctionSchema& schema, const torch::jit::Stack& stack)
      : schema_(schema), values_(stack.data() + stack.size() - schema.arguments().size()) {}

  bool given(const char* name) const { return find(name) != nullptr; }
  at::Tensor tensor(const char* name) const {
    return given(name) ? find(name)->toTensor() : at::Tensor();
  }
  void read(const char* name, bool& to) const {
    if (given(name)) to = find(name)->toBool();
  }
  void read(const char* name, double& to) const {
    if (given(name)) to = find(name)->toDouble();
  }
  void read(const char* name, std::int64_t& to) const {
    if (given(name)) to = find(name)->toInt();
  }
  template <class T>
  void read(const char* name, std::optional<T>& to) const {
    if (given(name)) read(name, to.emplace());
  }

 private:
  const c10::IValue* find(const char* name) const {
    const auto at = schema_.argumentIndexWithName(name);
    return at && !values_[*at].isNone() ? &values_[*at] : nullptr;
  }

  const c10::FunctionSchema& schema_;
  const c10::IValue* values_;
};

/// The next number of PyTorch's generator, that of torch.manual_seed.
std::uint64_t random_seed() {
  at::Generator generator = at::detail::getDefaultCPUGenerator();
  const std::lock_guard lock(generator.mutex());
  return at::check_generator<at::CPUGeneratorImpl>(generator)->random64();
}

Settings settings_of(const Arguments& arguments) {
  Settings s;
  arguments.read("causal", s.causal);
  arguments.read("query_offset", s.query_offset);
  arguments.read("window_left", s.window_left);
  arguments.read("window_right", s.window_right);
  arguments.read("block_size", s.block_size);
  arguments.read("previous_blocks", s.previous_blocks);
  arguments.read("scale", s.scale);
  arguments.read("softcap", s.softcap);
  arguments.read("dropout", s.dropout);
  std::optional<std::int64_t> seed;
  arguments.read("dropout_seed", seed);
  if (s.dropout != 0) s.dropout_seed = seed ? std::uint64_t(*seed) : random_seed();
  s.selective = arguments.given("select_head");
  std::int64_t head = 0;
  arguments.read("select_head", head);
  s.select.head = head;
  arguments.read("relu", s.select.relu);
  arguments.read("protect_first", s.select.protect_first);
  arguments.read("forbid_self", s.select.forbid_self);
  arguments.read("accumulate", s.select.accumulate);
  arguments.read("shift", s.select.shift);
  arguments.read("memory_tau", s.memory_tau);
  return s;
}

void call(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const c10::FunctionSchema& schema = op.schema();
  const Arguments arguments(schema, *stack);
  Settings settings = settings_of(arguments);
  for (const c10::Argument& returned : schema.returns()) {
    settings.returns_carry |= returned.name() == "carry_out";
    settings.returns_memory |= returned.name() == "memory";
  }
  Tensors in;
  for (const Member& member : members) in.*member.tensor = arguments.tensor(member.name);

  const Outputs outputs = attention(in, settings);
  torch::jit::drop(*stack, schema.arguments().size());
  for (const c10::Argument& returned : schema.returns())
    for (const OutputMember& member : output_members)
      if (returned.name() == member.name) torch::jit::push(*stack, outputs.*member.tensor);
}

std::string common(const char* causal, const char* temperatures) {
  return std::string("bool causal=") + causal +
         ", int? query_offset=None, float? scale=None, float? softcap=None, Tensor? bias=None, "
         "Tensor? alibi_slopes=None, Tensor? mask=None, int? window_left=None, "
         "int? window_right=None, int? block_size=None, int previous_blocks=0, "
         "Tensor? prefix=None, Tensor? documents=None, Tensor? lengths=None, "
         "Tensor? evict_row=None, Tensor? sinks=None, float dropout=0., int? dropout_seed=None" +
         temperatures;
}

}  // namespace
}  // namespace heed_torch

TORCH_LIBRARY(heed, library) {
  using namespace heed_torch;
  const std::string tau = ", Tensor? tau_q=None, Tensor? tau_k=None, Tensor? tau_v=None",
                    plain = common("False", tau.c_str()), causal = common("True", tau.c_str()),
                    select =
                        ", int select_head=0, bool relu=True, bool protect_first=True, "
                        "bool forbid_self=True, bool accumulate=True, bool shift=True, "
                        "Tensor? carry_in=None, Tensor? select_q=None, Tensor? select_k=None",
                    memory = ", float memory_tau=1.", qkv = "(Tensor q, Tensor k, Tensor v, ";
  const auto define = [&](const std::string& schema) {
    library.def(schema.c_str(), torch::CppFunction::makeFromBoxedFunction<&call>());
  };
  define("attention" + qkv + "*, " + plain + ") -> (Tensor out)");
  define("attention_with_lse" + qkv + "*, " + plain + ") -> (Tensor out, Tensor lse)");
  // Of the temperatures those of queries and values, the pair the paper recommends, come first.
  define("ssa_attention" + qkv + "Tensor tau_q, Tensor tau_v, *, Tensor? tau_k=None, " +
         common("True", "") + ") -> (Tensor out)");
  define("selective_attention" + qkv + "*, " + causal + select + ") -> (Tensor out)");
  define("selective_attention_with_state" + qkv + "*, " + causal + select + memory +
         ") -> (Tensor out, Tensor lse, Tensor carry_out, Tensor memory)");
}
