# SPDX-License-Identifier: MIT
"""Writes RESULTS.md from what results/ holds.

    python3 results.py                            the tables
    python3 results.py NAME CHECKPOINT COMMAND    first NAME.run.json, of what the checkpoint says
"""
import os
import pathlib
import re
import sys

import claims
from claims import paragraph, table
from runs import (BUDGETS, RESULTS, RULES, PAPER, against_standard, all_runs, note, pairs_of, rows, searched,
                  fewer_bytes, span_times, spread, task_accuracies)

HERE = pathlib.Path(__file__).resolve().parent
BASE = ["standard", "selective", "selective_memory"]


def number(value, digits=4):
    return "" if value is None else f"{value:.{digits}f}"


def trained(runs):
    columns = ["run", "weight of L_mem", "parameters", "context", "tokens", "minutes", "validation", "M"]
    yield from table(columns, [
        [run.name, f"{run.training['memory_loss']:g}", f"{run.parameters:,}", str(run.config["context"]),
         f"{run.tokens / 1e6:.2f} M" + ("" if run.finished else f" of {run.training['tokens'] / 1e6:g} M"),
         f"{run.minutes:.0f}", number(run.validation), run.memory] for run in runs])
    early = [run.name for run in runs if not run.finished]
    if early:
        yield f"Stopped before their end, their learning rate still high: {', '.join(early)}."
        yield ""


def by_budget(runs, column):
    budgets = [*BUDGETS, "all"]
    yield from table(["model", "evicted by", *budgets], [
        [run.name, RULES[rule], *(number(run.kept(budget, rule, column=column)) for budget in budgets)]
        for run in runs for rule in run.rules()], 2)


def found(runs, search):
    for run in runs:
        for rule, one in searched(run.name, search).items():
            paper = f"{PAPER[one.context]}×" if rule == "most_masked" else ""
            yield [run.name, str(one.context), RULES[rule], one.windows, ", ".join(map(str, one.budgets)),
                   *([f"{one.fewer_tokens:.1f}×", f"{one.fewer_bytes:.1f}×"] if one.reached else ["not reached", ""]),
                   *([paper] if search == "search" else []), number(one.validation), number(one.test)]


def evenly(runs):
    """The fewest tokens a layer, of those tried, that are no worse than the standard model with all."""
    standard = {run.config["context"]: run for run in runs if run.name.startswith("standard")}
    for run in runs:
        context = run.config["context"]
        if run.name.startswith("standard") or context not in standard:
            continue
        for rule in run.rules():
            budget = run.enough(rule, standard[context])
            if budget:
                yield [run.name, str(context), RULES[rule], budget, f"{context / int(budget):.0f}×",
                       f"{fewer_bytes(context, [int(budget)]):.0f}×",
                       number(run.kept(budget, rule, "validation")), number(run.kept(budget, rule))]


def over_seeds(runs):
    """Means and standard deviations of what has more than one seed."""
    groups = {}
    for run in runs.values():
        if run.name.startswith("short_") and run.test is not None:
            groups.setdefault(run.kind(), []).append(run)
    for kind, group in groups.items():
        if len(group) > 1:
            yield [kind, ", ".join(str(run.seed) for run in group), spread([run.validation for run in group]),
                   spread([run.test for run in group]),
                   "" if kind == "short_standard" else spread(against_standard(runs, kind), "{:+.4f}")]


def compared(runs):
    """`Δ` and `more` are against the standard model of the same seed and layers, of four heads."""
    standard = {(run.seed, run.config["layers"]): run for run in runs
                if run.config["heads"] == 4 and run.kind().startswith("short_standard")}
    for run in runs:
        against = standard.get((run.seed, run.config["layers"]))
        best = min((run.kept("16", rule) for rule in run.rules()), default=None)
        more = 0 if against is None else 100 * (run.parameters / against.parameters - 1)
        yield [run.name, str(run.seed), f"{run.parameters:,}", f"{more:+.2f} %" if more else "",
               number(run.validation), number(run.test),
               "" if against in (None, run) else f"{run.test - against.test:+.4f}", number(best), run.memory,
               f"{run.tokens_per_second:,.0f}"]


def span_costs(runs):
    """Of attention with mixed spans over full attention: by pairs, and in time where it was measured."""
    times = span_times()
    for name, full in ("short_spans_1", 2), ("short_spans_layers8_1", 1):
        for context in (512, 2048) if name in runs else ():
            time = times.get((full, context))
            yield [f"{'one layer of four full' if full == 2 else 'one of eight'}", str(context),
                   f"{pairs_of(runs[name].config, context):.0f} %", "" if time is None else f"{time:.0f} %"]


