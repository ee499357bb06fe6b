// SPDX-License-Identifier: MIT
// The oracle against the golden cases, to rounding: what the other tests lean on.

#include "reference/attention.hpp"
#include "reference/masks.hpp"
#include "reference/memory_loss.hpp"
#include "reference/pruning.hpp"
#include "reference/selective.hpp"
#include "reference/temperature.hpp"
#include "support/golden.hpp"

namespace heed::test {
namespace {

using reference::Array;

using Reference = GoldenCase;

TEST(ReferenceFixtures, AreThirtyFive) {
  EXPECT_EQ(fixtures().size(), 35u);
  for (const Fixture& f : fixtures()) {
    const std::string kind = f.text("kind");
    EXPECT_TRUE(kind == "standard" || kind == "selective" || kind == "selective_chunk" ||
                kind == "prune" || kind == "prune_lazy" || kind == "memory_loss" || kind == "ssa")
        << f.name << " is of kind " << kind << ", which no test reads";
  }
}

using StandardReference = Reference;
INSTANTIATE_TEST_SUITE_P(Fixtures, StandardReference,
                         testing::ValuesIn(fixtures_of_kind("standard")), name_of);

TEST_P(StandardReference, GivesTheGoldenOutput) {
  reference::Rules rules;
  if (f.number("causal") != 0) rules.visible = reference::causal();
  if (f.has("mask"))
    rules.visible = rules.visible && reference::boolean_mask(as_rank_4(f.array("mask")));
  const reference::Attention a =
      reference::attention(f.array("q"), f.array("k"), f.array("v"), rules);
  expect(a.out, "out");
  expect(a.lse, "lse");
}

using MaskReference = Reference;
INSTANTIATE_TEST_SUITE_P(Fixtures, MaskReference,
                         testing::Values("mas_block5", "mas_block5_prev1", "mas_window4"), name_of);

TEST_P(MaskReference, TheNamedMaskIsTheGoldenMask) {
  const reference::Visible named =
      reference::causal() &&
      (f.has_parameter("block")
           ? reference::block_span(reference::Index(f.number("block")),
                                   reference::Index(f.number("prev_blocks")))
           : reference::window(reference::Index(f.number("window")), reference::unbounded));
  const Array& mask = f.array("mask");
  for (reference::Index i = 0; i < mask.dim(0); ++i)
    for (reference::Index j = 0; j < mask.dim(1); ++j)
      EXPECT_EQ(named({0, 0, i, i, j}), mask(i, j) != 0) << i << ' ' << j;
}

using SelectiveReference = Reference;
INSTANTIATE_TEST_SUITE_P(Fixtures, SelectiveReference,
                         testing::ValuesIn(fixtures_of_kind("selective")), name_of);

TEST_P(SelectiveReference, GivesTheGoldenOutputMaskAndCarry) {
  reference::Rules rules;
  rules.visible = reference::causal();
  if (f.has("mask"))
    rules.visible = rules.visible && reference::boolean_mask(as_rank_4(f.array("mask")));
  if (f.has("lengths")) {
    const auto lengths = integers(f.array("lengths"));
    rules.visible =
        rules.visible && reference::key_lengths(lengths) && reference::row_lengths(lengths);
  }
  reference::Selection s;
  s.head = reference::Index(f.number("head"));
  s.relu = f.number("relu") != 0;
  s.protect_first = f.number("protect_first") != 0;
  s.forbid_self = f.number("forbid_self") != 0;
  s.accumulate = f.number("accumulate") != 0;
  s.shift = f.number("shift") != 0;
  if (f.has("sel_q")) {
    s.sel_q = f.array("sel_q");
    s.sel_k = f.array("sel_k");
  }
  const auto a = selective_attention(f.array("q"), f.array("k"), f.array("v"), rules, s);
  expect(a.out, "out");
  expect(a.lse, "lse");
  expect(a.carry_out, "carry_out");
  if (f.has("F")) {
    Array lower = a.f;  // The golden F is empty above the diagonal.
    for (reference::Index b = 0; b < lower.dim(0); ++b)
      for (reference::Index i = 0; i < lower.dim(1); ++i)
        for (reference::Index j = i + 1; j < lower.dim(2); ++j) lower(b, i, j) = 0;
    expect(lower, "F");
  }
}

TEST(SelectiveChunkReference, ContinuesFromACarry) {
  const Fixture& f = fixture("sel_chunk");
  reference::Rules rules;
  rules.offset = reference::Index(f.number("q_offset"));
  rules.visible = reference::causal();
  reference::Selection s;
  s.carry_in = f.array("carry_in");
  const auto a = selective_attention(f.array("q"), f.array("k"), f.array("v"), rules, s);
  EXPECT_TRUE(close(a.out, f.array("out"), exact));
  EXPECT_TRUE(close(a.lse, f.array("lse"), exact));
  EXPECT_TRUE(close(a.carry_out, f.array("carry_out"), exact));
  Array lower = a.f;
  for (reference::Index i = 0; i < lower.dim(1); ++i)
    for (reference::Index j = rules.offset + i + 1; j < lower.dim(2); ++j) lower(0, i, j) = 0;
  EXPECT_TRUE(close(lower, f.array("F"), exact));
}

using PrunedReference = Reference;
INSTANTIATE_TEST_SUITE_P(Fixtures, PrunedReference, testing::ValuesIn(fixtures_of_kind("prune")),
                         name_of);

TEST_P(PrunedReference, TokenByTokenGivesTheGoldenEvictions) {
  reference::Pruning p;
  p.budget = reference::Index(f.number("budget"));
  const auto a = pruned_attention(f.array("q"), f.array("k"), f.array("v"), p);
  expect(a.out, "out");
  expect(a.evict_row, "evict_row");
  const Array &position = f.array("final_pos"), &carry = f.array("final_carry");
  for (reference::Index b = 0; b < position.dim(0); ++b) {
    const auto& slots = a.final_slots[std::size_t(b)];
    ASSERT_EQ(reference::Index(slots.size()), position.dim(1));
    for (reference::Index s = 0; s < position.dim(1); ++s) {
      EXPECT_EQ(double(slots[std::size_t(s)].position), position(b, s));
      EXPECT_NEAR(slots[std::size_t(s)].carry, carry(b, s), exact * magnitude(carry));
    }
  }
}

TEST_P(PrunedReference, AMaskAndChunksOfAnySizeGiveTheSame) {
  reference::Pruning p;
  p.budget = reference::Index(f.number("budget"));
  const Array &q = f.array("q"), &k = f.array("k"), &v = f.array("v");
  reference::Rules rules;
  rules.visible = reference::causal();
  const Array evict_row = eviction_schedule(votes(q, k, rules, {}).f, p);
  expect(evict_row, "evict_row");
  expect(pruned_as_a_mask(q, k, v, evict_row).out, "out");
  for (const reference::Index chunk : {1, 2, 5, 16, 64}) {
    const auto a = pruned_in_chunks(q, k, v, p, chunk, false);
    expect(a.out, "out");
    expect(a.evict_row, "evict_row");
  }
}

TEST(PrunedReference, EvictingAfterTheRowIsTheLazyFormWithChunksOfOne) {
  const Fixture& f = fixture("prune_k12");
  reference::Pruning p;
  p.budget = 12;
  p.after = true;
  const auto one = pruned_attention(f.array("q"), f.array("k"), f.array("v"), p);
  const auto other = pruned_in_chunks(f.array("q"), f.array("k"), f.array("v"), p, 1, true);
  EXPECT_TRUE(close(one.out, other.out, exact));
  EXPECT_TRUE(close(one.lse, other.lse, exact));
  EXPECT_TRUE(close(one.evict_row, other.evict_row, exact));
}

TEST(PrunedReference, EvictingAtTheEndsOfChunksGivesTheGoldenEvictions) {
  const Fixture& f = fixture("prune_lazy_k12_c16");
  reference::Pruning p;
  p.budget = reference::Index(f.number("budget"));
  const auto a = pruned_in_chunks(f.array("q"), f.array("k"), f.array("v"), p,
                                  reference::Index(f.number("chunk")), true);
  EXPECT_TRUE(close(a.out, f.array("out"), exact));
  EXPECT_TRUE(close(a.evict_row, f.array("evict_row"), exact));
}

TEST(PrunedReference, TheOldestGoFirstIsASlidingWindowWithSinks) {
  const Fixture& f = fixture("prune_k12");
  const Array &q = f.array("q"), &k = f.array("k"), &v = f.array("v");
  reference::Pruning p;
  p.budget = 7;
  p.evict = reference::Evict::oldest;
  p.selective = false;
  p.protected_first = {0, 1};
  reference::Rules rules;
  rules.visible = [](const reference::Pair& pair) {
    return pair.key <= pair.position && (pair.key < 2 || pair.key > pair.position - 5);
  };
  EXPECT_TRUE(close(pruned_attention(q, k, v, p).out, attention(q, k, v, rules).out, exact));
}

TEST(PrunedReference, TheMassOfAllKeysIsHeadsTimesRowsWhileNobodyGoes) {
  const Fixture& f = fixture("prune_k12");
  reference::Pruning p;
  p.budget = 40;
  p.evict = reference::Evict::least_attended;
  const auto a = pruned_attention(f.array("q"), f.array("k"), f.array("v"), p);
  double mass = 0;
  for (const reference::Slot& s : a.final_slots[0]) mass += s.mass;
  EXPECT_NEAR(mass, 2 * 40, 1e-10);
}

TEST(MemoryLossReference, GivesTheGoldenLossAndRows) {
  const Fixture& f = fixture("lmem_2layers");
  std::vector<Array> use;
  Array m({2, 2, 18});
  for (const reference::Index l : {0, 1}) {
    const std::string layer = std::to_string(l);
    const auto a = reference::selective_attention(f.array("q" + layer), f.array("k" + layer),
                                                  f.array("v" + layer));
    use.push_back(memory_use(a.f, f.number("tau")));
    for (reference::Index b = 0; b < 2; ++b)
      for (reference::Index i = 0; i < 18; ++i) m(l, b, i) = use.back()(b, i);
  }
  const auto result = reference::memory_loss(use, f.number("eps"), integers(f.array("lengths")));
  EXPECT_TRUE(close(m, f.array("M"), exact));
  EXPECT_TRUE(close(result.argmax_row, f.array("argmax_row"), exact));
  EXPECT_NEAR(result.loss, f.array("loss")(0), exact);
}

using SsaReference = Reference;
INSTANTIATE_TEST_SUITE_P(Fixtures, SsaReference, testing::ValuesIn(fixtures_of_kind("ssa")),
                         name_of);

TEST_P(SsaReference, GivesTheGoldenTemperaturesAndOutput) {
  const auto gain =
      f.text("gain") == "sigmoid" ? reference::Gain::sigmoid : reference::Gain::gompertz;
  reference::Rules rules;
  if (f.number("causal") != 0) rules.visible = reference::causal();
  if (f.has("f_q")) {
    rules.tau_q = temperatures(f.array("f_q"), gain, f.number("alpha_q"));
    rules.tau_k = temperatures(f.array("f_k"), gain, f.number("alpha_k"));
    rules.tau_v = temperatures(f.array("f_v"), gain, f.number("alpha_v"));
    expect(rules.tau_q, "tau_q");
    expect(rules.tau_k, "tau_k");
    expect(rules.tau_v, "tau_v");
  } else {
    rules.tau_q = reference::position_temperatures(27, gain, f.number("beta"));
    Array flat = rules.tau_q;
    flat.dims = {27};
    expect(flat, "tau_q");
  }
  const auto a = reference::attention(f.array("q"), f.array("k"), f.array("v"), rules);
  expect(a.out, "out");
  expect(a.lse, "lse");
}

}  // namespace
}  // namespace heed::test
