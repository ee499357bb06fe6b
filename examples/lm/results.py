# SPDX-License-Identifier: MIT
"""Writes RESULTS.md from what results/ holds.

    python3 results.py                            the tables
    python3 results.py NAME CHECKPOINT COMMAND    first NAME.run.json, of what the checkpoint says
"""
import csv
import json
import math
import pathlib
import re
import statistics
import sys

HERE = pathlib.Path(__file__).resolve().parent
RESULTS = HERE / "results"
RULES = {"selection": "selection (F)", "mass": "attention mass (H2O)", "oldest": "oldest (window, sinks)"}
BASE = ["standard", "selective", "selective_memory"]
PAPER = {512: 16, 1024: 25, 2048: 47}


def rows(name, table):
    path = RESULTS / f"{name}.{table}.csv"
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def note(name, checkpoint, command):
    """Keeps what is to be known of a run: the checkpoint itself may not stay."""
    with open(checkpoint, "rb") as file:
        parsed = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    notes = parsed.pop("__metadata__")
    run = {"command": command, "tokens": int(notes["tokens"]), "training": json.loads(notes["training"]),
           "parameters": sum(math.prod(tensor["shape"]) for tensor in parsed.values())}
    (RESULTS / f"{name}.run.json").write_text(json.dumps(run, indent=1) + "\n")


class Run:
    def __init__(self, name):
        run = json.loads((RESULTS / f"{name}.run.json").read_text())
        self.name, self.command, self.parameters = name, run["command"], run["parameters"]
        self.training, self.tokens = run["training"], run["tokens"]
        self.config = self.training["config"]
        self.finished = self.tokens >= self.training["tokens"]
        log = rows(name, "training")
        last = [row for row in log if row["validation_loss"]][-1]
        self.validation = float(last["validation_loss"])
        self.memory = f"{float(last['memory']):.1f}" if last["memory"] else ""
        self.tokens_per_second = max(float(row["tokens_per_second"]) for row in log)
        self.minutes = float(log[-1]["seconds"]) / 60

    def kept(self, budget, rule, part="test", column="loss"):
        """The loss with so many tokens a layer, "all" or a number."""
        for row in rows(self.name, "budgets"):
            all_kept = row["evict"] == "nothing"
            if row["part"] == part and (all_kept if budget == "all" else
                                        row["evict"] == rule and row["budgets"].split(",")[0] == budget):
                return float(row[column])
        return None

    def rules(self):
        return [rule for rule in RULES if any(row["evict"] == rule for row in rows(self.name, "budgets"))]


def table(columns, lines, words=1):
    yield "| " + " | ".join(columns) + " |"
    yield "|" + "|".join("---" if i < words else "--:" for i in range(len(columns))) + "|"
    for line in lines:
        yield "| " + " | ".join(line) + " |"
    yield ""


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
    budgets = ["4", "8", "16", "32", "64", "128", "256", "all"]
    yield from table(["model", "evicted by", *budgets], [
        [run.name, RULES[rule], *(number(run.kept(budget, rule, column=column)) for budget in budgets)]
        for run in runs for rule in run.rules()], 2)


def searched(runs, search):
    for run in runs:
        for rule in RULES:
            of = {row["part"]: row for row in rows(run.name, search) if row["evict"] == rule}
            if not of:
                continue
            test = of["test"]
            budgets = [int(k) for k in test["budgets"].split(",")]
            context = int(test["context"])
            reached = not test["found_by"].startswith("not reached")
            ratio = f"{len(budgets) * context / sum(budgets):.1f}×"
            looked_at = re.search("on ([0-9]+) windows", test["found_by"]).group(1)
            yield [run.name, str(context), RULES[rule], looked_at, test["budgets"].replace(",", ", "),
                   ratio if reached else "not reached", *([f"{PAPER[context]}×" if rule == "selection" else ""] if search == "search" else []),
                   number(float(of["validation"]["loss"])), number(float(test["loss"]))]


def evenly(runs):
    """The fewest tokens a layer, of those tried, that are no worse than the standard model with all."""
    standard = {run.config["context"]: run for run in runs if run.name.startswith("standard")}
    for run in runs:
        context = run.config["context"]
        if run.name.startswith("standard") or context not in standard:
            continue
        for rule in run.rules():
            for budget in ("4", "8", "16", "32", "64", "128", "256"):
                parts = [(run.kept(budget, rule, part), standard[context].kept("all", None, part))
                         for part in ("validation", "test")]
                if all(loss <= allowed for loss, allowed in parts):
                    yield [run.name, str(context), RULES[rule], budget, f"{context / int(budget):.0f}×",
                           *(number(loss) for loss, _ in parts)]
                    break


def spread(values):
    return f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}"