def tasks(runs, budgets):
    for run in runs:
        right = task_accuracies(run.name)
        answers = next(row["answers"] for row in rows(run.name, "task") if row["part"] == "test")
        for rule in RULES:
            if (rule, budgets[0]) in right:
                yield [*run.name.rsplit("_", 1), f"{run.tokens / 1e6:.1f} M", answers, RULES[rule],
                       *(f"{right[rule, budget]:.1f}" for budget in budgets), f"{right['all']:.1f}"]


def positions(name):
    """Of what `activations` wrote, the quarters from the second on: [position, its rows by layer]."""
    found = rows(name, "forgotten")
    last = max((int(row["position"]) for row in found), default=0)
    return [row for row in found
            if (int(row["position"]) + 1) * 4 % (last + 1) == 0 and int(row["position"]) * 4 > last]


def forgotten(names):
    for name in names:
        for row in positions(name):
            yield [name, row["layer"], row["position"],
                   *(f"{100 * float(row[key]):.0f} %" for key in ("above_1", "above_8", "above_20"))]


def at_bytes_of(name):
    """What equal_bytes.sh found on the test part, by rule and then by tokens a layer."""
    of = {}
    for row in (row for suffix in ("bytes", "recent", "apart") for row in rows(name, suffix) if row["part"] == "test"):
        rule = "nothing" if row["evict"] == "nothing" else RULES[row["evict"]]
        rule += ", newest half kept" if row["recent"] else ""
        rule += f", heads {row['heads']}" if row["heads"] != "together" else ""
        of.setdefault(rule, {})[row["budgets"].split(",")[0]] = row
    return of


def kib_of(row, column="bytes"):
    return f"{int(row[column]) / 1024:.0f}"


def at_bytes(names, column, show):
    """A row a rule, with the bytes above those of each model."""
    for name in names:
        of = at_bytes_of(name)
        budgets = [budget for budget in BUDGETS if any(budget in by_budget for by_budget in of.values())]
        kib = {budget: sorted(int(by[budget]["bytes"]) / 1024 for by in of.values() if budget in by)
               for budget in [*budgets, "all"]}
        model = name.removeprefix("needle_")
        yield [model, "*bytes of memory, KiB*",
               *(f"{all_of[0]:.0f}" + (f" – {all_of[-1]:.0f}" if all_of[-1] - all_of[0] >= 0.5 else "")
                 for all_of in kib.values()), "", ""]
        for rule, by in of.items():
            if rule != "nothing":
                whole = show(of["nothing"]["all"][column])
                yield [model, rule, *(show(by[budget][column]) for budget in budgets), whole,
                       kib_of(by[budgets[0]]), kib_of(by[budgets[0]], "most_bytes")]


def best_at(of, budget, column):
    """Of the rules as they are: that of the lowest loss, and the loss."""
    return min((float(by[budget][column]), rule) for rule, by in of.items() if budget in by and rule != "nothing")


def bytes_in_words(least="32"):
    """What the table of losses says of the smallest budget."""
    standard, selective = at_bytes_of("standard"), at_bytes_of("selective")
    if not standard or not selective:
        return
    masked = selective[RULES["most_masked"]][least]
    whole, plain = selective["nothing"]["all"], standard["nothing"]["all"]
    lost = float(masked["late_loss"]) - float(whole["late_loss"])
    others = {rule: by for rule, by in selective.items() if rule != RULES["most_masked"]}
    second, usual_best = best_at(others, least, "late_loss"), best_at(standard, least, "late_loss")
    yield from paragraph(
        f"""On {least} tokens a layer most_masked takes {kib_of(masked)} KiB, full memory {kib_of(whole)}. Its loss is
        {lost:+.4f} bits a byte from that of full memory, and {float(masked['late_loss']) - float(plain['late_loss']):+.4f}
        from that of the standard model in full memory. The next best rule for the selective model is {second[1]} with
        {second[0] - float(whole['late_loss']):+.4f}: where selection has lowered scores, weights tell nearly as much as F.
        The best for the standard model is {usual_best[1]} with {usual_best[0] - float(plain['late_loss']):+.4f} from
        full memory. Keys are short here, so that notes count: snap, and heads apart, take more bytes than the rest and are
        at an advantage.""")


