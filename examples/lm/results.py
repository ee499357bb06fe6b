# SPDX-License-Identifier: MIT
"""Writes RESULTS.md from results/*.csv and what the checkpoints in models/ say of themselves."""
import csv
import json
import math
import pathlib
import statistics

HERE = pathlib.Path(__file__).resolve().parent
RULES = {"selection": "selection (F)", "mass": "attention mass (H2O)", "oldest": "oldest (window, sinks)",
         "nothing": "nothing"}


def rows(name, table):
    path = HERE / "results" / f"{name}.{table}.csv"
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def header(name):
    """The metadata of a checkpoint, and how many numbers it holds."""
    with (HERE / "models" / f"{name}.safetensors").open("rb") as file:
        parsed = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    notes = parsed.pop("__metadata__")
    return notes, sum(math.prod(tensor["shape"]) for tensor in parsed.values())


def table(columns, lines, numeric_from=1):
    yield "| " + " | ".join(columns) + " |"
    yield "|" + "|".join("---" if i < numeric_from else "--:" for i in range(len(columns))) + "|"
    for line in lines:
        yield "| " + " | ".join(line) + " |"
    yield ""


def runs(names):
    for name in names:
        notes, parameters = header(name)
        training = json.loads(notes["training"])
        log = [row for row in rows(name, "training") if int(row["step"]) <= int(notes["step"])]
        validated = [row for row in log if row["validation_loss"]]
        yield [name, f"{training['memory_loss']:g}", f"{parameters:,}", str(training["config"]["context"]),
               f"{int(notes['tokens']) / 1e6:.2f} M of {training['tokens'] / 1e6:g} M", str(training["seed"]),
               f"{statistics.median(float(row['tokens_per_second']) for row in log):,.0f}",
               f"{float(validated[-1]['validation_loss']):.4f}",
               f"{float(validated[-1]['memory']):.1f}" if validated[-1]["memory"] else ""]


def commands(names):
    for name in names:
        training = json.loads(header(name)[0]["training"])
        config = training["config"]
        attention = [word for word, on in (("selective", config["selective"]),
                                           ("ssa", "temperatures" in config),
                                           ("spans", "spans" in config)) if on]
        flags = ["--attention " + ("+".join(attention) or "standard")]
        if training["memory_loss"]:
            flags.append(f"--memory-loss {training['memory_loss']:g}")
        flags += [f"--ssa-{word}" for word, on in config.get("temperatures", {}).items() if on]
        spans = config.get("spans", {})
        if spans:
            flags.append("--full-layers " + ",".join(map(str, spans["full_layers"])))
            flags += [f"--{word} {spans[word]}" for word in ("window", "block") if word in spans]
        flags.append(f"--tokens {training['tokens']} --seed {training['seed']}")
        yield f"    train --text kjv.txt --out runs/{name} {' '.join(flags)}"
    yield ""


def unfinished(names):
    """A warning about the runs that were evaluated before their end."""
    early = [name for name in names if int(header(name)[0]["tokens"]) <
             json.loads(header(name)[0]["training"])["tokens"]]
    if early:
        yield f"Not at their end yet, their learning rate still high, are {', '.join(early)}: what follows is of"
        yield "checkpoints on the way."
        yield ""


def by_budget(names, part, column):
    budgets = []
    for name in names:
        for row in rows(name, "budgets"):
            if row["evict"] != "nothing" and row["budgets"] not in budgets:
                budgets.append(row["budgets"])
    yield from table(
        ["model", "evicted by"] + [budget.split(",")[0] for budget in budgets] + ["all"],
        [[name, RULES[rule]] + [
            next((f"{float(row[column]):.4f}" for row in rows(name, "budgets")
                  if row["part"] == part and
                  (row["evict"], row["budgets"]) == (rule, budget)), "")
            for budget in budgets] + [
            next(f"{float(row[column]):.4f}" for row in rows(name, "budgets")
                 if row["part"] == part and row["evict"] == "nothing")]
         for name in names for rule in RULES
         if any(row["evict"] == rule for row in rows(name, "budgets")) and rule != "nothing"], 2)


def searched(names, search):
    for name in names:
        found = rows(name, search)
        for rule in RULES:
            of = {row["part"]: row for row in found if row["evict"] == rule}
            if not of:
                continue
            test, validation = of["test"], of["validation"]
            budgets = [int(k) for k in test["budgets"].split(",")]
            ratio = len(budgets) * int(test["context"]) / sum(budgets)
            reached = not test["found_by"].startswith("not reached")
            yield [name, RULES[rule], test["found_by"].removeprefix("not reached "),
                   test["budgets"].replace(",", ", "),
                   f"{ratio:.1f}×" if reached else "not reached", f"{float(validation['loss']):.4f}",
                   f"{float(test['loss']):.4f}"]


