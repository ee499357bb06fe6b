// SPDX-License-Identifier: MIT
#include "attend/program.hpp"

#include "attend/report.hpp"
#include "attend/request.hpp"
#include "attend/run.hpp"
#include "programs/output.hpp"
#include "programs/output_files.hpp"

#include <new>
#include <ostream>

namespace attend {
namespace {

/// Where each output is asked for, and where it comes out.
constexpr struct {
  Path Request::*path;
  std::optional<npy::Array> Result::*array;
} outputs[] = {
    {&Request::out, &Result::out},
    {&Request::lse, &Result::lse},
    {&Request::carry_out, &Result::carry_out},
    {&Request::evict_row, &Result::evict_row},
    {&Request::mask_f, &Result::mask_f},
    {&Request::grad_q, &Result::grad_q},
    {&Request::grad_k, &Result::grad_k},
    {&Request::grad_v, &Result::grad_v},
    {&Request::grad_tau_q, &Result::grad_tau_q},
    {&Request::grad_tau_k, &Result::grad_tau_k},
    {&Request::grad_tau_v, &Result::grad_tau_v},
    {&Request::grad_bias, &Result::grad_bias},
    {&Request::grad_carry, &Result::grad_carry},
};

constexpr Path Request::*inputs_of[] = {
    &Request::q,       &Request::k,     &Request::v,        &Request::tau_q,
    &Request::tau_k,   &Request::tau_v, &Request::bias,     &Request::mask,
    &Request::lengths, &Request::sinks, &Request::carry_in, &Request::grad_out,
};

/// An output may not take the place of an input, but for F, which goes from chunk to chunk.
void check_is_no_input(const Request& request, Path Request::*output) {
  for (Path Request::*input : inputs_of) {
    if (output == &Request::carry_out && input == &Request::carry_in) continue;
    std::error_code absent;
    const Path& path = request.*output;
    if (!(request.*input).empty() && std::filesystem::equivalent(request.*input, path, absent))
      throw npy::Error(path.string() + ": it is an input as well as an output");
  }
}

template <class T>
void serve(const Request& request, Inputs inputs, std::ostream& out) {
  convert<T>(inputs);
  const Result result = run<T>(request, inputs);
  programs::OutputFiles files;
  for (const auto& output : outputs)
    if (!(request.*output.path).empty())
      files.add(request.*output.path,
                [&](std::ostream& stream) { npy::write(stream, (result.*output.array).value()); });
  if (request.stats) report<T>(out, request, result);
  programs::flush(out);  // files appear only if all went well
  files.commit();
}

void serve(const Request& request, std::ostream& out) {
  for (const auto& output : outputs)
    if (const Path& path = request.*output.path; !path.empty()) {
      programs::OutputFiles::check(path);
      check_is_no_input(request, output.path);
    }
  Inputs inputs = read_inputs(request);
  if (computes_in_double(request, inputs))
    serve<double>(request, std::move(inputs), out);
  else
    serve<float>(request, std::move(inputs), out);
}

}  // namespace

int program(int argc, const char* const* argv, std::ostream& out, std::ostream& err) {
  const auto fail = [&](const char* reason) {
    err << "attend: " << reason << std::endl;
    return 2;
  };
  try {
    if (const std::optional<Request> request = parse(argc, argv, out)) serve(*request, out);
    programs::flush(out);
    return 0;
  } catch (const std::bad_alloc&) {
    return fail("not enough memory for these tensors");
  } catch (const std::exception& error) {
    return fail(error.what());
  }
}

}  // namespace attend