def equal_bytes():
    names = [name for name in ("standard", "selective", "selective_tuned") if rows(name, "bytes")]
    needles = [f"needle_{name}" for name in BASE if rows(f"needle_{name}", "bytes")]
    if not names:
        return
    yield from paragraph(
        """Every rule on budgets of whole pages of 32 tokens, so that all take the same pages. Bytes are what the cache
        allocates, pages and what it notes of their tokens, of all layers, after a window was read.
        `most` is what was allocated meanwhile at the smallest budget: a step of several rows holds more until it
        ends. Of every window the second half alone counts. `snap` reads the first half in one step with all in
        memory, since it acts when a step ends, then keeps to the budget token by token, but the notes keep their room; the rows it looks at are 32, or
        half of the budget if that is less. The others evict the same tokens however a text is cut.
        selective_tuned is selective after 0.6 M tokens more with L_mem. `heavy_hitters` keeps half of the budget for the newest tokens, `oldest` four sinks. The selective model
        subtracts F whatever the rule. Where heads are apart, each chooses its own tokens. `all` is full memory.""")
    yield from bytes_in_words()
    last = ["all", "KiB at 32", "most"]
    yield "Bits a byte, test part, 32 windows of 512 tokens:"
    yield ""
    yield from table(["model", "evicted by, tokens a layer:", "32", "64", "128", *last],
                     at_bytes(names, "late_loss", lambda x: f"{float(x):.4f}"), 2)
    if needles:
        yield "Needles found, per cent, test part, 128 windows of 256 tokens:"
        yield ""
        yield from table(["model", "evicted by, tokens a layer:", "32", "64", *last],
                         at_bytes(needles, "late_accuracy", lambda x: f"{100 * float(x):.1f}"), 2)
    yield "    sh examples/lm/equal_bytes.sh FOLDER"
    yield ""


def section(title, *parts):
    """A heading and what is below it: lines, and tables, which are to have rows; else nothing."""
    lines = [line for part in parts for line in ([part] if isinstance(part, str) else part)]
    return [f"## {title}", "", *lines] if lines else []


def long_runs(base, longer):
    both = base + longer
    yield from section(
        "Runs",
        "4 layers, 4 heads of 32, bytes of the King James Bible, AdamW, one thread of a machine that others used too.",
        "`M` is the paper's count of tokens not yet masked at the fullest row, mean over layers. Runs named",
        "NAME_1024 and NAME_2048 go on from NAME at a longer context.", "",
        trained(both))
    yield from section(
        "Bits a byte by tokens kept, test part",
        "Every layer keeps as many tokens, of a context of 512. 64 windows, each from an empty memory; all of",
        "their bytes count.", "",
        by_budget(base, "loss"),
        "Of the second half of each window alone, whose bytes have a past to lose:", "",
        by_budget(base, "late_loss"),
        *(["Longer contexts, the second half of each of as many bytes:", "", by_budget(longer, "late_loss")]
          if longer else []))
    searches = ["model", "context", "evicted by", "windows", "budgets", "fewer tokens", "fewer bytes",
                "the paper's", "validation", "test"]
    yield from section(
        "Memory at equal loss",
        "The unpruned standard models, and the fewest tokens a layer, every layer alike, with which a model is no",
        "worse than that of its context, on validation and on test. Bytes are those of whole pages of 32 tokens:", "",
        table(["standard model, all kept", "context", "validation", "test"],
              [[run.name, str(run.config["context"]), number(run.kept("all", None, "validation")), number(run.test)]
               for run in both if run.name.startswith("standard")]),
        table(["model", "context", "evicted by", "tokens a layer", "fewer tokens", "fewer bytes", "validation", "test"],
              evenly(both), 3),
        "The smallest budgets, at most 96 a layer, grown greedily layer by layer from 4 by 4 until the loss on",
        "`windows` windows of the validation part is that of the unpruned standard model of the same context. Below",
        "are the losses on twice as many and more, of either part: what was chosen on validation may miss on test.",
        "Fewer tokens: context × layers over the sum of budgets. The paper's are of tokens, with L_mem, of larger",
        "models on larger texts. What a window of the last tokens reaches says how little this text, to models of",
        "this size, needs its past; the needle below does need it.", "",
        table(searches, found(both, "search"), 4),
        "The same against each model's own unpruned loss, which may be missed by 0.005 bits:", "",
        table([column for column in searches if column != "the paper's"], found(both, "own"), 4))


