"""Write docs/claims.md from the results of `skipway reproduce`: verdicts, tables, figures, and the remarks on them.

    .venv/bin/python scripts/claims_page.py claims

The remarks are written by hand, in docs/claims/remarks.toml, one a claim.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

from skipway.claims.catalog import all_claims
from skipway.claims.outcome import cells, head
from skipway.claims.results import Measure
from skipway.claims.statistics import Interval

DOCS = Path(__file__).resolve().parents[1] / "docs"

HEAD = """# Claims

What the papers said of these networks, and what came out when `skipway reproduce` ran it again. This page is made by
`scripts/claims_page.py` from the `result.json` of each claim. The rules were written before the runs, and negative
results stay; where rates or the number of seeds were settled after a look at first results, the remark says so.

```
skipway reproduce --list
skipway reproduce highway --data DIR          # of cifar10/, mnist/ and signs/; left out, the first two are fetched
skipway reproduce all --data DIR --out claims # finished runs are not repeated, a stopped one goes on
```

All results here are of the quick budget: small parts of the data, few epochs, several seeds. They show what is visible
under these conditions and nothing beyond them. `--budget full` has the papers' settings and needs a GPU; none was at
hand. Intervals are Student's, each at 95 %, of the mean over the seeds; differences are paired by seed. Of ratios the
mean is the geometric one and sd a factor.
"""


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "claims")
    remarks = tomllib.loads((DOCS / "claims" / "remarks.toml").read_text(encoding="utf-8"))
    parts, rows = [], []
    for claim in all_claims():
        file = folder / claim.name / "result.json"
        if not file.is_file():
            parts.append(f"## {claim.name}\n\n{claim.sentence}\n\nNot run yet.\n")
            rows.append(f"| {claim.name} | not run | |")
            continue
        facts = json.loads(file.read_text(encoding="utf-8"))
        figure = (folder / claim.name / "figure.svg").read_text(encoding="utf-8")
        (DOCS / "claims" / f"{claim.name}.svg").write_text(figure, encoding="utf-8")
        parts.append(section(facts, remarks[claim.name]))
        rows.append(
            f"| [{claim.name}](#{anchor(claim.name)}) | **{facts['verdict']}** | {remarks[claim.name]['short']} |"
        )
    overview = "\n".join(["| claim | verdict | in short |", "|---|---|---|", *rows])
    (DOCS / "claims.md").write_text("\n".join([HEAD, overview, "", *parts]), encoding="utf-8")


def section(facts: dict[str, Any], remark: dict[str, str]) -> str:
    """One claim's part of the page."""
    made = facts["made"]
    measures = [
        Measure(
            one["name"], one["unit"], tuple(one["values"]), Interval(**one["interval"]) if one["interval"] else None
        )
        for one in (*facts["results"], *facts["times"]["results"])
    ]
    columns = head(facts["seeds"])
    table = [f"| {' | '.join(columns)} |", "|---|---|" + "--:|" * (len(columns) - 2)]
    table += [f"| {' | '.join(cells(one))} |" for one in measures]
    return "\n".join(
        [
            f"## {facts['claim']}",
            "",
            f"*{facts['sentence']}*",
            "",
            f"Source: {facts['source']}. Reported there: {facts['reported']}.",
            "",
            f"**{facts['verdict'].capitalize()}**: {facts['reason']}.",
            "",
            f"![{facts['sentence']}](claims/{facts['claim']}.svg)",
            "",
            *table,
            "",
            f"Rule: {facts['rule']}",
            "",
            f"Run: {facts['budget']} ({facts['said']}), seeds {', '.join(map(str, facts['seeds']))}; {made['device']}, "
            f"torch {made['torch']}, {made['date']}.",
            "",
            remark["remark"].strip(),
            "",
        ]
    )


def anchor(name: str) -> str:
    """How the heading of a claim is linked to."""
    return re.sub(r"[^a-z0-9-]", "", name)


if __name__ == "__main__":
    main()