def tasks(budgets):
    for path in sorted((HERE / "results").glob("*.task.csv")):
        found = [row for row in rows(path.name.split(".")[0], "task") if row["part"] == "test"]
        unpruned = next(row for row in found if row["evict"] == "nothing")
        for rule in RULES:
            cells = [next((f"{100 * float(row['accuracy']):.1f}" for row in found
                           if row["evict"] == rule and row["budgets"].split(",")[0] == budget), "")
                     for budget in budgets]
            if any(cells):
                yield [unpruned["model"], unpruned["attention"], RULES[rule], *cells,
                       f"{100 * float(unpruned['accuracy']):.1f}"]


def main():
    names = [path.name.split(".")[0] for path in (HERE / "results").glob("*.budgets.csv")]
    order = ["standard", "selective", "selective_memory", "ssa", "spans"]
    names.sort(key=lambda name: (order.index(name) if name in order else len(order), name))
    standard = next(row for row in rows("standard", "budgets")
                    if row["part"] == "validation" and row["evict"] == "nothing")
    standard_test = next(row for row in rows("standard", "budgets")
                         if row["part"] == "test" and row["evict"] == "nothing")
    out = [
        "# What was measured", "",
        "Written by `results.py` from `results/*.csv`; `sh examples/lm/reproduce.sh FOLDER` makes those",
        "anew. One seed a run unless the table says otherwise, so differences of a hundredth of a bit",
        "prove little. All losses are bits a byte; a part of the text was never trained on, and test never",
        "chosen on.", "",
        "## Runs", "",
        "4 layers, bytes of the King James Bible, AdamW, one thread of a machine that others used too.",
        "`M` is the paper's count of tokens not yet masked at the fullest row, mean over layers.", "",
        *table(["run", "weight of L_mem", "parameters", "context", "tokens", "seed", "tokens/s, median",
                "validation", "M"], runs(names)),
        *commands(names),
        *unfinished(names),
        "## Bits a byte by tokens kept, test part", "",
        f"Every layer keeps as many tokens, of a context of {standard['context']}. 64 windows, each from an",
        "empty memory; all of their bytes count.", "",
        *by_budget(names, "test", "loss"),
        "Of the second half of each window alone, whose bytes have a past to lose:", "",
        *by_budget(names, "test", "late_loss"),
        "## Memory at equal loss", "",
        "The smallest budgets, at most 96 a layer, grown greedily layer by layer until the loss on a few",
        "windows of the validation part is that of the unpruned standard model. Below are the losses on 64",
        "windows of either part, on which the standard model has",
        f"{float(standard['loss']):.4f} and {float(standard_test['loss']):.4f}. The ratio is of tokens: context × layers over",
        "the sum of budgets.", "",
        *table(["model", "evicted by", "search", "budgets", "memory", "validation", "test"],
               searched(names, "search"), 4),
        "The same against each model's own unpruned loss, which may be missed by 0.005 bits:", "",
        *table(["model", "evicted by", "search", "budgets", "memory", "validation", "test"],
               searched(names, "own"), 4),
    ]
    budgets = ["8", "16", "32", "64"]
    if any((HERE / "results").glob("*.task.csv")):
        out += [
            "## Synthetic tasks", "",
            "Answers that are right to the last byte, per cent, by tokens kept; test part of riddles as in",
            "`tasks.hpp`, contexts of 256, models of 2 layers of 4 heads of 16, 3 M tokens, one seed.", "",
            *table(["task", "model", "evicted by", *budgets, "all"], tasks(budgets), 3),
        ]
    if any((HERE / "results").glob("*.forgotten.csv")):
        out += [
            "## Keys that are masked", "",
            "Share of the keys a row could see whose F exceeds 1, 8 and 20 nats, mean over 8 windows of the",
            "test part (`activations`). Beyond 20 a key's weight is nothing in float: this is what dropping",
            "dead keys can win.", "",
            *table(["model", "layer", "position", "F > 1", "F > 8", "F > 20"],
                   [[name, row["layer"], row["position"],
                     *(f"{100 * float(row[key]):.0f} %" for key in ("above_1", "above_8", "above_20"))]
                    for name in names for row in rows(name, "forgotten")
                    if int(row["position"]) in (127, 255, 511)], 1),
        ]
    (HERE / "RESULTS.md").write_text("\n".join(out).rstrip() + "\n")


if __name__ == "__main__":
    main()