def short_runs(runs, short):
    yield from section(
        "At equal tokens",
        "1.5 M tokens with a whole cosine of their own. `more` counts parameters beyond the standard model's; it and",
        "`Δ`, of test, are against the standard model of the same seed and depth, of four heads; `16 kept` is the best",
        "rule's loss with 16 tokens in every layer that sees all; tokens a second are those of the fastest twenty steps,",
        "since others used the machine.", "",
        table(["run", "seed", "parameters", "more", "validation", "test", "Δ", "16 kept", "M", "tokens/s"],
              compared(short)),
        "Means and standard deviations over seeds, of Δ by the differences seed by seed:", "",
        table(["run", "seeds", "validation", "test", "Δ"], over_seeds(runs)))
    spans = list(span_costs(runs))
    if spans:
        yield "What mixed spans cost, blocks of 64, over full attention: pairs (query, key) that are visible, and time of"
        yield "the forward pass of attention alone, eight layers of eight heads of 64 (`attention.layer_plan_bench`):"
        yield ""
        yield from table(["plan", "context", "pairs", "time"], spans)


def main():
    runs = all_runs()
    short = sorted((run for run in runs.values() if run.name.startswith("short_") and run.test is not None),
                   key=lambda run: ("standard" not in run.name, run.kind(), run.seed))
    base = [run for name in BASE if (run := runs.get(name)) and run.test is not None]
    longer = sorted((run for run in runs.values() if run.name.endswith(("_1024", "_2048")) and run.test is not None),
                    key=lambda run: (run.config["context"], not run.name.startswith("standard")))
    riddles = [run for run in runs.values() if rows(run.name, "task")]
    budgets = ["8", "16", "32", "64"]
    out = [
        "# What was measured", "",
        "Written by `results.py` from `results/`; `sh examples/lm/reproduce.sh FOLDER`, `tasks.sh FOLDER` and",
        "`equal_bytes.sh FOLDER` make that anew. Seed 1 unless a table says otherwise. All losses are bits a byte.",
        "Validation and test parts of the text were never trained on; budgets and checkpoints were chosen on validation",
        "alone.", "",
        *(["**This is a try of three steps a run (`HEED_LM_TRY`): its figures mean nothing.**", ""]
          if os.environ.get("HEED_LM_TRY") else []),
        *section("Rules at equal bytes", equal_bytes()),
        *section("What the papers claim", *claims.all_of(runs, positions("selective"))),
        *long_runs(base, longer),
        *(short_runs(runs, short) if short else []),
    ]
    if riddles:
        out += section(
            "Synthetic tasks",
            "Answers that are right to the last byte, per cent, by tokens kept; test part of riddles as in",
            "`tasks.hpp`, contexts of 256, models of 2 layers of 4 heads of 16. One seed. Guessing a digit is",
            "right one time in ten; a model that with all in memory is far from 100 has not learnt the task.", "",
            table(["task", "model", "trained on", "answers", "evicted by", *budgets, "all"],
                  tasks(riddles, budgets), 5))
    masked = list(forgotten(BASE + [run.name for run in longer]))
    if masked:
        out += section(
            "Keys that are masked",
            "Share of the keys a row could see whose F exceeds 1, 8 and 20 nats, mean over 8 windows of the",
            "test part (`activations`). Beyond 20 a key's weight is nothing in float: this is what dropping",
            "dead keys can win.", "",
            table(["model", "layer", "position", "F > 1", "F > 8", "F > 20"], masked))
    tuned = [run for run in [runs.get("selective_tuned")] if run]
    done = base + tuned + longer + short + riddles
    out += section(
        "Commands",
        "Minutes are those that passed, others' use of the machine among them.", "",
        "    seed  minutes",
        *(f"    {run.seed:4}  {run.minutes:7.0f}  {run.command}" for run in done), "")
    listed = re.findall("^([a-z0-9_]+) --attention", (HERE / "reproduce.sh").read_text(), re.MULTILINE)
    listed += [f"{task}_{attention}" for task in ("assignment", "copying", "parity", "needle")
               for attention in ("standard", "selective")]
    missing = [name for name in listed if name not in {run.name for run in done}]
    if missing:
        out += [f"Listed in `reproduce.sh` and `tasks.sh`, and not run: {', '.join(missing)}."]
    (RESULTS.parent / "RESULTS.md").write_text("\n".join(out).rstrip() + "\n")


if __name__ == "__main__":
    if len(sys.argv) == 4:
        note(*sys.argv[1:])
    elif len(sys.argv) == 1:
        main()
    else:
        sys.exit("results.py: nothing, or a name, a checkpoint and a command")