def over_seeds(runs):
    """Means and standard deviations of what has more than one seed."""
    groups = {}
    for run in runs:
        groups.setdefault(run.name.rsplit("_", 1)[0], []).append(run)
    for name, group in groups.items():
        if len(group) > 1:
            yield [name, str(len(group)), spread([run.validation for run in group]),
                   spread([run.kept("all", None) for run in group])]


def compared(runs):
    standard = {run.training["seed"]: run for run in runs if run.name.startswith("short_standard_")
                and "heads" not in run.name}
    for run in runs:
        against = standard[run.training["seed"]]
        best = min((run.kept("16", rule) for rule in run.rules()), default=None)
        yield [run.name, str(run.training["seed"]), f"{run.parameters:,}",
               f"{100 * (run.parameters / against.parameters - 1):.2f} %" if run.parameters > against.parameters
               else "", number(run.validation), number(run.kept("all", None)),
               "" if run is against else f"{run.kept('all', None) - against.kept('all', None):+.4f}",
               number(best), run.memory, f"{run.tokens_per_second:,.0f}"]


def visible(context, span):
    """Pairs that a causal mask shows, within blocks if there are any."""
    blocks, rest = divmod(context, span)
    return blocks * span * (span + 1) // 2 + rest * (rest + 1) // 2


def span_costs(runs):
    """Of attention with mixed spans over full attention: by pairs, and in time where it was measured."""
    times = {context: f"{float(row['time%']):.0f} %" for row in rows("spans", "times")
             for context in re.findall("/N:([0-9]+)/", row["name"])}
    spans = next((run.config for run in runs if run.name == "short_spans_1"), None)
    for context in (512, 2048) if spans else ():
        full, layers = len(spans["spans"]["full_layers"]), spans["layers"]
        share = visible(context, spans["spans"]["block"]) / visible(context, context)
        yield [str(context), f"{100 * (full + (layers - full) * share) / layers:.0f} %", times.get(str(context), "")]


def tasks(budgets):
    for path in sorted(RESULTS.glob("*.task.csv")):
        name = path.name.split(".")[0]
        found = [row for row in rows(name, "task") if row["part"] == "test"]
        unpruned = next(row for row in found if row["evict"] == "nothing")
        for rule in RULES:
            cells = [next((f"{100 * float(row['accuracy']):.1f}" for row in found
                           if row["evict"] == rule and row["budgets"].split(",")[0] == budget), "")
                     for budget in budgets]
            if any(cells):
                yield [name.rsplit("_", 1)[0], unpruned["attention"], unpruned["answers"], RULES[rule], *cells,
                       f"{100 * float(unpruned['accuracy']):.1f}"]


def forgotten(names):
    for name in names:
        found = rows(name, "forgotten")
        last = max((int(row["position"]) for row in found), default=0)
        for row in found:
            if (int(row["position"]) + 1) * 4 % (last + 1) == 0 and int(row["position"]) * 4 > last:
                yield [name, row["layer"], row["position"],
                       *(f"{100 * float(row[key]):.0f} %" for key in ("above_1", "above_8", "above_20"))]


