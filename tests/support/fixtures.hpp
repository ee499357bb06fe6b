// SPDX-License-Identifier: MIT
/// @file
/// Reads the golden cases in tests/fixtures: `manifest.tsv` lists, for every case, its
/// parameters and its arrays; the numbers stand in <case>.bin, row-major, little-endian.
#pragma once

#include "reference/array.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#ifndef HEED_FIXTURES
#error "HEED_FIXTURES must name the folder of fixtures, as a string"
#endif

namespace heed::test {

/// One case: what went in and what must come out.
class Fixture {
 public:
  std::string name;

  bool has(const std::string& array) const { return arrays_.count(array) > 0; }

  /// Any of its arrays, whatever the stored type, in double.
  const reference::Array& array(const std::string& array) const {
    const auto found = arrays_.find(array);
    if (found == arrays_.end()) throw std::out_of_range(name + " has no array " + array);
    return found->second;
  }

  bool has_parameter(const std::string& key) const { return parameters_.count(key) > 0; }

  std::string text(const std::string& key) const {
    const auto found = parameters_.find(key);
    if (found == parameters_.end()) throw std::out_of_range(name + " has no parameter " + key);
    return found->second;
  }
  double number(const std::string& key) const { return std::stod(text(key)); }

 private:
  std::map<std::string, std::string> parameters_;
  std::map<std::string, reference::Array> arrays_;

  friend const std::vector<Fixture>& fixtures();
};

namespace detail {

template <class Stored>
void read_numbers(std::ifstream& file, reference::Array& into) {
  static_assert(std::endian::native == std::endian::little, "fixtures are little-endian");
  std::vector<Stored> raw(into.values.size());
  file.read(reinterpret_cast<char*>(raw.data()), std::streamsize(raw.size() * sizeof(Stored)));
  for (std::size_t i = 0; i < raw.size(); ++i) into.values[i] = static_cast<double>(raw[i]);
}

inline reference::Array read_array(std::istringstream& line) {
  std::string role, type, path;
  std::streamoff offset = 0;
  std::size_t rank = 0;
  line >> role >> type >> path >> offset >> rank;
  std::vector<reference::Index> dims(rank);
  for (reference::Index& size : dims) line >> size;
  reference::Array array(dims);

  std::ifstream file(std::string(HEED_FIXTURES "/") + path, std::ios::binary);
  file.seekg(offset);
  if (type == "float32")
    read_numbers<float>(file, array);
  else if (type == "float64")
    read_numbers<double>(file, array);
  else if (type == "int32")
    read_numbers<std::int32_t>(file, array);
  else if (type == "uint8")
    read_numbers<std::uint8_t>(file, array);
  else
    throw std::runtime_error(path + ": unknown type " + type);
  if (!file) throw std::runtime_error(path + " is shorter than the manifest says");
  return array;
}

}  // namespace detail

/// All of them, read once.
inline const std::vector<Fixture>& fixtures() {
  static const std::vector<Fixture> all = [] {
    std::ifstream manifest(HEED_FIXTURES "/manifest.tsv");
    if (!manifest) throw std::runtime_error("no manifest.tsv in " HEED_FIXTURES);
    std::vector<Fixture> cases;
    for (std::string text; std::getline(manifest, text);) {
      std::istringstream line(text);
      std::string what, name;
      line >> what >> name;
      if (what == "case") {
        cases.emplace_back();
        cases.back().name = name;
      } else if (what == "param") {
        line >> cases.back().parameters_[name];
      } else if (what == "array") {
        cases.back().arrays_[name] = detail::read_array(line);
      }
    }
    return cases;
  }();
  return all;
}

inline const Fixture& fixture(std::string_view name) {
  for (const Fixture& f : fixtures())
    if (f.name == name) return f;
  throw std::out_of_range("no fixture " + std::string(name));
}

/// Those of one kind: standard, selective, selective_chunk, prune, prune_lazy, memory_loss, ssa.
inline std::vector<std::string> fixtures_of_kind(const std::string& kind) {
  std::vector<std::string> names;
  for (const Fixture& f : fixtures())
    if (f.text("kind") == kind) names.push_back(f.name);
  return names;
}

}  // namespace heed::test
