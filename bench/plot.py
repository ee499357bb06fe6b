#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Pictures of what bench/compare and score.forgetting_bench measured.

    python3 bench/plot.py --out FOLDER [--forgetting FORGETTING.json] FIGURES.json...

FIGURES.json is what `compare --json` writes, of one run or of several; FORGETTING.json is what
`score.forgetting_bench --benchmark_out` writes. Needs matplotlib (Debian: python3-matplotlib).
"""

import argparse
import json
import pathlib
import re

import matplotlib

matplotlib.use("svg")  # no screen
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

# Colours that the colour-blind tell apart (Okabe and Ito), a marker each, and a dash for the
# second of a library.
STYLES = {
    "heed": dict(color="#0072B2", marker="o", linewidth=2.4),
    "heed, all pairs": dict(color="#0072B2", marker="o", linestyle="--", markerfacecolor="white"),
    "LibTorch, fused": dict(color="#D55E00", marker="^", linestyle="--", markerfacecolor="white"),
    "LibTorch, composed": dict(color="#D55E00", marker="^"),
    "OpenBLAS, 256 rows": dict(color="#009E73", marker="s", linestyle="--", markerfacecolor="white"),
    "OpenBLAS": dict(color="#009E73", marker="s"),
    "oneDNN, 256 rows": dict(color="#CC79A7", marker="D", linestyle="--", markerfacecolor="white"),
    "oneDNN": dict(color="#CC79A7", marker="D"),
    "Eigen, 256 rows": dict(color="#E69F00", marker="v", linestyle="--", markerfacecolor="white"),
    "Eigen": dict(color="#E69F00", marker="v"),
}
LIMIT = dict(color="#555555", linestyle=":", linewidth=1.2)

plt.rcParams.update({
    "svg.fonttype": "none", "svg.hashsalt": "heed", "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Arial", "sans-serif"], "font.size": 10,
    "axes.grid": True, "grid.color": "#dddddd", "grid.linewidth": 0.6, "axes.axisbelow": True,
    "axes.spines.top": False, "axes.spines.right": False, "lines.markersize": 5,
    "figure.facecolor": "white",
})


def read(files):
    """The rows of all files, and one line on what the first was measured on. Of rows that were
    measured in several, the one of the least time."""
    contents = [json.loads(pathlib.Path(file).read_text()) for file in files]
    least = {}
    for row in (row for content in contents for row in content["results"]):
        key = tuple(row.get(name) for name in
                    ("case", "tokens", "dim", "heads", "key_heads", "budget", "contender"))
        least[key] = min(row, least.get(key, row), key=lambda r: r["seconds"])
    return list(least.values()), describe(contents[0])


def describe(content):
    machine, threads = content["machine"], content["machine"]["threads"]
    libraries = {name.split(",")[0]: version for name, version in content["versions"].items()}
    return (f"{machine['processor']}, {machine['compiler']} {machine['flags']}, "
            f"{threads} thread{'s' if threads > 1 else ''}; " +
            ", ".join(f"{name} {version}" for name, version in libraries.items()))


def chosen(rows, **wanted):
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def plain_numbers(axis):
    """The ticks of a logarithmic axis, and no more between them."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def logarithmic(axes):
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    plain_numbers(axes.yaxis)


def lines(axes, rows, y):
    """A line for each contender, y(row) over the number of tokens."""
    for name, style in STYLES.items():
        own = sorted((row for row in rows if row["contender"] == name), key=lambda r: r["tokens"])
        if own:
            axes.plot([row["tokens"] for row in own], [y(row) for row in own], label=name, **style)
    tokens = sorted({row["tokens"] for row in rows})
    axes.set_xscale("log", base=2)
    axes.set_xticks(tokens)
    axes.minorticks_off()
    plain_numbers(axes.xaxis)


def panels(count, title, machine):
    figure, axes = plt.subplots(1, count, figsize=(3.6 * count + 2.0, 3.7), squeeze=False)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    figure.text(0.01, 0.01, machine, fontsize=8, color="#555555")
    return figure, list(axes[0])


def finish(figure, axes, file, legend=True):
    """Places the legend of all panels at their right, and writes the picture."""
    right = 1.0
    if legend:
        entries = {}
        for one in axes:
            entries.update(reversed(pair) for pair in zip(*one.get_legend_handles_labels()))
        order = [name for name in (*STYLES, *entries) if name in entries]
        order = list(dict.fromkeys(order))
        right = 1 - 2.1 / figure.get_figwidth()
        figure.legend([entries[name] for name in order], order, frameon=False, fontsize=9,
                      loc="center left", bbox_to_anchor=(right, 0.5))
    figure.tight_layout(rect=(0.005, 0.05, right, 0.97))
    figure.savefig(file.with_suffix(".svg"), metadata={"Date": None})
    figure.savefig(file.with_suffix(".png"), dpi=120, metadata={"Software": None})
    plt.close(figure)
    print(file.with_suffix(".svg"))


