// SPDX-License-Identifier: MIT
#include "attention.hpp"

#include "heed/core/error.hpp"
#include "members.hpp"
#include "pass.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/functions/basic_ops.h>
#include <utility>
#include <vector>

namespace heed_torch {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Itself, or a copy. Not by contiguous(), to which an empty tensor is so whatever its strides.
at::Tensor with_contiguous_rows(const at::Tensor& x) {
  return x.size(-1) <= 1 || x.stride(-1) == 1 ? x : x.clone(at::MemoryFormat::Contiguous);
}

/// The tensor as heed takes it; what is done to it autograd sees and undoes.
at::Tensor as_taken(const Member& member, const at::Tensor& x, at::ScalarType type) {
  const char* name = member.name;
  TORCH_CHECK(x.device().is_cpu(), "heed: ", name, " is on ", x.device(),
              ", heed runs on the CPU alone");
  TORCH_CHECK(x.layout() == at::kStrided, "heed: ", name, " is ", x.layout(), ", must be strided");
  switch (member.numbers) {
    case Numbers::real:
      TORCH_CHECK(x.scalar_type() == type, "heed: ", name, " is ", x.scalar_type(), ", q is ",
                  type);
      break;
    case Numbers::flags:
      TORCH_CHECK(x.scalar_type() == at::kBool || x.scalar_type() == at::kByte, "heed: ", name,
                  " is ", x.scalar_type(), ", must be Bool or Byte; a mask to add is a bias");
      break;
    case Numbers::integers:
      TORCH_CHECK(x.scalar_type() == at::kLong, "heed: ", name, " is ", x.scalar_type(),
                  ", must be Long");
      break;
  }
  TORCH_CHECK(member.broadcasts ? x.dim() <= member.rank : x.dim() == member.rank, "heed: ", name,
              " has ", x.dim(), " dimensions, must have ", member.rank);
  at::Tensor y = x.resolve_neg();
  while (y.dim() < member.rank) y = y.unsqueeze(0);
  return member.contiguous_rows ? with_contiguous_rows(y) : y;
}

Tensors as_taken(const Tensors& in) {
  TORCH_CHECK(in.q.defined() && in.k.defined() && in.v.defined(), "heed: q, k and v are wanted");
  const at::ScalarType type = in.q.scalar_type();
  TORCH_CHECK(type == at::kFloat || type == at::kDouble, "heed: q is ", type,
              ", must be Float or Double");
  Tensors taken;
  for (const Member& member : members)
    if (const at::Tensor& x = in.*member.tensor; x.defined())
      taken.*member.tensor = as_taken(member, x, type);
  return taken;
}

/// Room for a tensor of the same sizes, in the same memory order if that has contiguous rows.
at::Tensor room_like(const at::Tensor& x) {
  at::Tensor room = at::empty_like(x);
  if (x.size(-1) > 1 && room.stride(-1) != 1) room = at::empty(x.sizes(), x.options());
  return room;
}

/// [B, H, Nq, Dv] in the memory order of q: where q came from a transposition, so does this, and
/// the one that follows is free.
at::Tensor room_for_out(const Tensors& in) {
  const std::int64_t batch = in.q.size(0), heads = in.q.size(1), rows = in.q.size(2),
                     dim = in.v.size(3);
  if (in.q.stride(1) < in.q.stride(2))
    return at::empty({batch, rows, heads, dim}, in.q.options()).transpose(1, 2);
  return at::empty({batch, heads, rows, dim}, in.q.options());
}

/// heed's errors as PyTorch's.
template <class Run>
void checked(const at::Tensor& q, Run&& run) {
  try {
    if (q.scalar_type() == at::kFloat)
      run(float());
    else
      run(double());
  } catch (const heed::ShapeError& error) {
    TORCH_CHECK(false, "heed: ", error.what());
  } catch (const heed::ValueError& error) {
    TORCH_CHECK(false, "heed: ", error.what());
  }
}

/// What the backward pass is told beside the tensors.
struct Record : torch::CustomClassHolder {
  Settings settings;
  std::vector<const Member*> given;  ///< whose tensors those saved are, in order

