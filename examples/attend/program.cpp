// SPDX-License-Identifier: MIT
#include "attend/program.hpp"

#include "attend/output_files.hpp"
#include "attend/report.hpp"
#include "attend/request.hpp"
#include "attend/run.hpp"

#include <new>
#include <ostream>

namespace attend {
namespace {

template <class T>
void serve(const Request& request, Inputs inputs, std::ostream& out) {
  convert<T>(inputs);
  const Result result = run<T>(request, inputs);
  OutputFiles files;
  const auto add = [&](const Path& path, const std::optional<npy::Array>& array) {
    if (!path.empty()) files.add(path, array.value());
  };
  add(request.out, result.out);
  add(request.lse, result.lse);
  add(request.carry_out, result.carry_out);
  add(request.evict_row, result.evict_row);
  add(request.mask_f, result.mask_f);
  files.commit();
  if (request.stats) report<T>(out, request, result);
}

void serve(const Request& request, std::ostream& out) {
  for (const Path* path :
       {&request.out, &request.lse, &request.carry_out, &request.evict_row, &request.mask_f})
    if (!path->empty()) OutputFiles::check(*path);
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
    return 0;
  } catch (const std::bad_alloc&) {
    return fail("not enough memory for these tensors");
  } catch (const std::exception& error) {
    return fail(error.what());
  }
}

}  // namespace attend