def share(rows, machine, out):
    """Of the multiply-add peak, causal forward."""
    dims = sorted({row["dim"] for row in chosen(rows, case="causal")})
    if not dims:
        return
    figure, axes = panels(len(dims), "Causal attention, forward, float32: share of the peak", machine)
    for one, dim in zip(axes, dims):
        lines(one, chosen(rows, case="causal", dim=dim), lambda row: 100 * row["share"])
        one.axhline(100, label="multiply-add peak", **LIMIT)
        one.set(title=f"8 heads of {dim}", xlabel="tokens", ylim=(0, 105))
    axes[0].set_ylabel("% of the measured peak")
    finish(figure, axes, out / "causal")


def scaling(rows, machine, out):
    """Time over tokens, of selection and of training."""
    cases = [("selective", "selective, forward"), ("causal-training", "causal, forward + backward"),
             ("selective-training", "selective, forward + backward")]
    cases = [(case, title) for case, title in cases if chosen(rows, case=case, dim=64)]
    if not cases:
        return
    figure, axes = panels(len(cases), "Time over the length of the text, 8 heads of 64, float32",
                          machine)
    for one, (case, title) in zip(axes, cases):
        lines(one, chosen(rows, case=case, dim=64), lambda row: 1e3 * row["seconds"])
        one.set(title=title, xlabel="tokens")
        logarithmic(one)
    axes[0].set_ylabel("ms, the least of several")
    finish(figure, axes, out / "scaling")


def decode(rows, machine, out):
    """Time of a token over the keys before it."""
    plain, forgetting = chosen(rows, case="decode"), chosen(rows, case="forgetting")
    groups = sorted({row["key_heads"] for row in plain}, reverse=True)
    count = len(groups) + bool(forgetting)
    if not count:
        return
    figure, axes = panels(count, "Decoding one token, float32", machine)
    for one, key_heads in zip(axes, groups):
        some = chosen(plain, key_heads=key_heads)
        lines(one, some, lambda row: 1e3 * row["seconds"])
        read_once = {row["tokens"]: 1e3 * row["seconds"] * row["share"] for row in some}
        one.plot(*zip(*sorted(read_once.items())), label="reading K and V\nonce from memory", **LIMIT)
        heads, dim = some[0]["heads"], some[0]["dim"]
        one.set(title=f"{heads} heads of {dim} on {key_heads} key heads", xlabel="keys")
        logarithmic(one)
    if forgetting:
        lines(axes[-1], forgetting, lambda row: 1e3 * row["seconds"])
        axes[-1].set(title=f"{forgetting[0]['budget']} keys kept, 8 heads of 64",
                     xlabel="position of the token")
        axes[-1].set_ylim(bottom=0)
    axes[0].set_ylabel("ms a token, the least of several")
    finish(figure, axes, out / "decode")


def least_times(file):
    """{(program, tokens, dead %): seconds} of score.forgetting_bench, those of random inputs."""
    to_seconds = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}
    times = {}
    for row in json.loads(pathlib.Path(file).read_text())["benchmarks"]:
        if row.get("aggregate_name", "min") != "min":
            continue
        name = re.match(r"(\w+)/N:(\d+)/dead%:(\d+)", row["name"])
        if name is None:
            continue
        key = name[1], int(name[2]), int(name[3])
        seconds = row["cpu_time"] * to_seconds[row["time_unit"]]
        times[key] = min(seconds, times.get(key, seconds)), row["work%"]
    return times


def skipping(file, machine, out):
    """Time over the share of keys that are dead."""
    times = least_times(file)
    sizes = sorted({tokens for _, tokens, _ in times})
    figure, axes = panels(len(sizes), "Selective attention, forward, float32: leaving forgotten keys out",
                          machine)
    for one, tokens in zip(axes, sizes):
        dead = sorted({share for _, n, share in times if n == tokens})
        every = times["All", tokens, 0][0]
        for program, name, style in (("All", "all pairs computed", "heed, all pairs"),
                                     ("Dropping", "forgotten keys left out", "heed")):
            one.plot(dead, [1e3 * times[program, tokens, share][0] for share in dead], label=name,
                     **STYLES[style])
        ideal = [1e3 * every * times["Dropping", tokens, share][1] / 100 for share in dead]
        one.plot(dead, ideal, label="in proportion to\nthe pairs computed", **LIMIT)
        one.set(title=f"{tokens} tokens, 8 heads of 64", xlabel="% of the keys that are forgotten",
                xticks=dead)
        one.set_ylim(bottom=0)
    axes[0].set_ylabel("ms, the least of several")
    finish(figure, axes, out / "forgetting")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("figures", nargs="+", metavar="FIGURES.json")
    parser.add_argument("--forgetting", metavar="FORGETTING.json")
    parser.add_argument("--out", required=True, type=pathlib.Path, metavar="FOLDER")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows, machine = read(options.figures)
    for picture in (share, scaling, decode):
        picture(rows, machine, options.out)
    if options.forgetting:
        skipping(options.forgetting, machine.split(";")[0], options.out)


if __name__ == "__main__":
    main()
