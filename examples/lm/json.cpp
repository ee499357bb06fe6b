// SPDX-License-Identifier: MIT
#include "lm/json.hpp"

#include <cstdint>
#include <utility>
#include <vector>

namespace lm {
namespace {

/// Puts together what the parser comes across. The library's own way to watch it do so, a callback,
/// goes through all members of the object around an object at each end of one: n² for n tensors.
class Builder : public nlohmann::json_sax<Json> {
 public:
  explicit Builder(std::size_t deepest) : deepest_(deepest) {}

  Json take() { return std::move(whole_); }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(std::int64_t value) override { return add(value); }
  bool number_unsigned(std::uint64_t value) override { return add(value); }
  bool number_float(double value, const std::string&) override { return add(value); }
  bool string(std::string& value) override { return add(std::move(value)); }
  bool binary(Json::binary_t&) override { return false; }  // JSON has none
  bool start_object(std::size_t) override { return open(Json::object()); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(std::string& name) override {
    auto& members = open_.back()->get_ref<Json::object_t&>();
    const auto [member, fresh] = members.emplace(name, nullptr);
    if (!fresh) throw JsonError("has " + shown(name) + " twice");
    member_ = &member->second;
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override {
    return false;
  }

 private:
  /// Where the next value goes: to the member whose name came, to an array's end, or it is all.
  Json& place() {
    if (open_.empty()) return whole_;
    if (!open_.back()->is_array()) return *member_;
    return open_.back()->get_ref<Json::array_t&>().emplace_back();
  }
  bool add(Json value) {
    place() = std::move(value);
    return true;
  }
  bool open(Json empty) {
    if (open_.size() == deepest_) throw JsonError("is nested too deep");
    Json& container = place();
    container = std::move(empty);
    open_.push_back(&container);
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  std::size_t deepest_;
  Json whole_;
  std::vector<Json*> open_;  ///< An array does not grow while one of its elements is open.
  Json* member_ = nullptr;
};

}  // namespace

Json parse_json(std::string_view text, std::size_t deepest) {
  Builder builder(deepest);
  if (text.find('\0') != text.npos || !Json::sax_parse(text, &builder))
    throw JsonError("is no JSON");
  return builder.take();
}

std::string shown(std::string_view text) {
  std::string line = "'";
  for (const char c : text.substr(0, 64)) line += c >= ' ' && c <= '~' ? c : '?';
  return line + (text.size() > 64 ? "…'" : "'");
}

}  // namespace lm
