# SPDX-License-Identifier: MIT
"""What results/ holds of each run. HEED_LM_RESULTS names another folder."""
import csv
import json
import math
import os
import pathlib
import statistics

RESULTS = pathlib.Path(os.environ.get("HEED_LM_RESULTS") or pathlib.Path(__file__).resolve().parent / "results")
# The library's words. heavy_hitters keeps half of its budget for the newest tokens; runs that were evaluated before it
# did are of heavy_hitters(1), which keeps one.
RULES = {"most_masked": "most_masked (F)", "heavy_hitters": "heavy_hitters (H2O)",
         "heavy_hitters(1)": "heavy_hitters(1) (H2O, one recent)", "oldest": "oldest (window with sinks)",
         "least_attended_last": "least_attended_last (TOVA)", "snap": "snap (SnapKV)",
         "key_difference": "key_difference (KeyDiff)"}
PAGE = 32
BUDGETS = ["4", "8", "16", "32", "64", "128", "256"]
PAPER = {512: 16, 1024: 25, 2048: 47}


def rows(name, table):
    path = RESULTS / f"{name}.{table}.csv"
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def fewer_bytes(context, budgets):
    """The bytes of pages that all tokens of a context take, over those of the budgets, one a layer."""
    def pages(tokens):
        return -(-tokens // PAGE)
    return len(budgets) * pages(context) / sum(pages(budget) for budget in budgets)


def usual(rules):
    """Of the rules that were measured selection's, H2O's and a window's."""
    return ["most_masked", "heavy_hitters" if "heavy_hitters" in rules else "heavy_hitters(1)", "oldest"]


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
        self.config, self.seed = self.training["config"], self.training["seed"]
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

    @property
    def test(self):
        """The loss with all tokens."""
        return self.kept("all", None)

    def rules(self):
        return [rule for rule in RULES if any(row["evict"] == rule for row in rows(self.name, "budgets"))]

    def kind(self):
        """The name without the seed."""
        return self.name.rsplit("_", 1)[0]

    def enough(self, rule, standard):
        """The fewest tokens a layer, of those tried, that are no worse than `standard` with all."""
        for budget in BUDGETS if rule in self.rules() else ():
            if all(self.kept(budget, rule, part) <= standard.kept("all", None, part)
                   for part in ("validation", "test")):
                return budget
        return None


class Search:
    """Budgets found layer by layer on validation, and what they cost."""

    def __init__(self, of):
        test = of["test"]
        self.budgets = [int(budget) for budget in test["budgets"].split(",")]
        self.context = int(test["context"])
        self.reached = not test["found_by"].startswith("not reached")
        self.windows = test["found_by"].split(" on ")[1].split()[0]
        self.fewer_tokens = len(self.budgets) * self.context / sum(self.budgets)
        self.fewer_bytes = fewer_bytes(self.context, self.budgets)
        self.validation, self.test = float(of["validation"]["loss"]), float(test["loss"])


def searched(name, table):
    """By rule of eviction."""
    found = {}
    for row in rows(name, table):
        found.setdefault(row["evict"], {})[row["part"]] = row
    return {rule: Search(found[rule]) for rule in RULES if rule in found}


def all_runs():
    return {run.name: run for run in
            (Run(path.name.split(".")[0]) for path in sorted(RESULTS.glob("*.run.json")))}


def spread(values, form="{:.4f}"):
    """Mean and standard deviation, or the one value there is."""
    mean = form.format(statistics.mean(values))
    return f"{mean} ± {statistics.stdev(values):.4f}" if len(values) > 1 else mean


def against_standard(runs, kind):
    """Test losses of `kind` less those of the standard model of the same seed."""
    return [run.test - runs[f"short_standard_{run.seed}"].test for run in runs.values()
            if run.kind() == kind and run.test is not None
            and getattr(runs.get(f"short_standard_{run.seed}"), "test", None) is not None]


def task_accuracies(name):
    """Per cent of answers right, by (rule, tokens kept), and by "all"."""
    found = {}
    for row in rows(name, "task"):
        if row["part"] == "test":
            key = "all" if row["evict"] == "nothing" else (row["evict"], row["budgets"].split(",")[0])
            found[key] = 100 * float(row["accuracy"])
    return found


def visible(context, span):
    """Pairs that a causal mask shows, within blocks if there are any."""
    blocks, rest = divmod(context, span)
    return blocks * span * (span + 1) // 2 + rest * (rest + 1) // 2


def pairs_of(config, context):
    """Share of the pairs that are visible with the model's mixed spans."""
    full, layers = len(config["spans"]["full_layers"]), config["layers"]
    share = visible(context, config["spans"]["block"]) / visible(context, context)
    return 100 * (full + (layers - full) * share) / layers


def span_times():
    """Per cent of full attention's time, by (full layers of eight, context)."""
    times = {}
    for row in rows("spans", "times"):
        sizes = dict(part.split(":") for part in row["name"].split("/") if ":" in part)
        times[int(sizes["full"]), int(sizes["N"])] = float(row["time%"])
    return times
