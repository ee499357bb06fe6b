// SPDX-License-Identifier: MIT
/// @file
/// Sequences in files: save() and load().
///
/// A file holds one sequence of one layer. It depends neither on the register width nor on the page
/// size nor on the slots that the tokens were in: equal sequences give equal files. Numbers are
/// little-endian, one after the other without padding. Signed numbers are two's complement.
///
/// | offset | type        | header, 200 or 228 bytes                                              |
/// |--------|-------------|-----------------------------------------------------------------------|
/// |      0 | 8 letters   | "heed KV\n"                                                           |
/// |      8 | u32         | 0x01020304, to recognise a file with bytes in another order           |
/// |     12 | u32         | version of the format: 2 where the cache turns keys, else 1           |
/// |     16 | 16 letters  | T, the type of the arithmetic: "float32", "float64"; rest: zeros      |
/// |     32 | 16 letters  | S, the type of keys and values: Codec::name                           |
/// |     48 | 64 letters  | name of the eviction rule                                             |
/// |    112 | f64         | its weights_kept                                                      |
/// |    120 | 4 × i64     | query heads, key heads, dim, value_dim                                |
/// |    152 | i64         | SelectOptions::head; 0 without selection                              |
/// |    160 | u32         | bits: 0 selects, 1 relu, 2 protect_first, 3 forbid_self,              |
/// |        |             | 4 accumulate, 5 shift; others 0, all 0 without selection              |
/// |    164 | u32         | Evidence of the rule: 0 age, 1 votes, 2 weights                       |
/// |    168 | i64         | parts: sets of key heads that hold the same tokens                    |
/// |    176 | i64         | position of the next token                                            |
/// |    184 | i64         | budget of the sequence; −1: none                                      |
/// |    192 | i64         | version 2: numbers of a key that the cache turns, see KvRotary        |
/// |    200 | u32         | version 2: pairs, 0 interleaved, 1 half_split                         |
/// |    204 | f64         | version 2: attention factor                                           |
/// |    212 | u64         | version 2: FNV-1a of the frequencies as f64                           |
/// |    192 | u64         | FNV-1a (64 bits) of all bytes before; in version 2 at 220             |
///
/// | type    | for each part                                                                      |
/// |---------|------------------------------------------------------------------------------------|
/// | i64     | count, the number of tokens                                                        |
/// | f64     | bound on a row's weight lost to evictions by score_bound, see KvSequence::dropped  |
///
/// | type         | for each token of the part, by position                                       |
/// |--------------|-------------------------------------------------------------------------------|
/// | i64          | position                                                                      |
/// | T            | −F of the next row, in log2 units, if there is selection                      |
/// | T            | weights received, if the rule decides by weights                              |
/// | u8           | bit 0: a key holds NaN or infinity; others 0                                  |
///
/// | type         | for each key head of the part, still of the same token                        |
/// |--------------|-------------------------------------------------------------------------------|
/// | units of S   | the key; scales of type T, if S has them                                      |
/// | units of S   | the value; scales of type T, if S has them                                    |
///
/// The end is the FNV-1a of all bytes before, with those of the first one.
#pragma once

#include "heed/kv/kv_cache.hpp"
#include "heed/kv/kv_file_header.hpp"

namespace heed::inline HEED_ABI {
namespace detail {

/// Reads and writes sequences.
template <class T, StorageOf<T> S>
struct KvFile {
  using Config = KvConfig<T, S>;
  using Slots = KvSlots<T>;
  using Codec = simd::Codec<S>;

  static void save(std::ostream& to, const KvSequence<T, S>& sequence) {
    const Config& config = sequence.config();
    KvFileHeader header = header_of(config);
    header.next = sequence.next_, header.budget = sequence.budget_.value_or(-1);
    Vector<Vector<Index>> orders;  // what needs memory comes first
    for (const Slots& s : sequence.parts_) orders.push_back(slots_by_position(s));
    FileWriter file(to);
    header.begin(file), header.rest(file);
    for (std::size_t p = 0; p < orders.size(); ++p) {
      const Slots& s = sequence.parts_[p];
      file.number(std::int64_t(s.count)), file.number(s.dropped);
      for (const Index slot : orders[p]) {
        std::int64_t position = s.position[std::size_t(slot)];
        std::uint8_t marks = s.marks[std::size_t(slot)] & Slots::bad_key;
        token(file, s, config, slot, position, marks);
      }
    }
    file.sum();
  }