  Record(const Settings& s, std::vector<const Member*> which)
      : settings(s), given(std::move(which)) {}
};

/// Identity; its derivative is an error.
variable_list once_differentiable(variable_list grads) {
  variable_list defined;
  for (const at::Tensor& x : grads)
    if (x.defined()) defined.push_back(x.detach().requires_grad_());
  const auto node = std::make_shared<torch::autograd::DelayedError>(
      "heed: attention is differentiable once", int(defined.size()));
  defined = (*node)(std::move(defined));
  auto next = defined.begin();
  for (at::Tensor& x : grads)
    if (x.defined()) x = *next++;
  return grads;
}

class Attention : public torch::autograd::Function<Attention> {
 public:
  /// @param given  the tensors of record->given.
  static variable_list forward(AutogradContext* context, const c10::intrusive_ptr<Record>& record,
                               at::TensorList given) {
    const Settings& settings = record->settings;
    Tensors in;
    for (std::size_t i = 0; i < given.size(); ++i) in.*record->given[i]->tensor = given[i];

    const auto room = [&](const at::Tensor& x, std::int64_t first, std::int64_t second) {
      return at::empty({first, second}, x.options());
    };
    Outputs written{.out = room_for_out(in),
                    .lse = at::empty({in.q.size(0), in.q.size(1), in.q.size(2)}, in.q.options()),
                    .carry_out = {},
                    .memory = {}};
    if (settings.returns_carry) written.carry_out = room(in.k, in.k.size(0), in.k.size(2));
    if (settings.returns_memory) written.memory = room(in.q, in.q.size(0), in.q.size(2));
    checked(in.q,
            [&](auto number) { heed_torch::forward<decltype(number)>(settings, in, written); });

    variable_list saved(given.begin(), given.end());
    saved.push_back(written.out);
    saved.push_back(written.lse);
    context->save_for_backward(saved);
    context->saved_data["record"] = c10::IValue::make_capsule(record);
    context->set_materialize_grads(false);
    context->mark_non_differentiable({written.lse});
    variable_list outputs;
    for (const OutputMember& member : output_members)
      if (const at::Tensor& x = written.*member.tensor; x.defined()) outputs.push_back(x);
    return outputs;
  }

  static variable_list backward(AutogradContext* context, variable_list grad_outputs) {
    const auto capsule = context->saved_data["record"].toCapsule();
    const auto& record = static_cast<const Record&>(*capsule);
    const Settings& settings = record.settings;
    const variable_list saved = context->get_saved_variables();
    Tensors in;
    for (std::size_t i = 0; i < record.given.size(); ++i)
      in.*record.given[i]->tensor = saved[i].detach();
    const Outputs written{.out = saved[record.given.size()],
                          .lse = saved[record.given.size() + 1],
                          .carry_out = {},
                          .memory = {}};

    Outputs received{.out = grad_outputs[0], .lse = {}, .carry_out = {}, .memory = {}};
    std::size_t next = 2;
    if (settings.returns_carry) received.carry_out = grad_outputs[next++];
    if (settings.returns_memory) received.memory = grad_outputs[next++];
    variable_list grads(1 + record.given.size());  // the first is that of the record: none
    if (!received.out.defined() && !received.carry_out.defined() && !received.memory.defined())
      return grads;
    // A gradient may be one number for all, its strides 0.
    received.out =
        received.out.defined() ? with_contiguous_rows(received.out) : at::zeros_like(written.out);

    // heed computes those of q, k and v together; the others it leaves out where they have no room.
    Tensors room;
    for (std::size_t i = 0; i < record.given.size(); ++i) {
      const Member& member = *record.given[i];
      const bool always = i < 3;
      if (member.numbers == Numbers::real && (always || context->needs_input_grad(i)))
        room.*member.tensor = room_like(in.*member.tensor);
    }
    checked(in.q, [&](auto number) {
      heed_torch::backward<decltype(number)>(settings, in, written, received, room);
    });
    for (std::size_t i = 0; i < record.given.size(); ++i)
      if (context->needs_input_grad(i)) grads[1 + i] = room.*record.given[i]->tensor;
    return at::GradMode::is_enabled() ? once_differentiable(std::move(grads)) : grads;
  }
};

}  // namespace

Outputs attention(Tensors in, const Settings& settings) {
  TORCH_CHECK(settings.selective ||
                  !(settings.returns_carry || settings.returns_memory || in.carry_in.defined() ||
                    in.select_q.defined() || in.select_k.defined()),
              "heed: carries, projections and the memory belong to selective attention");
  in = as_taken(in);
  std::vector<const Member*> given;
  variable_list tensors;
  for (const Member& member : members)
    if (const at::Tensor& x = in.*member.tensor; x.defined()) {
      given.push_back(&member);
      tensors.push_back(x);
    }
  const auto record = c10::make_intrusive<Record>(settings, std::move(given));
  const variable_list outputs = Attention::apply(record, at::TensorList(tensors));

  Outputs result{.out = outputs[0], .lse = outputs[1], .carry_out = {}, .memory = {}};
  std::size_t next = 2;
  if (settings.returns_carry) result.carry_out = outputs[next++];
  if (settings.returns_memory) result.memory = outputs[next++];
  return result;
}

}  // namespace heed_torch
