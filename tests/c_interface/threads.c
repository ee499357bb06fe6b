/* SPDX-License-Identifier: MIT */
#include "c_interface/calls.h"

/* What a host's function may do wrong. */
enum conduct { RIGHT, BACKWARDS, NOTHING, TWICE, WRONG_WORKER, WRONG_TASK };

static void run_tasks(void* pool, int64_t tasks, heed_task task, void* context) {
  const enum conduct how = *(const enum conduct*)pool;
  int64_t t;
  for (t = 0; t < tasks; ++t) switch (how) {
      case RIGHT:
        task(context, t, t % 3);
        break;
      case BACKWARDS:
        task(context, tasks - 1 - t, 2);
        break;
      case NOTHING:
        break;
      case TWICE:
        task(context, t, 0), task(context, t, 0);
        break;
      case WRONG_WORKER:
        task(context, t, t % 2 ? 3 : -1);
        break;
      case WRONG_TASK:
        task(context, t + 1, 0), task(context, -1, 0);
        break;
    }
}

/* A call from inside of a task: of another sequence it would be right, this one is in use. */
struct inner {
  heed_handle cache, sequence;
  heed_status status;
};
static void step_within(void* pool, int64_t tasks, heed_task task, void* context) {
  struct inner* inner = pool;
  heed_sequence_state state;
  int64_t t;
  inner->status = heed_sequence_get_state(inner->sequence, &state);
  EXPECT_REFUSED(heed_close(inner->sequence), HEED_BUSY, "in use");
  for (t = 0; t < tasks; ++t) task(context, t, 0);
}

static void test_call_within_a_call(void) {
  oracle_call c = sized_call(1, 4, 2, 8, 8, 16, 16);
  c_call* call = room(sizeof *call);
  heed_cache_options options = HEED_CACHE_INIT;
  heed_run run = HEED_RUN_INIT;
  struct inner inner;
  const call_types types = {HEED_FLOAT32, HEED_FLOAT32, HEED_FLOAT32};
  prepare(call, &c, types, BHND);
  options.type = HEED_FLOAT32, options.heads = 4, options.key_heads = 2;
  options.dim = options.value_dim = 16;
  EXPECT_OK(heed_cache_open(&options, &inner.cache));
  EXPECT_OK(heed_sequence_open(inner.cache, &inner.sequence));
  inner.status = HEED_OK;
  run.run_tasks = step_within, run.pool = &inner, run.workers = 2;
  EXPECT_OK(heed_cache_step(inner.cache, &inner.sequence, 1, &call->q, &call->k, &call->v, NULL,
                            &call->out, NULL, &run));
  EXPECT(inner.status == HEED_BUSY);
  EXPECT_OK(heed_close(inner.sequence));
  EXPECT_OK(heed_close(inner.cache));
}

void test_threads(void) {
  static const call_types single = {HEED_FLOAT32, HEED_FLOAT32, HEED_FLOAT32};
  oracle_call alone = sized_call(2, 4, 2, 150, 150, 20, 12), other;
  heed_run run = HEED_RUN_INIT;
  heed_work work;
  enum conduct how;
  alone.causal = 1, alone.selective = 1;
  add_gradients(&alone);
  EXPECT_OK(run_call(&alone, single, BHND, NULL));

  other = with_own_results(&alone);
  EXPECT_OK(heed_threads_open(3, &run.threads));
  EXPECT_OK(heed_workspace_open(&run.workspace));
  run.work = &work, work.pairs = 0;
  EXPECT_OK(run_call(&other, single, BHND, &run));
  EXPECT(work.pairs > 0 && work.tiles > 0);
  expect_same(&other, &alone, 0, "three threads");
  EXPECT_OK(heed_close(run.threads));
  EXPECT_OK(heed_close(run.workspace));
  run.threads = run.workspace = 0;

  run.run_tasks = run_tasks, run.pool = &how, run.workers = 3;
  for (how = RIGHT; how <= WRONG_TASK; ++how) {
    other = with_own_results(&alone), other.grad_q = NULL;
    if (how <= BACKWARDS)
      EXPECT_OK(run_call(&other, single, BHND, &run));
    else
      EXPECT_REFUSED(run_call(&other, single, BHND, &run), HEED_BAD_EXECUTOR, "each task once");
    other.grad_q = other.grad_k = other.grad_v = NULL;
    expect_near(other.out, alone.out, 2 * 4 * 150 * 12, 0, "out", "a host's threads", how);
  }
  test_call_within_a_call();
}