  static KvSequence<T, S> load(std::istream& from, const KvCache<T, S>& cache) {
    KvSequence<T, S> sequence = cache.open();
    const Config& config = sequence.config();
    FileReader file(from);
    const KvFileHeader header = header_in(file);
    check(header, config);
    sequence.next_ = Index(header.next);
    sequence.budget_ = header.budget < 0 ? std::nullopt : std::optional(Index(header.budget));
    const bool shared = config.options.heads == KvHeads::shared;
    Index room = header.budget < 0 ? product_of(Index(header.next), config.parts())
                                   : product_of(Index(header.budget), shared ? config.parts() : 1);
    for (Slots& s : sequence.parts_) {
      read_part(file, s, config, header, room);
      if (shared) room -= s.count;
    }
    file.sum();
    return sequence;
  }

 private:
  static KvFileHeader header_of(const Config& config) {
    const EvictionRule& rule = config.options.evict;
    KvFileHeader h;
    std::memcpy(h.magic, h.right_magic, sizeof h.magic);
    set_text(h.arithmetic, simd::Codec<T>::name), set_text(h.storage, Codec::name);
    set_text(h.rule, rule.name());
    h.weights_kept = rule.weights_kept(), h.evidence = std::uint32_t(rule.evidence());
    const KvShape& shape = config.shape;
    h.heads = shape.heads, h.key_heads = shape.key_heads;
    h.dim = shape.dim, h.value_dim = shape.value_dim, h.parts = config.parts();
    h.set_selection(config.options.select);
    h.set_turning(config.options.rotary);
    return h;
  }
  static KvFileHeader header_in(FileReader& file) {
    KvFileHeader h;
    h.begin(file);
    if (std::memcmp(h.magic, h.right_magic, sizeof h.magic) != 0)
      throw FileError("the file is none of a KvSequence: it does not begin with \"heed KV\"");
    if (h.order != h.right_order)
      throw FileError("the bytes of the file are in another order: its mark is ", h.order,
                      ", must be ", h.right_order);
    if (h.version < 1 || h.version > h.last_version)
      throw FileError("the file is of version ", h.version, ", this library reads versions 1 … ",
                      h.last_version);
    h.rest(file);
    check_text(h.arithmetic), check_text(h.storage), check_text(h.rule);
    return h;
  }

  /// Does the file hold what the cache can continue?
  static void check(const KvFileHeader& h, const Config& config) {
    const KvFileHeader own = header_of(config);
    if (std::strcmp(h.arithmetic, own.arithmetic) != 0 || std::strcmp(h.storage, own.storage) != 0)
      throw FileError("the file holds a sequence of ", h.arithmetic, " stored as ", h.storage,
                      ", the cache is of ", own.arithmetic, " stored as ", own.storage);
    check_turning(h.turning, own.turning);
    KvOptions made = config.options;
    made.select = h.selection();
    check_move({1, h.size("heads", h.heads), h.size("key_heads", h.key_heads), h.size("dim", h.dim),
                h.size("value_dim", h.value_dim)},
               made, config.shape, config.options, 0);
    if (std::strcmp(h.rule, own.rule) != 0 || h.evidence != own.evidence ||
        h.weights_kept != own.weights_kept)
      throw ValueError("the sequence of the file evicts by ", h.rule, " (evidence ", h.evidence,
                       ", weights_kept ", h.weights_kept, "), the cache by ", own.rule, " (",
                       own.evidence, ", ", own.weights_kept, ")");
    if (h.parts != own.parts)
      throw FileError("the file has ", h.parts,
                      " sets of key heads that hold different tokens, "
                      "the cache ",
                      own.parts);
    h.size("next", h.next);
    if (h.budget == -1) return;
    // The step would find no token to evict.
    KvOptions with = config.options;
    with.budget = h.size("budget", h.budget);
    detail::check(with, config.shape.heads);
  }

  /// @param room  the most tokens that the part may hold by the budget.
  static void read_part(FileReader& file, Slots& s, const Config& config, const KvFileHeader& h,
                        Index room) {
    std::int64_t count = 0, last = -1;
    file.number(count), file.number(s.dropped);
    if (count < 0 || count > h.next || count > room)
      throw FileError("the file says that ", count, " of ", h.next,
                      " tokens are held, the budget is ", h.budget);
    if (!simd::is_finite(&s.dropped) || s.dropped < 0)
      throw FileError("the file says that weights of ", s.dropped, " were dropped");
    for (Index slot = 0; slot < Index(count); ++slot) {
      file.fetch(token_bytes(config));  // before memory is taken: the count may be a lie
      if (slot == s.capacity()) add_page(s, config, Index(count));
      std::int64_t position = 0;
      std::uint8_t marks = 0;
      token(file, s, config, slot, position, marks);
      if (position <= last || position >= h.next)
        throw FileError("the file has the token of position ", position, " behind that of ", last,
                        ", the next one is ", h.next);
      if ((marks & ~Slots::bad_key) != 0)
        throw FileError("the file marks a token with ", marks, ", must be 0 or 1");
      last = position;
      if (position == 0) s.first = slot;
      s.position[std::size_t(slot)] = Index(position);
      if (config.options.rotary) s.inside[std::size_t(slot)] = slot;
      mark_token(s, config, slot, marks);
      ++s.slots, ++s.count;
    }
  }
  /// Makes room for a page of tokens more, of `count` in all.
  static void add_page(Slots& s, const Config& config, Index count) {
    const Index page = config.pool.page(), capacity = s.capacity() + page,
                room = Index(s.position.capacity());
    if (capacity > room)
      reserve_slots(s, config, std::min(round_up(count, page), std::max(capacity, 2 * room)));
    ReservedPages reserved(config.pool.pages(), config.part_heads());
    add_pages(s, config, capacity, reserved.list());
  }