def main():
    all_runs = sorted((Run(path.name.split(".")[0]) for path in RESULTS.glob("*.run.json")),
                      key=lambda run: run.name)
    short = sorted((run for run in all_runs if run.name.startswith("short_") and rows(run.name, "budgets")),
                   key=lambda run: "standard" not in run.name)
    base = [run for name in BASE for run in all_runs if run.name == name]
    longer = sorted((run for run in all_runs if run.name.endswith(("_1024", "_2048"))),
                    key=lambda run: (run.config["context"], not run.name.startswith("standard")))
    riddles = [run for run in all_runs if rows(run.name, "task")]
    searches = ["model", "context", "evicted by", "windows", "budgets", "memory", "the paper's", "validation", "test"]
    out = [
        "# What was measured", "",
        "Written by `results.py` from `results/`; `sh examples/lm/reproduce.sh FOLDER` and `tasks.sh FOLDER` make",
        "that anew. Seed 1 unless a table says otherwise, and mostly that alone. All losses are bits a byte. Validation and test",
        "parts of the text were never trained on; budgets and checkpoints were chosen on validation alone.", "",
        "## Runs", "",
        "4 layers, 4 heads of 32, bytes of the King James Bible, AdamW, one thread of a machine that others used too.",
        "`M` is the paper's count of tokens not yet masked at the fullest row, mean over layers. Runs named",
        "NAME_1024 and NAME_2048 go on from NAME at a longer context.", "",
        *trained(base + longer),
        "## Bits a byte by tokens kept, test part", "",
        "Every layer keeps as many tokens, of a context of 512. 64 windows, each from an empty memory; all of",
        "their bytes count.", "",
        *by_budget(base, "loss"),
        "Of the second half of each window alone, whose bytes have a past to lose:", "",
        *by_budget(base, "late_loss"),
    ]
    if longer:
        out += ["Longer contexts, the second half of each of as many bytes:", "", *by_budget(longer, "late_loss")]
    out += [
        "## Memory at equal loss", "",
        "The unpruned standard models, and the fewest tokens a layer, every layer alike, with which a model is no",
        "worse than that of its context, on validation and on test:", "",
        *table(["standard model, all kept", "context", "validation", "test"],
               [[run.name, str(run.config["context"]), number(run.kept("all", None, "validation")),
                 number(run.kept("all", None))] for run in base + longer if run.name.startswith("standard")]),
        *table(["model", "context", "evicted by", "tokens a layer", "memory", "validation", "test"],
               evenly(base + longer), 3),
        "The smallest budgets, at most 96 a layer, grown greedily layer by layer from 4 by 4 until the loss on",
        "`windows` windows of the validation part is that of the unpruned standard model of the same context. Below",
        "are the losses on twice as many and more, of either part: what was chosen on validation may miss on test.",
        "The ratio is of tokens: context × layers over the sum of budgets. The paper's are with L_mem, of larger",
        "models on larger texts. What a window of the last tokens reaches says how little this text, to models of",
        "this size, needs its past; the needle below does need it.", "",
        *table(searches, searched(base + longer, "search"), 4),
        "The same against each model's own unpruned loss, which may be missed by 0.005 bits:", "",
        *table([column for column in searches if column != "the paper's"], searched(base + longer, "own"), 4),
    ]
    if short:
        out += [
            "## At equal tokens", "",
            "1.5 M tokens with a whole cosine of their own. `more` counts parameters beyond the standard model's;",
            "`Δ` is against the standard model of the same seed and four heads; `16 kept` is the best rule's loss",
            "with 16 tokens in every layer that sees all; tokens a second are those of the fastest twenty steps, since",
            "others used the machine.", "",
            *table(["run", "seed", "parameters", "more", "validation", "test", "Δ", "16 kept", "M", "tokens/s"],
                   compared(short)),
        ]
        seeds = list(over_seeds(short))
        if seeds:
            out += ["Means and standard deviations over seeds:", "",
                    *table(["run", "seeds", "validation", "test"], seeds)]
    spans = list(span_costs(short))
    if spans:
        out += [
            "What mixed spans cost, blocks of 64 and one layer of four full, over full attention: pairs (query, key)",
            "that are visible, and time of the forward pass of attention alone, eight heads of 64",
            "(`attention.layer_plan_bench`, also while others used the machine):", "",
            *table(["context", "pairs", "time"], spans),
        ]
    budgets = ["8", "16", "32", "64"]
    if any(RESULTS.glob("*.task.csv")):
        out += [
            "## Synthetic tasks", "",
            "Answers that are right to the last byte, per cent, by tokens kept; test part of riddles as in",
            "`tasks.hpp`, contexts of 256, models of 2 layers of 4 heads of 16. One seed. Guessing a digit is",
            "right one time in ten; a model that with all in memory is far from 100 has not learnt the task.", "",
            *table(["task", "model", "answers", "evicted by", *budgets, "all"], tasks(budgets), 4),
        ]
    masked = list(forgotten(BASE + [run.name for run in longer]))
    if masked:
        out += [
            "## Keys that are masked", "",
            "Share of the keys a row could see whose F exceeds 1, 8 and 20 nats, mean over 8 windows of the",
            "test part (`activations`). Beyond 20 a key's weight is nothing in float: this is what dropping",
            "dead keys can win.", "",
            *table(["model", "layer", "position", "F > 1", "F > 8", "F > 20"], masked),
        ]
    out += ["## Commands", "", *(f"    {run.command}" for run in base + longer + short + riddles)]
    listed = re.findall("^([a-z0-9_]+) --attention", (HERE / "reproduce.sh").read_text(), re.MULTILINE)
    missing = [name for name in listed if name not in {run.name for run in base + longer + short}]
    missing += [f"{task}_{attention}" for task in ("assignment", "copying", "parity", "needle")
                for attention in ("standard", "selective") if not rows(f"{task}_{attention}", "task")]
    if missing:
        out += ["", f"Listed in `reproduce.sh` and `tasks.sh`, and not run: {', '.join(missing)}."]
    (HERE / "RESULTS.md").write_text("\n".join(out).rstrip() + "\n")


if __name__ == "__main__":
    if len(sys.argv) == 4:
        note(*sys.argv[1:])
    elif len(sys.argv) == 1:
        main()
    else:
        sys.exit("results.py: nothing, or a name, a checkpoint and a command")