  /// Reads or writes a token.
  template <class File, class SlotsOf>
  static void token(File& file, SlotsOf& s, const Config& config, Index slot,
                    std::int64_t& position, std::uint8_t& marks) {
    const auto numbers = [&](auto* x, Index count, Index step) {
      for (Index i = 0; i < count; ++i) file.number(x[i * step]);
    };
    constexpr Index beside = KvPool<T, S>::slot_multiple;
    const auto& layout = config.layout();
    file.number(position);
    if (config.options.select) file.number(s.carry[std::size_t(slot)]);
    if (config.options.evict.uses_weights()) file.number(s.received_weight[std::size_t(slot)]);
    file.number(marks);
    for (Index head = 0; head < config.part_heads(); ++head) {
      const SlotPlace<T, S> at(config, head, slot);
      const Page& page = s.pages[std::size_t(at.page)];
      S* const value = layout.value_of(page, at.slot);
      T* const scale = layout.value_scale_of(page, at.slot);
      numbers(layout.key_of(page, at.slot), simd::units<S>(layout.dim), beside);
      numbers(layout.key_scale_of(page, at.slot), simd::scales<S>(layout.dim), beside);
      numbers(value, simd::units<S>(layout.value_dim), 1);
      numbers(scale, simd::scales<S>(layout.value_dim), 1);
      if constexpr (!std::is_const_v<SlotsOf>)
        s.finite[std::size_t(at.page)] &= Codec::finite(value, layout.value_dim, scale);
    }
  }
  static std::size_t token_bytes(const Config& config) {
    const auto& x = config.layout();
    const Index units = simd::units<S>(x.dim) + simd::units<S>(x.value_dim),
                scales = simd::scales<S>(x.dim) + simd::scales<S>(x.value_dim),
                state = Index(config.options.select.has_value()) +
                        Index(config.options.evict.uses_weights());
    return sizeof(std::int64_t) + sizeof(std::uint8_t) + std::size_t(state) * sizeof(T) +
           std::size_t(config.part_heads()) *
               (std::size_t(units) * sizeof(S) + std::size_t(scales) * sizeof(T));
  }
};

}  // namespace detail

/// Writes a sequence to a stream, which should be binary. Others may follow in the same stream.
/// Takes one to three nanoseconds a byte, half of them for the checksum, and 8 bytes of memory for
/// each token.
/// @throws ValueError if the sequence is closed or the name of its rule is longer than 63 letters,
///     std::bad_alloc: nothing is written then; FileError if the stream does not take all.
template <class T, StorageOf<T> S>
void save(std::ostream& to, const KvSequence<T, S>& sequence) {
  detail::KvFile<T, S>::save(to, sequence);
}

/// Reads a sequence that save() wrote, to continue it in this cache: with the same evictions as the
/// one that was saved, and the same outputs up to rounding, since the tokens are in other slots. It
/// has the budget of the saved one, see KvCache::set_budget(). Shape and `select` must be those of
/// the cache, as in KvCache::open(from), and so must the rule; its parameters, `recent`, `protect`,
/// `when` and `chunk` are the cache's. On success the stream is just behind the sequence.
///
/// A file may come from anywhere: it is checked throughout, and memory is taken no faster than
/// bytes are read. The checksum is against accidents; it does not show where the file is from.
///
/// @throws FileError if the file is truncated, damaged, of another version or of other types, or if
///     it contradicts itself; ShapeError or ValueError if the cache has another shape, selection or
///     rule, naming both sides; OutOfPages, std::bad_alloc. No page is held then, and where the
///     stream is, is unspecified.
template <class T, StorageOf<T> S>
KvSequence<T, S> load(std::istream& from, const KvCache<T, S>& cache) {
  return detail::KvFile<T, S>::load(from, cache);
}

}  // namespace heed::inline HEED_ABI
